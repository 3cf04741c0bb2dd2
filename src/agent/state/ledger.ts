/** The file of the ledger: an append-only log that is on disk when it has to be, and rewritten when it has grown. */

import { randomUUID } from 'node:crypto';

import type { ByteString } from '../../codec/kv.ts';
import { codeOf, ConfigError } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import { encode, FORMAT, readLog, type Header, type ReadLog } from './ledger-log.ts';
import { MarkFile, parseMark } from './ledger-mark.ts';
import type { LedgerRecord } from './ledger-record.ts';
import { LedgerState } from './ledger-state.ts';
import { log } from '../base/log.ts';
import type { FsPort } from '../base/ports.ts';
import { readAll } from '../base/read-all.ts';

/** The log is rewritten once it is this much longer than at its last rewriting, and twice as long. */
const COMPACT_SLACK_BYTES = 1 << 20;

/** What is known of the log file when it is opened. */
interface Opened {
  readonly header: Header;
  readonly fd: number;
  /** Bytes; 0: the header is not written yet. */
  readonly length: number;
  readonly lost?: string;
}

/** The log file and the state it folds to. One process at a time (the lock) has it open. */
export class Ledger {
  readonly state: LedgerState;
  /** Why the state of an earlier run was not used; `undefined` when there was none, or it was. */
  readonly lost: string | undefined;
  readonly #fs: FsPort;
  readonly #layout: Layout;
  readonly #mark: MarkFile;
  #header: Header;
  #fd: number;
  #length: number;
  #compactedLength: number;
  /** The last append failed, and may have left a part of its line. */
  #isTorn = false;

  private constructor(fs: FsPort, layout: Layout, state: LedgerState, opened: Opened) {
    this.#fs = fs;
    this.#layout = layout;
    this.state = state;
    this.lost = opened.lost;
    this.#header = opened.header;
    this.#fd = opened.fd;
    this.#length = opened.length;
    this.#compactedLength = opened.length;
    this.#mark = new MarkFile(fs, layout.mark);
  }

  /** Throws ConfigError when the log is of a newer format or of another user: then nothing must be touched. */
  static assertReadable(fs: FsPort, layout: Layout): void {
    if (fs.lstat('ledger open', layout.ledger)?.type !== 'file') return;
    const bytes = readOwn(fs, layout.ledger);
    refuseNewer(readLog(bytes.subarray(0, bytes.indexOf(0x0a) + 1)), layout.ledger);
  }

  /**
   * Reads the log. A torn last line (a crash while appending) is cut off. A log that is damaged, shorter than it was, or of
   * another directory is set aside as `ledger.lost`, and the state is empty. Throws ConfigError, and touches nothing,
   * when the log is of a newer format or cannot be read.
   */
  static open(fs: FsPort, layout: Layout): Ledger {
    const root = fs.lstat('ledger open', layout.root)?.ino ?? 0n;
    const header: Header = { t: 'format', format: FORMAT, id: randomUUID(), root };
    const read = readLedger(fs, layout, root);
    const state = new LedgerState();
    if (read.kind === 'lost') {
      log('warn', 'state lost', { reason: read.reason });
      if (fs.lstat('ledger open', layout.ledger) !== undefined) {
        const lost = `${layout.ledger}.lost`;
        if (fs.lstat('ledger lost', lost)?.type === 'file') fs.unlink('ledger lost', lost);
        fs.rename('ledger lost', layout.ledger, lost);
      }
      const fd = fs.openAppend('ledger open', layout.ledger);
      return new Ledger(fs, layout, state, { header, fd, length: 0, lost: read.reason });
    }
    for (const record of read.records) state.apply(record);
    const fd = fs.openAppend('ledger open', layout.ledger);
    if (read.end < read.size) fs.ftruncate('ledger cut', fd, BigInt(read.end));
    const ledger = new Ledger(fs, layout, state, { header: read.header ?? header, fd, length: read.end });
    if (read.end > 0 && read.header?.format !== FORMAT) {
      ledger.#compact();
      log('info', 'state upgraded', { from: String(read.header?.format ?? 1), to: String(FORMAT) });
    }
    return ledger;
  }

  /**
   * Appends records and applies them. With `sync` they are on disk when this returns. Throws the disk's error; the
   * records before the one that failed are applied then, it and those after it are not.
   */
  write(records: readonly LedgerRecord[], sync: boolean): void {
    for (const record of records) {
      this.#append(encode(record));
      this.state.apply(record);
    }
    if (sync) {
      this.#fs.fsync('ledger sync', this.#fd);
      this.#mark.write({ id: this.#header.id, length: this.#length });
    }
    if (this.#length > 2 * this.#compactedLength + COMPACT_SLACK_BYTES) this.#compact();
  }

  /** Nothing was ever written. */
  get isNew(): boolean {
    return this.#length === 0;
  }

  close(): void {
    this.#mark.close();
    this.#fs.close('ledger close', this.#fd);
  }

  #append(line: Uint8Array): void {
    const bytes = this.#length > 0 ? line : Buffer.concat([encode(this.#header), line]);
    if (this.#isTorn) this.#fs.ftruncate('ledger cut', this.#fd, BigInt(this.#length));
    // A full disk may take a part of the line: the next one must not continue it.
    this.#isTorn = true;
    this.#fs.write('ledger append', this.#fd, bytes);
    this.#isTorn = false;
    this.#length += bytes.length;
  }

  #compact(): void {
    const next: ByteString = `${this.#layout.ledger}.new`;
    // A disk that is full now may have room when the log has grown as much again.
    this.#compactedLength = this.#length;
    const header = { ...this.#header, format: FORMAT, id: randomUUID() };
    let written: { readonly fd: number; readonly length: number };
    try {
      written = this.#writeAfresh(next, header);
    } catch {
      return;
    }
    const { fd, length } = written;
    this.#header = header;
    this.#fs.close('ledger close', this.#fd);
    this.#fd = fd;
    this.#length = length;
    this.#compactedLength = length;
    this.#fs.syncDir('ledger replace', this.#layout.state);
    this.#mark.write({ id: header.id, length });
  }

  #writeAfresh(next: ByteString, header: Header): { readonly fd: number; readonly length: number } {
    if (this.#fs.lstat('ledger new', next) !== undefined) this.#fs.unlink('ledger new', next);
    const fd = this.#fs.openAppend('ledger new', next);
    let length = 0;
    try {
      for (const record of [header, ...this.state.records()]) {
        const bytes = encode(record);
        this.#fs.write('ledger new', fd, bytes);
        length += bytes.length;
      }
      this.#fs.fsync('ledger new', fd);
      this.#fs.rename('ledger replace', next, this.#layout.ledger);
    } catch (error) {
      this.#fs.close('ledger new', fd);
      throw error;
    }
    return { fd, length };
  }
}

/** Reads the log as far as it is worth anything. Throws ConfigError when it must not be touched. */
function readLedger(
  fs: FsPort,
  layout: Layout,
  root: bigint,
): (Extract<ReadLog, { kind: 'log' }> & { readonly size: number }) | Extract<ReadLog, { kind: 'lost' }> {
  const path = layout.ledger;
  const stat = fs.lstat('ledger open', path);
  if (stat !== undefined && stat.type !== 'file') return { kind: 'lost', reason: `it is a ${stat.type}` };
  const mark = parseMark(readOwn(fs, layout.mark));
  const bytes = readOwn(fs, path);
  const read = refuseNewer(readLog(bytes), path);
  if (read.kind === 'lost') return read;
  const { header, end } = read;
  if (header !== undefined && header.root !== root)
    return { kind: 'lost', reason: 'it is of another directory' };
  const isMarked = mark !== undefined && (header === undefined ? end === 0 : header.id === mark.id);
  if (isMarked && end < mark.length)
    return { kind: 'lost', reason: `it was cut: ${end} of at least ${mark.length} bytes` };
  return { ...read, size: bytes.length };
}

function refuseNewer(read: ReadLog, path: ByteString): Exclude<ReadLog, { kind: 'newer' }> {
  if (read.kind !== 'newer') return read;
  const reason = `the state is of format ${read.format}, and this version knows formats up to ${FORMAT}: use a newer one`;
  throw new ConfigError(reason, { path });
}

/** A file of ours; nothing when there is none. Throws ConfigError when it is another user's. */
function readOwn(fs: FsPort, path: ByteString): Uint8Array {
  try {
    return readAll(fs, path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return new Uint8Array(0);
    if (codeOf(error) !== 'EACCES' && codeOf(error) !== 'EPERM') throw error;
    throw new ConfigError('the state is of another user: run init container and sidecar as the same one', {
      path,
      cause: error,
    });
  }
}
