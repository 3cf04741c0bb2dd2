/** How attributes of two sides join: what one side cannot hold is carried over, and changes of both sides combine. */

import type { AclText } from './acl-text.ts';
import { COMPARED_MODE, sameOwner, sameTime, type Held, type Xattrs } from './attributes.ts';
import type { Entry } from './entry.ts';

/** An entry with other extended attributes. */
export function withXattrs(entry: Entry, xattrs: Xattrs | undefined): Entry {
  if (xattrs !== undefined) return { ...entry, xattrs };
  const { xattrs: _unknown, ...rest } = entry;
  return rest;
}

/** An entry with other ACLs. */
export function withAcl(entry: Entry, acl: AclText | undefined): Entry {
  if (acl !== undefined) return { ...entry, acl };
  const { acl: _none, ...rest } = entry;
  return rest;
}

/**
 * A local entry with what this side does not hold taken from the volume's entry (design 4.4). What is new in the volume,
 * or of another type than there, has suid, sgid and sticky never, and extended attributes only if they are held.
 */
export function carryOver(local: Entry, remote: Entry | undefined, held: Held): Entry {
  const isNew = remote === undefined || remote.type !== local.type;
  const xattrs = held.xattrs ? (local.xattrs ?? {}) : isNew ? undefined : remote.xattrs;
  const entry = withAcl(withXattrs(local, xattrs), isNew ? undefined : remote.acl);
  if (remote === undefined) return { ...entry, mode: local.mode & COMPARED_MODE };
  const { uid, gid } = held.owners ? local : remote;
  const mode = (remote.mode & ~COMPARED_MODE) | (local.mode & COMPARED_MODE);
  return { ...entry, uid, gid, mode };
}

/**
 * What becomes of an entry of which each side changed something else. `content` is the side whose content counts. An
 * attribute that both changed is as the volume has it.
 */
export function combine(a: Entry, l: Entry, r: Entry, content: 'local' | 'remote', held: Held): Entry {
  const base = content === 'local' ? l : r;
  const bits = (entry: Entry): number => entry.mode & COMPARED_MODE;
  const mode = bits(r) !== bits(a) ? bits(r) : bits(l);
  const { uid, gid } = held.owners && sameOwner(r, a) ? l : r;
  const time = held.times && content === 'remote' && sameTime(r, a) && base.type !== 'directory' ? l : base;
  return {
    ...withAcl(withXattrs(base, held.xattrs ? combineXattrs(a.xattrs, l.xattrs, r.xattrs) : r.xattrs), r.acl),
    ino: base.ino,
    uid,
    gid,
    mode: (r.mode & ~COMPARED_MODE) | mode,
    mtimeNs: time.mtimeNs,
  };
}

/** Name by name. */
function combineXattrs(a: Xattrs = {}, l: Xattrs = {}, r: Xattrs = {}): Xattrs {
  const both: Record<string, string> = {};
  for (const name of new Set([...Object.keys(l), ...Object.keys(r)])) {
    const value = r[name] !== a[name] ? r[name] : l[name];
    if (value !== undefined) both[name] = value;
  }
  return both;
}
