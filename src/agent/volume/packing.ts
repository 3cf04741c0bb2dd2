/** What stands between a block and its stored value in one volume: plain, compressed, encrypted (layout 6.2). */

import { compressionOf, packBlock, unpackBlock } from '../../codec/compress.ts';
import { decrypt, encrypt, type BlockCipher } from '../../codec/encrypt.ts';
import type { Setting } from '../../codec/setting.ts';
import { loadCodecs } from './codecs.ts';

export interface Packing {
  pack(block: Uint8Array): Promise<Uint8Array>;
  /** Throws `DecodeError` if it does not come to `length` bytes. */
  unpack(stored: Uint8Array, length: number): Promise<Uint8Array>;
}

/** `cipher`: of a volume that is encrypted. */
export async function packingOf(
  setting: Pick<Setting, 'compression'>,
  cipher: BlockCipher | undefined,
): Promise<Packing> {
  const compression = compressionOf(setting.compression);
  if (compression === undefined) throw new RangeError(`no compression ${setting.compression}`);
  const codecs = await loadCodecs();
  return {
    async pack(block) {
      const packed = packBlock(compression, block, codecs);
      return cipher === undefined ? packed : encrypt(packed, cipher);
    },
    async unpack(stored, length) {
      const packed = cipher === undefined ? stored : await decrypt(stored, cipher);
      return unpackBlock(compression, packed, length, codecs);
    },
  };
}
