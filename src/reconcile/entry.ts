/** A file, directory, symlink or special file as the reconciler sees it, and the equality that counts. */

import { NOTHING_HELD, sameAttributes, type EntryAttributes, type Held } from './attributes.ts';

/** A path from the view's root: byte string, parts joined by `/`, no leading slash; `''` is the root itself. */
export type Path = string;

interface EntryBase extends EntryAttributes {
  /**
   * The volume's inode. Of a local file: the one that its inode on disk stands for, 0n when that is none of the volume's;
   * of other local entries always 0n.
   */
  readonly ino: bigint;
}

export interface FileEntry extends EntryBase {
  readonly type: 'file';
  /** Bytes. */
  readonly size: bigint;
  /** SHA-256 of the content, lower-case hex. */
  readonly digest: string;
  /** Names of this inode, on its side; above 1 it is hard linked. */
  readonly nlink: number;
}

export interface DirectoryEntry extends EntryBase {
  readonly type: 'directory';
}

export interface SymlinkEntry extends EntryBase {
  readonly type: 'symlink';
  /** As the volume stores it (mapped back from what is on disk). */
  readonly target: string;
}

export interface SpecialEntry extends EntryBase {
  readonly type: 'special';
  readonly kind: 'fifo' | 'block' | 'char' | 'socket';
  /** Linux's 32-bit device encoding; 0 for fifos and sockets. */
  readonly rdev: number;
}

export type Entry = FileEntry | DirectoryEntry | SymlinkEntry | SpecialEntry;

/** Entries by path. The root is not an entry. */
export type Tree = ReadonlyMap<Path, Entry>;

/** Whether two entries have the same type and content; attributes are left out. */
export function sameContent(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  switch (a.type) {
    case 'file':
      return b.type === 'file' && a.digest === b.digest && a.size === b.size;
    case 'directory':
      return b.type === 'directory';
    case 'symlink':
      return b.type === 'symlink' && a.target === b.target;
    case 'special':
      return b.type === 'special' && a.kind === b.kind && a.rdev === b.rdev;
  }
}

/**
 * Whether two files are the same inode, as far as that shows: which inode a name has matters only where another name has
 * it, or had it, as well.
 */
function sameInode(a: FileEntry, b: FileEntry): boolean {
  return a.ino === b.ino || (a.nlink <= 1 && b.nlink <= 1);
}

/**
 * Equality that counts (design 4.4): type, content, target, the inode of files with several names, permission bits, and
 * the attributes that are held.
 */
export function sameEntry(a: Entry | undefined, b: Entry | undefined, held: Held = NOTHING_HELD): boolean {
  if (!sameContent(a, b)) return false;
  if (a === undefined || b === undefined) return true;
  if (a.type === 'file' && b.type === 'file' && !sameInode(a, b)) return false;
  return sameAttributes(a, b, held);
}

/** The parent's path, `''` for a top-level name; `undefined` for the root. */
export function parentOf(path: Path): Path | undefined {
  if (path === '') return undefined;
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

/** The last part of a path. */
export function nameOf(path: Path): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** A name below a path. */
export function join(path: Path, name: string): Path {
  return path === '' ? name : `${path}/${name}`;
}
