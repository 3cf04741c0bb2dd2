/** The 24-byte slice records of one chunk, and which slice wins each byte. */

import { ByteReader, ByteWriter } from './bytes.ts';
import { DecodeError } from './error.ts';

/** Bytes of a file in one chunk: 64 MiB, fixed. */
export const CHUNK_SIZE = 67108864;

/** Bytes of one record. */
export const RECORD_SIZE = 24;

/** One write into a chunk (layout 5.1, upstream `slice`). All numbers but `id` are u32 byte counts. */
export interface SliceRecord {
  /** Start inside the chunk. */
  readonly pos: number;
  /** Slice id; 0 is zeros. */
  readonly id: bigint;
  /** Bytes of the whole slice; 0 for zeros. */
  readonly size: number;
  /** First byte of the slice that shows. */
  readonly off: number;
  /** Bytes that show. */
  readonly len: number;
}

/** A run of bytes of one chunk that comes from one slice, or zeros (`id`, `size` and `off` 0). */
export type Piece = SliceRecord;

/** Decodes a chunk's value, a whole number of records, each within chunk and slice. Throws `DecodeError`. */
export function decodeSlices(value: Uint8Array): SliceRecord[] {
  if (value.length % RECORD_SIZE !== 0) {
    throw new DecodeError(
      'chunk',
      value.length,
      `${value.length} bytes are no whole number of slice records`,
    );
  }
  const reader = new ByteReader(value, 'chunk');
  const records: SliceRecord[] = [];
  while (reader.remaining > 0) {
    const start = reader.offset;
    const record = {
      pos: reader.u32be(),
      id: reader.u64be(),
      size: reader.u32be(),
      off: reader.u32be(),
      len: reader.u32be(),
    };
    if (record.pos + record.len > CHUNK_SIZE) {
      throw new DecodeError('chunk', start, 'a slice record reaches past the end of the chunk');
    }
    if (record.id !== 0n && record.off + record.len > record.size) {
      throw new DecodeError('chunk', start, 'a slice record shows more than its slice has');
    }
    records.push(record);
  }
  return records;
}

export function encodeSlices(records: readonly SliceRecord[]): Uint8Array {
  const writer = new ByteWriter();
  for (const { pos, id, size, off, len } of records) {
    writer.u32be(pos).u64be(id).u32be(size).u32be(off).u32be(len);
  }
  return writer.finish();
}

/**
 * What is seen of a chunk: pieces in order that cover `[0, length)` without gap or overlap; later records win, and
 * what no record covers is zeros (layout 5.2). Neighbours that continue each other are one piece, so that equal
 * contents made by different histories of the same slices come out equal.
 */
export function visiblePieces(records: readonly SliceRecord[], length: number): Piece[] {
  const pieces: Piece[] = length > 0 ? [zeros(0, length)] : [];
  for (const record of records) {
    const end = Math.min(record.pos + record.len, length);
    if (record.pos >= end) continue;
    const shown = record.id === 0n ? zeros(record.pos, end - record.pos) : cut(record, record.pos, end);
    // `first` and `last` are the pieces that hold the record's first and last byte.
    const first = pieceAt(pieces, record.pos);
    const last = pieceAt(pieces, end - 1);
    const before = pieces[first];
    const after = pieces[last];
    const parts: Piece[] = [];
    if (before !== undefined && before.pos < record.pos) parts.push(cut(before, before.pos, record.pos));
    parts.push(shown);
    if (after !== undefined && after.pos + after.len > end)
      parts.push(cut(after, end, after.pos + after.len));
    pieces.splice(first, last - first + 1, ...parts);
  }
  return joined(pieces);
}

function zeros(pos: number, len: number): Piece {
  return { pos, id: 0n, size: 0, off: 0, len };
}

/** The part of a piece within `[start, end)` of the chunk. */
function cut(piece: Piece, start: number, end: number): Piece {
  const off = piece.id === 0n ? 0 : piece.off + start - piece.pos;
  return { ...piece, pos: start, off, len: end - start };
}

/** Index of the piece that holds the byte at `pos`. */
function pieceAt(pieces: readonly Piece[], pos: number): number {
  let low = 0;
  let high = pieces.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((pieces[middle]?.pos ?? 0) <= pos) low = middle;
    else high = middle - 1;
  }
  return low;
}

function joined(pieces: readonly Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    if (last !== undefined && continues(last, piece)) {
      result[result.length - 1] = { ...last, len: last.len + piece.len };
    } else {
      result.push(piece);
    }
  }
  return result;
}

function continues(a: Piece, b: Piece): boolean {
  return a.id === b.id && a.size === b.size && (a.id === 0n || a.off + a.len === b.off);
}
