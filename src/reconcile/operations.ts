/**
 * The operations of a JuiceFS client on a transaction being written: what `juicefs-layout` section 10 reads and writes
 * for each, with statistics and counters in the same transaction.
 */

import { FLAG_APPEND, FLAG_IMMUTABLE, FLAG_SKIP_TRASH, type Attr } from '../codec/attr.ts';
import { ByteWriter } from '../codec/bytes.ts';
import { decodeCounter, encodeCounter, encodeDirStat } from '../codec/counter.ts';
import { encodeDentry, type Dentry } from '../codec/dentry.ts';
import { parentRange, ROOT_INO, TRASH_INO, xattrRange, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { MAX_NAME_BYTES } from '../codec/name.ts';
import { encodeSlices } from '../codec/slice.ts';
import { NO_STAT, type Accounting } from './accounting.ts';
import type { Draft } from './draft.ts';

/** This path cannot be pushed, whatever else happens: shown to a person. Never leaves the planner. */
export class Refused extends Error {}

/** The volume is not what the change was made for: read again and reconcile. Never leaves the planner. */
export class Stale extends Error {}

/** A transaction being written, and what all its operations need to know. */
export interface Work {
  readonly draft: Draft;
  readonly accounting: Accounting;
  /** 0: deletes are final. */
  readonly trashDays: number;
  /** One clock reading for all times of the transaction. */
  readonly nowNs: bigint;
}

/** A name in a directory. */
export interface Place {
  readonly parent: bigint;
  readonly name: ByteString;
}

/** One slice that is all of a chunk, its blocks stored before the transaction or by it. */
export interface SliceOfChunk {
  /** Which 64 MiB of the file. */
  readonly index: number;
  readonly id: bigint;
  /** Bytes, up to 64 MiB. */
  readonly size: number;
}

/** What a file holds. */
export interface Content {
  readonly length: bigint;
  readonly slices: readonly SliceOfChunk[];
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

/** An inode as a name found it. */
export interface Found {
  readonly ino: bigint;
  readonly dentry: Dentry;
  readonly attr: Attr;
}

/** What a name leads to; throws `Stale` if there is nothing. */
export function find(work: Work, place: Place): Found {
  const dentry = work.draft.dentry(place.parent, place.name);
  if (dentry === undefined) throw new Stale('the entry is not there any more');
  const attr = work.draft.attr(dentry.ino);
  if (attr === undefined)
    throw new Refused('its directory entry leads to no inode; juicefs fsck shows such damage');
  return { ino: dentry.ino, dentry, attr };
}

/** A directory that may get and lose entries. */
function directory(work: Work, ino: bigint): Attr {
  const attr = work.draft.attr(ino);
  if (attr === undefined) throw new Stale('the directory is not there any more');
  if (attr.type !== 'directory') throw new Stale('the parent is no directory any more');
  if (ino >= TRASH_INO || attr.parent >= TRASH_INO) throw new Refused('the directory is in the trash');
  if ((attr.flags & FLAG_IMMUTABLE) !== 0) throw new Refused('the directory is immutable (chattr +i)');
  return attr;
}

/** create, mkdir, symlink (layout 10.1, upstream `doMknod`); contents come in the same transaction. */
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

function create(
  work: Work,
  place: Place,
  inode: NewInode,
  type: 'file' | 'directory' | 'symlink',
  length: bigint,
): Attr {
  const { draft, accounting, nowNs } = work;
  const { parent, name } = place;
  draft.expect({ kind: 'attr', ino: parent }, { kind: 'dentry', parent, name });
  const above = directory(work, parent);
  if (draft.dentry(parent, name) !== undefined) throw new Stale('another entry has the name');
  const inheritsGroup = (above.mode & 0o2000) !== 0;
  const isDirectory = type === 'directory';
  const attr: Attr = {
    flags: above.flags & FLAG_SKIP_TRASH,
    type,
    mode: inheritsGroup && isDirectory ? inode.mode | 0o2000 : inode.mode,
    uid: inode.uid,
    gid: inheritsGroup ? above.gid : inode.gid,
    atimeNs: nowNs,
    mtimeNs: inode.mtimeNs,
    ctimeNs: besideMtime(nowNs, inode.mtimeNs),
    nlink: isDirectory ? 2 : 1,
    length,
    rdev: 0,
    parent,
    accessAcl: 0,
    defaultAcl: 0,
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
function besideMtime(nowNs: bigint, mtimeNs: bigint): bigint {
  return nowNs === mtimeNs ? nowNs + 1n : nowNs;
}

function putContent({ draft }: Work, ino: bigint, content: Content): void {
  for (const { index, id, size } of content.slices) {
    const record = { pos: 0, id, size, off: 0, len: size };
    draft.put({ kind: 'chunk', ino, index }, encodeSlices([record]));
  }
}

/**
 * Replaces a file's contents by a new inode under the old name (layout 13.2), so that a reader who has the old one open
 * keeps it whole. Owner, flags, xattrs, ACL and tier stay; the old inode goes where an unlinked file goes.
 */
export function replaceContent(
  work: Work,
  place: Place,
  old: Found,
  inode: Pick<NewInode, 'ino' | 'mode' | 'mtimeNs'>,
  content: Content,
): Attr {
  const { draft, accounting, nowNs } = work;
  refuseFixed(old.attr);
  directory(work, place.parent);
  if (old.attr.nlink > 1)
    throw new Refused('the file is hard linked; its other names would keep the old contents');
  const attr: Attr = {
    ...old.attr,
    mode: inode.mode,
    atimeNs: nowNs,
    mtimeNs: inode.mtimeNs,
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

/** unlink and rmdir (layout 10.6, 10.7, upstream `doUnlink`, `doRmdir`). */
export function remove(work: Work, place: Place, found: Found): void {
  refuseFixed(found.attr);
  refuseAppendOnly(directory(work, place.parent));
  work.draft.delete({ kind: 'dentry', ...place });
  if (found.attr.type === 'directory') {
    dropDirectory(work, place, found);
    touch(work, place.parent, -1);
  } else {
    dropName(work, place, found);
    touch(work, place.parent, 0);
  }
}

/** An entry taken from its name, to be attached elsewhere in the same transaction. */
export interface Detached extends Found {
  readonly from: Place;
}

/** The first half of a rename (layout 10.8, upstream `doRename`): the old name goes. */
export function detach(work: Work, from: Place, found: Found): Detached {
  refuseFixed(found.attr);
  refuseAppendOnly(directory(work, from.parent));
  work.draft.delete({ kind: 'dentry', ...from });
  touch(work, from.parent, found.attr.type === 'directory' ? -1 : 0);
  work.accounting.leave(from.parent, found.attr);
  return { ...found, from };
}

/** The second half of a rename: the new name. What had it is removed first; `undefined` means that the name is free. */
export function attach(work: Work, to: Place, moved: Detached, over: Found | undefined): Attr {
  const { draft, accounting, nowNs } = work;
  const { ino, from } = moved;
  directory(work, to.parent);
  if (over !== undefined) remove(work, to, over);
  if (draft.dentry(to.parent, to.name) !== undefined) throw new Stale('another entry has the name');
  // Read again: an earlier operation of this transaction may have written it.
  let attr = draft.attr(ino) ?? moved.attr;
  const isDirectory = attr.type === 'directory';
  if (from.parent !== to.parent) {
    if (isDirectory) refuseCycle(work, ino, to.parent);
    if (attr.parent > 0n) {
      attr = { ...attr, parent: to.parent };
    } else {
      addParentCount(draft, ino, to.parent, 1n);
      addParentCount(draft, ino, from.parent, -1n);
    }
  }
  draft.putDentry(to.parent, to.name, moved.dentry);
  attr = { ...attr, ctimeNs: later(nowNs, attr.ctimeNs) };
  draft.putAttr(ino, attr);
  touch(work, to.parent, isDirectory ? 1 : 0);
  accounting.enter(to.parent, attr);
  return attr;
}

/** chmod (layout 10.4, upstream `doSetAttr`). The same mode writes nothing. */
export function setMode(work: Work, found: Found, mode: number): Attr {
  if (found.attr.mode === mode) return found.attr;
  refuseFixed(found.attr);
  if (found.attr.accessAcl !== 0)
    throw new Refused('the entry has an ACL, which a change of mode would have to rewrite');
  const attr = { ...found.attr, mode, ctimeNs: later(work.nowNs, found.attr.ctimeNs) };
  work.draft.putAttr(found.ino, attr);
  return attr;
}

/**
 * The parent's times, and its count of subdirectories. Always written when an entry comes, goes or moves: the real
 * client's rmdir compares nothing else that a new entry would change (layout trap 6).
 */
function touch(work: Work, ino: bigint, nlinkDelta: number): void {
  const attr = work.draft.attr(ino);
  if (attr === undefined) throw new Stale('the directory is not there any more');
  const timeNs = later(work.nowNs, attr.mtimeNs);
  const nlink = Math.max(2, attr.nlink + nlinkDelta);
  work.draft.putAttr(ino, { ...attr, mtimeNs: timeNs, ctimeNs: timeNs, nlink });
}

/** Now, but later than `before`: an unchanged time would leave caches of mounts standing (layout trap 7). */
function later(nowNs: bigint, before: bigint): bigint {
  return nowNs > before ? nowNs : before + 1n;
}

/** One name less of an inode that is no directory. The dentry and the parent's times are the caller's. */
function dropName(work: Work, place: Place, { ino, dentry }: Found): void {
  const { draft, accounting, nowNs } = work;
  const attr = draft.attr(ino);
  if (attr === undefined) throw new Stale('the entry is not there any more');
  const ctimeNs = later(nowNs, attr.ctimeNs);
  accounting.leave(place.parent, attr);
  const trash = trashPlace(work, place, ino, attr);
  if (trash !== undefined) {
    if (attr.parent > 0n) {
      draft.putAttr(ino, { ...attr, ctimeNs, parent: trash.parent });
    } else {
      draft.putAttr(ino, { ...attr, ctimeNs });
      addParentCount(draft, ino, trash.parent, 1n);
      addParentCount(draft, ino, place.parent, -1n);
    }
    draft.put({ kind: 'dentry', ...trash }, encodeDentry(dentry));
    accounting.enter(trash.parent, attr);
  } else if (attr.nlink > 1) {
    draft.putAttr(ino, { ...attr, ctimeNs, nlink: attr.nlink - 1 });
    if (attr.parent === 0n) addParentCount(draft, ino, place.parent, -1n);
  } else {
    draft.delete({ kind: 'attr', ino });
    draft.deleteRange(xattrRange(ino));
    if (attr.parent === 0n) draft.deleteRange(parentRange(ino));
    if (attr.type === 'symlink') draft.delete({ kind: 'symlink', ino });
    if (attr.type === 'file') {
      // Its chunks and blocks wait for whoever handles this key (layout 11.3).
      const seconds = encodeSeconds(nowNs / 1_000_000_000n);
      draft.put({ kind: 'deletedFile', ino, length: attr.length }, seconds);
    }
    accounting.drop(attr);
  }
}

/** A directory without entries goes. The dentry and the parent's attr are the caller's. */
function dropDirectory(work: Work, place: Place, { ino, dentry, attr }: Found): void {
  const { draft, accounting, nowNs } = work;
  if (draft.peekDentries(ino).size > 0) throw new NotEmpty('the directory is not empty');
  draft.compareNoNewDentry(ino);
  accounting.leave(place.parent, attr);
  draft.delete({ kind: 'dirStat', ino });
  const trash = trashPlace(work, place, ino, attr);
  if (trash !== undefined) {
    // Its own entries went in this very transaction at the earliest: take what that left of the attr.
    const now = draft.attr(ino) ?? attr;
    draft.putAttr(ino, { ...now, ctimeNs: later(nowNs, now.ctimeNs), parent: trash.parent });
    draft.put({ kind: 'dentry', ...trash }, encodeDentry(dentry));
    accounting.enter(trash.parent, attr);
  } else {
    draft.delete({ kind: 'attr', ino });
    draft.deleteRange(xattrRange(ino));
    accounting.drop(attr);
  }
}

/** Why a directory could not go; the planner knows whether the reason is an entry that was refused. */
export class NotEmpty extends Stale {}

/** Where a deleted name goes; `undefined` if it goes for good (layout 11.1, upstream `checkTrash`). */
function trashPlace(work: Work, place: Place, ino: bigint, attr: Attr): Place | undefined {
  if (work.trashDays <= 0 || (attr.flags & FLAG_SKIP_TRASH) !== 0) return undefined;
  const hour = trashOfHour(work);
  const trash = { parent: hour, name: trashName(place, ino) };
  // Only an inode with several names can already be there under this one.
  if (attr.nlink > 1 && attr.type !== 'directory' && work.draft.dentry(hour, trash.name) !== undefined)
    return undefined;
  return trash;
}

/** The name of a trash entry, cut to what a name may have (upstream `trashEntry`). */
export function trashName(place: Place, ino: bigint): ByteString {
  return `${place.parent}-${ino}-${place.name}`.slice(0, MAX_NAME_BYTES);
}

/** The name of the trash directory of a moment: its UTC hour. */
export function trashHourName(nowNs: bigint): string {
  const [date, time] = new Date(Number(nowNs / 1_000_000n)).toISOString().split('T');
  return `${date}-${time?.slice(0, 2)}`;
}

/** This hour's trash directory, made if it is missing (layout 11.1, upstream `getTrashDir`). */
function trashOfHour(work: Work): bigint {
  const { draft, accounting, nowNs } = work;
  const name = trashHourName(nowNs);
  const existing = draft.dentry(TRASH_INO, name);
  if (existing !== undefined) return existing.ino;
  const counter: MetaKey = { kind: 'counter', name: 'nextTrash' };
  const stored = draft.get(counter);
  const number = (stored === undefined ? 0n : decodeCounter(stored)) + 1n;
  const ino = TRASH_INO + number;
  const attr: Attr = {
    flags: 0,
    type: 'directory',
    mode: 0o555,
    uid: 0,
    gid: 0,
    atimeNs: nowNs,
    mtimeNs: nowNs,
    ctimeNs: nowNs,
    nlink: 2,
    length: 4096n,
    rdev: 0,
    parent: TRASH_INO,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
    rest: new Uint8Array(0),
  };
  draft.put(counter, encodeCounter(number));
  draft.newInode(ino);
  draft.putDentry(TRASH_INO, name, { type: 'directory', ino });
  draft.putAttr(ino, attr);
  draft.put({ kind: 'dirStat', ino }, encodeDirStat(NO_STAT));
  accounting.add(attr);
  return ino;
}

/** How many names a once hard linked inode has in a directory. A count that reaches 0 stays (layout 10.6). */
function addParentCount(draft: Draft, ino: bigint, parent: bigint, delta: bigint): void {
  const key: MetaKey = { kind: 'parent', ino, parent };
  const stored = draft.get(key);
  draft.put(key, encodeCounter((stored === undefined ? 0n : decodeCounter(stored)) + delta));
}

/** Compares the attrs of all directories above the target, so that no two moves can make a cycle together. */
function refuseCycle({ draft }: Work, moved: bigint, target: bigint): void {
  const seen = new Set<bigint>();
  for (let ino = target; ino !== ROOT_INO;) {
    if (ino === moved) throw new Refused('a directory cannot move into itself');
    if (seen.has(ino))
      throw new Refused('the directories above it form a cycle; juicefs fsck shows such damage');
    seen.add(ino);
    const attr = draft.attr(ino);
    if (attr === undefined || attr.type !== 'directory')
      throw new Stale('the directory is not there any more');
    if (attr.parent >= TRASH_INO) throw new Refused('the directory is in the trash');
    ino = attr.parent;
  }
}

function refuseFixed(attr: Attr): void {
  if ((attr.flags & FLAG_IMMUTABLE) !== 0) throw new Refused('the entry is immutable (chattr +i)');
  refuseAppendOnly(attr);
}

function refuseAppendOnly(attr: Attr): void {
  if ((attr.flags & FLAG_APPEND) !== 0) throw new Refused('the entry is append-only (chattr +a)');
}

function encodeSeconds(seconds: bigint): Uint8Array {
  return new ByteWriter().i64be(seconds).finish();
}
