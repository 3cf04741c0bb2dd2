/**
 * The operations of a JuiceFS client that make entries and change what they hold: what `juicefs-layout` section 10 reads
 * and writes for each, with statistics and counters in the same transaction. `remove.ts` and `rename.ts` have the others.
 */

import { FLAG_SKIP_TRASH, type Attr, type FileType } from '../codec/attr.ts';
import { encodeDirStat } from '../codec/counter.ts';
import { xattrRange } from '../codec/key.ts';
import { encodeSlices, type SliceRecord } from '../codec/slice.ts';
import { inherit } from './acl.ts';
import { NO_STAT } from './accounting.ts';
import type { SpecialEntry } from './entry.ts';
import { Refused, Stale } from './refusal.ts';
import { dropName } from './remove.ts';
import { withAttributes, type WantedAttributes } from './set-attributes.ts';
import { directory, refuseFixed, touch, type Found, type Place, type Work } from './work.ts';

/** What one chunk of a file holds. */
export interface ChunkContent {
  /** Which 64 MiB of the file. */
  readonly index: number;
  /** At least one, in order, of slices whose blocks are stored before the transaction or by it. */
  readonly records: readonly SliceRecord[];
}

/** What a file holds. */
export interface Content {
  readonly length: bigint;
  /** Ascending. What they leave out is zeros. */
  readonly chunks: readonly ChunkContent[];
  /** Set where the chunks hold only what comes after this many bytes, which are those that the file has. */
  readonly appendTo?: bigint;
}

/** The slices of contents. */
export function sliceIds({ chunks }: Content): bigint[] {
  return chunks.flatMap(({ records }) => records.map(({ id }) => id));
}

/** What a new inode is to be. `ino` is claimed and unused. */
export interface NewInode {
  readonly ino: bigint;
  /** 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
}

/** create, mkdir, mknod, symlink (layout 10.1, upstream `doMknod`); contents come in the same transaction. */
export function createFile(work: Work, place: Place, inode: NewInode, content: Content): Attr {
  const attr = create(work, place, inode, 'file', content.length);
  putContent(work, inode.ino, content);
  return attr;
}

export function createDirectory(work: Work, place: Place, inode: NewInode): Attr {
  const attr = create(work, place, inode, 'directory', 4096n);
  work.draft.put({ kind: 'dirStat', ino: inode.ino }, encodeDirStat(NO_STAT));
  return attr;
}

export function createSymlink(work: Work, place: Place, inode: NewInode, target: Uint8Array): Attr {
  if (target.length === 0 || target.length > 4096) throw new Refused('a link target has 1 to 4096 bytes');
  if (target.includes(0)) throw new Refused('the link target holds a NUL byte');
  const attr = create(work, place, { ...inode, mode: 0o777 }, 'symlink', BigInt(target.length));
  work.draft.put({ kind: 'symlink', ino: inode.ino }, target);
  return attr;
}

/** mknod of a fifo, socket or device. */
export function createSpecial(
  work: Work,
  place: Place,
  inode: NewInode,
  { kind, rdev }: Pick<SpecialEntry, 'kind' | 'rdev'>,
): Attr {
  return create(work, place, inode, kind, 0n, rdev);
}

function create(work: Work, place: Place, inode: NewInode, type: FileType, length: bigint, rdev = 0): Attr {
  const { draft, accounting, nowNs } = work;
  const { parent, name } = place;
  draft.expect({ kind: 'attr', ino: parent }, { kind: 'dentry', parent, name });
  const above = directory(work, parent);
  if (draft.dentry(parent, name) !== undefined) throw new Stale('another entry has the name');
  const inheritsGroup = (above.mode & 0o2000) !== 0;
  const isDirectory = type === 'directory';
  const { mode, accessAcl, defaultAcl } =
    type === 'symlink'
      ? { mode: inode.mode, accessAcl: 0, defaultAcl: 0 }
      : inherit(work, above, isDirectory, inode.mode);
  const attr: Attr = {
    flags: above.flags & FLAG_SKIP_TRASH,
    type,
    mode: inheritsGroup && isDirectory ? mode | 0o2000 : mode,
    uid: inode.uid,
    gid: inheritsGroup ? above.gid : inode.gid,
    atimeNs: nowNs,
    mtimeNs: inode.mtimeNs,
    ctimeNs: besideMtime(nowNs, inode.mtimeNs),
    nlink: isDirectory ? 2 : 1,
    length,
    rdev,
    parent,
    accessAcl,
    defaultAcl,
    tier: above.tier,
    rest: new Uint8Array(0),
  };
  draft.newInode(inode.ino);
  draft.putDentry(parent, name, { type, ino: inode.ino });
  draft.putAttr(inode.ino, attr);
  touch(work, parent, isDirectory ? 1 : 0);
  accounting.enter(parent, attr);
  accounting.add(attr);
  return attr;
}

/**
 * A ctime that is not the mtime. A mount creates and truncates files with both equal and fills them later; followers tell
 * by it that this one came whole (`HoldTracker`).
 */
export function besideMtime(nowNs: bigint, mtimeNs: bigint): bigint {
  return nowNs === mtimeNs ? nowNs + 1n : nowNs;
}

export function putContent({ draft }: Work, ino: bigint, content: Content): void {
  for (const { index, records } of content.chunks) {
    draft.put({ kind: 'chunk', ino, index }, encodeSlices(records));
  }
}

/**
 * Replaces a file's contents by a new inode under the old name (layout 13.2), so that a reader who has the old one open
 * keeps it whole. Owner, flags, xattrs, ACL and tier stay unless something else is wanted; the old inode goes where an
 * unlinked file goes, and its other names keep it.
 */
export function replaceContent(
  work: Work,
  place: Place,
  old: Found,
  inode: { readonly ino: bigint; readonly mtimeNs: bigint } & WantedAttributes,
  content: Content,
): Attr {
  const { draft, accounting, nowNs } = work;
  refuseFixed(old.attr);
  directory(work, place.parent);
  const attr: Attr = {
    ...withAttributes(work, old.attr, inode),
    atimeNs: nowNs,
    ctimeNs: besideMtime(nowNs, inode.mtimeNs),
    nlink: 1,
    length: content.length,
    parent: place.parent,
  };
  draft.newInode(inode.ino);
  for (const { key, value } of draft.readRange(xattrRange(old.ino))) {
    const name = key.slice(xattrRange(old.ino).start.length);
    draft.put({ kind: 'xattr', ino: inode.ino, name }, value);
  }
  draft.putDentry(place.parent, place.name, { type: 'file', ino: inode.ino });
  draft.putAttr(inode.ino, attr);
  putContent(work, inode.ino, content);
  accounting.enter(place.parent, attr);
  accounting.add(attr);
  dropName(work, place, old);
  touch(work, place.parent, 0);
  return attr;
}
