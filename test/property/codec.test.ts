/** Laws of the codec: any bytes decode or throw `DecodeError`, and what decodes is written back byte for byte. */

import { expect } from 'chai';
import fc from 'fast-check';
import { decodeAclRule, encodeAclRule } from '../../src/codec/acl.ts';
import { decodeAttr, encodeAttr } from '../../src/codec/attr.ts';
import { blockKey, blocksOfSlice, parseBlockKey } from '../../src/codec/block.ts';
import { equalBytes, escapeBytes, prefixRange, toBytes, toByteString } from '../../src/codec/bytes.ts';
import {
  decodeCounter,
  decodeDirStat,
  decodeQuota,
  decodeTimeCounter,
  encodeCounter,
  encodeDirStat,
  encodeQuota,
  encodeTimeCounter,
} from '../../src/codec/counter.ts';
import { decodeDelayedSlices, encodeDelayedSlices } from '../../src/codec/delayed-slices.ts';
import { decodeDentry, encodeDentry } from '../../src/codec/dentry.ts';
import { DecodeError } from '../../src/codec/error.ts';
import { decodeKey, encodeKey, inodeRange, type MetaKey } from '../../src/codec/key.ts';
import { decodeFlocks, decodePlocks, encodeFlocks, encodePlocks } from '../../src/codec/lock.ts';
import { decodeSetting } from '../../src/codec/setting.ts';
import {
  CHUNK_SIZE,
  decodeSlices,
  encodeSlices,
  visiblePieces,
  type SliceRecord,
} from '../../src/codec/slice.ts';
import { parseBucket, parseMetaUrl, redactUrl } from '../../src/codec/url.ts';
import {
  loadRecording,
  loadVolume,
  metaEvents,
  metaKvs,
  recordingNames,
  volumeNames,
} from '../support/fixture.ts';
import { seeded } from '../support/seed.ts';

/** Decoders with their encoders. */
const CODECS: readonly [what: string, roundTrip: (value: Uint8Array) => Uint8Array][] = [
  ['attr', (value) => encodeAttr(decodeAttr(value))],
  ['dentry', (value) => encodeDentry(decodeDentry(value))],
  ['chunk', (value) => encodeSlices(decodeSlices(value))],
  ['counter', (value) => encodeCounter(decodeCounter(value))],
  ['dirStat', (value) => encodeDirStat(decodeDirStat(value))],
  ['quota', (value) => encodeQuota(decodeQuota(value))],
  ['time', (value) => encodeTimeCounter(decodeTimeCounter(value))],
  ['delayedSlices', (value) => encodeDelayedSlices(decodeDelayedSlices(value))],
  ['flock', (value) => encodeFlocks(decodeFlocks(value))],
  ['plock', (value) => encodePlocks(decodePlocks(value))],
  ['aclRule', (value) => encodeAclRule(decodeAclRule(value))],
];

const byteString = (maxLength: number): fc.Arbitrary<string> =>
  fc.uint8Array({ maxLength }).map(toByteString);

describe('codec laws', () => {
  for (const [what, roundTrip] of CODECS) {
    it(`${what}: any bytes are written back as they were, or throw DecodeError`, () => {
      const lengths = fc.constantFrom(
        0,
        8,
        9,
        12,
        17,
        20,
        24,
        34,
        44,
        32,
        48,
        62,
        63,
        64,
        71,
        72,
        73,
        80,
        81,
        82,
        100,
      );
      const anyValue = lengths.chain((n) => fc.uint8Array({ minLength: n, maxLength: n }));
      // Small bytes are more often valid types and counts.
      const smallValue = lengths.chain((n) => fc.uint8Array({ minLength: n, maxLength: n, max: 3 }));
      // An attr's type and mode, so that more than one in two hundred gets through.
      const typed = smallValue.map((value) => value.map((byte, i) => (i === 1 ? 0x10 + (byte << 5) : byte)));
      // Two lists behind their lengths, as in an ACL rule.
      const list = fc
        .nat(3)
        .chain((n) =>
          fc.uint8Array({ minLength: n * 6, maxLength: n * 6 }).map((bytes) => [0, 0, 0, n, ...bytes]),
        );
      const listed = fc
        .tuple(fc.uint8Array({ minLength: 8, maxLength: 8 }), list, list)
        .map(([head, ...lists]) => Uint8Array.from([...head, ...lists.flat()]));
      let written = 0;
      fc.assert(
        fc.property(fc.oneof(anyValue, smallValue, typed, listed), (value) => {
          try {
            expect(equalBytes(roundTrip(value), value)).to.equal(true);
            written++;
          } catch (error) {
            if (!(error instanceof DecodeError)) throw error;
          }
        }),
        seeded({ numRuns: 2000 }),
      );
      expect(written).to.be.greaterThan(10);
    });
  }

  it('any key decodes and is written back as it was', () => {
    const letters = fc.constantFrom(...'ACDFKLNPQRSUXZs');
    const anyKey = fc.tuple(letters, byteString(20)).map(([letter, rest]) => letter + rest);
    const inodeKey = fc
      .tuple(fc.uint8Array({ minLength: 8, maxLength: 8 }), fc.constantFrom(...'IDPCSXZ'), byteString(9))
      .map(([ino, letter, rest]) => `A${toByteString(ino)}${letter}${rest}`);
    fc.assert(
      fc.property(fc.oneof(byteString(20), anyKey, inodeKey), (key) => {
        const decoded = decodeKey(key);
        expect(encodeKey(decoded)).to.equal(key);
        if (decoded.kind === 'attr') {
          const range = inodeRange(decoded.ino);
          expect(range.start <= key && key < range.end).to.equal(true);
        }
      }),
      seeded({ numRuns: 3000 }),
    );
  });

  it('any setting decodes or throws DecodeError', () => {
    const field = fc.constantFrom('Name', 'BlockSize', 'Capacity', 'EnableACL', 'Other');
    const json = fc
      .dictionary(field, fc.jsonValue())
      .map((value) => new TextEncoder().encode(JSON.stringify(value)));
    decodesOrThrows(fc.oneof(fc.uint8Array(), json), decodeSetting);
  });

  it('any address decodes or throws DecodeError', () => {
    const part = fc.constantFrom(
      'etcd://',
      'u',
      ':',
      '@',
      'h',
      ',',
      '/',
      '?',
      '#',
      '%',
      '%2f',
      '[',
      ']',
      '::1',
      '&',
      '=',
      'cacert',
    );
    const url = fc
      .array(fc.oneof(part, fc.string({ unit: 'binary', maxLength: 2 })))
      .map((parts) => `etcd://${parts.join('')}`);
    decodesOrThrows(url, parseMetaUrl);
    decodesOrThrows(url, parseBucket);
  });

  it('no password is left in a redacted address', () => {
    const secret = fc.string({ minLength: 1, maxLength: 8 }).map((text) => `<${text}>`);
    fc.assert(
      fc.property(secret, (password) => {
        expect(redactUrl(`etcd://user:${password}@host:2379/jfs`)).to.equal('etcd://user:****@host:2379/jfs');
      }),
      seeded(),
    );
  });

  it('byte strings hold any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => {
        expect(equalBytes(toBytes(toByteString(bytes)), bytes)).to.equal(true);
      }),
      seeded(),
    );
  });

  it('a prefix range holds the keys with the prefix and no other', () => {
    fc.assert(
      fc.property(byteString(4), byteString(6), (prefix, key) => {
        fc.pre(/[^\xff]/.test(prefix));
        const { start, end } = prefixRange(prefix);
        expect(start <= key && key < end).to.equal(key.startsWith(prefix));
        const longer = prefix + key;
        expect(start <= longer && longer < end).to.equal(true);
      }),
      seeded({ numRuns: 1000 }),
    );
  });

  it('escaped bytes are printable, and differ where the bytes differ', () => {
    fc.assert(
      fc.property(byteString(6), byteString(6), (a, b) => {
        expect(escapeBytes(a)).to.match(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$/u);
        expect(escapeBytes(a) === escapeBytes(b)).to.equal(a === b);
      }),
      seeded({ numRuns: 1000 }),
    );
  });

  it('a block key tells what it was made from', () => {
    fc.assert(
      fc.property(
        fc.bigInt(1n, 2n ** 64n - 1n),
        fc.nat(1023),
        fc.nat(2 ** 24),
        fc.boolean(),
        (id, index, length, hashPrefix) => {
          const layout = { name: 'pics', hashPrefix };
          expect(parseBlockKey(layout, blockKey(layout, id, index, length))).to.deep.equal({
            id,
            index,
            length,
          });
        },
      ),
      seeded(),
    );
  });

  it('the blocks of a slice add up to it', () => {
    fc.assert(
      fc.property(fc.nat(CHUNK_SIZE), fc.constantFrom(65536, 1 << 20, 1 << 24), (size, blockSize) => {
        const blocks = blocksOfSlice(size, blockSize);
        expect(blocks.reduce((sum, block) => sum + block.length, 0)).to.equal(size);
        expect(blocks.map(({ index }) => index)).to.deep.equal(blocks.map((_, i) => i));
      }),
      seeded(),
    );
  });

  it('visible pieces are what painting the records one by one shows', () => {
    const record: fc.Arbitrary<SliceRecord> = fc
      .record({ pos: fc.nat(40), id: fc.bigInt(0n, 4n), off: fc.nat(5), len: fc.nat(20) })
      .map((r) => (r.id === 0n ? { ...r, size: 0, off: 0 } : { ...r, size: 25 }));
    fc.assert(
      fc.property(fc.array(record, { maxLength: 12 }), fc.nat(60), (records, length) => {
        const painted = Array.from({ length }, () => '0');
        for (const { pos, id, off, len } of records) {
          for (let i = 0; i < len && pos + i < length; i++)
            painted[pos + i] = id === 0n ? '0' : `${id}.${off + i}`;
        }
        const pieces = visiblePieces(records, length);
        const seen = pieces.flatMap(({ id, off, len }) =>
          Array.from({ length: len }, (_, i) => (id === 0n ? '0' : `${id}.${off + i}`)),
        );
        expect(seen).to.deep.equal(painted);
        let pos = 0;
        for (const piece of pieces) {
          expect(piece.pos).to.equal(pos);
          expect(piece.len).to.be.greaterThan(0);
          pos += piece.len;
        }
      }),
      seeded({ numRuns: 2000 }),
    );
  });
});

function decodesOrThrows<T>(values: fc.Arbitrary<T>, decode: (value: T) => unknown): void {
  fc.assert(
    fc.property(values, (value) => {
      try {
        decode(value);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
      }
    }),
    seeded({ numRuns: 2000 }),
  );
}

describe('captured metadata', () => {
  const roundTrips = new Map(CODECS);

  /** What a value is written as; `undefined` for text and bytes that are passed on as they are. */
  function codecOf(key: MetaKey): string | undefined {
    switch (key.kind) {
      case 'parent':
      case 'sliceRef':
        return 'counter';
      case 'counter':
        return /^(last|next)Cleanup/.test(key.name) ? 'time' : 'counter';
      case 'deletedFile':
      case 'detached':
      case 'sessionExpire':
      case 'sessionHeartbeat':
        return 'time';
      case 'dirQuota':
      case 'userQuota':
      case 'groupQuota':
        return 'quota';
      case 'setting':
      case 'sessionInfo':
      case 'symlink':
      case 'xattr':
      case 'changeLog':
      case 'kerberosToken':
        return undefined;
      default:
        return key.kind;
    }
  }

  /** The value of this very key is checked by itself. */
  const CONSTANTS: Readonly<Record<string, string>> = { sustained: '\x01' };

  function expectRoundTrip(key: string, value: Uint8Array): MetaKey['kind'] {
    const decoded = decodeKey(key);
    expect(decoded.kind, key).to.not.equal('unknown');
    expect(encodeKey(decoded)).to.equal(key);
    const constant = CONSTANTS[decoded.kind];
    const codec = codecOf(decoded);
    if (constant !== undefined) expect(toByteString(value), key).to.equal(constant);
    else if (codec !== undefined) {
      const roundTrip = roundTrips.get(codec);
      if (roundTrip === undefined) throw new Error(`no codec for ${codec}`);
      expect(equalBytes(roundTrip(value), value), key).to.equal(true);
    }
    return decoded.kind;
  }

  it('of all volumes is written back as it was', () => {
    const kinds = new Set<string>();
    for (const name of volumeNames()) {
      for (const kv of metaKvs(loadVolume(name))) kinds.add(expectRoundTrip(kv.key, kv.value));
    }
    expect([...kinds]).to.include.members([
      'setting',
      'attr',
      'dentry',
      'chunk',
      'counter',
      'dirStat',
      'dirQuota',
      'userQuota',
      'groupQuota',
      'parent',
      'symlink',
      'xattr',
      'sliceRef',
      'delayedSlices',
      'sessionExpire',
      'sessionInfo',
      'sustained',
      'flock',
      'plock',
      'aclRule',
    ]);
  });

  it('of all recordings is written back as it was', () => {
    const kinds = new Set<string>();
    for (const name of recordingNames()) {
      const { revisions, metaPrefix } = loadRecording(name);
      for (const event of metaEvents(
        revisions.flatMap(({ events }) => events),
        metaPrefix,
      )) {
        if (event.type === 'put') kinds.add(expectRoundTrip(event.kv.key, event.kv.value));
      }
    }
    expect([...kinds]).to.include.members([
      'attr',
      'dentry',
      'chunk',
      'counter',
      'dirStat',
      'deletedFile',
      'flock',
    ]);
  });
});
