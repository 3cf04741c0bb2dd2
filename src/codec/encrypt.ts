/** An encrypted value: the wrapped key, nonce, ciphertext and tag; the algorithms come in as arguments. */

import { ByteReader, ByteWriter } from './bytes.ts';
import { DecodeError } from './error.ts';

/** How the blocks of a volume are encrypted; each value has a data key of its own, wrapped with the volume's RSA key. */
export type Encryption = 'aes256gcm-rsa' | 'chacha20-rsa';

/** Bytes of the tag of both ciphers. */
const TAG_SIZE = 16;
const WHAT = 'encrypted value';

/** An encrypted value in its parts (layout 6.3, upstream `dataEncryptor`). */
export interface Sealed {
  readonly wrappedKey: Uint8Array;
  readonly nonce: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/** The algorithms with the volume's key. What they throw on foreign bytes becomes a `DecodeError`. */
export interface BlockCipher {
  /** A fresh data key, as it is and wrapped. */
  newKey(): Promise<{ readonly key: Uint8Array; readonly wrapped: Uint8Array }>;
  unwrapKey(wrapped: Uint8Array): Promise<Uint8Array>;
  seal(key: Uint8Array, plain: Uint8Array): Omit<Sealed, 'wrappedKey'>;
  open(key: Uint8Array, sealed: Sealed): Uint8Array;
}

/** The encryption that a setting names; `undefined` for one we do not have. */
export function encryptionOf(name: string): Encryption | undefined {
  switch (name) {
    // Volumes of 1.0 do not say.
    case '':
    case 'aes256gcm-rsa':
      return 'aes256gcm-rsa';
    case 'chacha20-rsa':
      return name;
    default:
      return undefined;
  }
}

export function decodeSealed(stored: Uint8Array): Sealed {
  const reader = new ByteReader(stored, WHAT);
  const keySize = reader.u16be();
  const nonceSize = reader.u8();
  const wrappedKey = reader.bytes(keySize);
  const nonce = reader.bytes(nonceSize);
  if (reader.remaining < TAG_SIZE) throw new DecodeError(WHAT, reader.offset, 'it has no room for a tag');
  const ciphertext = reader.bytes(reader.remaining - TAG_SIZE);
  return { wrappedKey, nonce, ciphertext, tag: reader.bytes(TAG_SIZE) };
}

export function encodeSealed({ wrappedKey, nonce, ciphertext, tag }: Sealed): Uint8Array {
  return new ByteWriter()
    .u16be(wrappedKey.length)
    .u8(nonce.length)
    .bytes(wrappedKey)
    .bytes(nonce)
    .bytes(ciphertext)
    .bytes(tag)
    .finish();
}

/** The bytes behind a stored value. Throws `DecodeError` if it was not sealed with this key. */
export async function decrypt(stored: Uint8Array, cipher: BlockCipher): Promise<Uint8Array> {
  const sealed = decodeSealed(stored);
  try {
    return cipher.open(await cipher.unwrapKey(sealed.wrappedKey), sealed);
  } catch {
    throw new DecodeError(WHAT, 0, "it cannot be decrypted with the volume's key");
  }
}

export async function encrypt(plain: Uint8Array, cipher: BlockCipher): Promise<Uint8Array> {
  const { key, wrapped } = await cipher.newKey();
  return encodeSealed({ wrappedKey: wrapped, ...cipher.seal(key, plain) });
}
