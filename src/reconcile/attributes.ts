/** What an entry has besides its type and content, and which of it counts. */

import type { ByteString } from '../codec/kv.ts';
import type { AclText } from './acl-text.ts';

/** Values by name with its namespace. */
export type Xattrs = Readonly<Record<ByteString, ByteString>>;

export interface EntryAttributes {
  /** Permission bits with suid, sgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  /** Extended attributes of the namespace `user`; absent: none, or unknown, and then never pushed. */
  readonly xattrs?: Xattrs;
  /** The volume's ACLs; absent: none. A local entry has those that both sides agreed on: this side does not change them. */
  readonly acl?: AclText;
}

/** Attributes of something whose type says which of them count. */
type Typed = EntryAttributes & { readonly type: 'file' | 'directory' | 'symlink' | 'special' };

/**
 * Which attributes this side can hold on disk. What it cannot hold is remembered, counts for nothing in a comparison and
 * is never pushed back (design G12).
 */
export interface Held {
  readonly owners: boolean;
  /** Modification times, when asked for: a change of them alone is a change then. */
  readonly times: boolean;
  readonly xattrs: boolean;
  readonly acls: boolean;
}

export const NOTHING_HELD: Held = { owners: false, times: false, xattrs: false, acls: false };

/** The permission bits that are compared: suid, sgid and sticky are remembered, not held by this side. */
export const COMPARED_MODE = 0o777;

/** Nanoseconds in a microsecond: what Node sets as a time of a file is cut to one. */
const MICROSECOND = 1000n;

export function sameXattrs(a: Xattrs = {}, b: Xattrs = {}): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

/** Whether all attributes that count are equal. A symlink has no mode, and a directory's time moves with its entries. */
export function sameAttributes(a: Typed, b: Typed, held: Held): boolean {
  if (a.type !== 'symlink' && (a.mode & COMPARED_MODE) !== (b.mode & COMPARED_MODE)) return false;
  if (held.owners && !sameOwner(a, b)) return false;
  if (held.times && !sameTime(a, b)) return false;
  if (held.acls && a.acl !== b.acl) return false;
  return !held.xattrs || sameXattrs(a.xattrs, b.xattrs);
}

export function sameOwner(a: Typed, b: Typed): boolean {
  return a.uid === b.uid && a.gid === b.gid;
}

export function sameTime(a: Typed, b: Typed): boolean {
  if (a.type === 'directory' || a.type === 'special') return true;
  return a.mtimeNs / MICROSECOND === b.mtimeNs / MICROSECOND;
}
