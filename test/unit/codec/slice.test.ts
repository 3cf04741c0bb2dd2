import { expect } from 'chai';
import { DecodeError } from '../../../src/codec/error.ts';
import {
  CHUNK_SIZE,
  decodeSlices,
  encodeSlices,
  visiblePieces,
  type SliceRecord,
} from '../../../src/codec/slice.ts';
import { hex, toHex } from '../../support/hex.ts';

const APPENDED_THEN_TRUNCATED = `
  00000000 0000000000000001 0000000d 00000000 0000000d
  0000000d 0000000000000003 00000005 00000000 00000005
  00000005 0000000000000000 00000000 00000000 0000000d`;

describe('slice records', () => {
  it('of a file that was written, appended to and truncated', () => {
    const records = decodeSlices(hex(APPENDED_THEN_TRUNCATED));
    expect(records).to.deep.equal([
      { pos: 0, id: 1n, size: 13, off: 0, len: 13 },
      { pos: 13, id: 3n, size: 5, off: 0, len: 5 },
      { pos: 5, id: 0n, size: 0, off: 0, len: 13 },
    ]);
    expect(toHex(encodeSlices(records))).to.equal(toHex(hex(APPENDED_THEN_TRUNCATED)));
    expect(visiblePieces(records, 18)).to.deep.equal([
      { pos: 0, id: 1n, size: 13, off: 0, len: 5 },
      { pos: 5, id: 0n, size: 0, off: 0, len: 13 },
    ]);
  });

  it('none', () => {
    expect(decodeSlices(new Uint8Array())).to.deep.equal([]);
    expect(encodeSlices([])).to.deep.equal(new Uint8Array());
  });

  it('many', () => {
    const records = Array.from({ length: 100 }, (_, i) => ({
      pos: i,
      id: BigInt(i + 1),
      size: 9,
      off: 8,
      len: 1,
    }));
    expect(decodeSlices(encodeSlices(records))).to.deep.equal(records);
  });

  it('that end with the chunk', () => {
    const record = { pos: CHUNK_SIZE - 1, id: 1n, size: 1, off: 0, len: 1 };
    expect(decodeSlices(encodeSlices([record]))).to.deep.equal([record]);
  });

  for (const [what, bytes, offset] of [
    ['one byte', '00', 1],
    ['25 bytes', `00000000 0000000000000001 0000000d 00000000 0000000d 00`, 25],
    ['past the end of the chunk', '03ffffff 0000000000000001 00000002 00000000 00000002', 0],
    ['zeros past the end of the chunk', '00000001 0000000000000000 00000000 00000000 04000000', 0],
    ['more than the slice has', `00000000 0000000000000001 0000000d 00000001 0000000d`, 0],
    [
      'the second one is wrong',
      '00000000 0000000000000001 00000001 00000000 00000001 00000000 0000000000000001 00000000 00000000 00000001',
      24,
    ],
  ] as const) {
    it(`${what}: is an error`, () => {
      expect(() => decodeSlices(hex(bytes)))
        .to.throw(DecodeError)
        .that.includes({ what: 'chunk', offset });
    });
  }
});

/** `pos+len=id@off` of each piece; `0` for zeros. */
function show(records: readonly SliceRecord[], length: number): string {
  return visiblePieces(records, length)
    .map(({ pos, len, id, off }) => `${pos}+${len}=${id === 0n ? '0' : `${id}@${off}`}`)
    .join(' ');
}

function record(pos: number, len: number, id: bigint, off = 0): SliceRecord {
  return { pos, id, size: id === 0n ? 0 : 100, off: id === 0n ? 0 : off, len };
}

describe('visible pieces', () => {
  const rows: readonly [what: string, records: SliceRecord[], length: number, pieces: string][] = [
    ['no record: zeros', [], 10, '0+10=0'],
    ['no length: nothing', [record(0, 10, 1n)], 0, ''],
    ['one record', [record(0, 10, 1n)], 10, '0+10=1@0'],
    ['a record that starts inside its slice', [record(0, 10, 1n, 5)], 10, '0+10=1@5'],
    ['clipped to the length', [record(0, 10, 1n)], 4, '0+4=1@0'],
    ['a record beyond the length', [record(8, 2, 1n)], 4, '0+4=0'],
    ['a gap before and after', [record(2, 3, 1n)], 10, '0+2=0 2+3=1@0 5+5=0'],
    ['a later record in the middle', [record(0, 10, 1n), record(3, 2, 2n)], 10, '0+3=1@0 3+2=2@0 5+5=1@5'],
    ['a later record over the start', [record(2, 8, 1n), record(0, 4, 2n)], 10, '0+4=2@0 4+6=1@2'],
    ['a later record over the end', [record(0, 8, 1n), record(6, 4, 2n)], 10, '0+6=1@0 6+4=2@0'],
    ['a later record over all', [record(2, 3, 1n), record(6, 2, 2n), record(0, 10, 3n)], 10, '0+10=3@0'],
    [
      'a later record over several',
      [record(0, 4, 1n), record(4, 4, 2n), record(8, 4, 3n), record(2, 8, 4n)],
      12,
      '0+2=1@0 2+8=4@0 10+2=3@2',
    ],
    ['a hole', [record(0, 10, 1n), record(4, 2, 0n)], 10, '0+4=1@0 4+2=0 6+4=1@6'],
    ['a record of no bytes', [record(0, 10, 1n), record(4, 0, 2n)], 10, '0+10=1@0'],
    ['neighbours of one slice join', [record(0, 4, 1n), record(4, 4, 1n, 4)], 8, '0+8=1@0'],
    ['neighbours out of step do not', [record(0, 4, 1n), record(4, 4, 1n, 5)], 8, '0+4=1@0 4+4=1@5'],
    ['holes join', [record(0, 4, 0n), record(6, 2, 0n)], 10, '0+10=0'],
    ['the same slice twice', [record(0, 2, 1n), record(4, 2, 1n)], 6, '0+2=1@0 2+2=0 4+2=1@0'],
  ];
  for (const [what, records, length, pieces] of rows) {
    it(what, () => {
      expect(show(records, length)).to.equal(pieces);
    });
  }
});
