/** How long the log was when it was last flushed: without that a log that was cut looks like an older one. */

import type { ByteString } from '../../codec/kv.ts';
import type { FsPort } from '../base/ports.ts';

/** Which log, and so many bytes of it are on disk. */
export interface Mark {
  readonly id: string;
  readonly length: number;
}

/** A small file that is written in place: one write of a few bytes at its start, always of the same length. */
export class MarkFile {
  readonly #fs: FsPort;
  readonly #path: ByteString;
  #fd: number | undefined;

  constructor(fs: FsPort, path: ByteString) {
    this.#fs = fs;
    this.#path = path;
  }

  /** Not needed to go on: a mark that cannot be written leaves the one before, or none. */
  write({ id, length }: Mark): void {
    try {
      this.#fd ??= this.#make();
      const text = `${id} ${String(length).padStart(16)}\n`;
      this.#fs.write('ledger mark', this.#fd, new TextEncoder().encode(text), 0);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }

  #make(): number {
    const next = `${this.#path}.new`;
    if (this.#fs.lstat('ledger mark', next) !== undefined) this.#fs.unlink('ledger mark', next);
    const fd = this.#fs.openNew('ledger mark', next);
    this.#fs.rename('ledger mark', next, this.#path);
    return fd;
  }

  close(): void {
    if (this.#fd !== undefined) this.#fs.close('ledger mark', this.#fd);
    this.#fd = undefined;
  }
}

/** What a mark file says; `undefined` when it says nothing. */
export function parseMark(bytes: Uint8Array): Mark | undefined {
  const match = /^(\S+) +(\d+)\n$/.exec(new TextDecoder().decode(bytes));
  return match?.[1] === undefined ? undefined : { id: match[1], length: Number(match[2]) };
}
