import { expect } from 'chai';
import {
  allocated,
  decodeCounter,
  decodeDirStat,
  decodeQuota,
  decodeTimeCounter,
  encodeCounter,
  encodeDirStat,
  encodeQuota,
} from '../../../src/codec/counter.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex, toHex } from '../../support/hex.ts';

describe('counters', () => {
  for (const [bytes, count] of [
    ['0204000000000000', 1026n],
    ['0080010000000000', 98304n],
    ['ffffffffffffffff', -1n],
  ] as const) {
    it(`${count} is ${bytes}`, () => {
      expect(decodeCounter(hex(bytes))).to.equal(count);
      expect(toHex(encodeCounter(count))).to.equal(bytes);
    });
  }

  it('of time are big-endian', () => {
    expect(decodeTimeCounter(hex('000000006b0307d6'))).to.equal(1795360726n);
  });

  it('directory statistics', () => {
    const bytes = hex('0000000000011175 0000000000014000 0000000000000003');
    const stat = { length: 70005n, space: 81920n, inodes: 3n };
    expect(decodeDirStat(bytes)).to.deep.equal(stat);
    expect(encodeDirStat(stat)).to.deep.equal(bytes);
  });

  it('quotas', () => {
    const bytes = hex('ffffffffffffffff 0000000000000064 0000000000001000 0000000000000001');
    const quota = { maxSpace: -1n, maxInodes: 100n, usedSpace: 4096n, usedInodes: 1n };
    expect(decodeQuota(bytes)).to.deep.equal(quota);
    expect(encodeQuota(quota)).to.deep.equal(bytes);
  });

  const decoders = { decodeCounter, decodeTimeCounter, decodeDirStat, decodeQuota };
  const lengths = { decodeCounter: 8, decodeTimeCounter: 8, decodeDirStat: 24, decodeQuota: 32 };
  for (const name of ['decodeCounter', 'decodeTimeCounter', 'decodeDirStat', 'decodeQuota'] as const) {
    it(`${name} takes no byte more or less`, () => {
      for (const length of [0, lengths[name] - 1, lengths[name] + 1]) {
        expect(() => decoders[name](new Uint8Array(length))).to.throw(DecodeError);
      }
    });
  }
});

describe('allocated space', () => {
  for (const [bytes, space] of [
    [0n, 4096n],
    [1n, 4096n],
    [4096n, 4096n],
    [4097n, 8192n],
    [70000n, 73728n],
  ] as const) {
    it(`of ${bytes} bytes is ${space}`, () => {
      expect(allocated(bytes)).to.equal(space);
    });
  }
});
