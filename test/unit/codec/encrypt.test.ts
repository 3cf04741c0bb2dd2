import { expect } from 'chai';
import {
  decodeSealed,
  decrypt,
  encodeSealed,
  encrypt,
  encryptionOf,
  type BlockCipher,
} from '../../../src/codec/encrypt.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex } from '../../support/hex.ts';

const TAG = '00112233445566778899aabbccddeeff';
const STORED = hex(`0004 03 6b657973 010203 cafe ${TAG}`);
const PARTS = {
  wrappedKey: hex('6b657973'),
  nonce: hex('010203'),
  ciphertext: hex('cafe'),
  tag: hex(TAG),
};

/** Turns every bit; knows its own key only. */
const turning: BlockCipher = {
  newKey: async () => ({ key: hex('01'), wrapped: hex('ff01') }),
  unwrapKey: async (wrapped) => {
    if (wrapped[0] !== 0xff) throw new Error('not ours');
    return wrapped.slice(1);
  },
  seal: (_key, plain) => ({ nonce: hex('00'), ciphertext: plain.map((byte) => ~byte), tag: hex(TAG) }),
  open: (_key, { ciphertext }) => ciphertext.map((byte) => ~byte),
};

describe('encrypted values', () => {
  it('names of algorithms', () => {
    expect(['', 'aes256gcm-rsa', 'chacha20-rsa', 'sm4gcm', 'AES'].map(encryptionOf)).to.deep.equal([
      'aes256gcm-rsa',
      'aes256gcm-rsa',
      'chacha20-rsa',
      undefined,
      undefined,
    ]);
  });

  it('key length, nonce length, key, nonce, ciphertext, tag', () => {
    expect(decodeSealed(STORED)).to.deep.equal(PARTS);
    expect(encodeSealed(PARTS)).to.deep.equal(STORED);
  });

  it('of nothing has a tag', () => {
    const stored = hex(`0000 00 ${TAG}`);
    expect(decodeSealed(stored).ciphertext).to.deep.equal(hex(''));
    expect(encodeSealed(decodeSealed(stored))).to.deep.equal(stored);
  });

  it('come back as they were', async () => {
    const plain = hex('68 69');
    expect(await encrypt(plain, turning)).to.deep.equal(hex(`0002 01 ff01 00 9796 ${TAG}`));
    expect(await decrypt(await encrypt(plain, turning), turning)).to.deep.equal(plain);
  });

  const broken: readonly [what: string, stored: Uint8Array][] = [
    ['empty', hex('')],
    ['a key that is cut short', hex('0100 0c 6b6579')],
    ['no room for a tag', hex('0001 01 6b 01 00112233445566778899aabbccddee')],
    ['somebody else’s key', hex(`0001 01 6b 01 ${TAG}`)],
  ];
  for (const [what, stored] of broken) {
    it(`${what}: is an error`, async () => {
      let thrown: unknown;
      await decrypt(stored, turning).catch((error: unknown) => (thrown = error));
      expect(thrown).to.be.instanceOf(DecodeError);
    });
  }
});
