/** The block compression algorithms, from packages. */

import type { BlockCodecs } from '../../codec/compress.ts';

let loading: Promise<BlockCodecs> | undefined;

/**
 * Loads the algorithms, once for the process: initializing the zstd package again swaps its memory while calls still
 * go to the old instance. Both throw on bytes that are none of theirs, or that are not of the length asked for.
 */
export function loadCodecs(): Promise<BlockCodecs> {
  loading ??= load();
  return loading;
}

async function load(): Promise<BlockCodecs> {
  const [lz4, zstd] = await Promise.all([import('lz4-napi'), import('@bokuweb/zstd-wasm')]);
  await zstd.init();
  return {
    lz4: {
      compress: (block) => lz4.compressSync(asBuffer(block)).subarray(LENGTH_SIZE),
      decompress: (stored, length) => lz4.uncompressSync(withLength(stored, length)),
    },
    zstd: {
      compress: (block) => zstd.compress(asBuffer(block), ZSTD_LEVEL),
      decompress: (stored, length) => {
        // The package allocates what the frame declares, unchecked.
        if (zstdContentSize(stored) !== BigInt(length)) throw new RangeError('the frame is of another size');
        return zstd.decompress(stored);
      },
    },
  };
}

/** The level that the real client uses. */
const ZSTD_LEVEL = 1;

/** The lz4 package has the length in front of the block, 4 bytes little-endian. */
const LENGTH_SIZE = 4;

function withLength(block: Uint8Array, length: number): Uint8Array {
  const sized = new Uint8Array(LENGTH_SIZE + block.length);
  new DataView(sized.buffer).setUint32(0, length, true);
  sized.set(block, LENGTH_SIZE);
  return sized;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const ZSTD_MAGIC = 0xfd2fb528;

/** The content size that a zstd frame declares (RFC 8878, 3.1.1.1); `undefined` without one. Throws `RangeError` on a short frame. */
function zstdContentSize(frame: Uint8Array): bigint | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint32(0, true) !== ZSTD_MAGIC) return undefined;
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes;
  switch (descriptor >> 6) {
    case 0:
      return singleSegment ? BigInt(view.getUint8(at)) : undefined;
    case 1:
      return BigInt(view.getUint16(at, true) + 256);
    case 2:
      return BigInt(view.getUint32(at, true));
    default:
      return view.getBigUint64(at, true);
  }
}
