/** Reads single names for a look: lists, digests, and waits for what has not settled. */

import { createHash } from 'node:crypto';

import type { ByteString } from '../../codec/kv.ts';
import { sameXattrs } from '../../reconcile/attributes.ts';
import type { Path } from '../../reconcile/entry.ts';
import { targetInVolume, topTargetInVolume } from '../../reconcile/target.ts';
import type { Abilities } from '../disk/abilities.ts';
import { codeOf, isMissing } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import { carriedSlot, type Look } from './look.ts';
import type { Clock, FileStat, FsPort } from '../base/ports.ts';
import { readAcls } from '../disk/posix-acl.ts';
import { QUIET_MS, Settling } from './settle.ts';
import { signatureOf, type Slot } from '../disk/slot.ts';
import { readXattrs } from '../disk/xattrs.ts';

/** Calls between two breaths of the event loop. */
const BREATH = 200;
const READ_BYTES = 1 << 20;
const REMEMBERED_DIRECTORIES = 10_000;

export interface ScannerOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  /** Whether a path takes no part in the sync; such a path is carried as it is. */
  readonly excluded: (path: Path) => boolean;
  readonly abilities: Abilities;
  /** Extra quiet time wanted; milliseconds. */
  readonly settleMs: number;
  /** How long an inode that left the trees is kept; milliseconds. */
  readonly keepMs: number;
}

/** What the parts of a scanner share. */
export class ScanReader {
  readonly #o: ScannerOptions;
  readonly settling = new Settling();
  /** The ctime at which a directory's extended attributes were last found as its slot has them, by its place. */
  readonly #sameAt = new Map<ByteString, bigint>();
  #calls = 0;

  constructor(options: ScannerOptions) {
    this.#o = options;
  }

  breathe(): Promise<void> | undefined {
    this.#calls += 1;
    if (this.#calls % BREATH !== 0) return undefined;
    return this.#o.clock.breathe();
  }

  /** The names in a directory; `undefined` when it is none any more, or closed: then nothing is known of what is in it. */
  list(at: ByteString, path: Path, look: Look): ByteString[] | undefined {
    const { fs } = this.#o;
    try {
      // Names that can be listed and not looked at are no help.
      fs.lstat('list', `${at}/.`);
      return fs.readdir('list', at);
    } catch (error) {
      if (codeOf(error) === 'EACCES') look.problems.set(path, 'cannot be read: EACCES');
      else if (!isMissing(error)) throw error;
      return undefined;
    }
  }

  quietMs(stat: FileStat | undefined, slot: Slot | undefined): number {
    if (stat === undefined) return QUIET_MS.absence;
    // What takes the place of a directory hides all that was below it: nothing may be read through it meanwhile.
    if (stat.type === 'directory' || slot?.type === 'directory') return 0;
    const s = slot?.signature;
    // A link must not arrive before what it was made to lead to, which was there before it and has to settle as well.
    const sameBytes =
      slot?.type === stat.type && s?.ino === stat.ino && s.size === stat.size && s.mtimeNs === stat.mtimeNs;
    return sameBytes ? 0 : QUIET_MS.content + this.#o.settleMs;
  }

  /** Paths that a look has seen to differ and is about to judge. */
  noteBegun(where: string, paths: readonly Path[]): void {
    const names = paths.map((path) => `${where}:${path}`);
    this.settling.noteBegun(names, this.#o.clock.monotonicMs());
  }

  /** `at` is where a file is whose writers are to be done with it as well. */
  isSettled(
    where: string,
    path: Path,
    stat: FileStat | undefined,
    quietMs: number,
    at?: ByteString,
  ): boolean {
    // The ctime moves with every link that a publish makes.
    const print =
      stat === undefined ? '-' : `${stat.type} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.mode}`;
    return this.settling.isSettled(
      `${where}:${path}`,
      print,
      quietMs,
      this.#o.clock.monotonicMs(),
      where === 'top',
      () => at !== undefined && stat?.type === 'file' && this.hasWriter(at) === true,
    );
  }

  /** A name that had settled, and changed while it was read. */
  waitAgain(where: string, path: Path, stat: FileStat): void {
    this.isSettled(where, path, stat, QUIET_MS.content);
  }

  /** Whether somebody can still write to a file; `undefined` when that cannot be told. */
  hasWriter(at: ByteString): boolean | undefined {
    if (!this.#o.abilities.leases) return undefined;
    try {
      return this.#o.fs.hasWriter('probe', at);
    } catch {
      // Another user's, closed to this agent, or gone.
      return undefined;
    }
  }

  /** The slot of what stands at `at`; `undefined` when it changed while it was read (the next look tries again). */
  read(path: Path, at: ByteString, stat: FileStat, look: Look, top = false): Slot | undefined {
    const { fs, layout } = this.#o;
    if (this.#o.excluded(path)) return carriedSlot(stat);
    const signature = signatureOf(stat);
    if (stat.type === 'directory') {
      const xattrs = this.#xattrs(path, at, look);
      return xattrs === 'unreadable' ? undefined : { type: 'directory', signature, ...xattrs };
    }
    if (stat.type === 'symlink') {
      const text = fs.readlink('look', at);
      if (text === undefined) return undefined;
      const target = top ? topTargetInVolume(text, layout.root) : targetInVolume(text, path, layout.root);
      return { type: 'symlink', signature, target };
    }
    if (stat.type !== 'file') {
      const { type: kind, rdev } = stat;
      return this.#o.abilities.specialRefusal(kind) === undefined
        ? { type: 'special', signature, kind, rdev }
        : { type: 'other', signature };
    }
    try {
      const digest = digestOf(fs, at, stat);
      const xattrs = digest === undefined ? {} : this.#xattrs(path, at, look);
      if (digest !== undefined && xattrs !== 'unreadable')
        return { type: 'file', signature, digest, ...xattrs };
    } catch (error) {
      // ELOOP: a link took its place.
      if (!isMissing(error) && codeOf(error) !== 'ELOOP')
        look.problems.set(path, `cannot be read: ${codeOf(error) ?? String(error)}`);
    }
    return undefined;
  }

  /** Those on disk, as part of a slot. */
  #xattrs(path: Path, at: ByteString, look: Look): Pick<Slot, 'xattrs' | 'acl'> | 'unreadable' {
    const { xattrs, acls } = this.#o.abilities.held;
    try {
      return {
        ...(xattrs ? { xattrs: readXattrs(this.#o.fs, at) } : {}),
        ...(acls ? { acl: readAcls(this.#o.fs, at) ?? '' } : {}),
      };
    } catch (error) {
      if (!isMissing(error))
        look.problems.set(path, `its extended attributes cannot be read: ${codeOf(error) ?? String(error)}`);
      return 'unreadable';
    }
  }

  /** Whether a directory has other extended attributes than its slot; they are read only after its ctime moved. */
  hasOtherXattrs(slot: Slot, at: ByteString, stat: FileStat): boolean {
    const { xattrs, acls } = this.#o.abilities.held;
    if (!(xattrs || acls) || slot.signature.ctimeNs === stat.ctimeNs) return false;
    if (this.#sameAt.get(at) === stat.ctimeNs) return false;
    try {
      if (xattrs && !sameXattrs(readXattrs(this.#o.fs, at), slot.xattrs)) return true;
      if (acls && slot.acl !== undefined && (readAcls(this.#o.fs, at) ?? '') !== slot.acl) return true;
    } catch {
      // Closed to this agent: nothing is known of them.
    }
    if (this.#sameAt.size >= REMEMBERED_DIRECTORIES) this.#sameAt.clear();
    this.#sameAt.set(at, stat.ctimeNs);
    return false;
  }
}

/** SHA-256 of a file; `undefined` when it changed while it was read. Throws Node's error when it cannot be opened. */
function digestOf(fs: FsPort, at: ByteString, stat: FileStat): string | undefined {
  const fd = fs.openRead('digest', at);
  try {
    const hash = createHash('sha256');
    const buffer = new Uint8Array(Math.min(READ_BYTES, Math.max(Number(stat.size), 1)));
    let position = 0;
    for (;;) {
      const n = fs.read('digest', fd, buffer, position);
      if (n === 0) break;
      hash.update(buffer.subarray(0, n));
      position += n;
    }
    const after = fs.fstat('digest', fd);
    const same = after.ino === stat.ino && after.size === stat.size && after.mtimeNs === stat.mtimeNs;
    return same && BigInt(position) === stat.size ? hash.digest('hex') : undefined;
  } finally {
    fs.close('digest', fd);
  }
}
