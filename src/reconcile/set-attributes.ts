/** chmod, chown, utimes and extended attributes: everything about an entry but its name and what it holds. */

import type { Attr } from '../codec/attr.ts';
import { toBytes, toByteString } from '../codec/bytes.ts';
import type { MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { withMode } from './acl.ts';
import { Stale } from './refusal.ts';
import { later, refuseFixed, type Found, type Work } from './work.ts';

/** Extended attributes: values by name with its namespace. */
export type Xattrs = Readonly<Record<ByteString, ByteString>>;

/** What is to be set; what is absent stays. */
export interface WantedAttributes {
  /** 0 to 0o777. Bits above the permissions are the volume's (design 4.4). */
  readonly permissions?: number;
  readonly owner?: Pick<Attr, 'uid' | 'gid'>;
  readonly mtimeNs?: bigint;
}

/** setattr (layout 10.4, upstream `doSetAttr`), all in one. What is so already writes nothing. */
export function setAttributes(work: Work, { ino, attr: before }: Found, wanted: WantedAttributes): Attr {
  const attr = withAttributes(work, before, wanted);
  const { mode, uid, gid, mtimeNs } = attr;
  const isSame =
    mode === before.mode && uid === before.uid && gid === before.gid && mtimeNs === before.mtimeNs;
  if (isSame) return before;
  refuseFixed(before);
  const changed = { ...attr, ctimeNs: later(work.nowNs, before.ctimeNs) };
  work.draft.putAttr(ino, changed);
  if (uid !== before.uid || gid !== before.gid) work.accounting.giveTo(before, changed);
  return changed;
}

/** An attr with what is wanted, times of the change itself left out. */
export function withAttributes(work: Work, before: Attr, wanted: WantedAttributes): Attr {
  const owned = wanted.owner === undefined ? before : withOwner(before, wanted.owner);
  const mode = (owned.mode & 0o7000) | (wanted.permissions ?? owned.mode & 0o777);
  return { ...withMode(work, owned, mode), mtimeNs: wanted.mtimeNs ?? before.mtimeNs };
}

/** chown by root: what a file runs as is taken from it, but sgid without group execution means locking (`clearSUGID`). */
function withOwner(attr: Attr, { uid, gid }: Pick<Attr, 'uid' | 'gid'>): Attr {
  if (attr.uid === uid && attr.gid === gid) return attr;
  const cleared = (attr.mode & 0o010) === 0 ? attr.mode & 0o3777 : attr.mode & 0o1777;
  return { ...attr, uid, gid, mode: attr.type === 'directory' ? attr.mode : cleared };
}

/**
 * setxattr and removexattr (layout 10.9) of what differs between two states; neither touches the ctime. What `before`
 * does not know of stays. Throws `Stale` if the volume has neither the one nor the other.
 */
export function setXattrs(
  { draft }: Work,
  { ino, attr }: Pick<Found, 'ino' | 'attr'>,
  before: Xattrs | undefined,
  after: Xattrs,
): void {
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after)]);
  const changed = [...names].filter((name) => before?.[name] !== after[name]);
  const keyOf = (name: ByteString): MetaKey => ({ kind: 'xattr', ino, name });
  draft.expect(...changed.map(keyOf));
  for (const name of changed) {
    const stored = draft.get(keyOf(name));
    const value = stored === undefined ? undefined : toByteString(stored);
    const wanted = after[name];
    if (value === wanted) continue;
    if (before !== undefined && value !== before[name]) {
      throw new Stale('an extended attribute was changed');
    }
    refuseFixed(attr);
    if (wanted === undefined) draft.delete(keyOf(name));
    else draft.put(keyOf(name), toBytes(wanted));
  }
}
