/** What every `EtcdStore` does: run on the real one, and on any fake that wants to stand in for it. */

import { expect } from 'chai';
import { AgentError } from '../../src/agent/base/error.ts';
import type { CommitResult, LeaseStore } from '../../src/agent/base/ports.ts';
import type { Compare, KeyRange, Kv, StoreOp } from '../../src/codec/kv.ts';
import { followWatch } from '../support/watch-recorder.ts';

/** A store under test. */
export interface StoreSubject {
  readonly store: LeaseStore;
  /** Compacts the store up to a revision. */
  compact(revision: bigint): Promise<void>;
  /** Takes a backup of all data; returns how to put it in the place of what is there. */
  backUp(): Promise<() => Promise<void>>;
  /** Puts an empty server in the place of this one. */
  wipe(): Promise<void>;
  close(): Promise<void>;
}

/** Declares the suite. `open` is called once; each test keeps to its own keys. */
export function describeStore(open: (context: Mocha.Context) => Promise<StoreSubject>): void {
  let subject: StoreSubject;
  let store: LeaseStore;
  let tests = 0;
  /** Starts every key of the running test. */
  let own: string;

  before(async function () {
    subject = await open(this);
    store = subject.store;
  });
  beforeEach(() => {
    tests += 1;
    own = `test${tests}/`;
  });
  after(async () => {
    await subject?.close();
  });

  const key = (name: string): string => own + name;
  const all = (): KeyRange => ({ start: own, end: `${own.slice(0, -1)}0` });
  const put = (name: string, value = 'value'): StoreOp => ({
    type: 'put',
    key: key(name),
    value: bytes(value),
  });
  const mustCommit = async (ops: readonly StoreOp[], compares: readonly Compare[] = []): Promise<bigint> => {
    const result = await store.commit({ compares, ops });
    expect(result).to.have.property('outcome', 'committed');
    return result.revision;
  };
  const read = async (range: KeyRange, revision?: bigint): Promise<{ revision: bigint; kvs: Kv[] }> => {
    const kvs: Kv[] = [];
    const at = await store.snapshot(
      [range],
      (kv) => kvs.push(kv),
      revision === undefined ? {} : { revision },
    );
    return { revision: at, kvs };
  };

  describe('snapshot', () => {
    it('reads keys and values of any bytes, in the order of keys, with their revisions', async () => {
      const created = await mustCommit([put('\x00\xff'), put('b', '\x00\x01\xfe'), put('\xfe\n')]);
      const changed = await mustCommit([put('b', 'new')]);
      const { revision, kvs } = await read(all());
      expect(revision).to.equal(changed);
      expect(kvs).to.deep.equal([
        { key: key('\x00\xff'), value: bytes('value'), modRevision: created, createRevision: created },
        { key: key('b'), value: bytes('new'), modRevision: changed, createRevision: created },
        { key: key('\xfe\n'), value: bytes('value'), modRevision: created, createRevision: created },
      ]);
    });

    it('reads all pages of all ranges at one revision, whatever is written meanwhile', async () => {
      for (let batch = 0; batch < 3; batch += 1) {
        await mustCommit(
          Array.from({ length: 100 }, (_, i) => put(`${batch}-${String(i).padStart(3, '0')}`)),
        );
      }
      const seen: string[] = [];
      const writes: Promise<unknown>[] = [];
      const write = async (): Promise<void> => {
        await mustCommit([put('0-050', 'too late'), put('2-000', 'too late'), put('new', 'too late')]);
      };
      const range = all();
      const revision = await store.snapshot([range, { start: key('2'), end: key('3') }], (kv, index) => {
        if (seen.length === 0) writes.push(write());
        expect(text(kv.value)).to.equal('value');
        seen.push(`${index} ${kv.key}`);
      });
      await Promise.all(writes);
      expect(seen).to.have.length(400);
      expect(new Set(seen).size).to.equal(400);
      expect((await read(range, revision)).kvs).to.have.length(300);
      expect((await read(range)).kvs).to.have.length(301);
    });

    it('takes values of the largest size, many more than one message holds', async () => {
      const large = 'x'.repeat(1_400_000);
      for (let n = 0; n < 6; n += 1) await mustCommit([put(`large${n}`, large)]);
      // Small ones first lead to big pages.
      await mustCommit(Array.from({ length: 100 }, (_, i) => put(`a${i}`)));
      const { kvs } = await read(all());
      expect(kvs).to.have.length(106);
      expect(kvs.filter((kv) => kv.value.length === large.length)).to.have.length(6);
    });

    it('gives values that keep nothing but themselves alive', async () => {
      await mustCommit([put('a', 'first'), put('b', 'second')]);
      const { kvs } = await read(all());
      const sizes = kvs.map((kv) => [kv.value.byteOffset, kv.value.buffer.byteLength]);
      expect(sizes).to.deep.equal([
        [0, 5],
        [0, 6],
      ]);
    });

    it('reads an empty range, and tells the revision all the same', async () => {
      const revision = await mustCommit([put('elsewhere')]);
      const empty = await read({ start: key('nothing'), end: key('nothing\0') });
      expect(empty.kvs).to.deep.equal([]);
      expect(empty.revision >= revision).to.equal(true);
    });

    it('rejects with CompactedError at a revision that is gone', async () => {
      const old = await mustCommit([put('a')]);
      await subject.compact(await mustCommit([put('a', 'newer')]));
      await expectError(read(all(), old), 'ERR_COMPACTED');
    });

    it('stops when told so', async () => {
      await mustCommit(Array.from({ length: 50 }, (_, i) => put(`${i}`)));
      const abort = new AbortController();
      const reading = store.snapshot([all()], () => abort.abort(), { signal: abort.signal });
      await expectAborted(reading);
    });
  });

  describe('get', () => {
    it('reads keys in the order asked for, absent ones as undefined, at one revision', async () => {
      const revision = await mustCommit([put('a', '1'), put('b', '2')]);
      const got = await store.get([key('b'), key('none'), key('a'), key('b')]);
      expect(got.revision).to.equal(revision);
      expect(got.kvs.map((kv) => kv && text(kv.value))).to.deep.equal(['2', undefined, '1', '2']);
    });

    it('reads the past when given a revision', async () => {
      const revision = await mustCommit([put('a', 'old')]);
      await mustCommit([put('a', 'new')]);
      const got = await store.get([key('a')], { revision });
      expect(got.revision).to.equal(revision);
      expect(got.kvs.map((kv) => kv && text(kv.value))).to.deep.equal(['old']);
    });

    it('reads more keys than one request may name', async () => {
      const names = Array.from({ length: 300 }, (_, i) => `${i}`);
      for (let at = 0; at < 300; at += 100) await mustCommit(names.slice(at, at + 100).map((n) => put(n, n)));
      const { kvs } = await store.get(names.map(key));
      expect(kvs.map((kv) => kv && text(kv.value))).to.deep.equal(names);
    });

    it('rejects with CompactedError at a revision that is gone', async () => {
      const revision = await mustCommit([put('a')]);
      await subject.compact(await mustCommit([put('a', 'newer')]));
      await expectError(store.get([key('a')], { revision }), 'ERR_COMPACTED');
    });
  });

  describe('commit', () => {
    it('writes, deletes and deletes ranges in one revision', async () => {
      await mustCommit([put('a'), put('b'), put('r1'), put('r2'), put('r3')]);
      const revision = await mustCommit([
        put('a', 'new'),
        { type: 'delete', key: key('b') },
        { type: 'deleteRange', range: { start: key('r1'), end: key('r3') } },
      ]);
      const { kvs } = await read(all());
      expect(kvs.map((kv) => [kv.key, text(kv.value)])).to.deep.equal([
        [key('a'), 'new'],
        [key('r3'), 'value'],
      ]);
      expect(kvs[0]).to.have.property('modRevision', revision);
    });

    it('passes while every compared key has its mod revision, 0 standing for absent', async () => {
      const first = await mustCommit([put('a')], [{ key: key('a'), modRevision: 0n }]);
      await mustCommit(
        [put('a', 'new')],
        [
          { key: key('a'), modRevision: first },
          { key: key('b'), modRevision: 0n },
        ],
      );
    });

    it('loses when one compared key has moved, writes nothing, and tells what is there', async () => {
      const first = await mustCommit([put('a', '1'), put('b', '1')]);
      const second = await mustCommit([put('b', '2')]);
      const result = await store.commit({
        compares: [
          { key: key('a'), modRevision: first },
          { key: key('b'), modRevision: first },
          { key: key('none'), modRevision: 0n },
        ],
        ops: [put('a', 'lost'), put('c', 'lost')],
      });
      expect(result).to.include({ outcome: 'lost', ambiguous: false });
      expect(result.revision >= second).to.equal(true);
      expect(currentOf(result)).to.deep.equal({ [key('a')]: '1', [key('b')]: '2', [key('none')]: undefined });
      expect((await read(all())).kvs.map((kv) => text(kv.value))).to.deep.equal(['1', '2']);
    });

    it('loses when a key that should be absent is there, and when one that should be there is absent', async () => {
      const revision = await mustCommit([put('there')]);
      for (const compare of [
        { key: key('there'), modRevision: 0n },
        { key: key('gone'), modRevision: revision },
      ]) {
        expect(await store.commit({ compares: [compare], ops: [put('x')] })).to.have.property(
          'outcome',
          'lost',
        );
      }
    });

    it('passes a compared range while no key in it is newer, and an empty one always', async () => {
      const older = await mustCommit([put('in/1'), put('in/2')]);
      const newest = await mustCommit([put('in/3')]);
      const range = { start: key('in/'), end: key('in0') };
      await mustCommit([put('x')], [{ range, maxModRevision: newest }]);
      await mustCommit(
        [put('x')],
        [{ range: { start: key('in/1'), end: key('in/3') }, maxModRevision: older }],
      );
      const empty = { start: key('empty/'), end: key('empty0') };
      await mustCommit([put('x')], [{ range: empty, maxModRevision: 0n }]);
      await mustCommit([put('x')], [{ range: empty, maxModRevision: newest }]);
    });

    it('loses a compared range as soon as any one key in it is newer, wherever it lies', async () => {
      const revision = await mustCommit([put('in/1'), put('in/2'), put('in/3')]);
      const range = { start: key('in/'), end: key('in0') };
      for (const changed of ['in/1', 'in/2', 'in/3', 'in/', 'in/\xff']) {
        const before = (await read(range)).kvs.reduce(
          (max, kv) => (kv.modRevision > max ? kv.modRevision : max),
          0n,
        );
        await mustCommit([put(changed, 'newer')]);
        const result = await store.commit({
          compares: [{ range, maxModRevision: before }],
          ops: [put('lost')],
        });
        expect(result, changed).to.have.property('outcome', 'lost');
      }
      const notEmpty = await store.commit({ compares: [{ range, maxModRevision: 0n }], ops: [put('lost')] });
      expect(notEmpty).to.have.property('outcome', 'lost');
      expect((await store.get([key('lost')])).kvs).to.deep.equal([undefined]);
      expect(revision > 0n).to.equal(true);
    });

    it('takes 128 operations and 128 compares, and rejects one more with LimitError', async () => {
      const ops = Array.from({ length: 129 }, (_, i) => put(`${i}`));
      const compares = ops.map((_, i) => ({ key: key(`${i}`), modRevision: 0n }));
      await mustCommit(ops.slice(1), compares.slice(1));
      await expectError(store.commit({ compares: [], ops }), 'ERR_LIMIT');
      await expectError(store.commit({ compares, ops: [put('x')] }), 'ERR_LIMIT');
    });

    it('rejects with LimitError what is too large, and goes on', async () => {
      // The first is refused here; the second is refused by etcd, which counts its own headers, too.
      for (const size of [1_572_865, 1_572_850]) {
        await expectError(store.commit({ compares: [], ops: [put('big', 'x'.repeat(size))] }), 'ERR_LIMIT');
      }
      await mustCommit([put('big', 'x'.repeat(1_500_000))]);
    });
  });

  describe('watch', () => {
    it('tells history and then what happens, each revision whole, puts and deletes', async () => {
      const first = await mustCommit([put('a', '1'), put('b', '1')]);
      const second = await mustCommit([put('a', '2'), { type: 'delete', key: key('b') }]);
      const watch = followWatch(store, [all()], first);
      await watch.until('history', () => watch.newest(0) === second);
      const third = await mustCommit([put('c')]);
      await watch.until('what happens', () => watch.newest(0) === third);
      await watch.stop();
      expect(watch.revisions).to.deep.equal([
        [
          { revision: first, events: [putEvent('a', '1', first), putEvent('b', '1', first)] },
          {
            revision: second,
            events: [
              putEvent('a', '2', second, first),
              { type: 'delete', key: key('b'), modRevision: second },
            ],
          },
          { revision: third, events: [putEvent('c', 'value', third)] },
        ],
      ]);
    });

    it('starts at the given revision, not before', async () => {
      await mustCommit([put('a', 'before')]);
      const from = await mustCommit([put('a', 'from')]);
      const watch = followWatch(store, [all()], from);
      await watch.until('a revision', () => watch.newest(0) === from);
      await watch.stop();
      expect(watch.told(0)).to.deep.equal([`${from}: ${key('a')}`]);
    });

    it('follows ranges independently, each with its own events of a transaction', async () => {
      const first = await mustCommit([put('x/1'), put('y/1'), put('z')]);
      const ranges = [
        { start: key('x/'), end: key('x0') },
        { start: key('y/'), end: key('y0') },
      ];
      const watch = followWatch(store, ranges, first);
      const second = await mustCommit([put('y/2')]);
      const third = await mustCommit([put('x/2'), put('y/1', 'again'), put('y/3')]);
      await watch.until('both ranges', () => watch.newest(0) === third && watch.newest(1) === third);
      await watch.stop();
      expect(watch.told(0)).to.deep.equal([`${first}: ${key('x/1')}`, `${third}: ${key('x/2')}`]);
      expect(watch.told(1)).to.deep.equal([
        `${first}: ${key('y/1')}`,
        `${second}: ${key('y/2')}`,
        `${third}: ${key('y/1')} ${key('y/3')}`,
      ]);
    });

    it('tells a transaction that is larger than a message as one revision', async () => {
      const value = 'x'.repeat(200_000);
      const first = await mustCommit(Array.from({ length: 7 }, (_, i) => put(`${i}`, value)));
      const revisions = [first];
      for (let n = 0; n < 9; n += 1) {
        revisions.push(await mustCommit(Array.from({ length: 7 }, (_, i) => put(`${i}`, value))));
      }
      const watch = followWatch(store, [all()], first);
      await watch.until('all', () => watch.newest(0) === revisions.at(-1));
      await watch.stop();
      expect(watch.revisions[0]?.map(({ revision }) => revision)).to.deep.equal(revisions);
      expect(watch.revisions[0]?.every(({ events }) => events.length === 7)).to.equal(true);
    });

    it('rejects with CompactedError when its history is gone', async () => {
      const first = await mustCommit([put('a')]);
      await subject.compact(await mustCommit([put('a', 'newer')]));
      const watch = followWatch(store, [all()], first);
      await expectError(
        watch.until('a revision', () => watch.newest(0) > 0n),
        'ERR_COMPACTED',
      );
      expect(watch.revisions).to.deep.equal([]);
    });

    it('tells nothing any more once it has ended', async () => {
      const { revision } = await store.status();
      const watch = followWatch(store, [all()], revision + 1n);
      await watch.until('the watch stands', () => watch.up);
      await watch.stop();
      const written = await mustCommit([put('late')]);
      const other = followWatch(store, [all()], written);
      await other.until('another one gets it', () => other.newest(0) === written);
      await other.stop();
      expect(watch.revisions).to.deep.equal([]);
    });

    function putEvent(
      name: string,
      value: string,
      modRevision: bigint,
      createRevision = modRevision,
    ): unknown {
      return { type: 'put', kv: { key: key(name), value: bytes(value), modRevision, createRevision } };
    }
  });

  describe('snapshot with less', () => {
    it('leaves out the values, or what did not change, over many pages', async () => {
      const names = Array.from({ length: 40 }, (_, i) => `k${String(i).padStart(2, '0')}`);
      const first = await mustCommit(names.map((name) => put(name)));
      const second = await mustCommit(names.filter((_, i) => i % 7 === 0).map((name) => put(name, 'new')));
      const keys: Kv[] = [];
      await store.snapshot([all()], (kv) => keys.push(kv), { keysOnly: true });
      expect(keys.map((kv) => kv.key)).to.deep.equal(names.map(key));
      expect(keys.every(({ value }) => value.length === 0)).to.equal(true);
      expect(keys[0]).to.include({ createRevision: first, modRevision: second });
      const changed: string[] = [];
      await store.snapshot([all()], (kv) => changed.push(kv.key), { changedSince: second });
      expect(changed).to.deep.equal(names.filter((_, i) => i % 7 === 0).map(key));
      const none: string[] = [];
      await store.snapshot([all()], (kv) => none.push(kv.key), { changedSince: second + 1n });
      expect(none).to.deep.equal([]);
    });
  });

  describe('leases', () => {
    it('keeps keys for as long as the lease is renewed, and takes them when it is revoked', async () => {
      const lease = await store.grantLease(60);
      await mustCommit([{ ...put('mine'), lease } as StoreOp, put('other')]);
      expect(await store.renewLease(lease)).to.equal(true);
      await store.revokeLease(lease);
      const { kvs } = await store.get([key('mine'), key('other')]);
      expect(kvs.map((kv) => kv?.key)).to.deep.equal([undefined, key('other')]);
      expect(await store.renewLease(lease)).to.equal(false);
      await store.revokeLease(lease);
      await expectError(
        store.commit({ compares: [], ops: [{ ...put('late'), lease } as StoreOp] }),
        'ERR_LEASE_GONE',
      );
    });

    it('takes keys when the lease has run out', async () => {
      const lease = await store.grantLease(1);
      const revision = await mustCommit([{ ...put('mine'), lease } as StoreOp]);
      const watch = followWatch(store, [all()], revision + 1n);
      await watch.until('the key goes', () => watch.newest(0) > revision);
      await watch.stop();
      expect((await store.get([key('mine')])).kvs).to.deep.equal([undefined]);
      expect(await store.renewLease(lease)).to.equal(false);
    });
  });

  it('tells its version, its cluster, and a revision that moves with each write', async () => {
    const before = await store.status();
    const revision = await mustCommit([put('a')]);
    const after = await store.status();
    expect(before.version).to.match(/^\d+\.\d+\.\d+/);
    expect(after.clusterId).to.equal(before.clusterId);
    expect(after.clusterId).to.match(/^\d+$/);
    expect([before.revision < revision, after.revision]).to.deep.equal([true, revision]);
  });

  // Last, because nothing is left of what was there.
  it('is as a backup was once that is restored, and goes on from there; a wiped one begins anew', async () => {
    const old = await mustCommit([put('a', 'old'), put('b', 'same')]);
    const restore = await subject.backUp();
    await mustCommit([put('a', 'new'), put('c')]);
    await restore();
    const { revision, kvs } = await read(all());
    expect(revision).to.equal(old);
    expect(kvs.map((kv) => [kv.key, text(kv.value), kv.modRevision])).to.deep.equal([
      [key('a'), 'old', old],
      [key('b'), 'same', old],
    ]);
    // A compare cannot tell one history from the other.
    expect(await mustCommit([put('b', 'again')], [{ key: key('b'), modRevision: old }])).to.equal(old + 1n);
    await subject.wipe();
    const status = await store.status();
    expect(status.revision).to.equal(1n);
    expect((await read(all())).kvs).to.deep.equal([]);
    await expectError(
      store.snapshot([all()], () => undefined, { revision: old }),
      'ERR_UNAVAILABLE',
    );
    expect(await mustCommit([put('a')])).to.equal(2n);
  });
}

/** Rejects with one of our errors, told by its code. */
async function expectError(promise: Promise<unknown>, code: string): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error, `${String(error)}`).to.be.instanceOf(AgentError);
  expect(error, `${String(error)}`).to.have.property('code', code);
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

function text(value: Uint8Array): string {
  return Buffer.from(value).toString('latin1');
}

function currentOf(result: CommitResult): Record<string, string | undefined> {
  if (result.outcome !== 'lost') return {};
  return Object.fromEntries([...result.current].map(([key, kv]) => [key, kv && text(kv.value)]));
}

async function expectAborted(promise: Promise<unknown>): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).to.have.property('name', 'AbortError');
}
