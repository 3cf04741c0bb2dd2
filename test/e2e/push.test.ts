/** The pusher on a real etcd: what it costs, what other writers do meanwhile, and what it leaves behind. */

import { expect } from 'chai';
import { decodeAttr, encodeAttr, FLAG_IMMUTABLE, type Attr } from '../../src/codec/attr.ts';
import { blockRange } from '../../src/codec/block.ts';
import { ByteWriter, prefixRange } from '../../src/codec/bytes.ts';
import { decodeDirStat, encodeDirStat } from '../../src/codec/counter.ts';
import { encodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, ROOT_INO, type MetaKey } from '../../src/codec/key.ts';
import type { Kv } from '../../src/codec/kv.ts';
import { systemClock } from '../../src/agent/base/clock.ts';
import { UnavailableError, VolumeError } from '../../src/agent/base/error.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { cleanUp } from '../../src/agent/housekeeping/clean-up.ts';
import { Pusher, type ChangeOutcome, type PushOptions } from '../../src/agent/push/push.ts';
import { InodeIndex } from '../../src/reconcile/inode-index.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { meddlingStore, type Asked, type Meddling } from '../support/meddling.ts';
import { contentOf, directory, file, TestVolume, volumeThrough } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';

const LARGE = new Uint8Array(400_000).map((_, i) => (i * 7) % 256);

describe('Pusher', () => {
  let server: EtcdServer;
  let volume: TestVolume;
  let count = 0;

  before(async () => {
    server = await startEtcd();
  });
  after(async () => server?.stop());
  beforeEach(async () => {
    count += 1;
    volume = await TestVolume.format(server, {
      name: `volume-${count}`,
      blockSizeKiB: 64,
      trashDays: count % 2,
    });
  });
  afterEach(async () => {
    expect(await recount(volume.store, volume.address.prefix), 'what a recount finds wrong').to.deep.equal(
      [],
    );
    await volume.store.close();
  });

  async function stored(key: MetaKey): Promise<Kv | undefined> {
    return (await volume.store.get([volume.volume.keyOf(key)])).kvs[0];
  }

  async function write(key: MetaKey, value: Uint8Array): Promise<void> {
    await volume.store.commit({ compares: [], ops: [{ type: 'put', key: volume.volume.keyOf(key), value }] });
  }

  async function rewriteAttr(ino: bigint, fields: Partial<Attr>): Promise<void> {
    const kv = await stored({ kind: 'attr', ino });
    if (kv === undefined) throw new Error(`no attr of ${ino}`);
    await write({ kind: 'attr', ino }, encodeAttr({ ...decodeAttr(kv.value), ...fields }));
  }

  async function blocks(): Promise<Kv[]> {
    const kvs: Kv[] = [];
    await volume.store.snapshot([blockRange(volume.volume.setting.name)], (kv) => kvs.push(kv));
    return kvs;
  }

  /** Pushes through a store that a test meddles with. */
  async function meddled(
    changes: readonly PushChange[],
    meddling: Meddling,
    options: Partial<PushOptions> = {},
  ): Promise<{ outcomes: readonly ChangeOutcome[]; asked: Asked; revisions: readonly bigint[] }> {
    const { store, asked } = meddlingStore(volume.store, volume.address.prefix, meddling);
    const pusher = new Pusher(store, await volumeThrough(volume.volume, store), systemClock);
    const { changes: outcomes, revisions } = await pusher.push(changes, { read: readEntry, ...options });
    return { outcomes, asked, revisions };
  }

  async function readEntry(change: PushChange, offset: bigint, length: number): Promise<Uint8Array> {
    if (change.new?.type !== 'file') throw new Error('only files are read');
    return contentOf(change.new).subarray(Number(offset), Number(offset) + length);
  }

  const kinds = (outcomes: readonly ChangeOutcome[]): string[] => outcomes.map(({ outcome }) => outcome);

  it('puts small contents and all names of one push in one revision', async () => {
    const { revisions } = await volume.push(
      volume.make('d', directory()),
      volume.make('d/a', file('a')),
      volume.make('d/b', file('b')),
    );
    expect(revisions).to.have.length(1);
    expect((await blocks()).map(({ modRevision }) => modRevision)).to.deep.equal([
      revisions[0],
      revisions[0],
    ]);
  });

  it('puts more new directories with files in one revision than a transaction could make', async () => {
    const changes = Array.from({ length: 50 }, (_, n) => `d${n}`).flatMap((dir) => [
      volume.make(dir, directory()),
      ...['a', 'b', 'c'].map((name) => volume.make(`${dir}/${name}`, file(`${dir} ${name}`))),
    ]);
    const { revisions } = await volume.push(...changes);
    expect(revisions).to.have.length(1);
  });

  it('stores large contents before the names', async () => {
    const { revisions } = await volume.push(volume.make('large', file(LARGE)));
    const stores = (await blocks()).map(({ modRevision }) => modRevision);
    expect(stores).to.have.length(7);
    expect(stores.every((revision) => revision < (revisions[0] ?? 0n))).to.equal(true);
  });

  it('keeps the local mtime of a new file to the nanosecond and gives every entry of the outcome its inode', async () => {
    await volume.push(volume.make('f', file('x', { mtimeNs: 1_650_000_000_000_000_001n })));
    const { ino } = volume.at('f');
    const kv = await stored({ kind: 'attr', ino });
    expect(decodeAttr(kv?.value ?? new Uint8Array()).mtimeNs).to.equal(1_650_000_000_000_000_001n);
  });

  it('plans on a live index with a single read, of accounts alone', async () => {
    await volume.push(volume.make('f', file('one')));
    const index = new InodeIndex();
    const { prefix } = volume.address;
    const revision = await volume.store.snapshot([prefixRange(`${prefix}A`)], (kv) =>
      index.load({ ...kv, key: kv.key.slice(prefix.length) }),
    );
    const { outcomes, asked } = await meddled(
      [volume.edit('f', file('two'))],
      {},
      {
        live: { index, revision: () => revision },
      },
    );
    expect(kinds(outcomes)).to.deep.equal(['committed']);
    // The data of the replaced file are deleted from what is stored, not from the index.
    const isChunk = (key: string): boolean =>
      decodeKey(key.slice(prefix.length, prefix.length + 14)).kind === 'chunk';
    const wanted = [...asked.keys, ...asked.ranges.map(({ start }) => `${start}\0\0\0\0`)];
    expect(wanted.filter((key) => key.startsWith(`${prefix}A`) && !isChunk(key))).to.deep.equal([]);
  });

  describe('while another writer works', () => {
    it('loses when the file was replaced meanwhile, and leaves no block behind', async () => {
      await volume.push(volume.make('f', file('old')));
      const before = volume.at('f');
      const change = volume.edit('f', file(LARGE));
      const { outcomes } = await meddled([change], {
        beforeCommit: async () => {
          await volume.push({ path: 'f', old: before, new: file('theirs') });
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['lost']);
    });

    it('loses when a clean-up took its blocks before they had a name, and passes when it stores them again', async () => {
      await volume.push(volume.make('f', file('one')));
      const change = volume.edit('f', file(LARGE));
      const { outcomes } = await meddled([change], {
        beforeCommit: async () => {
          const { store, volume: opened } = volume;
          const context = { store, volume: opened, clock: systemClock, guard: [] };
          const { blocks } = await cleanUp(context, { minAge: 0, dryRun: false });
          expect(blocks).to.be.greaterThan(0);
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['lost']);
      await volume.push(change);
    });

    it('loses when the name was taken meanwhile', async () => {
      const { outcomes } = await meddled([volume.make('f', file('mine'))], {
        beforeCommit: async () => {
          await volume.push(volume.make('f', file('theirs')));
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['lost']);
    });

    it('commits in spite of accounts and times that move again and again', async () => {
      await volume.push(volume.make('d', directory()));
      const { ino } = volume.at('d');
      const { outcomes, asked } = await meddled([volume.make('d/f', file('mine'))], {
        beforeCommit: async (_transaction, index) => {
          if (index < 5) await volume.push(volume.make(`d/theirs-${index}`, file('theirs')));
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['committed']);
      expect(asked.commits.length).to.be.greaterThan(5);
      const stat = decodeDirStat((await stored({ kind: 'dirStat', ino }))?.value ?? new Uint8Array());
      expect(stat.inodes).to.equal(6n);
    });

    it('loses when a directory got an entry before its removal', async () => {
      await volume.push(volume.make('d', directory()), volume.make('d/known', file('known')));
      const { ino } = volume.at('d');
      const { outcomes } = await meddled([volume.remove('d'), volume.remove('d/known')], {
        // As the real client does within 100 ms of the last change: without a word in the directory's attr.
        beforeCommit: () =>
          write({ kind: 'dentry', parent: ino, name: 'unknown' }, encodeDentry({ type: 'file', ino: 999n })),
      });
      expect(kinds(outcomes)).to.deep.equal(['lost', 'lost']);
      expect(await stored({ kind: 'dentry', parent: ROOT_INO, name: 'd' })).to.not.equal(undefined);
      await volume.store.commit({
        compares: [],
        ops: [{ type: 'delete', key: volume.volume.keyOf({ kind: 'dentry', parent: ino, name: 'unknown' }) }],
      });
    });

    it('lets only one of two moves pass that together would make a cycle', async () => {
      await volume.push(
        volume.make('a', directory()),
        volume.make('b', directory()),
        volume.make('b/c', directory()),
      );
      const { outcomes } = await meddled([volume.move('a', 'b/c/a')], {
        beforeCommit: async (_transaction, index) => {
          if (index === 0) await volume.push(volume.move('b', 'a/b'));
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['lost']);
    });

    it('lets statistics be negative while a mount may still add to them', async () => {
      await volume.push(volume.make('d', directory()), volume.make('d/f', file('12345')));
      const { ino } = volume.at('d');
      // As if a mount had made the file and not added it yet.
      await write({ kind: 'dirStat', ino }, encodeDirStat({ length: 0n, space: 0n, inodes: 0n }));
      await volume.push(volume.remove('d/f'));
      const { space, inodes } = decodeDirStat(
        (await stored({ kind: 'dirStat', ino }))?.value ?? new Uint8Array(),
      );
      expect({ space, inodes }).to.deep.equal({ space: -4096n, inodes: -1n });
      await write({ kind: 'dirStat', ino }, encodeDirStat({ length: 0n, space: 0n, inodes: 0n }));
    });

    it('counts statistics anew that are missing or stay impossible', async () => {
      await volume.push(volume.make('a', file('12345')), volume.make('d', directory()));
      await write({ kind: 'dirStat', ino: ROOT_INO }, encodeDirStat({ length: 0n, space: -1n, inodes: 0n }));
      await rewriteAttr(ROOT_INO, { mtimeNs: 1_700_000_000_000_000_000n });
      await volume.push(volume.make('b', file('b')));
      await volume.store.commit({
        compares: [],
        ops: [{ type: 'delete', key: volume.volume.keyOf({ kind: 'dirStat', ino: ROOT_INO }) }],
      });
      await volume.push(volume.remove('a'));
    });

    it('leaves missing statistics to a mount that has not added its own yet', async () => {
      const dirStat = { kind: 'dirStat', ino: ROOT_INO } as const;
      const remove = { type: 'delete', key: volume.volume.keyOf(dirStat) } as const;
      await volume.store.commit({ compares: [], ops: [remove] });
      const session = { kind: 'sessionExpire', sid: 1n } as const;
      const expires = systemClock.nowNs() / 1_000_000_000n + 60n;
      await write(session, new ByteWriter().i64be(expires).finish());
      await volume.push(volume.make('a', file('12345')));
      expect(await stored(dirStat), 'of a directory that a mount may have changed').to.equal(undefined);
      const { outcomes } = await meddled([volume.make('c', file('8'))], {
        beforeCommit: async (_, index) => {
          if (index > 0) return;
          await write(dirStat, encodeDirStat({ length: 5n, space: 4096n, inodes: 1n }));
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['committed']);
      const added = decodeDirStat((await stored(dirStat))?.value ?? new Uint8Array());
      expect(added, 'once the mount has counted').to.deep.equal({ length: 6n, space: 8192n, inodes: 2n });
      await volume.store.commit({ compares: [], ops: [remove] });
      await write(session, new ByteWriter().i64be(1n).finish());
      await volume.push(volume.make('b', file('67')));
      const stat = decodeDirStat((await stored(dirStat))?.value ?? new Uint8Array());
      expect(stat).to.deep.equal({ length: 8n, space: 12288n, inodes: 3n });
    });
  });

  describe('a transaction without an answer', () => {
    it('is found committed by its new inode, and its blocks stay', async () => {
      const { outcomes, revisions } = await meddled([volume.make('f', file(LARGE))], {
        insteadOfCommit: async (transaction) => {
          const first = await volume.store.commit(transaction);
          const second = await volume.store.commit(transaction);
          if (first.outcome !== 'committed' || second.outcome !== 'lost') throw new Error('not as meant');
          return { ...second, ambiguous: true };
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['committed']);
      const [one] = outcomes;
      const ino = one?.outcome === 'committed' ? (one.entry?.ino ?? 0n) : 0n;
      expect((await stored({ kind: 'attr', ino }))?.createRevision).to.equal(revisions[0]);
      expect(await blocks()).to.have.length(7);
    });

    it('is found committed by its compared keys where it makes no inode', async () => {
      await volume.push(volume.make('f', file('f')), volume.make('g', file('g')));
      const { outcomes } = await meddled([volume.remove('f'), volume.edit('g', { mode: 0o600 })], {
        insteadOfCommit: async (transaction) => {
          await volume.store.commit(transaction);
          const second = await volume.store.commit(transaction);
          return second.outcome === 'lost' ? { ...second, ambiguous: true } : undefined;
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['committed', 'committed']);
    });

    it('is lost when another writer came first, and its blocks go', async () => {
      const { outcomes } = await meddled([volume.make('f', file(LARGE))], {
        insteadOfCommit: async (transaction) => {
          await volume.push(volume.make('f', file('theirs')));
          const result = await volume.store.commit(transaction);
          return result.outcome === 'lost' ? { ...result, ambiguous: true } : undefined;
        },
      });
      expect(kinds(outcomes)).to.deep.equal(['lost']);
      expect(await blocks()).to.have.length(1);
    });
  });

  describe('what is not pushed', () => {
    it('is stale when the volume is not what the change was made for', async () => {
      await volume.push(
        volume.make('f', file('one')),
        volume.make('g', file('one')),
        volume.make('taken', file('t')),
      );
      const f = volume.at('f');
      const g = volume.at('g');
      await volume.push(volume.edit('f', file('two')), volume.edit('g', { mode: 0o600 }));
      const { changes } = await volume.try([
        { path: 'f', old: f, new: file('three') },
        { path: 'g', old: g, new: file('two'), expect: { attrModRevision: 1n } },
        volume.make('taken', file('mine')),
        volume.make('no/such/dir', file('mine')),
        { path: 'gone', old: f, new: undefined },
        volume.make('fine', file('fine')),
      ]);
      expect(kinds(changes)).to.deep.equal(['stale', 'stale', 'stale', 'stale', 'stale', 'committed']);
    });

    it('is refused with its reason, with all that depends on it, and the rest goes on', async () => {
      await volume.push(
        volume.make('fixed', directory()),
        volume.make('d', directory()),
        volume.make('d/fixed', file('')),
      );
      await rewriteAttr(volume.at('fixed').ino, { flags: FLAG_IMMUTABLE });
      await rewriteAttr(volume.at('d/fixed').ino, { flags: FLAG_IMMUTABLE });
      const { changes } = await volume.try([
        volume.make('fixed/f', file('f')),
        volume.make('.trash', file('f')),
        volume.make('n'.repeat(256), directory()),
        volume.make(`${'n'.repeat(256)}/below`, file('f')),
        volume.remove('d/fixed'),
        volume.remove('d'),
        volume.make('fine', file('fine')),
      ]);
      const reasons = changes.map((one) => (one.outcome === 'refused' ? one.reason : one.outcome));
      expect(reasons).to.deep.equal([
        'the directory is immutable (chattr +i)',
        '.trash in the root is the trash itself',
        'the name has 256 bytes, more than 255',
        'a directory above it could not be pushed',
        'the entry is immutable (chattr +i)',
        'the directory holds entries that could not be removed',
        'committed',
      ]);
      await rewriteAttr(volume.at('fixed').ino, { flags: 0 });
    });

    it('is set aside when its contents changed while they were read, and leaves no block', async () => {
      const { changes } = await volume.try([volume.make('f', file(LARGE)), volume.make('g', file('g'))], {
        read: async (change, offset, length) => {
          const bytes = await readEntry(change, offset, length);
          return change.path === 'f' && offset > 300_000n ? bytes.map(() => 1) : bytes;
        },
      });
      expect(kinds(changes)).to.deep.equal(['changed', 'committed']);
      expect(await blocks()).to.have.length(1);
    });

    it('is set aside with the directory that it takes the place of', async () => {
      await volume.push(
        volume.make('d', directory()),
        volume.make('d/in', directory()),
        volume.make('d/in/f', file('f')),
        volume.make('d/moves', file('m')),
      );
      const { changes } = await volume.try(
        [
          { path: 'd', old: volume.at('d'), new: file('whole') },
          volume.remove('d/in'),
          volume.remove('d/in/f'),
          volume.move('d/moves', 'moved'),
        ],
        { read: async () => Buffer.from('wh') },
      );
      // A refusal would stand for a while, and without what is below it the directory could not go.
      expect(kinds(changes)).to.deep.equal(['changed', 'changed', 'changed', 'committed']);
    });

    it('is set aside when the file grew or shrank', async () => {
      const grown = await volume.try([volume.make('f', file('four'))], {
        read: async (_change, offset, length) =>
          Buffer.from('four+').subarray(Number(offset), Number(offset) + length),
      });
      const cut = await volume.try([volume.make('f', file('four'))], {
        read: async (_change, offset, length) =>
          Buffer.from('fou').subarray(Number(offset), Number(offset) + length),
      });
      expect([...kinds(grown.changes), ...kinds(cut.changes)]).to.deep.equal(['changed', 'changed']);
    });

    it('is everything once another volume stands in its place', async () => {
      await volume.push(volume.make('f', file('f')));
      const key = { kind: 'setting' } as const;
      const [stored] = (await volume.store.get([volume.volume.keyOf(key)])).kvs;
      const text = Buffer.from(stored?.value ?? []).toString();
      const { uuid } = volume.volume.setting;
      await write(key, Buffer.from(text.replace(uuid, '00000000-0000-0000-0000-000000000000')));
      const { store, asked } = meddlingStore(volume.store, volume.address.prefix, {});
      const pushing = new Pusher(store, volume.volume, systemClock).push([volume.remove('f')], {
        read: readEntry,
      });
      const error: unknown = await pushing.catch((reason: unknown) => reason);
      expect(error).to.be.an.instanceOf(VolumeError);
      expect(asked.commits).to.deep.equal([]);
      await write(key, Buffer.from(text));
    });

    it('is everything on a volume that must not be written', async () => {
      await volume.push(volume.make('f', file('f')));
      const limited = { ...volume.volume, writeRefusal: 'It is somebody else who writes it.' };
      const { store, asked } = meddlingStore(volume.store, volume.address.prefix, {});
      const { changes } = await new Pusher(store, limited, systemClock).push([volume.remove('f')], {
        read: readEntry,
      });
      expect(kinds(changes)).to.deep.equal(['refused']);
      expect(asked.commits).to.deep.equal([]);
    });
  });

  it('deletes blocks that a failed push left with the next push', async () => {
    let broken = true;
    const failing: EtcdStore = {
      get: (keys, options) => volume.store.get(keys, options),
      snapshot: (ranges, onKv, options) => volume.store.snapshot(ranges, onKv, options),
      commit: async (transaction, signal) => {
        const putsBlocks = transaction.ops.every(
          (op) => op.type === 'put' && op.key.startsWith(volume.volume.setting.name),
        );
        const claims = transaction.ops.every((op) => op.type === 'put' && op.key.includes('Cnext'));
        if (broken && !putsBlocks && !claims) {
          throw new UnavailableError('the store is away');
        }
        return volume.store.commit(transaction, signal);
      },
      watch: (...args) => volume.store.watch(...args),
      status: (signal) => volume.store.status(signal),
      close: () => volume.store.close(),
    };
    const pusher = new Pusher(failing, await volumeThrough(volume.volume, failing), systemClock);
    const change = volume.make('f', file(LARGE));
    const failure = await pusher.push([change], { read: readEntry }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).to.have.property('code', 'ERR_UNAVAILABLE');
    expect(await blocks()).to.have.length(7);
    broken = false;
    const later = await pusher.push([volume.make('g', directory())], { read: readEntry });
    expect(kinds(later.changes)).to.deep.equal(['committed']);
    expect(await blocks()).to.have.length(0);
  });
});
