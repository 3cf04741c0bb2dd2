/** What one name on disk holds: the signature that tells whether somebody touched it, and the content it had then. */

import type { AclText } from '../../reconcile/acl-text.ts';
import type { Xattrs } from '../../reconcile/attributes.ts';
import type { Entry, Path } from '../../reconcile/entry.ts';
import type { Owner } from '../../reconcile/owners.ts';
import type { FileStat, SpecialKind } from '../base/ports.ts';

/** Identity of an inode at one moment; any write, chmod, link or rename changes part of it (watch-and-flip 5). */
export interface Signature {
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** What the volume's entry has and the inode on disk has not: remembered, and nobody's edit. */
export interface Lacks {
  readonly owner?: Owner;
  readonly mtimeNs?: bigint;
  readonly xattrs?: Xattrs;
}

interface SlotBase {
  readonly signature: Signature;
  /** On disk, where they can be held; absent: none, or not read. */
  readonly xattrs?: Xattrs;
  /** The ACLs on disk, where they can be held; `''` for none, absent: not read. */
  readonly acl?: AclText;
  readonly lacks?: Lacks;
}

/** A name in a tree, with content as last read. `other` is carried and never pushed. */
export type Slot = SlotBase &
  (
    | { readonly type: 'file'; readonly digest: string }
    | { readonly type: 'directory' }
    /** `target` is in the volume's form. */
    | { readonly type: 'symlink'; readonly target: string }
    /** A special file of a kind that is synced. */
    | { readonly type: 'special'; readonly kind: SpecialKind; readonly rdev: number }
    | { readonly type: 'other' }
  );

export type FileSlot = Extract<Slot, { readonly type: 'file' }>;

export function signatureOf(stat: FileStat): Signature {
  const { ino, size, mtimeNs, ctimeNs, mode, uid, gid } = stat;
  return { ino, size, mtimeNs, ctimeNs, mode, uid, gid };
}

/**
 * Nothing about the inode changed. A directory's size and times move with its entries, those of a fifo with what goes
 * through it, and are left out.
 */
export function sameSignature(slot: Slot, stat: FileStat): boolean {
  const s = slot.signature;
  if (!sameKind(slot, stat) || s.mode !== stat.mode || s.uid !== stat.uid || s.gid !== stat.gid) return false;
  if (slot.type === 'directory') return true;
  if (slot.type === 'special') return s.ino === stat.ino && slot.rdev === stat.rdev;
  return (
    s.ino === stat.ino && s.size === stat.size && s.mtimeNs === stat.mtimeNs && s.ctimeNs === stat.ctimeNs
  );
}

/** Whether the slot can be what `lstat` says; `other` is anything but a directory (excluded files are carried as such). */
export function sameKind(slot: Slot, stat: FileStat): boolean {
  if (slot.type === 'other') return stat.type !== 'directory';
  return (slot.type === 'special' ? slot.kind : slot.type) === stat.type;
}

/** Whether an inode that was made at a time, in nanoseconds since the epoch, has only the number of the slot's. */
export function isReused({ signature }: Slot, bornNs: bigint): boolean {
  return signature.ctimeNs < bornNs;
}

/** Our own link, rename and unlink move the ctime of an inode; everything else is as the slot says. */
export function sameButCtime(slot: Slot | undefined, stat: FileStat | undefined): boolean {
  if (slot === undefined || stat === undefined) return slot === stat;
  return sameSignature({ ...slot, signature: { ...slot.signature, ctimeNs: stat.ctimeNs } }, stat);
}

/** The same bytes or target, whatever inode holds them. */
export function sameSlotContent(a: Slot | undefined, b: Slot | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.type === 'file') return b.type === 'file' && a.digest === b.digest;
  if (a.type === 'symlink') return b.type === 'symlink' && a.target === b.target;
  if (a.type === 'special') return b.type === 'special' && a.kind === b.kind && a.rdev === b.rdev;
  return a.type === b.type;
}

/** A slot as the reconciler sees it; `undefined` for what never leaves this machine. */
export function entryOfSlot(slot: Slot): Entry | undefined {
  const { lacks = {}, signature } = slot;
  const { mode, size } = signature;
  const { uid, gid } = lacks.owner ?? signature;
  const mtimeNs = lacks.mtimeNs ?? signature.mtimeNs;
  const xattrs = lacks.xattrs === undefined ? slot.xattrs : { ...lacks.xattrs, ...slot.xattrs };
  const base = { ino: 0n, mode, uid, gid, mtimeNs, ...(xattrs === undefined ? {} : { xattrs }) };
  switch (slot.type) {
    case 'file':
      return { ...base, type: 'file', size, digest: slot.digest, nlink: 1 };
    case 'directory':
      return { ...base, type: 'directory' };
    case 'symlink':
      return { ...base, type: 'symlink', target: slot.target };
    case 'special':
      return { ...base, type: 'special', kind: slot.kind, rdev: slot.rdev };
    case 'other':
      return undefined;
  }
}

/** Slots by path, with the names below each directory at hand. */
export class SlotTree {
  readonly #slots = new Map<Path, Slot>();
  /** Paths of files by inode: nearly always one. */
  readonly #names = new Map<bigint, Path | Set<Path>>();
  readonly #children = new Map<Path, Set<string>>();

  get size(): number {
    return this.#slots.size;
  }

  get(path: Path): Slot | undefined {
    return this.#slots.get(path);
  }

  has(path: Path): boolean {
    return this.#slots.has(path);
  }

  entries(): IterableIterator<[Path, Slot]> {
    return this.#slots.entries();
  }

  /** The paths of files that are one inode. */
  namesOf(ino: bigint): readonly Path[] {
    const names = this.#names.get(ino);
    if (names === undefined) return [];
    return typeof names === 'string' ? [names] : [...names];
  }

  #rename(path: Path, before: Slot | undefined, now: Slot | undefined): void {
    const [old, ino] = [before, now].map((slot) => (slot?.type === 'file' ? slot.signature.ino : undefined));
    if (old === ino) return;
    if (old !== undefined) {
      const names = this.#names.get(old);
      if (typeof names === 'object') names.delete(path);
      if (names === path || (typeof names === 'object' && names.size === 0)) this.#names.delete(old);
    }
    if (ino !== undefined) {
      const names = this.#names.get(ino);
      if (names === undefined) this.#names.set(ino, path);
      else if (typeof names === 'object') names.add(path);
      else this.#names.set(ino, new Set([names, path]));
    }
  }

  set(path: Path, slot: Slot | undefined): void {
    this.#rename(path, this.#slots.get(path), slot);
    const slash = path.lastIndexOf('/');
    const parent = slash < 0 ? '' : path.slice(0, slash);
    const name = path.slice(slash + 1);
    if (slot === undefined) {
      this.#slots.delete(path);
      const names = this.#children.get(parent);
      names?.delete(name);
      if (names?.size === 0) this.#children.delete(parent);
      return;
    }
    this.#slots.set(path, slot);
    const names = this.#children.get(parent);
    if (names === undefined) this.#children.set(parent, new Set([name]));
    else names.add(name);
  }

  /** Names directly below a directory. */
  namesIn(dir: Path): ReadonlySet<string> {
    return this.#children.get(dir) ?? EMPTY;
  }

  /** The path itself, if it is there, and everything below it; parents first. */
  *below(path: Path): Generator<Path> {
    if (path !== '' && this.#slots.has(path)) yield path;
    for (const name of this.namesIn(path)) yield* this.below(path === '' ? name : `${path}/${name}`);
  }
}

const EMPTY: ReadonlySet<string> = new Set();
