/** The texts that both sides agreed on last, as copies of their own: what a merge starts from (design 4.4). */

import createDebug from 'debug';

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { isText, MERGE_BYTES } from '../../reconcile/merge-text.ts';
import { digestOf } from '../base/digest.ts';
import { codeOf } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from './ledger.ts';
import { readAll } from '../base/read-all.ts';
import type { FsPort } from '../base/ports.ts';

const debug = createDebug('etcd-etc-agent:ancestor');

/** How many paths one call deals with, and how many bytes it copies: a publish may be waiting. */
const PATHS_AT_ONCE = 200;
const BYTES_AT_ONCE = 1 << 20;
/** What a file takes on disk at least. */
const DISK_BLOCK = 4096;

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  /** Bytes on disk that the copies may take; 0: none are kept. */
  readonly limitBytes: number;
}

/**
 * Files named by the digest of their content. A copy is made when there is time for it, while the published file still has
 * that content; one that is missing or damaged costs a look into the store, or a merge.
 */
export class AncestorCache {
  readonly #o: Options;
  /** What each copy takes. */
  readonly #sizes = new Map<string, number>();
  #bytes = 0;
  #isOff: boolean;

  constructor(options: Options) {
    this.#o = options;
    const { fs, layout, limitBytes } = options;
    this.#isOff = limitBytes === 0;
    if (fs.lstat('ancestor', layout.ancestor) === undefined) return;
    for (const name of fs.readdir('ancestor', layout.ancestor)) {
      this.#note(name, Number(fs.lstat('ancestor', `${layout.ancestor}/${name}`)?.size ?? 0n));
    }
    if (this.#bytes > limitBytes) this.#dropUnused();
  }

  /** Whether `fill` has something to do. */
  get hasWork(): boolean {
    return !this.#isOff && this.#o.ledger.state.newlyAgreed.size > 0;
  }

  /** Copies some of what was agreed on since. A disk that refuses a copy is left alone until the next start. */
  fill(): void {
    const { newlyAgreed } = this.#o.ledger.state;
    let paths = 0;
    let bytes = 0;
    for (const path of newlyAgreed) {
      if (this.#isOff || paths >= PATHS_AT_ONCE || bytes >= BYTES_AT_ONCE) return;
      newlyAgreed.delete(path);
      paths += 1;
      try {
        bytes += this.#copy(path);
      } catch (error) {
        if (codeOf(error) === undefined) throw error;
        debug('no more copies: %s', String(error));
        this.#isOff = true;
      }
    }
  }

  /** The content with a digest; `undefined` if there is no copy. */
  read(digest: string): Uint8Array | undefined {
    if (!this.#sizes.has(digest)) return undefined;
    const bytes = readBytes(this.#o.fs, this.#at(digest));
    if (bytes !== undefined && digestOf(bytes) === digest) return bytes;
    // A power cut may have left less than the whole of it.
    this.#drop(digest);
    return undefined;
  }

  /** Returns the bytes that were copied. */
  #copy(path: Path): number {
    const { fs, layout, ledger, limitBytes } = this.#o;
    const { active, ancestor, slots } = ledger.state;
    const agreed = ancestor.get(path);
    const slot = slots.get(path);
    if (agreed?.type !== 'file' || agreed.size > MERGE_BYTES || agreed.size === 0n) return 0;
    if (this.#sizes.has(agreed.digest) || active === undefined) return 0;
    if (slot?.type !== 'file' || slot.digest !== agreed.digest) return 0;
    const needed = diskBytes(Number(agreed.size));
    if (this.#bytes + needed > limitBytes) this.#dropUnused();
    if (this.#bytes + needed > limitBytes) return 0;
    const bytes = readBytes(fs, layout.inTree(active, path));
    if (bytes === undefined || digestOf(bytes) !== agreed.digest || !isText(bytes)) return 0;
    if (this.#sizes.size === 0 && fs.lstat('ancestor', layout.ancestor) === undefined)
      fs.mkdir('ancestor', layout.ancestor, 0o700);
    const fd = fs.openNew('ancestor', this.#at(agreed.digest));
    this.#note(agreed.digest, bytes.length);
    try {
      fs.write('ancestor', fd, bytes);
    } finally {
      fs.close('ancestor', fd);
    }
    return bytes.length;
  }

  /** Makes room: what is the ancestor of no path any more goes. */
  #dropUnused(): void {
    const used = new Set<string>();
    for (const entry of this.#o.ledger.state.ancestor.values())
      if (entry.type === 'file') used.add(entry.digest);
    for (const digest of [...this.#sizes.keys()]) if (!used.has(digest)) this.#drop(digest);
    for (const digest of [...this.#sizes.keys()]) {
      if (this.#bytes <= this.#o.limitBytes) break;
      this.#drop(digest);
    }
  }

  #note(digest: string, size: number): void {
    this.#sizes.set(digest, diskBytes(size));
    this.#bytes += diskBytes(size);
  }

  #drop(digest: string): void {
    this.#bytes -= this.#sizes.get(digest) ?? 0;
    this.#sizes.delete(digest);
    this.#o.fs.unlink('ancestor', this.#at(digest));
  }

  #at(digest: string): ByteString {
    return `${this.#o.layout.ancestor}/${digest}`;
  }
}

function diskBytes(size: number): number {
  return Math.ceil(size / DISK_BLOCK) * DISK_BLOCK;
}

/** A small file whole; `undefined` when it cannot be read just now. */
export function readBytes(fs: FsPort, path: ByteString): Uint8Array | undefined {
  try {
    return readAll(fs, path);
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return undefined;
  }
}
