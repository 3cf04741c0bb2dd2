/** Deletes the data of a file that lost its last name while the trash was off (layout 11.3). Every step may be repeated. */

import { decodeCounter, encodeCounter } from '../../codec/counter.ts';
import { chunkRange } from '../../codec/key.ts';
import type { ByteString, Compare, Kv, StoreOp } from '../../codec/kv.ts';
import { decodeSlices } from '../../codec/slice.ts';
import { deleteKeys, keysOfSlice } from './blocks.ts';
import type { EtcdStore } from '../base/ports.ts';
import type { Volume } from './volume.ts';
import { assertSameStore, type IsSameStore } from '../base/same-store.ts';
import { withSignal } from '../base/signal.ts';

/** Room in a transaction for the keys of blocks. */
const MAX_OPS = 120;

interface DeletionOptions {
  readonly signal?: AbortSignal | undefined;
  /** Whether the store is still the one in which the file lost its last name. */
  readonly isSameStore?: IsSameStore | undefined;
}

interface DroppedSlice {
  readonly id: bigint;
  readonly size: number;
  /** Records of the chunk that named it. */
  readonly records: bigint;
}

/** How often a chunk is tried again that another client changed meanwhile. */
const TRIES = 5;

/**
 * Drops each chunk with its references, the blocks that nobody refers to any more, and last the key that says that there
 * is something to do. Others may do the same at the same time; what is left over is done by any mount an hour later.
 * Nothing is dropped without that key: a backup in the place of the store may still have the file. Throws `UnavailableError` when the store may have become another one.
 */
export async function deleteFileData(
  store: EtcdStore,
  volume: Volume,
  file: { readonly ino: bigint; readonly length: bigint },
  options: DeletionOptions = {},
): Promise<void> {
  const { signal, isSameStore } = options;
  const mark = volume.keyOf({ kind: 'deletedFile', ...file });
  const range = chunkRange(file.ino);
  const chunks: Kv[] = [];
  await store.snapshot(
    [{ start: volume.prefix + range.start, end: volume.prefix + range.end }],
    (kv) => chunks.push(kv),
    withSignal(signal),
  );
  for (const chunk of chunks) if (!(await dropChunk(store, volume, chunk, mark, options))) return;
  assertSameStore(isSameStore);
  await deleteKeys(store, [mark], signal);
}

/** Whether the chunk is gone with everything that it alone referred to. */
async function dropChunk(
  store: EtcdStore,
  volume: Volume,
  stored: Kv,
  mark: ByteString,
  { signal, isSameStore }: DeletionOptions,
): Promise<boolean> {
  const slices = slicesOf(stored.value);
  const refKeys = slices.map(({ id, size }) => volume.keyOf({ kind: 'sliceRef', id, size }));
  if (refKeys.length > MAX_OPS) return false;
  for (let tries = 0; tries < TRIES; tries += 1) {
    const { kvs } = await store.get([mark, stored.key, ...refKeys], withSignal(signal));
    const [deleted, chunk, ...refs] = kvs;
    assertSameStore(isSameStore);
    // Dropped: by us just now, by an attempt of ours without an answer, or by another client.
    if (chunk === undefined) {
      await deleteUnreferenced(store, volume, slices, refs, signal);
      return true;
    }
    if (deleted === undefined) return false;
    // A chunk of a file without names changes only by compaction, and then it is another list of slices.
    if (chunk.modRevision !== stored.modRevision) return false;
    const compares: Compare[] = [deleted, chunk].map(({ key, modRevision }) => ({ key, modRevision }));
    const ops: StoreOp[] = [{ type: 'delete', key: chunk.key }];
    for (const [i, { records }] of slices.entries()) {
      const key = refKeys[i] ?? '';
      const ref = refs[i];
      const left = (ref === undefined ? 0n : decodeCounter(ref.value)) - records;
      compares.push({ key, modRevision: ref?.modRevision ?? 0n });
      ops.push({ type: 'put', key, value: encodeCounter(left) });
    }
    await store.commit({ compares, ops }, signal);
  }
  return false;
}

/** Deletes the blocks of slices whose count is below zero, and then the counts (layout 5.4). */
async function deleteUnreferenced(
  store: EtcdStore,
  volume: Volume,
  slices: readonly DroppedSlice[],
  refs: readonly (Kv | undefined)[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const keys: ByteString[] = [];
  const dead: ByteString[] = [];
  for (const [i, { id, size }] of slices.entries()) {
    const ref = refs[i];
    if (ref === undefined || decodeCounter(ref.value) >= 0n) continue;
    keys.push(...keysOfSlice(volume.blocks, id, size, volume.setting.blockSizeBytes));
    dead.push(ref.key);
  }
  await volume.data.delete(keys, signal);
  await deleteKeys(store, dead, signal);
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
