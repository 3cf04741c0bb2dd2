import { expect } from 'chai';
import { blockKey, blockRange, blocksOfSlice, parseBlockKey } from '../../../src/codec/block.ts';

const PLAIN = { name: 'pics', hashPrefix: false };
const HASHED = { name: 'pics', hashPrefix: true };

describe('block keys', () => {
  for (const [layout, id, index, length, key] of [
    [PLAIN, 1n, 0, 13, 'pics/chunks/0/0/1_0_13'],
    [PLAIN, 5n, 1, 4464, 'pics/chunks/0/0/5_1_4464'],
    [PLAIN, 8217n, 0, 1000, 'pics/chunks/0/8/8217_0_1000'],
    [PLAIN, 1234567890n, 2, 1, 'pics/chunks/1234/1234567/1234567890_2_1'],
    [PLAIN, 2n ** 64n - 1n, 0, 1, 'pics/chunks/18446744073709/18446744073709551/18446744073709551615_0_1'],
    [HASHED, 3n, 0, 2, 'pics/chunks/03/0/3_0_2'],
    [HASHED, 255n, 0, 2, 'pics/chunks/FF/0/255_0_2'],
    [HASHED, 1000256n, 0, 2, 'pics/chunks/40/1/1000256_0_2'],
  ] as const) {
    it(key, () => {
      expect(blockKey(layout, id, index, length)).to.equal(key);
      expect(parseBlockKey(layout, key)).to.deep.equal({ id, index, length });
    });
  }

  for (const key of [
    'pics/juicefs_uuid',
    'pics/meta/dump-2026-11-22-150000.json.gz',
    'pics/testing/abcdefghij',
    'pics/chunks/0/0/',
    'other/chunks/0/0/1_0_13',
    'pics/chunks/0/1/1_0_13',
    'pics/chunks/0/0/01_0_13',
    'pics/chunks/0/0/1_0_13.tmp',
    'pics/chunks/01/0/1_0_13',
  ]) {
    it(`${key} is no block of the volume`, () => {
      expect(parseBlockKey(PLAIN, key)).to.equal(undefined);
    });
  }

  it('lie in one range', () => {
    expect(blockRange('pics')).to.deep.equal({ start: 'pics/chunks/', end: 'pics/chunks0' });
  });
});

describe('blocks of a slice', () => {
  for (const [size, lengths] of [
    [0, []],
    [1, [1]],
    [65535, [65535]],
    [65536, [65536]],
    [65537, [65536, 1]],
    [70000, [65536, 4464]],
    [131072, [65536, 65536]],
  ] as const) {
    it(`${size} bytes`, () => {
      const blocks = lengths.map((length, index) => ({ index, length }));
      expect(blocksOfSlice(size, 65536)).to.deep.equal(blocks);
    });
  }
});
