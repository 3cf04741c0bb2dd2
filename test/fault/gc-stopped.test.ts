/** The clean-up stopped at each of its writes, before and after the store has it, and run again: nothing is left, all is counted. */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { UnavailableError } from '../../src/agent/base/error.ts';
import { cleanUp } from '../../src/agent/housekeeping/clean-up.ts';
import type { CleanupReport } from '../../src/agent/housekeeping/report.ts';
import type { Clock, LeaseStore } from '../../src/agent/base/ports.ts';
import { openVolume } from '../../src/agent/volume/volume.ts';
import { encodeAttr } from '../../src/codec/attr.ts';
import { blockKey } from '../../src/codec/block.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { encodeCounter, encodeTimeCounter } from '../../src/codec/counter.ts';
import { encodeDentry } from '../../src/codec/dentry.ts';
import { encodeKey, type MetaKey } from '../../src/codec/key.ts';
import type { StoreOp } from '../../src/codec/kv.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { attrOf } from '../support/meta.ts';
import { loadInto, writeKeys, type LoadedVolume } from '../support/raw-keys.ts';
import { recount } from '../support/recount.ts';
import { needTool } from '../support/tools.ts';

const DAYS_LATER: Clock = {
  ...systemClock,
  nowNs: () => systemClock.nowNs() + 10n * 24n * 3600n * 1_000_000_000n,
};

/** The store, which fails its n-th write: not sent, or sent and not answered. */
function stopping(
  store: LeaseStore,
  n: number,
  when: 'before' | 'after',
): { store: LeaseStore; writes: number } {
  const counted = { writes: 0, store };
  counted.store = {
    snapshot: (...args) => store.snapshot(...args),
    get: (...args) => store.get(...args),
    watch: (...args) => store.watch(...args),
    status: (...args) => store.status(...args),
    grantLease: (...args) => store.grantLease(...args),
    renewLease: (...args) => store.renewLease(...args),
    revokeLease: (...args) => store.revokeLease(...args),
    close: () => store.close(),
    async commit(transaction, signal) {
      counted.writes += 1;
      const isLast = counted.writes === n;
      if (isLast && when === 'before') throw new UnavailableError('stopped');
      const result = await store.commit(transaction, signal);
      if (isLast) throw new UnavailableError('stopped');
      return result;
    },
  };
  return counted;
}

describe('a clean-up that is stopped', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let volume: LoadedVolume;
  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
  });
  after(async () => server?.stop());

  /** A capture with a trash and delayed slices, and a session that died over open files, locks and a tree of its own. */
  async function load(name: string): Promise<void> {
    volume = await loadInto(server, name);
    const { store, prefix } = volume;
    const opened = await openVolume(store, { prefix });
    const { kvs } = await store.get(
      ['usedSpace', 'totalInodes'].map((counter) => opened.keyOf({ kind: 'counter', name: counter })),
    );
    const [space = 0n, inodes = 0n] = kvs.map((kv) => Buffer.from(kv?.value ?? []).readBigInt64LE());
    const put = (key: MetaKey, value: Uint8Array): StoreOp => {
      return { type: 'put', key: prefix + encodeKey(key), value };
    };
    const lock = Buffer.from(`${'00'.repeat(7)}63${'11'.repeat(8)}57`, 'hex');
    await writeKeys(store, [
      put({ kind: 'sessionExpire', sid: 99n }, encodeTimeCounter(1n)),
      put({ kind: 'sessionInfo', sid: 99n }, new Uint8Array(2)),
      put({ kind: 'sustained', sid: 99n, ino: 5000n }, new Uint8Array([1])),
      put({ kind: 'flock', ino: 2n }, new Uint8Array(lock)),
      put({ kind: 'attr', ino: 5000n }, encodeAttr(attrOf('file', { nlink: 0, length: 9000n }))),
      put({ kind: 'attr', ino: 5001n }, encodeAttr(attrOf('symlink', { length: 3n }))),
      put({ kind: 'symlink', ino: 5001n }, new Uint8Array(3)),
      put({ kind: 'attr', ino: 5002n }, encodeAttr(attrOf('directory', { nlink: 2, parent: 0n }))),
      put({ kind: 'detached', ino: 5002n }, encodeTimeCounter(1n)),
      put({ kind: 'attr', ino: 5003n }, encodeAttr(attrOf('file', { parent: 5002n }))),
      put({ kind: 'dentry', parent: 5002n, name: 'f' }, encodeDentry({ type: 'file', ino: 5003n })),
      put({ kind: 'counter', name: 'usedSpace' }, encodeCounter(space + 12_288n + 3n * 4096n)),
      put({ kind: 'counter', name: 'totalInodes' }, encodeCounter(inodes + 4n)),
      put({ kind: 'sliceRef', id: 9000n, size: 5 }, encodeCounter(1n)),
      { type: 'put', key: blockKey(opened.blocks, 9001n, 0, 5), value: new Uint8Array(5) },
    ]);
  }

  async function wipe(): Promise<void> {
    await writeKeys(volume.store, [
      { type: 'deleteRange', range: prefixRange(volume.prefix) },
      { type: 'deleteRange', range: prefixRange('pics/') },
      { type: 'deleteRange', range: prefixRange('etcd-etc-agent/') },
    ]);
    await volume.store.close();
  }

  async function clean(store: LeaseStore, minAge: number): Promise<CleanupReport> {
    const opened = await openVolume(store, volume);
    return cleanUp({ store, volume: opened, clock: DAYS_LATER, guard: [] }, { minAge, dryRun: false });
  }

  for (const name of ['trash', 'unlinked-open']) {
    for (const when of ['before', 'after'] as const) {
      it(`leaves nothing of ${name} when it runs again (${when} each write)`, async () => {
        for (let n = 1; ; n += 1) {
          await load(name);
          const { store, prefix } = volume;
          const stopped = stopping(store, n, when);
          const isThrough = await clean(stopped.store, 0).then(
            () => true,
            (error: unknown) => {
              if (error instanceof UnavailableError && error.message === 'stopped') return false;
              throw error;
            },
          );
          expect(await clean(store, 0), `after a stop at write ${n}`).to.deep.include({ left: [] });
          expect(await recount(store, prefix), `after a stop at write ${n}`).to.deep.equal([]);
          const again = stopping(store, 0, 'before');
          await clean(again.store, 0);
          expect(again.writes, 'writes of a third run').to.equal(0);
          await wipe();
          if (isThrough) {
            expect(n, 'writes').to.be.greaterThan(8);
            break;
          }
        }
      });
    }
  }
});
