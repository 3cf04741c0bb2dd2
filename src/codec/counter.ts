/** The volume-wide counters that a writer must take numbers from, and the per-directory and per-owner accounts. */

import { ByteReader, ByteWriter } from './bytes.ts';

/** Decodes a counter that is incremented: little-endian (layout 8.1). Throws `DecodeError` unless it has 8 bytes. */
export function decodeCounter(value: Uint8Array): bigint {
  const reader = new ByteReader(value, 'counter');
  const count = reader.i64le();
  reader.end();
  return count;
}

export function encodeCounter(count: bigint): Uint8Array {
  return new ByteWriter().i64le(count).finish();
}

/** Decodes a unix time in seconds kept under `C` (`lastCleanup...`): big-endian. Throws `DecodeError`. */
export function decodeTimeCounter(value: Uint8Array): bigint {
  const reader = new ByteReader(value, 'time counter');
  const seconds = reader.i64be();
  reader.end();
  return seconds;
}

export function encodeTimeCounter(seconds: bigint): Uint8Array {
  return new ByteWriter().i64be(seconds).finish();
}

/** What the direct entries of a directory add up to (layout 8.4); hard links count once a name. */
export interface DirStat {
  /** Bytes of files. */
  readonly length: bigint;
  /** Allocated bytes. */
  readonly space: bigint;
  /** Number of entries. */
  readonly inodes: bigint;
}

export function decodeDirStat(value: Uint8Array): DirStat {
  const reader = new ByteReader(value, 'directory statistics');
  const stat = { length: reader.i64be(), space: reader.i64be(), inodes: reader.i64be() };
  reader.end();
  return stat;
}

export function encodeDirStat(stat: DirStat): Uint8Array {
  return new ByteWriter().i64be(stat.length).i64be(stat.space).i64be(stat.inodes).finish();
}

/** A quota of a directory, user or group and what of it is used (layout 8.5). A maximum of 0 or less is no limit. */
export interface Quota {
  /** Bytes. */
  readonly maxSpace: bigint;
  readonly maxInodes: bigint;
  /** Allocated bytes. */
  readonly usedSpace: bigint;
  readonly usedInodes: bigint;
}

export function decodeQuota(value: Uint8Array): Quota {
  const reader = new ByteReader(value, 'quota');
  const quota = {
    maxSpace: reader.i64be(),
    maxInodes: reader.i64be(),
    usedSpace: reader.i64be(),
    usedInodes: reader.i64be(),
  };
  reader.end();
  return quota;
}

export function encodeQuota(quota: Quota): Uint8Array {
  return new ByteWriter()
    .i64be(quota.maxSpace)
    .i64be(quota.maxInodes)
    .i64be(quota.usedSpace)
    .i64be(quota.usedInodes)
    .finish();
}

/** The space a file of `n` bytes is charged: whole 4096-byte pages, at least one (upstream `align4K`). */
export function allocated(n: bigint): bigint {
  return n <= 0n ? 4096n : ((n + 4095n) / 4096n) * 4096n;
}
