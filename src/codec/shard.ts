/** Which of a volume's stores holds an object, and where that store is. */

import { toBytes } from './bytes.ts';
import type { ByteString } from './kv.ts';

/** The store, from 0, of an object's full key: FNV-1a of 32 bits modulo the number of stores (layout 6.6, upstream `sharded.pick`). */
export function shardOf(key: ByteString, shards: number): number {
  let hash = 0x811c9dc5;
  for (const byte of toBytes(key)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0) % shards;
}

/** The bucket addresses of all stores: `%d` is the number of each. `undefined` if it is missing. */
export function bucketsOf(bucket: string, shards: number): string[] | undefined {
  if (!bucket.includes('%d')) return undefined;
  return Array.from({ length: shards }, (_, i) => bucket.replace('%d', String(i)));
}
