/** What stands between a block and its stored value; the algorithms come in as arguments. */

import { DecodeError } from './error.ts';

export type Compression = 'none' | 'lz4' | 'zstd';

export interface BlockCodec {
  /** Compresses a block of at least one byte, whether that makes it shorter or not. */
  compress(block: Uint8Array): Uint8Array;
  /** Decompresses a stored value. `length` is what must come out; whatever is thrown becomes a `DecodeError`. */
  decompress(stored: Uint8Array, length: number): Uint8Array;
}

export interface BlockCodecs {
  /** A raw LZ4 block: no frame, no length in front. */
  readonly lz4: BlockCodec;
  /** One zstd frame with its content size. */
  readonly zstd: BlockCodec;
}

/** The compression that a setting names; `undefined` for one we do not have. */
export function compressionOf(name: string): Compression | undefined {
  switch (name) {
    case '':
    case 'none':
      return 'none';
    case 'lz4':
    case 'zstd':
      return name;
    default:
      return undefined;
  }
}

/** The `length` bytes of a block from its stored value (layout 6.2). Throws `DecodeError` if it does not come to that. */
export function unpackBlock(
  compression: Compression,
  stored: Uint8Array,
  length: number,
  codecs: BlockCodecs,
): Uint8Array {
  const block =
    compression === 'none' ? stored : decompress(compression, stored, length, codecs[compression]);
  if (block.length !== length) {
    throw new DecodeError(
      'block',
      Math.min(block.length, length),
      `${length} bytes wanted, ${block.length} found`,
    );
  }
  return block;
}

/** What is stored for a block (layout 6.2). The real client compresses unconditionally. */
export function packBlock(compression: Compression, block: Uint8Array, codecs: BlockCodecs): Uint8Array {
  return compression === 'none' ? block : codecs[compression].compress(block);
}

function decompress(name: string, stored: Uint8Array, length: number, algorithm: BlockCodec): Uint8Array {
  try {
    return algorithm.decompress(stored, length);
  } catch {
    throw new DecodeError('block', 0, `the stored value is no ${name} data of ${length} bytes`);
  }
}
