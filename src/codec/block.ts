/** Which blocks a slice is stored in, and the name of each block's key. */

import { prefixRange } from './bytes.ts';
import type { ByteString, KeyRange } from './kv.ts';

/** What the setting says about the names of blocks. */
export interface BlockLayout {
  /** The volume's name. */
  readonly name: string;
  readonly hashPrefix: boolean;
}

/** One block of a slice: its number from 0 and its bytes before compression. */
export interface BlockOfSlice {
  readonly index: number;
  readonly length: number;
}

/** The blocks of a slice of `size` bytes: all of `blockSize` bytes but the last (layout 6.1). */
export function blocksOfSlice(size: number, blockSize: number): BlockOfSlice[] {
  const blocks: BlockOfSlice[] = [];
  for (let start = 0; start < size; start += blockSize) {
    blocks.push({ index: blocks.length, length: Math.min(blockSize, size - start) });
  }
  return blocks;
}

/** The key of a block at the root of the object store's key space (layout 6.1, upstream `rSlice.key`). */
export function blockKey(layout: BlockLayout, id: bigint, index: number, length: number): ByteString {
  const folders = layout.hashPrefix
    ? `${(id % 256n).toString(16).toUpperCase().padStart(2, '0')}/${id / 1_000_000n}`
    : `${id / 1_000_000n}/${id / 1000n}`;
  return `${layout.name}/chunks/${folders}/${id}_${index}_${length}`;
}

/** The keys of all blocks that a slice may have. */
export function blocksOfSliceRange(layout: BlockLayout, id: bigint): KeyRange {
  return prefixRange(blockKey(layout, id, 0, 0).slice(0, -'0_0'.length));
}

/** What a block key names; `undefined` for a key that `blockKey` would not write for this volume. */
export function parseBlockKey(
  layout: BlockLayout,
  key: ByteString,
): { readonly id: bigint; readonly index: number; readonly length: number } | undefined {
  const match = /\/(\d{1,20})_(\d{1,10})_(\d{1,10})$/.exec(key);
  if (match === null) return undefined;
  const [, id = '', index = '', length = ''] = match;
  const block = { id: BigInt(id), index: Number(index), length: Number(length) };
  return blockKey(layout, block.id, block.index, block.length) === key ? block : undefined;
}

/** All block keys of the volume with this name. Other objects of the volume lie outside (layout 1.4). */
export function blockRange(name: string): KeyRange {
  return prefixRange(`${name}/chunks/`);
}
