/** A change as it is pushed: what is to become of one path, and what the volume must still have there. */

import type { Change } from './change.ts';
import { sameContent, type Entry, type FileEntry, type Path } from './entry.ts';

/**
 * One change of the view. `old` is what the volume has (its inode is compared), at `movedFrom` if that is set, else at
 * `path`. In `new` type, content and mode count, and of a new inode owner and time; the rest as the push says.
 */
export interface PushChange extends Change {
  /** What a move replaces at `path`; without it the name must be free. */
  readonly over?: Entry;
  /** Makes missing directories above `path`, with these attributes. */
  readonly makeParents?: { readonly mode: number; readonly uid: number; readonly gid: number };
  /** What the caller relied on besides. */
  readonly expect?: {
    /** Mod revision of the attr of `old`, when it is no directory. */
    readonly attrModRevision?: bigint;
  };
}

/** Whether pushing the change takes a new inode. */
export function needsInode(change: PushChange): change is PushChange & { readonly new: Entry } {
  if (change.new === undefined) return false;
  return change.old === undefined || !sameContent(change.old, change.new);
}

/** Whether pushing the change stores contents. */
export function needsContent(change: PushChange): change is PushChange & { readonly new: FileEntry } {
  return change.new?.type === 'file' && needsInode(change);
}

/** The paths above a path, nearest first, without the root. */
export function* ancestorsOf(path: Path): Generator<Path> {
  for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) {
    yield path.slice(0, slash);
  }
}

/** Whether a path is another one or lies below it. */
export function isAtOrBelow(path: Path, above: Path): boolean {
  return above === '' || path === above || path.startsWith(`${above}/`);
}
