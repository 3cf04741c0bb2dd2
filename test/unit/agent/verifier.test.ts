/** What of a store counts, when it may be another one at each answer. */

import { expect } from 'chai';
import { CompactedError } from '../../../src/agent/base/error.ts';
import { Newest } from '../../../src/agent/follow/history.ts';
import type { EtcdStore } from '../../../src/agent/base/ports.ts';
import { Verifier } from '../../../src/agent/follow/verifier.ts';
import type { Kv } from '../../../src/codec/kv.ts';

/** The revisions of one key `k` of a store, by number; from `compacted` on they can be read. */
interface Past {
  readonly values: Readonly<Record<number, string>>;
  readonly compacted?: number;
}

const RIGHT: Past = { values: { 5: 'a', 9: 'b' } };
/** Restored from a backup of revision 5 and written since. */
const RESTORED: Past = { values: { 5: 'a', 8: 'x', 12: 'y' } };
/** The same with a past that nobody can read, and with a key that nobody has written since. */
const COMPACTED: Past = { ...RESTORED, compacted: 12 };
const UNTOUCHED: Past = { values: { 5: 'a' }, compacted: 20 };

function kvAt({ values }: Past, revision: number): Kv | undefined {
  const modRevision = Math.max(
    -1,
    ...Object.keys(values)
      .map(Number)
      .filter((at) => at <= revision),
  );
  const value = values[modRevision];
  if (value === undefined) return undefined;
  return { key: 'k', value: Buffer.from(value), modRevision: BigInt(modRevision), createRevision: 1n };
}

/** A store at revision 20; `past` may be exchanged. */
class Store {
  past: Past;

  constructor(past: Past) {
    this.past = past;
  }

  get port(): EtcdStore {
    const get: EtcdStore['get'] = async (keys, options = {}) => {
      const revision = Number(options.revision ?? 20n);
      if (revision < (this.past.compacted ?? 0)) throw new CompactedError('compacted');
      return { revision: 20n, kvs: keys.map(() => kvAt(this.past, revision)) };
    };
    return { get } as EtcdStore;
  }

  kv(revision: number): Kv {
    const kv = kvAt(this.past, revision);
    if (kv === undefined) throw new Error('nothing is there');
    return kv;
  }

  listing(): Newest {
    const newest = new Newest();
    newest.note(this.kv(20));
    return newest;
  }
}

describe('a store that may be another one', () => {
  let store: Store;
  let verifier: Verifier;
  let tainted: number;

  /** An agent that has followed the right store up to revision 9. */
  beforeEach(async () => {
    store = new Store(RIGHT);
    tainted = 0;
    verifier = new Verifier(store.port, () => (tainted += 1));
    verifier.listed(store.listing(), 20n, 0n);
    expect(await verifier.verify(true)).to.equal(undefined);
  });

  async function guard(): Promise<string | undefined> {
    return (await verifier.verify(true))?.guard;
  }

  it('is the same when it has what was taken in', async () => {
    verifier.demand(9n, false);
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDone, verifier.isDoubtful, tainted]).to.deep.equal([true, false, 0]);
  });

  it('has another history when it has not', async () => {
    store.past = RESTORED;
    verifier.demand(9n, false);
    expect(await guard()).to.equal('history');
    expect(verifier.isDone).to.equal(false);
  });

  it('cannot be told from the right one when its past was compacted and the key was written since', async () => {
    store.past = COMPACTED;
    verifier.demand(9n, false);
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDoubtful, tainted], 'all is compared').to.deep.equal([true, 1]);
  });

  it('is another one when a key went back, whatever was compacted', async () => {
    store.past = UNTOUCHED;
    verifier.demand(9n, false);
    expect(await guard()).to.equal('history');
  });

  it('that was listed is listed again when the one that is asked for the history is another one', async () => {
    store.past = RESTORED;
    verifier.listed(store.listing(), 20n, 9n);
    store.past = RIGHT;
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDone, verifier.isDoubtful, tainted]).to.deep.equal([false, true, 1]);
    verifier.listed(store.listing(), 20n, 9n);
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDone, tainted]).to.deep.equal([true, 1]);
  });

  it('that was listed and tripped is listed again although the right one has told of news since', async () => {
    store.past = RESTORED;
    verifier.listed(store.listing(), 20n, 9n);
    expect(await guard()).to.equal('history');
    store.past = { values: { ...RIGHT.values, 15: 'c' } };
    verifier.demand(9n, false);
    verifier.heardAgain();
    verifier.note(store.kv(15));
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDoubtful, tainted]).to.deep.equal([true, 1]);
  });

  it('is asked again when one is heard before another has answered', async () => {
    store.past = UNTOUCHED;
    verifier.demand(9n, false);
    const verdict = guard();
    store.past = RIGHT;
    verifier.heardAgain();
    expect(await verdict).to.equal(undefined);
    expect([verifier.isDone, verifier.isDoubtful]).to.deep.equal([true, false]);
  });

  it('is asked after the first listing of a start as well, be it known before', async () => {
    verifier = new Verifier(store.port, () => (tainted += 1));
    const anchor = new Newest();
    anchor.note(store.kv(9));
    verifier.remember({ anchor: anchor.anchor, revision: 9n });
    expect(await guard()).to.equal(undefined);
    store.past = RESTORED;
    verifier.listed(store.listing(), 20n, 0n);
    expect(await guard()).to.equal('history');
  });

  it('that was listed is listed again when it is older than what was followed, be its history the same', async () => {
    const backup = new Newest();
    backup.note(store.kv(5));
    verifier.listed(backup, 5n, 9n);
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDoubtful, tainted]).to.deep.equal([true, 1]);
  });

  it('has told of something, and is gone before anybody has asked it: nothing of that counts', async () => {
    verifier.demand(9n, false);
    store.past = RESTORED;
    verifier.note(store.kv(12));
    verifier.demand(12n, false);
    expect(await verifier.verify(false)).to.equal(undefined);
    expect([verifier.isDone, verifier.isDoubtful]).to.deep.equal([false, true]);
    store.past = RIGHT;
    expect(await guard()).to.equal(undefined);
    expect([verifier.isDoubtful, tainted]).to.deep.equal([true, 1]);
  });

  it('is not asked while nothing was heard since a watch was lost', async () => {
    verifier.demand(9n, false);
    store.past = RESTORED;
    expect(await verifier.verify(false)).to.equal(undefined);
    expect(verifier.isDone, 'and nothing is pushed into it').to.equal(false);
    expect(verifier.isDoubtful, 'and what was there before goes on').to.equal(false);
  });
});
