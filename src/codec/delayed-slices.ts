/** The value of a delayed-slices key: what compactions and swaps of contents dropped while the trash is on. */

import { ByteReader, ByteWriter } from './bytes.ts';

/** A slice that lost a record and keeps its reference until the trash is emptied (layout 5.4). */
export interface DelayedSlice {
  readonly id: bigint;
  /** Bytes of the whole slice. */
  readonly size: number;
}

/** Decodes the entries of 12 bytes of `L seconds id` (layout 3, upstream `decodeDelayedSlices`). Throws `DecodeError`. */
export function decodeDelayedSlices(value: Uint8Array): DelayedSlice[] {
  const reader = new ByteReader(value, 'delayed slices');
  const slices: DelayedSlice[] = [];
  while (reader.remaining > 0) slices.push({ id: reader.u64be(), size: reader.u32be() });
  return slices;
}

export function encodeDelayedSlices(slices: readonly DelayedSlice[]): Uint8Array {
  const writer = new ByteWriter();
  for (const { id, size } of slices) writer.u64be(id).u32be(size);
  return writer.finish();
}
