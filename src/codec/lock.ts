/** The advisory locks on a file that mounts keep in the store. */

import { ByteReader, ByteWriter } from './bytes.ts';

/** Who holds a lock: a session of a mount, and a number of the process or open file within it. */
interface LockOwner {
  readonly sid: bigint;
  readonly owner: bigint;
}

/** A BSD lock of a whole file (flock). */
export interface Flock extends LockOwner {
  readonly type: 'read' | 'write';
}

/** A lock of a range of bytes (fcntl); `end` is its last byte. */
interface PlockRange {
  readonly type: 'read' | 'write';
  readonly pid: number;
  readonly start: bigint;
  readonly end: bigint;
}

/** All ranges that one owner has locked. */
export interface Plock extends LockOwner {
  readonly ranges: readonly PlockRange[];
}

const READ = 0x52;
const WRITE = 0x57;
const RANGE_BYTES = 24;

/** Decodes the records of `F ino` (layout 9.2, upstream `marshalFlock`). Throws `DecodeError`. */
export function decodeFlocks(value: Uint8Array): Flock[] {
  const reader = new ByteReader(value, 'flock');
  const locks: Flock[] = [];
  while (reader.remaining > 0) {
    const holder = { sid: reader.u64be(), owner: reader.u64be() };
    const letter = reader.peek();
    if (letter !== undefined && letter !== READ && letter !== WRITE)
      throw reader.error(`no lock type ${letter}`);
    locks.push({ ...holder, type: reader.u8() === READ ? 'read' : 'write' });
  }
  return locks;
}

export function encodeFlocks(locks: readonly Flock[]): Uint8Array {
  const writer = new ByteWriter();
  for (const { sid, owner, type } of locks)
    writer
      .u64be(sid)
      .u64be(owner)
      .u8(type === 'read' ? READ : WRITE);
  return writer.finish();
}

/** Decodes the records of `P ino` (layout 9.2, upstream `marshalPlock`). Throws `DecodeError`. */
export function decodePlocks(value: Uint8Array): Plock[] {
  const reader = new ByteReader(value, 'plock');
  const locks: Plock[] = [];
  while (reader.remaining > 0) {
    const holder = { sid: reader.u64be(), owner: reader.u64be() };
    const bytes = reader.u32be();
    if (bytes % RANGE_BYTES !== 0 || bytes > reader.remaining)
      throw reader.error(`no ranges of ${bytes} bytes`);
    const ranges = Array.from({ length: bytes / RANGE_BYTES }, () => decodeRange(reader));
    locks.push({ ...holder, ranges });
  }
  return locks;
}

function decodeRange(reader: ByteReader): PlockRange {
  const type = reader.u32be();
  if (type > 1) throw reader.error(`no lock type ${type}`);
  return {
    type: type === 0 ? 'read' : 'write',
    pid: reader.u32be(),
    start: reader.u64be(),
    end: reader.u64be(),
  };
}

export function encodePlocks(locks: readonly Plock[]): Uint8Array {
  const writer = new ByteWriter();
  for (const { sid, owner, ranges } of locks) {
    writer
      .u64be(sid)
      .u64be(owner)
      .u32be(ranges.length * RANGE_BYTES);
    for (const { type, pid, start, end } of ranges) {
      writer
        .u32be(type === 'read' ? 0 : 1)
        .u32be(pid)
        .u64be(start)
        .u64be(end);
    }
  }
  return writer.finish();
}
