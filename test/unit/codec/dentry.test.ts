import { expect } from 'chai';
import { decodeDentry, encodeDentry } from '../../../src/codec/dentry.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex, toHex } from '../../support/hex.ts';

describe('dentries', () => {
  for (const [bytes, dentry] of [
    ['01 0000000000000002', { type: 'file', ino: 2n }],
    ['02 7fffffff10000001', { type: 'directory', ino: 0x7fffffff10000001n }],
    ['07 ffffffffffffffff', { type: 'socket', ino: 2n ** 64n - 1n }],
  ] as const) {
    it(`${dentry.type} ${dentry.ino}`, () => {
      expect(decodeDentry(hex(bytes))).to.deep.equal(dentry);
      expect(toHex(encodeDentry(dentry))).to.equal(toHex(hex(bytes)));
    });
  }

  for (const [what, bytes, offset] of [
    ['empty', '', 0],
    ['8 bytes', '01 00000000000002', 1],
    ['10 bytes', '01 0000000000000002 00', 9],
    ['type 0', '00 0000000000000002', 0],
    ['type 8', '08 0000000000000002', 0],
  ] as const) {
    it(`${what}: is no dentry`, () => {
      expect(() => decodeDentry(hex(bytes)))
        .to.throw(DecodeError)
        .that.includes({ what: 'dentry', offset });
    });
  }
});
