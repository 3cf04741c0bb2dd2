/** The contents of one new file, read once: cut into slices and blocks, hashed, and stored or kept for the transaction. */

import { createHash } from 'node:crypto';
import { blockKey, blocksOfSlice } from '../codec/block.ts';
import type { ByteString } from '../codec/kv.ts';
import { CHUNK_SIZE } from '../codec/slice.ts';
import type { FileEntry } from '../reconcile/entry.ts';
import type { Content, SliceOfChunk } from '../reconcile/operations.ts';
import type { PushChange } from '../reconcile/push-change.ts';
import { keysOfSlice } from './blocks.ts';
import type { IdPool } from './id-pool.ts';
import type { BlockWriter } from './ports.ts';
import type { Volume } from './volume.ts';

/** Reads bytes of the new contents of a change; fewer than asked for only where they end or a read stops short. */
export type ReadContent = (change: PushChange, offset: bigint, length: number) => Promise<Uint8Array>;

/** Contents that are in the store, or ready to be put. */
export interface StoredContent extends Content {
  /** Blocks for the transaction to put. */
  readonly blocks: readonly { readonly key: ByteString; readonly value: Uint8Array }[];
  /** Blocks that are in the store, or may be, before the transaction. */
  readonly storedKeys: readonly ByteString[];
}

export interface StoreContentOptions {
  readonly volume: Volume;
  /** Its caller waits for the blocks to be stored. */
  readonly writer: BlockWriter;
  readonly slices: IdPool;
  /** Keep the blocks for the transaction. */
  readonly inline: boolean;
  readonly read: ReadContent;
  readonly signal: AbortSignal | undefined;
  /** Called before the first block is stored. */
  readonly onStart: (content: StoredContent) => void;
}

/** Reads and begins to store; `changed` if what was read is not what the entry's size and digest say. */
export async function storeContent(
  change: PushChange & { readonly new: FileEntry },
  options: StoreContentOptions,
): Promise<StoredContent | 'changed'> {
  const { volume, inline, read, writer } = options;
  const { size, digest } = change.new;
  const slices = await claimSlices(size, options);
  const blockSize = volume.setting.blockSizeBytes;
  const keys = slices.flatMap((slice) => keysOfSlice(volume.blocks, slice.id, slice.size, blockSize));
  const content = { length: size, slices, blocks: [], storedKeys: inline ? [] : keys };
  options.onStart(content);

  const hash = createHash('sha256');
  const blocks: { key: ByteString; value: Uint8Array }[] = [];
  let offset = 0n;
  let isWhole = true;
  for (const { id, size: sliceSize } of slices) {
    for (const { index, length } of blocksOfSlice(sliceSize, blockSize)) {
      const value = await readFully(read, change, offset, length);
      isWhole &&= value.length === length;
      if (!isWhole) break;
      hash.update(value);
      offset += BigInt(length);
      const key = blockKey(volume.blocks, id, index, length);
      if (inline) blocks.push({ key, value: await volume.data.pack(value) });
      else await writer.put(key, value);
    }
  }
  isWhole &&= (await read(change, offset, 1)).length === 0;
  return isWhole && hash.digest('hex') === digest ? { ...content, blocks } : 'changed';
}

/** One slice for each chunk of the file (layout 5.1). */
async function claimSlices(size: bigint, { slices, signal }: StoreContentOptions): Promise<SliceOfChunk[]> {
  const chunk = BigInt(CHUNK_SIZE);
  const count = Number((size + chunk - 1n) / chunk);
  const ids = await slices.take(count, signal);
  return ids.map((id, index) => {
    const left = size - BigInt(index) * chunk;
    return { index, id, size: Number(left < chunk ? left : chunk) };
  });
}

/** As many bytes as asked for, but where the contents end. */
async function readFully(
  read: ReadContent,
  change: PushChange,
  offset: bigint,
  length: number,
): Promise<Uint8Array> {
  const whole = await read(change, offset, length);
  if (whole.length === length || whole.length === 0) return whole;
  const parts = [whole];
  let got = whole.length;
  while (got < length) {
    const more = await read(change, offset + BigInt(got), length - got);
    if (more.length === 0) break;
    parts.push(more);
    got += more.length;
  }
  return Buffer.concat(parts);
}
