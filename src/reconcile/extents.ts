/** Where each byte of a file comes from: which part of which block, or zeros. */

import { CHUNK_SIZE, decodeSlices, visiblePieces, type Piece } from '../codec/slice.ts';
import type { Stored } from './inode-index.ts';

/** A run of a file's bytes: a part of one block, or zeros. `offset` is in the file, lengths are bytes. */
export type Extent =
  | { readonly zeros: true; readonly offset: bigint; readonly length: number }
  | {
      readonly zeros?: never;
      readonly offset: bigint;
      readonly length: number;
      /** Slice id and size, from which `blockKey` and `blocksOfSlice` make the block's key. */
      readonly id: bigint;
      readonly sliceSize: number;
      readonly blockIndex: number;
      /** Bytes of the whole block before compression. */
      readonly blockLength: number;
      /** First byte of the block that belongs to this extent. */
      readonly blockOffset: number;
    };

/** A piece of a slice at its place in the file. */
interface FilePiece {
  readonly offset: bigint;
  readonly piece: Piece;
}

/** The longest run of zeros in one extent; any number up to here is exact. */
const LONGEST_ZEROS = 2n ** 52n;

/**
 * The extents of a file in order: they cover `[0, length)` without gap or overlap and are split at block borders. What
 * is stored past `length` is not seen (layout 5.2). Throws `DecodeError` for a chunk that is no slice records.
 */
export function fileExtents(
  chunks: ReadonlyMap<number, Stored>,
  length: bigint,
  blockSizeBytes: number,
): Extent[] {
  const extents: Extent[] = [];
  let offset = 0n;
  for (const { offset: start, piece } of slicePieces(chunks, length)) {
    pushZeros(extents, offset, start);
    pushBlocks(extents, start, piece, blockSizeBytes);
    offset = start + BigInt(piece.len);
  }
  pushZeros(extents, offset, length);
  return extents;
}

/**
 * Equal keys mean equal content: the length and the visible pieces of slices. Unequal keys can still mean the same
 * bytes (compaction copies them to a new slice). Throws `DecodeError` like `fileExtents`.
 */
export function contentKey(chunks: ReadonlyMap<number, Stored>, length: bigint): string {
  const pieces = slicePieces(chunks, length).map(
    ({ offset, piece }) => `${offset}=${piece.id}/${piece.size}@${piece.off}+${piece.len}`,
  );
  return [length, ...pieces].join(' ');
}

/** All pieces of a file that are not zeros, in order. */
function slicePieces(chunks: ReadonlyMap<number, Stored>, length: bigint): FilePiece[] {
  const pieces: FilePiece[] = [];
  for (const index of [...chunks.keys()].sort((a, b) => a - b)) {
    const start = BigInt(index) * BigInt(CHUNK_SIZE);
    const stored = chunks.get(index);
    if (start >= length || stored === undefined) break;
    const left = length - start;
    const visible = left < BigInt(CHUNK_SIZE) ? Number(left) : CHUNK_SIZE;
    for (const piece of visiblePieces(decodeSlices(stored.raw), visible)) {
      if (piece.id !== 0n) pieces.push({ offset: start + BigInt(piece.pos), piece });
    }
  }
  return pieces;
}

function pushZeros(extents: Extent[], start: bigint, end: bigint): void {
  for (let offset = start; offset < end;) {
    const length = end - offset < LONGEST_ZEROS ? end - offset : LONGEST_ZEROS;
    extents.push({ zeros: true, offset, length: Number(length) });
    offset += length;
  }
}

function pushBlocks(extents: Extent[], start: bigint, piece: Piece, blockSize: number): void {
  for (let done = 0; done < piece.len;) {
    const at = piece.off + done;
    const blockIndex = Math.floor(at / blockSize);
    const blockOffset = at % blockSize;
    const blockLength = Math.min(blockSize, piece.size - blockIndex * blockSize);
    const length = Math.min(blockLength - blockOffset, piece.len - done);
    extents.push({
      offset: start + BigInt(done),
      length,
      id: piece.id,
      sliceSize: piece.size,
      blockIndex,
      blockLength,
      blockOffset,
    });
    done += length;
  }
}
