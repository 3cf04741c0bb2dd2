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
  /** How a file with several names is meant; absent: it has one, and gets a new inode for new contents. */
  readonly link?: FileLink;
  /** The path of another change that this one belongs to: both are in one transaction, or none is. */
  readonly goesWith?: Path;
  /** What the caller relied on besides. */
  readonly expect?: {
    /** Mod revision of the attr of `old`, when it is no directory. */
    readonly attrModRevision?: bigint;
    /**
     * Files have the mtime that `old` and `over` say: a write that leaves inode and length as they were moves it. Who read the
     * contents long before the push needs this.
     */
    readonly isUntouched?: boolean;
  };
}

/** What the new name or the new contents of a path mean for the other names of its file. */
export type FileLink =
  /** The contents go into the inode that is there: all its names follow. */
  | { readonly kind: 'in-place' }
  /** What the change of another path does is done for this one, too. */
  | { readonly kind: 'follow'; readonly leader: Path }
  /** The name leads to an inode of its own from now on, even if the contents stay. */
  | { readonly kind: 'apart' }
  /** One more name of an inode that the volume has, whose contents are those of `new` by then. */
  | { readonly kind: 'name'; readonly ino: bigint }
  /** The same, and the inode gets the contents of `new` in place. `size`: the bytes that it has now. */
  | { readonly kind: 'name-in-place'; readonly ino: bigint; readonly size: bigint }
  /** One more name of the inode that the change of another path makes. */
  | { readonly kind: 'name-of-new'; readonly maker: Path };

/**
 * Whether pushing the change takes an inode number: for a new inode, or for contents that are replaced in place, which
 * then wait under it to be deleted.
 */
export function needsInode(change: PushChange): change is PushChange & { readonly new: Entry } {
  if (change.new === undefined) return false;
  switch (change.link?.kind) {
    case 'follow':
    case 'name':
    case 'name-of-new':
      return false;
    case 'apart':
    case 'name-in-place':
      return true;
    default:
      return change.old === undefined || !sameContent(change.old, change.new);
  }
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
