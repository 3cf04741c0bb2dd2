/** Brings file contents from the store into the stage, block by block, through a cache: blocks never change. */

import { createHash } from 'node:crypto';

import { blockKey } from '../../codec/block.ts';
import { DecodeError } from '../../codec/error.ts';
import type { ByteString } from '../../codec/kv.ts';
import { contentKey, fileExtents, type Extent } from '../../reconcile/extents.ts';
import type { InodeIndex } from '../../reconcile/inode-index.ts';
import type { Layout } from '../disk/layout.ts';
import type { FsPort } from '../base/ports.ts';
import type { Volume } from '../volume/volume.ts';
import { withSignal } from '../base/signal.ts';

/** Bytes of blocks asked for in one request, and held while files are written from them. */
const BATCH_BYTES = 4 << 20;
/** Keys in one read transaction (etcd's `--max-txn-ops`). */
const BATCH_KEYS = 128;
/** Bytes of blocks held: what the watch brought and what was read; the oldest go first. More than a block and a batch. */
const CACHE_BYTES = 16 << 20;
const ZEROS = new Uint8Array(64 << 10);

/** A content in the stage directory. */
export interface StagedFile {
  readonly path: ByteString;
  readonly digest: string;
  readonly size: bigint;
}

/** What became of one wanted content. */
export type StageResult =
  | { readonly staged: StagedFile }
  /** A block is not there (yet): a `--writeback` mount, or a damaged volume. */
  | { readonly missing: ByteString }
  /** The bytes are not what the layout says. */
  | { readonly bad: string };

/** A file whose content is wanted; `key` is its content key. */
export interface WantedContent {
  readonly ino: bigint;
  readonly key: string;
  readonly size: bigint;
}

interface DataExtent {
  readonly extent: Extract<Extent, { zeros?: never }>;
  readonly key: ByteString;
}

interface Options {
  readonly volume: Pick<Volume, 'setting' | 'blocks' | 'data'>;
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly index: () => InodeIndex;
}

/** The stage directory, and the blocks on their way into it. */
export class Stage {
  readonly #o: Options;
  readonly #cache = new Map<ByteString, Uint8Array>();
  readonly #staged = new Map<string, StagedFile>();
  #cachedBytes = 0;
  #counter = 0;

  constructor(options: Options) {
    this.#o = options;
  }

  /** A block that the watch brought; held until newer ones push it out. */
  offer(key: ByteString, value: Uint8Array): void {
    this.#forget(key);
    this.#cache.set(key, value);
    this.#cachedBytes += value.length;
    for (const oldest of this.#cache.keys()) {
      if (this.#cachedBytes <= CACHE_BYTES) break;
      this.#forget(oldest);
    }
  }

  #forget(key: ByteString): void {
    const value = this.#cache.get(key);
    if (value === undefined) return;
    this.#cache.delete(key);
    this.#cachedBytes -= value.length;
  }

  /** A content that is in the stage already, for this inode: copies of a file share content, never an inode. */
  stagedFile({ ino, key }: Pick<WantedContent, 'ino' | 'key'>): StagedFile | undefined {
    return this.#staged.get(`${ino} ${key}`);
  }

  /** Removes everything from the stage that was not published. */
  clear(): void {
    for (const { path } of this.#staged.values()) {
      if (this.#o.fs.lstat('clear stage', path) !== undefined) this.#o.fs.unlink('clear stage', path);
    }
    this.#staged.clear();
  }

  /**
   * Stages contents, many small ones with one request. `revision` is where the index stands. Results by content key.
   */
  async stage(
    wanted: readonly WantedContent[],
    revision: bigint,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, StageResult>> {
    const results = new Map<string, StageResult>();
    // All at once: the index moves on while blocks are read.
    const located = wanted.map((content) => ({ content, extents: this.#extents(content) }));
    let batch: { content: WantedContent; extents: readonly Extent[] }[] = [];
    let keys = new Set<ByteString>();
    let bytes = 0;
    const flush = async (): Promise<void> => {
      await this.#fetch([...keys], revision, signal);
      for (const { content, extents } of batch) {
        results.set(content.key, await this.#write(content, extents, revision, signal));
      }
      batch = [];
      keys = new Set();
      bytes = 0;
    };
    for (const { content, extents } of located) {
      const staged = this.stagedFile(content);
      if (staged !== undefined) {
        results.set(content.key, { staged });
        continue;
      }
      if (typeof extents === 'string') {
        results.set(content.key, { bad: extents });
        continue;
      }
      const data = this.#data(extents);
      const size = data.reduce((sum, { extent }) => sum + extent.blockLength, 0);
      if (keys.size + data.length > BATCH_KEYS || bytes + size > BATCH_BYTES) await flush();
      batch.push({ content, extents });
      // A file larger than a batch reads its blocks while it is written.
      if (size > BATCH_BYTES || data.length > BATCH_KEYS) continue;
      for (const { key } of data) keys.add(key);
      bytes += size;
    }
    await flush();
    return results;
  }

  #extents(content: WantedContent): readonly Extent[] | string {
    const record = this.#o.index().get(content.ino);
    if (record === undefined) return 'the inode is gone';
    try {
      if (contentKey(record.chunks, content.size) !== content.key) return 'the content changed in the volume';
      return fileExtents(record.chunks, content.size, this.#o.volume.setting.blockSizeBytes);
    } catch (error) {
      if (error instanceof DecodeError) return error.message;
      throw error;
    }
  }

  #data(extents: readonly Extent[]): DataExtent[] {
    const data: DataExtent[] = [];
    for (const extent of extents) {
      if (extent.zeros) continue;
      data.push({
        extent,
        key: blockKey(this.#o.volume.blocks, extent.id, extent.blockIndex, extent.blockLength),
      });
    }
    return data;
  }

  async #fetch(keys: readonly ByteString[], revision: bigint, signal?: AbortSignal): Promise<void> {
    const { data } = this.#o.volume;
    const wanted = keys.filter((key) => !this.#cache.has(key));
    for (let at = 0; at < wanted.length; at += BATCH_KEYS) {
      const part = wanted.slice(at, at + BATCH_KEYS);
      const values = await data.get(part, { revision, ...withSignal(signal) });
      for (const [index, value] of values.entries()) {
        const key = part[index];
        if (value !== undefined && key !== undefined) this.offer(key, value);
      }
    }
  }

  async #write(
    content: WantedContent,
    extents: readonly Extent[],
    revision: bigint,
    signal?: AbortSignal,
  ): Promise<StageResult> {
    const { fs, layout } = this.#o;
    const path = `${layout.stage}/c-${(this.#counter += 1)}`;
    const hash = createHash('sha256');
    const fd = fs.openNew('stage', path);
    const fail = (result: StageResult): StageResult => {
      fs.unlink('stage', path);
      return result;
    };
    try {
      for (const extent of extents) {
        if (extent.zeros) {
          hashZeros(hash, extent.length);
          continue;
        }
        const block = await this.#block(extent, revision, signal);
        if (!('bytes' in block)) return fail(block);
        const part = block.bytes.subarray(extent.blockOffset, extent.blockOffset + extent.length);
        hash.update(part);
        fs.write('stage', fd, part, Number(extent.offset));
      }
      fs.ftruncate('stage', fd, content.size);
    } catch (error) {
      // Nobody would know of it, and each try would leave another one on a full disk.
      fs.unlink('stage', path);
      throw error;
    } finally {
      fs.close('stage', fd);
    }
    const staged = { path, digest: hash.digest('hex'), size: content.size };
    this.#staged.set(`${content.ino} ${content.key}`, staged);
    return { staged };
  }

  async #block(
    extent: Extract<Extent, { zeros?: never }>,
    revision: bigint,
    signal?: AbortSignal,
  ): Promise<{ readonly bytes: Uint8Array } | Exclude<StageResult, { staged: StagedFile }>> {
    const { blocks, data } = this.#o.volume;
    const key = blockKey(blocks, extent.id, extent.blockIndex, extent.blockLength);
    if (!this.#cache.has(key)) await this.#fetch([key], revision, signal);
    const stored = this.#cache.get(key);
    if (stored === undefined) return { missing: key };
    try {
      return { bytes: await data.unpack(stored, extent.blockLength) };
    } catch (error) {
      if (error instanceof DecodeError) return { bad: `block ${key}: ${error.message}` };
      throw error;
    }
  }
}

function hashZeros(hash: ReturnType<typeof createHash>, length: number): void {
  for (let left = length; left > 0; left -= ZEROS.length)
    hash.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
}
