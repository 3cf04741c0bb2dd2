/** The contents of one file, read once: cut into slices and blocks, hashed, and stored or kept for the transaction. */

import { createHash } from 'node:crypto';
import { blockKey } from '../../codec/block.ts';
import type { ByteString } from '../../codec/kv.ts';
import { CHUNK_SIZE, type SliceRecord } from '../../codec/slice.ts';
import type { FileEntry } from '../../reconcile/entry.ts';
import type { ChunkContent, Content } from '../../reconcile/operations.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import type { ClaimOptions, IdPool } from '../volume/id-pool.ts';
import type { BlockWriter } from '../base/ports.ts';
import type { Volume } from '../volume/volume.ts';

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
  readonly volume: Pick<Volume, 'setting' | 'blocks' | 'data'>;
  /** Its caller waits for the blocks to be stored. */
  readonly writer: BlockWriter;
  readonly slices: Pick<IdPool, 'take' | 'giveBack'>;
  /** Keep the blocks for the transaction. */
  readonly inline: boolean;
  /** Store only what comes after the contents of `change.old`, if the new ones begin with them. */
  readonly mayAppend: boolean;
  readonly read: ReadContent;
  /** How slice ids are asked for. */
  readonly claim: ClaimOptions;
  /** Called before the first block is stored; its keys grow as blocks are. */
  readonly onStart: (content: StoredContent) => void;
  /** Called before any block of these slices is stored. */
  readonly onSlices: (ids: readonly bigint[]) => void;
}

/**
 * The largest block that is stored. The real client does not do this: on its volumes with larger blocks every file above
 * the request limit of etcd, 1.5 MiB, fails with EIO (layout 15). A slice of at most this size has one block, whatever the
 * block size of the volume is.
 */
const MAX_BLOCK = 1 << 20;
/** Slice ids that are asked for together where each block is a slice. */
const IDS_AT_ONCE = 32;
const CHUNK = BigInt(CHUNK_SIZE);

/** Reads and begins to store; `changed` if what was read is not what the entry's size and digest say. */
export async function storeContent(
  change: PushChange & { readonly new: FileEntry },
  options: StoreContentOptions,
): Promise<StoredContent | 'changed'> {
  const { read } = options;
  const { size, digest } = change.new;
  let from = 0n;
  let hash = createHash('sha256');
  if (options.mayAppend && change.old?.type === 'file') {
    const end = change.old.size;
    const isWhole = await forEachPart(change, read, 0n, end, MAX_BLOCK, (bytes) => {
      hash.update(bytes);
    });
    if (isWhole && hash.copy().digest('hex') === change.old.digest) from = end;
    else hash = createHash('sha256');
  }
  const cutter = new Cutter(size, from, options);
  options.onStart(cutter.content);
  const isWhole = await forEachPart(change, read, from, size, cutter.unit, async (bytes, offset) => {
    hash.update(bytes);
    await cutter.add(offset, bytes);
  });
  cutter.finish();
  const isEnd = isWhole && (await read(change, size, 1)).length === 0;
  return isEnd && hash.digest('hex') === digest ? cutter.content : 'changed';
}

/** Cuts one file into slices and blocks as it is read from one end to the other. */
class Cutter {
  /** Bytes of every block but the last of a slice. */
  readonly unit: number;
  readonly #size: bigint;
  readonly #o: StoreContentOptions;
  readonly #blocks: { key: ByteString; value: Uint8Array }[] = [];
  readonly #storedKeys: ByteString[] = [];
  readonly #chunks: { readonly index: number; readonly records: SliceRecord[] }[] = [];
  readonly #from: bigint;
  readonly #isOneBlock: boolean;
  #ids: bigint[] = [];
  /** The slice that goes on; `undefined` after zeros. */
  #slice: { readonly index: number; readonly pos: number; readonly id: bigint; size: number } | undefined;

  constructor(size: bigint, from: bigint, options: StoreContentOptions) {
    const { blockSizeBytes } = options.volume.setting;
    this.#size = size;
    this.#from = from;
    this.#o = options;
    this.unit = Math.min(blockSizeBytes, MAX_BLOCK);
    this.#isOneBlock = blockSizeBytes > MAX_BLOCK;
  }

  get content(): StoredContent {
    const chunks: readonly ChunkContent[] = this.#chunks;
    return {
      length: this.#size,
      ...(this.#from === 0n ? {} : { appendTo: this.#from }),
      chunks,
      blocks: this.#blocks,
      storedKeys: this.#storedKeys,
    };
  }

  /** Takes the next bytes of the file, a unit of them but at the end of a chunk or of the file. */
  async add(offset: bigint, bytes: Uint8Array): Promise<void> {
    // A whole unit of zeros gets no slice: what no record covers is read as zeros (layout 5.2).
    if (bytes.length === this.unit && isZero(bytes)) {
      this.#endSlice();
      return;
    }
    const index = Number(offset / CHUNK);
    if (this.#slice === undefined || this.#slice.index !== index || this.#isOneBlock) {
      this.#endSlice();
      const [id] = await this.#takeId(offset);
      if (id === undefined) throw new RangeError('no slice id was claimed');
      this.#slice = { index, pos: Number(offset % CHUNK), id, size: 0 };
    }
    const slice = this.#slice;
    const { volume, inline, writer } = this.#o;
    const key = blockKey(volume.blocks, slice.id, slice.size / this.unit, bytes.length);
    slice.size += bytes.length;
    if (inline) {
      this.#blocks.push({ key, value: await volume.data.pack(bytes) });
    } else {
      this.#storedKeys.push(key);
      await writer.put(key, bytes);
    }
  }

  /** The file ends here. */
  finish(): void {
    this.#endSlice();
    this.#o.slices.giveBack(this.#ids.splice(0));
  }

  #endSlice(): void {
    if (this.#slice === undefined) return;
    const { index, pos, id, size } = this.#slice;
    const last = this.#chunks.at(-1);
    const record = { pos, id, size, off: 0, len: size };
    if (last?.index === index) last.records.push(record);
    else this.#chunks.push({ index, records: [record] });
    this.#slice = undefined;
  }

  async #takeId(offset: bigint): Promise<bigint[]> {
    if (this.#ids.length === 0) {
      const left = Number((this.#size - offset + BigInt(this.unit) - 1n) / BigInt(this.unit));
      const count = this.#isOneBlock ? Math.min(left, IDS_AT_ONCE) : 1;
      this.#ids = await this.#o.slices.take(count, this.#o.claim);
      if (!this.#o.inline) this.#o.onSlices([...this.#ids]);
    }
    return this.#ids.splice(0, 1);
  }
}

const ZEROS = Buffer.alloc(64 << 10);

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length);
    if (!ZEROS.subarray(0, part.length).equals(part)) return false;
  }
  return true;
}

/** Hands out `[start, end)` in parts of `unit` bytes, cut at the ends of chunks; whether all of it was there. */
async function forEachPart(
  change: PushChange,
  read: ReadContent,
  start: bigint,
  end: bigint,
  unit: number,
  use: (bytes: Uint8Array, offset: bigint) => Promise<void> | void,
): Promise<boolean> {
  for (let offset = start; offset < end;) {
    const length = least(BigInt(unit), end - offset, CHUNK - (offset % CHUNK));
    const bytes = await readFully(read, change, offset, length);
    if (bytes.length < length) return false;
    await use(bytes, offset);
    offset += BigInt(length);
  }
  return true;
}

function least(...numbers: readonly bigint[]): number {
  return Number(numbers.reduce((a, b) => (a < b ? a : b)));
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
