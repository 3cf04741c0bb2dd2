/** The secrets of a volume's setting, as the real client wraps them; whoever reads the setting can unwrap them (layout 2.1). */

import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

import type { Setting } from '../../codec/setting.ts';
import { VolumeError } from '../base/error.ts';

const NONCE_SIZE = 12;
const TAG_SIZE = 16;
/** What stands in place of a secret that was taken out of a dump. */
const STRIPPED = 'removed';

export function wrapSecret(secret: string, uuid: string): string {
  const nonce = randomBytes(NONCE_SIZE);
  const cipher = createCipheriv('aes-128-gcm', keyOf(uuid), nonce);
  const sealed = [cipher.update(secret, 'utf8'), cipher.final()];
  return Buffer.concat([nonce, ...sealed, cipher.getAuthTag()]).toString('base64');
}

/** The setting with its secrets as they are. Throws `VolumeError`, whose message holds nothing of them. */
export function unwrapSecrets(setting: Setting): Setting {
  if (!setting.keyEncrypted) return setting;
  const unwrap = (name: string, wrapped: string): string => {
    if (wrapped === '') return '';
    if (wrapped === STRIPPED) {
      if (name !== 'EncryptKey') return '';
      throw new VolumeError(
        `The ${name} of the volume ${setting.name} was removed from its setting: set it again with "juicefs config".`,
      );
    }
    try {
      return unwrapSecret(wrapped, setting.uuid);
    } catch {
      throw new VolumeError(
        `The ${name} of the volume ${setting.name} cannot be read: its setting is damaged.`,
      );
    }
  };
  return {
    ...setting,
    secretKey: unwrap('SecretKey', setting.secretKey),
    sessionToken: unwrap('SessionToken', setting.sessionToken),
    encryptKey: unwrap('EncryptKey', setting.encryptKey),
  };
}

function unwrapSecret(wrapped: string, uuid: string): string {
  const bytes = Buffer.from(wrapped, 'base64');
  if (bytes.length < NONCE_SIZE + TAG_SIZE) throw new RangeError('too short');
  const decipher = createDecipheriv('aes-128-gcm', keyOf(uuid), bytes.subarray(0, NONCE_SIZE));
  decipher.setAuthTag(bytes.subarray(-TAG_SIZE));
  const opened = [decipher.update(bytes.subarray(NONCE_SIZE, -TAG_SIZE)), decipher.final()];
  return Buffer.concat(opened).toString('utf8');
}

function keyOf(uuid: string): Buffer {
  return createHash('md5').update(uuid).digest();
}
