import { expect } from 'chai';
import {
  ByteReader,
  ByteWriter,
  equalBytes,
  escapeBytes,
  prefixRange,
  toBytes,
  toByteString,
  utf8ByteString,
  utf8Text,
} from '../../../src/codec/bytes.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex, hexString, toHex } from '../../support/hex.ts';

const U64_MAX = 2n ** 64n - 1n;
const I64_MIN = -(2n ** 63n);
const I64_MAX = 2n ** 63n - 1n;

describe('ByteReader and ByteWriter', () => {
  const numbers = [
    ['u8', 0, '00'],
    ['u8', 255, 'ff'],
    ['u16be', 0x1234, '1234'],
    ['u16be', 65535, 'ffff'],
    ['u32be', 0x12345678, '12345678'],
    ['u32be', 2 ** 32 - 1, 'ffffffff'],
  ] as const;
  for (const [width, value, bytes] of numbers) {
    it(`${width}: ${value} is ${bytes}`, () => {
      expect(new ByteReader(hex(bytes), 'test')[width]()).to.equal(value);
      expect(toHex(new ByteWriter()[width](value).finish())).to.equal(bytes);
    });
  }

  const bigints = [
    ['u64be', 1n, '0000000000000001'],
    ['u64le', 1n, '0100000000000000'],
    ['u64be', U64_MAX, 'ffffffffffffffff'],
    ['u64le', 0x7fffffff10000000n, '00000010ffffff7f'],
    ['i64be', -1n, 'ffffffffffffffff'],
    ['i64be', I64_MIN, '8000000000000000'],
    ['i64le', I64_MIN, '0000000000000080'],
    ['i64le', I64_MAX, 'ffffffffffffff7f'],
  ] as const;
  for (const [width, value, bytes] of bigints) {
    it(`${width}: ${value} is ${bytes}`, () => {
      expect(new ByteReader(hex(bytes), 'test')[width]()).to.equal(value);
      expect(toHex(new ByteWriter()[width](value).finish())).to.equal(bytes);
    });
  }

  const misfits: readonly [what: string, write: (writer: ByteWriter) => void][] = [
    ['u8 256', (writer) => writer.u8(256)],
    ['u8 -1', (writer) => writer.u8(-1)],
    ['u8 1.5', (writer) => writer.u8(1.5)],
    ['u16be 65536', (writer) => writer.u16be(65536)],
    ['u32be 2^32', (writer) => writer.u32be(2 ** 32)],
    ['u32be NaN', (writer) => writer.u32be(Number.NaN)],
    ['u64be -1', (writer) => writer.u64be(-1n)],
    ['u64le 2^64', (writer) => writer.u64le(U64_MAX + 1n)],
    ['i64be 2^63', (writer) => writer.i64be(I64_MAX + 1n)],
    ['i64le -2^63-1', (writer) => writer.i64le(I64_MIN - 1n)],
  ];
  for (const [what, write] of misfits) {
    it(`refuses to write ${what}`, () => {
      expect(() => write(new ByteWriter())).to.throw(RangeError);
    });
  }

  it('reads fields in order, from a view into a larger buffer', () => {
    const reader = new ByteReader(hex('ff 01 0002 616263 99').subarray(1), 'test');
    expect(reader.u8()).to.equal(1);
    expect(reader.peek()).to.equal(0);
    expect(reader.u16be()).to.equal(2);
    expect([reader.offset, reader.remaining]).to.deep.equal([3, 4]);
    expect(toByteString(reader.bytes(3))).to.equal('abc');
    expect(toHex(reader.rest())).to.equal('99');
    expect(reader.peek()).to.equal(undefined);
    reader.end();
  });

  it('returns copies that outlive the source', () => {
    const source = hex('0102');
    const copy = new ByteReader(source, 'test').rest();
    source[0] = 9;
    expect(toHex(copy)).to.equal('0102');
  });

  it('says what ended and where, and stays there', () => {
    const reader = new ByteReader(hex('010203'), 'attr');
    reader.u8();
    expect(() => reader.u32be())
      .to.throw(DecodeError, 'attr: 4 bytes wanted, 2 left (at byte 1)')
      .that.includes({ code: 'ERR_DECODE', what: 'attr', offset: 1 });
    expect(reader.u16be()).to.equal(0x0203);
  });

  it('end refuses what is left over', () => {
    expect(() => new ByteReader(hex('01'), 'test').end()).to.throw(DecodeError, '1 bytes too many');
  });

  it('grows while writing', () => {
    const long = new Uint8Array(1000).fill(7);
    expect(new ByteWriter().u8(1).bytes(long).u8(2).finish()).to.deep.equal(new Uint8Array([1, ...long, 2]));
  });
});

describe('byte strings', () => {
  it('are the same bytes, one char each', () => {
    const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i % 256);
    expect(toBytes(toByteString(bytes))).to.deep.equal(bytes);
    expect(toByteString(hex('00ff41'))).to.equal('\0\xffA');
  });

  it('of text that was never encoded are refused', () => {
    expect(() => toBytes('文')).to.throw(RangeError);
  });

  it('of UTF-8 go both ways', () => {
    expect(utf8ByteString('é')).to.equal('\xc3\xa9');
    expect(utf8Text('\xc3\xa9')).to.equal('é');
    expect(utf8Text('\xef\xbb\xbfa')).to.equal('\ufeffa');
    expect(utf8Text('\xff')).to.equal(undefined);
  });

  it('compare by content', () => {
    expect(equalBytes(hex('0102'), hex('0102'))).to.equal(true);
    expect(equalBytes(hex('0102'), hex('0103'))).to.equal(false);
    expect(equalBytes(hex('01'), hex('0102'))).to.equal(false);
  });
});

describe('prefixRange', () => {
  const rows = [
    ['/jfs\xfd', '/jfs\xfe'],
    ['a', 'b'],
    ['a\xff', 'b'],
    ['a\xff\xff', 'b'],
    ['a\0', 'a\x01'],
  ] as const;
  for (const [prefix, end] of rows) {
    it(`of ${JSON.stringify(prefix)} ends at ${JSON.stringify(end)}`, () => {
      expect(prefixRange(prefix)).to.deep.equal({ start: prefix, end });
    });
  }

  it('of nothing is every key, and of 0xFF every key from there', () => {
    expect(prefixRange('')).to.deep.equal({ start: '\0', end: '\0' });
    expect(prefixRange('\xff')).to.deep.equal({ start: '\xff', end: '\0' });
  });
});

describe('escapeBytes', () => {
  const rows: readonly [what: string, bytes: string, text: string][] = [
    ['plain text', hexString('6e67696e78'), 'nginx'],
    ['text beyond ASCII', hexString('636166c3a9 e69687'), 'café文'],
    ['a character of four bytes', hexString('f09f9880'), '😀'],
    ['invalid UTF-8', hexString('62ff fe'), 'b\\xff\\xfe'],
    ['a sequence cut short', hexString('c3'), '\\xc3'],
    ['a sequence broken by a letter', hexString('e69641'), '\\xe6\\x96A'],
    ['an overlong form', hexString('c0af'), '\\xc0\\xaf'],
    ['a surrogate', hexString('eda080'), '\\xed\\xa0\\x80'],
    ['control bytes', hexString('0a 1b 7f 00'), '\\x0a\\x1b\\x7f\\x00'],
    ['a C1 control', hexString('c29b'), '\\xc2\\x9b'],
    ['a right-to-left override', hexString('e280ae'), '\\xe2\\x80\\xae'],
    ['a backslash', hexString('5c'), '\\x5c'],
    ['nothing', '', ''],
  ];
  for (const [what, bytes, text] of rows) {
    it(what, () => {
      expect(escapeBytes(bytes)).to.equal(text);
    });
  }
});
