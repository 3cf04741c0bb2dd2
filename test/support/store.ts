/** Stores for tests: the real one, with waits that are short. */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { type EtcdOptions, etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { DEFAULT_WATCH_OPTIONS } from '../../src/agent/etcd/watch.ts';
import type { StoreOp } from '../../src/codec/kv.ts';
import type { Endpoint, MetaAddress } from '../../src/codec/url.ts';

/** Backs off for milliseconds, not seconds. */
export const QUICK_WATCH = { ...DEFAULT_WATCH_OPTIONS, backoff: { firstMs: 5, maxMs: 100 } };

/** A store of a volume with an empty path; `address` adds a user or TLS. */
export function openStore(
  endpoints: Endpoint | readonly Endpoint[],
  options: Partial<EtcdOptions> = {},
  address: Partial<MetaAddress> = {},
): EtcdStore {
  const list = 'host' in endpoints ? [endpoints] : endpoints;
  return etcdStore({ endpoints: list, prefix: '\xfd', ...address }, systemClock, {
    watch: QUICK_WATCH,
    ...options,
  });
}

/** Puts one key, whatever is there; returns the revision. */
export async function putKey(store: EtcdStore, key: string, value = 'value'): Promise<bigint> {
  const op: StoreOp = { type: 'put', key, value: new Uint8Array(Buffer.from(value, 'latin1')) };
  const result = await store.commit({ compares: [], ops: [op] });
  expect(result).to.have.property('outcome', 'committed');
  return result.revision;
}
