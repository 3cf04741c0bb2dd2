/**
 * The attribute record of an inode; trailing fields may be absent, and bytes past the known fields are kept and
 * written back.
 */

import { ByteReader, ByteWriter } from './bytes.ts';
import { DecodeError } from './error.ts';

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'block' | 'char' | 'socket';

/** Type numbers of the store, from 1 (layout 0, upstream `TypeFile` and following). */
const TYPES: readonly FileType[] = ['file', 'directory', 'symlink', 'fifo', 'block', 'char', 'socket'];

/** No write, truncate, rename, unlink, link, and no new entries in it. */
export const FLAG_IMMUTABLE = 1;
/** Append only. */
export const FLAG_APPEND = 2;
/** What is deleted here does not go to the trash. */
export const FLAG_SKIP_TRASH = 32;

/** The value of `A ino I` (layout 4.1, upstream `Attr.Marshal`). */
export interface Attr {
  readonly flags: number;
  readonly type: FileType;
  /** Permission bits with suid, sgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since 1970; the store's seconds are signed. */
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly nlink: number;
  /** Bytes of a file, 4096 for a directory, bytes in the target for a symlink, else 0. */
  readonly length: bigint;
  /** Linux's 32-bit device encoding. */
  readonly rdev: number;
  /** The directory; 0 once the inode was hard linked (then see its parent keys). */
  readonly parent: bigint;
  /** Ids of `R` rules, 0 for none. */
  readonly accessAcl: number;
  readonly defaultAcl: number;
  /** Storage tier, 0 for none. */
  readonly tier: number;
  /** Bytes past the fields known here. */
  readonly rest: Uint8Array;
  /** Set by decoding when the value has another set of trailing fields than JuiceFS 1.4 writes for these contents. */
  readonly tail?: AttrTail;
}

/** Which trailing fields are stored. Those that carry something are written in any case. */
export interface AttrTail {
  readonly parent: boolean;
  readonly acl: boolean;
  readonly tier: boolean;
  readonly padding: boolean;
}

/** Decodes an attribute of 63 bytes (before there were parents) or more. Throws `DecodeError`. */
export function decodeAttr(value: Uint8Array): Attr {
  const reader = new ByteReader(value, 'attr');
  const flags = reader.u8();
  const typeAndMode = reader.u16be();
  const type = typeOfNumber(typeAndMode >> 12, 'attr', 1);
  const mode = typeAndMode & 0o7777;
  const uid = reader.u32be();
  const gid = reader.u32be();
  const atimeNs = readTime(reader);
  const mtimeNs = readTime(reader);
  const ctimeNs = readTime(reader);
  const nlink = reader.u32be();
  const length = reader.u64be();
  const rdev = reader.u32be();
  // From here on a field is there if its bytes are (upstream `Attr.Unmarshal`); without a parent nothing follows.
  const hasParent = reader.remaining >= 8;
  const parent = hasParent ? reader.u64be() : 0n;
  const hasAcl = reader.remaining >= 8;
  const accessAcl = hasAcl ? reader.u32be() : 0;
  const defaultAcl = hasAcl ? reader.u32be() : 0;
  const hasTier = hasParent && reader.remaining >= 1;
  const tier = hasTier ? reader.u8() : 0;
  const hasPadding = tier !== 0 && reader.peek() === 0;
  if (hasPadding) reader.u8();
  const rest = reader.rest();
  const attr = {
    flags,
    type,
    mode,
    uid,
    gid,
    atimeNs,
    mtimeNs,
    ctimeNs,
    nlink,
    length,
    rdev,
    parent,
    accessAcl,
    defaultAcl,
    tier,
    rest,
  };
  const tail = { parent: hasParent, acl: hasAcl, tier: hasTier, padding: hasPadding };
  return sameTail(tail, usualTail(attr)) ? attr : { ...attr, tail };
}

/** Encodes an attribute; `encodeAttr(decodeAttr(x))` is `x`. A number that does not fit is a `RangeError`. */
export function encodeAttr(attr: Attr): Uint8Array {
  const usual = usualTail(attr);
  const tail = attr.tail ?? usual;
  const hasTier = tail.tier || attr.tier !== 0;
  const hasAcl = tail.acl || usual.acl;
  // A later field can only be found if the earlier ones are there.
  const hasParent = tail.parent || attr.parent !== 0n || hasAcl || hasTier;
  const writer = new ByteWriter()
    .u8(attr.flags)
    .u16be((numberOfType(attr.type) << 12) | modeBits(attr.mode))
    .u32be(attr.uid)
    .u32be(attr.gid);
  writeTime(writer, attr.atimeNs);
  writeTime(writer, attr.mtimeNs);
  writeTime(writer, attr.ctimeNs);
  writer.u32be(attr.nlink).u64be(attr.length).u32be(attr.rdev);
  if (hasParent) writer.u64be(attr.parent);
  if (hasAcl) writer.u32be(attr.accessAcl).u32be(attr.defaultAcl);
  if (hasTier) writer.u8(attr.tier);
  if (attr.tier !== 0 && tail.padding) writer.u8(0);
  return writer.bytes(attr.rest).finish();
}

/** The trailing fields that JuiceFS 1.4 writes: 72, 80, 73 or 81 bytes in all. */
function usualTail(attr: Pick<Attr, 'accessAcl' | 'defaultAcl' | 'tier'>): AttrTail {
  const acl = attr.accessAcl !== 0 || attr.defaultAcl !== 0;
  return { parent: true, acl, tier: true, padding: attr.tier !== 0 };
}

function sameTail(a: AttrTail, b: AttrTail): boolean {
  return a.parent === b.parent && a.acl === b.acl && a.tier === b.tier && a.padding === b.padding;
}

const NS_PER_SECOND = 1_000_000_000n;

function readTime(reader: ByteReader): bigint {
  const seconds = reader.i64be();
  const nanoseconds = reader.u32be();
  if (nanoseconds >= 1_000_000_000) throw reader.error(`${nanoseconds} nanoseconds are a second or more`);
  return seconds * NS_PER_SECOND + BigInt(nanoseconds);
}

function writeTime(writer: ByteWriter, timeNs: bigint): void {
  // Rounded down, also before 1970: the nanoseconds count up from the second.
  const nanoseconds = ((timeNs % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  writer.i64be((timeNs - nanoseconds) / NS_PER_SECOND).u32be(Number(nanoseconds));
}

function modeBits(mode: number): number {
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) throw new RangeError(`${mode} is no mode`);
  return mode;
}

/** The type with this number. Throws `DecodeError` about `what` at `offset`. */
export function typeOfNumber(number: number, what: string, offset: number): FileType {
  const type = TYPES[number - 1];
  if (type === undefined) throw new DecodeError(what, offset, `${number} is no file type`);
  return type;
}

/** The store's number of a type, from 1. */
export function numberOfType(type: FileType): number {
  return TYPES.indexOf(type) + 1;
}
