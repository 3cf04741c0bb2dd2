/** A store that lets a test act between a writer's plan and its commit, or lose the answer. */

import type { CommitResult, EtcdStore } from '../../src/agent/base/ports.ts';
import type { KeyRange, StoreTransaction } from '../../src/codec/kv.ts';

export interface Meddling {
  /** Runs before each commit that writes metadata; the number counts from 0. */
  beforeCommit?: (transaction: StoreTransaction, index: number) => Promise<void>;
  /** Stands in for a commit that writes metadata. */
  insteadOfCommit?: (transaction: StoreTransaction, index: number) => Promise<CommitResult | undefined>;
}

/** What a wrapped store was asked for. */
export interface Asked {
  readonly keys: string[];
  readonly ranges: KeyRange[];
  readonly commits: StoreTransaction[];
}

/** Wraps a store. Only transactions that put or delete a dentry or an attr below `prefix` are meddled with. */
export function meddlingStore(
  store: EtcdStore,
  prefix: string,
  meddling: Meddling,
): { store: EtcdStore; asked: Asked } {
  const asked: Asked = { keys: [], ranges: [], commits: [] };
  let index = 0;
  const wrapped: EtcdStore = {
    snapshot: (ranges, onKv, options) => {
      asked.ranges.push(...ranges);
      return store.snapshot(ranges, onKv, options);
    },
    get: (keys, options) => {
      asked.keys.push(...keys);
      return store.get(keys, options);
    },
    watch: (...args) => store.watch(...args),
    async commit(transaction, signal) {
      asked.commits.push(transaction);
      const isMetadata = transaction.ops.some(
        (op) => op.type !== 'deleteRange' && op.key.startsWith(`${prefix}A`),
      );
      if (!isMetadata) return store.commit(transaction, signal);
      const own = index++;
      await meddling.beforeCommit?.(transaction, own);
      return (await meddling.insteadOfCommit?.(transaction, own)) ?? store.commit(transaction, signal);
    },
    status: (signal) => store.status(signal),
    close: () => store.close(),
  };
  return { store: wrapped, asked };
}
