import { expect } from 'chai';
import { DecodeError } from '../../../src/codec/error.ts';
import { CHUNK_SIZE, encodeSlices, type SliceRecord } from '../../../src/codec/slice.ts';
import { contentKey, fileExtents } from '../../../src/reconcile/extents.ts';
import type { Stored } from '../../../src/reconcile/inode-index.ts';

const BLOCK = 65536;

function chunks(...byIndex: (readonly [index: number, records: SliceRecord[]])[]): Map<number, Stored> {
  return new Map(byIndex.map(([index, records]) => [index, { raw: encodeSlices(records), modRevision: 1n }]));
}

/** `offset+length=slice_block_blockLength@blockOffset` of each extent, `0` for zeros. */
function show(stored: ReadonlyMap<number, Stored>, length: bigint): string[] {
  return fileExtents(stored, length, BLOCK).map((extent) => {
    const source =
      extent.zeros === true
        ? '0'
        : `${extent.id}_${extent.blockIndex}_${extent.blockLength}@${extent.blockOffset}`;
    return `${extent.offset}+${extent.length}=${source}`;
  });
}

const TWO_BLOCKS = { pos: 0, id: 5n, size: 70000, off: 0, len: 70000 };

describe('extents of a file', () => {
  const rows: readonly [what: string, stored: Map<number, Stored>, length: bigint, extents: string[]][] = [
    ['an empty file', chunks(), 0n, []],
    ['an empty file with leftover chunks', chunks([0, [TWO_BLOCKS]]), 0n, []],
    ['a length without chunks', chunks(), 5n, ['0+5=0']],
    ['two blocks', chunks([0, [TWO_BLOCKS]]), 70000n, ['0+65536=5_0_65536@0', '65536+4464=5_1_4464@0']],
    ['cut within the first block', chunks([0, [TWO_BLOCKS]]), 10n, ['0+10=5_0_65536@0']],
    [
      'a slice seen from its middle',
      chunks([0, [{ ...TWO_BLOCKS, off: 65000, len: 2000 }]]),
      2000n,
      ['0+536=5_0_65536@65000', '536+1464=5_1_4464@0'],
    ],
    [
      'a record over the block border',
      chunks([0, [TWO_BLOCKS, { pos: 65530, id: 6n, size: 12, off: 0, len: 12 }]]),
      70000n,
      ['0+65530=5_0_65536@0', '65530+12=6_0_12@0', '65542+4458=5_1_4464@6'],
    ],
    [
      'zeros before, between and after',
      chunks([
        0,
        [
          { pos: 2, id: 1n, size: 2, off: 0, len: 2 },
          { pos: 6, id: 2n, size: 2, off: 0, len: 2 },
        ],
      ]),
      10n,
      ['0+2=0', '2+2=1_0_2@0', '4+2=0', '6+2=2_0_2@0', '8+2=0'],
    ],
    [
      'a slice on each side of the chunk border',
      chunks(
        [1, [{ pos: 0, id: 2n, size: 5, off: 0, len: 5 }]],
        [0, [{ pos: CHUNK_SIZE - 5, id: 1n, size: 5, off: 0, len: 5 }]],
      ),
      BigInt(CHUNK_SIZE) + 5n,
      ['0+67108859=0', '67108859+5=1_0_5@0', '67108864+5=2_0_5@0'],
    ],
    [
      'data in chunk 3 only: one run of zeros before it',
      chunks([3, [{ pos: 0, id: 1n, size: 1, off: 0, len: 1 }]]),
      3n * BigInt(CHUNK_SIZE) + 1n,
      ['0+201326592=0', '201326592+1=1_0_1@0'],
    ],
    ['chunks past the length', chunks([0, []], [1, [TWO_BLOCKS]]), BigInt(CHUNK_SIZE), ['0+67108864=0']],
  ];
  for (const [what, stored, length, extents] of rows) {
    it(what, () => {
      expect(show(stored, length)).to.deep.equal(extents);
    });
  }

  it('a length that no disk has is covered by few runs of zeros, each exact', () => {
    const length = 2n ** 63n - 1n;
    const extents = fileExtents(chunks(), length, BLOCK);
    expect(extents).to.have.length(2048);
    expect(extents.every((extent) => Number.isSafeInteger(extent.length))).to.equal(true);
    expect(extents.reduce((sum, extent) => sum + BigInt(extent.length), 0n)).to.equal(length);
  });

  it('a chunk that is no slice records is an error', () => {
    const stored = new Map([[0, { raw: new Uint8Array(23), modRevision: 1n }]]);
    expect(() => fileExtents(stored, 1n, BLOCK)).to.throw(DecodeError);
    expect(() => contentKey(stored, 1n)).to.throw(DecodeError);
  });
});

describe('content keys', () => {
  const one = { pos: 0, id: 1n, size: 10, off: 0, len: 10 };
  const rows: readonly [
    what: string,
    a: Map<number, Stored>,
    b: Map<number, Stored>,
    length: bigint,
    same: boolean,
  ][] = [
    ['the same record', chunks([0, [one]]), chunks([0, [one]]), 10n, true],
    ['another slice', chunks([0, [one]]), chunks([0, [{ ...one, id: 2n }]]), 10n, false],
    [
      'another part of it',
      chunks([0, [{ ...one, len: 5 }]]),
      chunks([0, [{ ...one, off: 5, len: 5 }]]),
      5n,
      false,
    ],
    [
      'another place',
      chunks([0, [{ ...one, len: 5 }]]),
      chunks([0, [{ ...one, pos: 5, len: 5 }]]),
      10n,
      false,
    ],
    ['another chunk', chunks([0, [one]]), chunks([1, [one]]), BigInt(CHUNK_SIZE) + 10n, false],
    ['what is covered', chunks([0, [{ ...one, id: 3n }, one]]), chunks([0, [one]]), 10n, true],
    ['what is past the length', chunks([0, [one]], [1, [one]]), chunks([0, [one]]), 10n, true],
    ['zeros told and not told', chunks([0, [{ ...one, id: 0n }]]), chunks(), 10n, true],
    [
      'one slice in two records',
      chunks([
        0,
        [
          { ...one, len: 5 },
          { ...one, pos: 5, off: 5, len: 5 },
        ],
      ]),
      chunks([0, [one]]),
      10n,
      true,
    ],
  ];
  for (const [what, a, b, length, same] of rows) {
    it(`${same ? 'equal' : 'unequal'}: ${what}`, () => {
      expect(contentKey(a, length) === contentKey(b, length)).to.equal(same);
    });
  }

  it('unequal: another length', () => {
    expect(contentKey(chunks(), 1n)).to.not.equal(contentKey(chunks(), 2n));
  });
});
