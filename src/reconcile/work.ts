/** What all operations of a transaction share: the draft and its accounts, names and what they lead to, times. */

import { FLAG_APPEND, FLAG_IMMUTABLE, type Attr } from '../codec/attr.ts';
import { decodeCounter, encodeCounter } from '../codec/counter.ts';
import type { Dentry } from '../codec/dentry.ts';
import { TRASH_INO, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import type { Accounting } from './accounting.ts';
import type { Draft } from './draft.ts';
import { Refused, Stale } from './refusal.ts';

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
export function directory(work: Work, ino: bigint): Attr {
  const attr = work.draft.attr(ino);
  if (attr === undefined) throw new Stale('the directory is not there any more');
  if (attr.type !== 'directory') throw new Stale('the parent is no directory any more');
  if (ino >= TRASH_INO || attr.parent >= TRASH_INO) throw new Refused('the directory is in the trash');
  if ((attr.flags & FLAG_IMMUTABLE) !== 0) throw new Refused('the directory is immutable (chattr +i)');
  return attr;
}

/**
 * The parent's times, and its count of subdirectories. Always written when an entry comes, goes or moves: the real
 * client's rmdir compares nothing else that a new entry would change (layout trap 6).
 */
export function touch(work: Work, ino: bigint, nlinkDelta: number): void {
  const attr = work.draft.attr(ino);
  if (attr === undefined) throw new Stale('the directory is not there any more');
  const timeNs = later(work.nowNs, attr.mtimeNs);
  const nlink = Math.max(2, attr.nlink + nlinkDelta);
  work.draft.putAttr(ino, { ...attr, mtimeNs: timeNs, ctimeNs: timeNs, nlink });
}

/** Now, but later than `before`: an unchanged time would leave caches of mounts standing (layout trap 7). */
export function later(nowNs: bigint, before: bigint): bigint {
  return nowNs > before ? nowNs : before + 1n;
}

/** How many names a once hard linked inode has in a directory. A count that reaches 0 stays (layout 10.6). */
export function addParentCount(draft: Draft, ino: bigint, parent: bigint, delta: bigint): void {
  const key: MetaKey = { kind: 'parent', ino, parent };
  const stored = draft.get(key);
  draft.put(key, encodeCounter((stored === undefined ? 0n : decodeCounter(stored)) + delta));
}

export function refuseFixed(attr: Attr): void {
  if ((attr.flags & FLAG_IMMUTABLE) !== 0) throw new Refused('the entry is immutable (chattr +i)');
  if ((attr.flags & FLAG_APPEND) !== 0) throw new Refused('the entry is append-only (chattr +a)');
}

/** A directory that is append-only gets entries, but loses none. */
export function refuseLoss(directoryAttr: Attr): void {
  if ((directoryAttr.flags & FLAG_APPEND) !== 0) {
    throw new Refused('the directory is append-only (chattr +a)');
  }
}
