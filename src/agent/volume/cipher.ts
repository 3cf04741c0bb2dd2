/** The encryption algorithms of blocks, from Node: AES-256-GCM or ChaCha20-Poly1305 with keys wrapped by RSA. */

import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  webcrypto,
  type CipherGCM,
  type DecipherGCM,
  type KeyObject,
} from 'node:crypto';

import { encryptionOf, type BlockCipher, type Encryption } from '../../codec/encrypt.ts';
import { codeOf, VolumeError } from '../base/error.ts';

const KEY_SIZE = 32;
const NONCE_SIZE = 12;
const TAG_SIZE = 16;
/** RSA-OAEP with SHA-256, also for MGF1, and the label that upstream uses (`rsaEncryptor`). */
const OAEP = { name: 'RSA-OAEP', hash: 'SHA-256', label: Buffer.from('keys') } as const;

/** Where the passphrase of a volume's key comes from, for sentences that say what to do. */
export const PASSPHRASE_ENV = 'JFS_RSA_PASSPHRASE';

/**
 * The cipher of a volume whose setting holds this key (PEM) and names this algorithm. Throws `VolumeError` that says what
 * is missing; never with anything of key or passphrase in it.
 */
export async function loadCipher(
  pem: string,
  algorithm: string,
  passphrase: string | undefined,
): Promise<BlockCipher> {
  const encryption = encryptionOf(algorithm);
  if (encryption === undefined) {
    throw new VolumeError(
      `The blocks are encrypted with ${JSON.stringify(algorithm)}; only aes256gcm-rsa and chacha20-rsa can be read and written.`,
    );
  }
  const privateKey = openKey(pem, passphrase);
  const { subtle } = webcrypto;
  const [unwrapKey, wrapKey] = await Promise.all([
    subtle.importKey('pkcs8', privateKey.export({ type: 'pkcs8', format: 'der' }), OAEP, false, ['decrypt']),
    subtle.importKey(
      'spki',
      createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
      OAEP,
      false,
      ['encrypt'],
    ),
  ]);
  // Not the synchronous calls of Node: a thousand blocks would stop everything else for a second or two.
  return {
    async newKey() {
      const key = randomBytes(KEY_SIZE);
      return { key, wrapped: new Uint8Array(await subtle.encrypt(OAEP, wrapKey, key)) };
    },
    async unwrapKey(wrapped) {
      return new Uint8Array(await subtle.decrypt(OAEP, unwrapKey, wrapped));
    },
    seal(key, plain) {
      const nonce = randomBytes(NONCE_SIZE);
      const cipher = cipherOf(encryption, key, nonce);
      const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()]);
      return { nonce, ciphertext, tag: cipher.getAuthTag() };
    },
    open(key, { nonce, ciphertext, tag }) {
      const decipher = decipherOf(encryption, key, nonce);
      decipher.setAuthTag(tag);
      return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
    },
  };
}

/** PKCS#8, encrypted or not, and the traditional form with DEK-Info. */
function openKey(pem: string, passphrase: string | undefined): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) });
  } catch (error) {
    const isMissing = codeOf(error) === 'ERR_MISSING_PASSPHRASE' || passphrase === undefined;
    const from = `in ${PASSPHRASE_ENV} or with --rsa-passphrase-file`;
    throw new VolumeError(
      /ENCRYPTED/.test(pem)
        ? isMissing
          ? `The blocks are encrypted: give the passphrase of the volume's key ${from}.`
          : `The passphrase does not open the key that the blocks are encrypted with: give the right one ${from}.`
        : 'The blocks are encrypted with a key that is no RSA key in PEM.',
    );
  }
  if (key.asymmetricKeyType === 'rsa') return key;
  throw new VolumeError('The blocks are encrypted with a key that is no RSA key.');
}

function cipherOf(encryption: Encryption, key: Uint8Array, nonce: Uint8Array): CipherGCM {
  return encryption === 'aes256gcm-rsa'
    ? createCipheriv('aes-256-gcm', key, nonce)
    : createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_SIZE });
}

function decipherOf(encryption: Encryption, key: Uint8Array, nonce: Uint8Array): DecipherGCM {
  return encryption === 'aes256gcm-rsa'
    ? createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_SIZE })
    : createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_SIZE });
}
