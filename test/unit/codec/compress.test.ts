import { expect } from 'chai';
import { loadCodecs } from '../../../src/agent/volume/codecs.ts';
import { compressionOf, packBlock, unpackBlock, type BlockCodecs } from '../../../src/codec/compress.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex } from '../../support/hex.ts';

const HI = new TextEncoder().encode('hi');
const LZ4_HI = hex('20 68 69');
const ZSTD_HI = hex('28b52ffd 20 02 110000 6869');

describe('unpacking blocks', () => {
  let codecs: BlockCodecs;
  before(async () => {
    codecs = await loadCodecs();
  });

  it('names of compressions', () => {
    expect(['', 'none', 'lz4', 'zstd', 'LZ4', 'gzip'].map(compressionOf)).to.deep.equal([
      'none',
      'none',
      'lz4',
      'zstd',
      undefined,
      undefined,
    ]);
  });

  it('packs as the real client does', () => {
    expect(packBlock('none', HI, codecs)).to.equal(HI);
    expect(new Uint8Array(packBlock('lz4', HI, codecs))).to.deep.equal(LZ4_HI);
    expect(new Uint8Array(packBlock('zstd', HI, codecs))).to.deep.equal(ZSTD_HI);
  });

  for (const compression of ['none', 'lz4', 'zstd'] as const) {
    it(`${compression}: unpacks what it packed, be it noise, zeros or text`, () => {
      const noise = new Uint8Array(65536).map((_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 24);
      const text = new TextEncoder().encode('server { listen 80; }\n'.repeat(4000));
      for (const block of [noise, new Uint8Array(1 << 20), text, HI, new Uint8Array(1)]) {
        const packed = packBlock(compression, block, codecs);
        expect(Buffer.from(unpackBlock(compression, packed, block.length, codecs)).equals(block)).to.equal(
          true,
        );
      }
    });
  }

  it('none: the bytes themselves', () => {
    expect(unpackBlock('none', HI, 2, codecs)).to.deep.equal(HI);
  });

  it('lz4: a raw block', () => {
    expect(new Uint8Array(unpackBlock('lz4', LZ4_HI, 2, codecs))).to.deep.equal(HI);
  });

  it('zstd: a frame', () => {
    expect(unpackBlock('zstd', ZSTD_HI, 2, codecs)).to.deep.equal(HI);
  });

  const broken: readonly [
    what: string,
    compression: 'none' | 'lz4' | 'zstd',
    stored: Uint8Array,
    length: number,
  ][] = [
    ['none: too short', 'none', HI, 3],
    ['none: too long', 'none', HI, 1],
    ['lz4: empty', 'lz4', hex(''), 2],
    ['lz4: another length', 'lz4', LZ4_HI, 3],
    ['lz4: less length', 'lz4', LZ4_HI, 1],
    ['lz4: cut short', 'lz4', LZ4_HI.subarray(0, 2), 2],
    ['lz4: refers to before the start', 'lz4', hex('00 ffff'), 4],
    ['zstd: empty', 'zstd', hex(''), 2],
    ['zstd: no frame', 'zstd', HI, 2],
    ['zstd: another length', 'zstd', ZSTD_HI, 3],
    ['zstd: cut short', 'zstd', ZSTD_HI.subarray(0, 9), 2],
    ['zstd: declares 4 GiB', 'zstd', hex('28b52ffd a0 ffffffff 110000 6869'), 2],
    ['zstd: declares no length', 'zstd', hex('28b52ffd 00 58 110000 6869'), 2],
  ];
  for (const [what, compression, stored, length] of broken) {
    it(`${what}: is an error`, () => {
      expect(() => unpackBlock(compression, stored, length, codecs))
        .to.throw(DecodeError)
        .that.includes({ what: 'block' });
    });
  }

  it('can be asked for again while in use', async () => {
    const again = loadCodecs();
    expect(unpackBlock('zstd', ZSTD_HI, 2, codecs)).to.deep.equal(HI);
    expect(await again).to.equal(codecs);
    expect(unpackBlock('zstd', ZSTD_HI, 2, codecs)).to.deep.equal(HI);
  });

  it('go on after an error', () => {
    expect(() => unpackBlock('zstd', ZSTD_HI.subarray(0, 9), 2, codecs)).to.throw(DecodeError);
    expect(unpackBlock('zstd', ZSTD_HI, 2, codecs)).to.deep.equal(HI);
  });
});
