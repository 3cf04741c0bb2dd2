/** Puts keys into an etcd as they are: captured volumes, and what no client would write. */

import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { EtcdStore, LeaseStore } from '../../src/agent/base/ports.ts';
import type { ByteString, StoreEvent, StoreOp } from '../../src/codec/kv.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import type { EtcdServer } from './etcd.ts';
import { loadVolume } from './fixture.ts';

/** Operations and bytes of one transaction. */
const MAX_OPS = 100;
const MAX_BYTES = 1 << 20;

/** Writes these, whatever is there: in one transaction if there are few. */
export async function writeKeys(store: EtcdStore, ops: readonly StoreOp[]): Promise<void> {
  let batch: StoreOp[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    const result = await store.commit({ compares: [], ops: batch });
    if (result.outcome !== 'committed') throw new Error('a transaction without compares was lost');
    batch = [];
    bytes = 0;
  };
  for (const op of ops) {
    const size = op.type === 'put' ? op.value.length : 0;
    if (batch.length >= MAX_OPS || (batch.length > 0 && bytes + size > MAX_BYTES)) await flush();
    batch.push(op);
    bytes += size;
  }
  if (batch.length > 0) await flush();
}

/** Metadata events as operations on the keys of a volume. */
export function asOps(prefix: ByteString, events: readonly StoreEvent[]): StoreOp[] {
  return events.map((event) =>
    event.type === 'put'
      ? { type: 'put', key: prefix + event.kv.key, value: event.kv.value }
      : { type: 'delete', key: prefix + event.key },
  );
}

/** A captured volume in an etcd; two of them have the same keys. */
export interface LoadedVolume {
  readonly url: string;
  readonly store: LeaseStore;
  /** What every metadata key starts with. */
  readonly prefix: ByteString;
  /** Closes the store and removes all keys of the capture. */
  remove(): Promise<void>;
}

/** Loads a captured volume. */
export async function loadInto(server: EtcdServer, name: string): Promise<LoadedVolume> {
  const { kvs, metaPrefix } = loadVolume(name);
  const url = `${server.url}/jfs`;
  const store = etcdStore(parseMetaUrl(url), systemClock);
  await writeKeys(
    store,
    kvs.map(({ key, value }) => ({ type: 'put', key, value })),
  );
  return {
    url,
    store,
    prefix: metaPrefix,
    remove: async () => {
      await writeKeys(
        store,
        kvs.map(({ key }) => ({ type: 'delete', key })),
      );
      await store.close();
    },
  };
}
