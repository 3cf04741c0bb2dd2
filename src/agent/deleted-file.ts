/** Deletes the data of a file that lost its last name while the trash was off (layout 11.3). Every step may be repeated. */

import { decodeCounter, encodeCounter } from '../codec/counter.ts';
import { chunkRange } from '../codec/key.ts';
import type { ByteString, Compare, Kv, StoreOp } from '../codec/kv.ts';
import { decodeSlices } from '../codec/slice.ts';
import { deleteKeys, keysOfSlice } from './blocks.ts';
import type { EtcdStore } from './ports.ts';
import type { Volume } from './volume.ts';

/** Room in a transaction for the keys of blocks. */
const MAX_OPS = 120;

interface DroppedSlice {
  readonly id: bigint;
  readonly size: number;
  /** Records of the chunk that named it. */
  readonly records: bigint;
}

/**
 * Drops each chunk with its references, the blocks that nobody refers to any more, and last the key that says that there
 * is something to do. What another client does at the same time makes a transaction lose and is left to that client.
 */
export async function deleteFileData(
  store: EtcdStore,
  volume: Volume,
  file: { readonly ino: bigint; readonly length: bigint },
  signal?: AbortSignal,
): Promise<void> {
  const range = chunkRange(file.ino);
  const chunks: Kv[] = [];
  await store.snapshot(
    [{ start: volume.prefix + range.start, end: volume.prefix + range.end }],
    (kv) => chunks.push(kv),
    signal === undefined ? {} : { signal },
  );
  for (const chunk of chunks) if (!(await dropChunk(store, volume, chunk, signal))) return;
  await deleteKeys(store, [volume.keyOf({ kind: 'deletedFile', ...file })], signal);
}

/** Whether the chunk is gone with everything that it alone referred to. */
async function dropChunk(
  store: EtcdStore,
  volume: Volume,
  chunk: Kv,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const slices = slicesOf(chunk.value);
  const refKeys = slices.map(({ id, size }) => volume.keyOf({ kind: 'sliceRef', id, size }));
  if (refKeys.length > MAX_OPS) return false;
  const { kvs } = await store.get(refKeys, signal === undefined ? {} : { signal });
  const compares: Compare[] = [{ key: chunk.key, modRevision: chunk.modRevision }];
  const ops: StoreOp[] = [{ type: 'delete', key: chunk.key }];
  const blocks: ByteString[] = [];
  const deadRefs: ByteString[] = [];
  for (const [i, { id, size, records }] of slices.entries()) {
    const key = refKeys[i] ?? '';
    const stored = kvs[i];
    const left = (stored === undefined ? 0n : decodeCounter(stored.value)) - records;
    compares.push({ key, modRevision: stored?.modRevision ?? 0n });
    ops.push({ type: 'put', key, value: encodeCounter(left) });
    if (left >= 0n) continue;
    deadRefs.push(key);
    blocks.push(...keysOfSlice(volume.blocks, id, size, volume.setting.blockSizeBytes));
  }
  const result = await store.commit({ compares, ops }, signal);
  if (result.outcome === 'lost') return false;
  await deleteKeys(store, [...blocks, ...deadRefs], signal);
  return true;
}

function slicesOf(value: Uint8Array): DroppedSlice[] {
  const slices = new Map<string, DroppedSlice>();
  for (const { id, size } of decodeSlices(value)) {
    if (id === 0n) continue;
    const name = `${id}/${size}`;
    slices.set(name, { id, size, records: (slices.get(name)?.records ?? 0n) + 1n });
  }
  return [...slices.values()];
}
