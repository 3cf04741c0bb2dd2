/**
 * A metadata key as a tagged union, and the union as a key. Inode numbers in keys are little-endian, other numbers in
 * keys big-endian.
 */

import { ByteReader, ByteWriter, prefixRange, toBytes, toByteString } from './bytes.ts';
import type { ByteString, KeyRange } from './kv.ts';

/** The inode of the volume's root directory. */
export const ROOT_INO = 1n;

/** The inode of the trash's root directory; hour directories follow it (layout 11.1, upstream `TrashInode`). */
export const TRASH_INO = 0x7fffffff10000000n;

/** A key of the volume without the volume's prefix (layout 3). Inodes, ids and lengths are u64, indexes and sizes u32. */
export type MetaKey =
  | { readonly kind: 'setting' }
  | { readonly kind: 'counter'; readonly name: ByteString }
  | { readonly kind: 'attr'; readonly ino: bigint }
  | { readonly kind: 'dentry'; readonly parent: bigint; readonly name: ByteString }
  | { readonly kind: 'parent'; readonly ino: bigint; readonly parent: bigint }
  | { readonly kind: 'chunk'; readonly ino: bigint; readonly index: number }
  | { readonly kind: 'symlink'; readonly ino: bigint }
  | { readonly kind: 'xattr'; readonly ino: bigint; readonly name: ByteString }
  | { readonly kind: 'deletedFile'; readonly ino: bigint; readonly length: bigint }
  | { readonly kind: 'sliceRef'; readonly id: bigint; readonly size: number }
  | { readonly kind: 'delayedSlices'; readonly seconds: bigint; readonly id: bigint }
  | { readonly kind: 'sessionExpire'; readonly sid: bigint }
  | { readonly kind: 'sessionHeartbeat'; readonly sid: bigint }
  | { readonly kind: 'sessionInfo'; readonly sid: bigint }
  | { readonly kind: 'sustained'; readonly sid: bigint; readonly ino: bigint }
  | { readonly kind: 'flock'; readonly ino: bigint }
  | { readonly kind: 'plock'; readonly ino: bigint }
  | { readonly kind: 'dirStat'; readonly ino: bigint }
  | { readonly kind: 'detached'; readonly ino: bigint }
  | { readonly kind: 'dirQuota'; readonly ino: bigint }
  | { readonly kind: 'userQuota'; readonly uid: bigint }
  | { readonly kind: 'groupQuota'; readonly gid: bigint }
  | { readonly kind: 'aclRule'; readonly id: number }
  | { readonly kind: 'kerberosToken'; readonly id: number }
  | { readonly kind: 'changeLog'; readonly id: bigint }
  /** Not ours to interpret: an unknown letter, or a length that the letter does not have. */
  | { readonly kind: 'unknown'; readonly key: ByteString };

/** Reads a key without the volume's prefix. Never throws: what is not ours is `unknown`. */
export function decodeKey(key: ByteString): MetaKey {
  return decodeKnown(key) ?? { kind: 'unknown', key };
}

function decodeKnown(key: ByteString): MetaKey | undefined {
  const { length } = key;
  switch (key[0]) {
    case 's':
      return key === 'setting' ? { kind: 'setting' } : undefined;
    case 'A':
      return decodeInodeKey(key);
    case 'C':
      return length > 1 ? { kind: 'counter', name: key.slice(1) } : undefined;
    case 'D':
      return length === 17 ? { kind: 'deletedFile', ino: inoAt(key, 1), length: u64At(key, 9) } : undefined;
    case 'F':
      return length === 9 ? { kind: 'flock', ino: inoAt(key, 1) } : undefined;
    case 'K':
      return length === 13 ? { kind: 'sliceRef', id: u64At(key, 1), size: u32At(key, 9) } : undefined;
    case 'L':
      return length === 17 ? { kind: 'delayedSlices', seconds: u64At(key, 1), id: u64At(key, 9) } : undefined;
    case 'N':
      return length === 9 ? { kind: 'detached', ino: inoAt(key, 1) } : undefined;
    case 'P':
      return length === 9 ? { kind: 'plock', ino: inoAt(key, 1) } : undefined;
    case 'Q':
      return length === 10 ? decodeQuotaKey(key) : undefined;
    case 'R':
      return length === 5 ? { kind: 'aclRule', id: u32At(key, 1) } : undefined;
    case 'S':
      return decodeSessionKey(key);
    case 'U':
      return length === 9 ? { kind: 'dirStat', ino: inoAt(key, 1) } : undefined;
    case 'X':
      if (length === 7 && key.startsWith('XKD')) return { kind: 'kerberosToken', id: u32At(key, 3) };
      if (length === 12 && key.startsWith('XLOG')) return { kind: 'changeLog', id: u64At(key, 4) };
      return undefined;
    default:
      return undefined;
  }
}

/** `A` ino letter ...: byte 9 is the record type. */
function decodeInodeKey(key: ByteString): MetaKey | undefined {
  if (key.length < 10) return undefined;
  const ino = inoAt(key, 1);
  const tail = key.slice(10);
  switch (key[9]) {
    case 'I':
      return tail === '' ? { kind: 'attr', ino } : undefined;
    case 'D':
      return tail === '' ? undefined : { kind: 'dentry', parent: ino, name: tail };
    case 'P':
      return tail.length === 8 ? { kind: 'parent', ino, parent: inoAt(key, 10) } : undefined;
    case 'C':
      return tail.length === 4 ? { kind: 'chunk', ino, index: u32At(key, 10) } : undefined;
    case 'S':
      return tail === '' ? { kind: 'symlink', ino } : undefined;
    case 'X':
      return tail === '' ? undefined : { kind: 'xattr', ino, name: tail };
    default:
      return undefined;
  }
}

function decodeQuotaKey(key: ByteString): MetaKey | undefined {
  switch (key[1]) {
    case 'D':
      return { kind: 'dirQuota', ino: inoAt(key, 2) };
    case 'U':
      return { kind: 'userQuota', uid: u64At(key, 2) };
    case 'G':
      return { kind: 'groupQuota', gid: u64At(key, 2) };
    default:
      return undefined;
  }
}

function decodeSessionKey(key: ByteString): MetaKey | undefined {
  if (key[1] === 'S') {
    return key.length === 18 ? { kind: 'sustained', sid: u64At(key, 2), ino: inoAt(key, 10) } : undefined;
  }
  if (key.length !== 10) return undefined;
  const sid = u64At(key, 2);
  switch (key[1]) {
    case 'E':
      return { kind: 'sessionExpire', sid };
    case 'H':
      return { kind: 'sessionHeartbeat', sid };
    case 'I':
      return { kind: 'sessionInfo', sid };
    default:
      return undefined;
  }
}

/** The key of a `MetaKey`, without the volume's prefix. A number that does not fit is our own mistake: `RangeError`. */
export function encodeKey(key: MetaKey): ByteString {
  switch (key.kind) {
    case 'setting':
      return 'setting';
    case 'counter':
      return `C${key.name}`;
    case 'attr':
      return `A${inoString(key.ino)}I`;
    case 'dentry':
      return `A${inoString(key.parent)}D${key.name}`;
    case 'parent':
      return `A${inoString(key.ino)}P${inoString(key.parent)}`;
    case 'chunk':
      return `A${inoString(key.ino)}C${u32String(key.index)}`;
    case 'symlink':
      return `A${inoString(key.ino)}S`;
    case 'xattr':
      return `A${inoString(key.ino)}X${key.name}`;
    case 'deletedFile':
      return `D${inoString(key.ino)}${u64String(key.length)}`;
    case 'sliceRef':
      return `K${u64String(key.id)}${u32String(key.size)}`;
    case 'delayedSlices':
      return `L${u64String(key.seconds)}${u64String(key.id)}`;
    case 'sessionExpire':
      return `SE${u64String(key.sid)}`;
    case 'sessionHeartbeat':
      return `SH${u64String(key.sid)}`;
    case 'sessionInfo':
      return `SI${u64String(key.sid)}`;
    case 'sustained':
      return `SS${u64String(key.sid)}${inoString(key.ino)}`;
    case 'flock':
      return `F${inoString(key.ino)}`;
    case 'plock':
      return `P${inoString(key.ino)}`;
    case 'dirStat':
      return `U${inoString(key.ino)}`;
    case 'detached':
      return `N${inoString(key.ino)}`;
    case 'dirQuota':
      return `QD${inoString(key.ino)}`;
    case 'userQuota':
      return `QU${u64String(key.uid)}`;
    case 'groupQuota':
      return `QG${u64String(key.gid)}`;
    case 'aclRule':
      return `R${u32String(key.id)}`;
    case 'kerberosToken':
      return `XKD${u32String(key.id)}`;
    case 'changeLog':
      return `XLOG${u64String(key.id)}`;
    case 'unknown':
      return key.key;
  }
}

/** All keys of one inode: attr, chunks, dentries, parents, symlink, xattrs. They lie together (layout 3). */
export function inodeRange(ino: bigint): KeyRange {
  return prefixRange(`A${inoString(ino)}`);
}

/** The dentries of a directory. */
export function dentryRange(ino: bigint): KeyRange {
  return prefixRange(`A${inoString(ino)}D`);
}

/** The chunks of a file. */
export function chunkRange(ino: bigint): KeyRange {
  return prefixRange(`A${inoString(ino)}C`);
}

/** The extended attributes of an inode. */
export function xattrRange(ino: bigint): KeyRange {
  return prefixRange(`A${inoString(ino)}X`);
}

/** The parent counts of an inode that is or was hard linked. */
export function parentRange(ino: bigint): KeyRange {
  return prefixRange(`A${inoString(ino)}P`);
}

/** The expiry of every session. */
export function sessionRange(): KeyRange {
  return prefixRange('SE');
}

function reader(key: ByteString, start: number, length: number): ByteReader {
  return new ByteReader(toBytes(key.slice(start, start + length)), 'key');
}

function inoAt(key: ByteString, start: number): bigint {
  return reader(key, start, 8).u64le();
}

function u64At(key: ByteString, start: number): bigint {
  return reader(key, start, 8).u64be();
}

function u32At(key: ByteString, start: number): number {
  return reader(key, start, 4).u32be();
}

function inoString(ino: bigint): ByteString {
  return toByteString(new ByteWriter().u64le(ino).finish());
}

function u64String(value: bigint): ByteString {
  return toByteString(new ByteWriter().u64be(value).finish());
}

function u32String(value: number): ByteString {
  return toByteString(new ByteWriter().u32be(value).finish());
}
