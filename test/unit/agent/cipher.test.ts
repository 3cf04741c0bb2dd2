/** The ciphers and the secrets of settings, against volumes and keys of the real client. */

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { loadCipher } from '../../../src/agent/volume/cipher.ts';
import { codeOf } from '../../../src/agent/base/error.ts';
import { uuidKey } from '../../../src/agent/volume/open-blocks.ts';
import { unwrapSecrets, wrapSecret } from '../../../src/agent/volume/secret.ts';
import { decrypt, encrypt } from '../../../src/codec/encrypt.ts';
import { decodeSetting, type Setting } from '../../../src/codec/setting.ts';
import { FIXTURE_PASSPHRASE, loadVolume, metaKvs, type FixtureVolume } from '../../support/fixture.ts';

function settingOf(volume: FixtureVolume): Setting {
  const kv = metaKvs(volume).find(({ key }) => key === 'setting');
  if (kv === undefined) throw new Error('no setting');
  return decodeSetting(kv.value);
}

async function errorOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('it did not fail');
}

describe('ciphers', () => {
  for (const name of ['encrypted', 'encrypted-chacha20']) {
    describe(`of the volume ${name}`, () => {
      const volume = loadVolume(name);
      const setting = settingOf(volume);
      const pem = readFileSync(new URL(`../../fixtures/${name}.key.pem`, import.meta.url), 'utf8');

      it('the key in the setting is the one that it was formatted with', () => {
        expect(unwrapSecrets(setting).encryptKey.trim()).to.equal(pem.trim());
      });

      it('opens the object with the UUID', async () => {
        const cipher = await loadCipher(pem, setting.encryptAlgo, FIXTURE_PASSPHRASE);
        const stored = volume.kvs.find(({ key }) => key === uuidKey(setting.name));
        const text = await decrypt(stored?.value ?? new Uint8Array(), cipher);
        expect(Buffer.from(text).toString()).to.equal(setting.uuid);
      });

      it('seals in the same form, 287 bytes longer', async () => {
        const cipher = await loadCipher(pem, setting.encryptAlgo, FIXTURE_PASSPHRASE);
        const plain = Buffer.from('a block');
        const stored = await encrypt(plain, cipher);
        expect(stored.length).to.equal(plain.length + 287);
        expect(Buffer.from(stored.subarray(0, 3)).toString('hex')).to.equal('01000c');
        expect(Buffer.from(await decrypt(stored, cipher))).to.deep.equal(plain);
        expect(Buffer.from(await encrypt(plain, cipher))).not.to.deep.equal(Buffer.from(stored));
      });

      it('finds a changed byte', async () => {
        const cipher = await loadCipher(pem, setting.encryptAlgo, FIXTURE_PASSPHRASE);
        for (const at of [5, 260, 275, 280]) {
          const stored = await encrypt(Buffer.from('a block'), cipher);
          stored[at] = (stored[at] ?? 0) ^ 1;
          expect(codeOf(await errorOf(decrypt(stored, cipher)))).to.equal('ERR_DECODE');
        }
      });

      const refused: readonly [what: string, passphrase: string | undefined, sentence: RegExp][] = [
        ['no passphrase', undefined, /give the passphrase of the volume's key in JFS_RSA_PASSPHRASE/],
        ['a wrong passphrase', 'secret-guess', /The passphrase does not open the key/],
      ];
      for (const [what, passphrase, sentence] of refused) {
        it(`says what to do about ${what}, and nothing secret`, async () => {
          const error = await errorOf(loadCipher(pem, setting.encryptAlgo, passphrase));
          expect(codeOf(error)).to.equal('ERR_VOLUME');
          expect(error.message).to.match(sentence);
          expect(error.message).not.to.match(/secret-guess|BEGIN/);
        });
      }
    });
  }

  it('refuse what they do not know', async () => {
    const { message } = await errorOf(loadCipher('PEM', 'sm4gcm', undefined));
    expect(message).to.match(/encrypted with "sm4gcm"/);
    const nonsense = await errorOf(loadCipher('nonsense', 'aes256gcm-rsa', 'x'));
    expect(nonsense.message).to.match(/no RSA key in PEM/);
  });
});

describe('secrets of a setting', () => {
  const uuid = 'cf4419a8-83ec-4ec6-8710-403f198089b5';
  const wrapped = (secret: string): Setting => ({
    ...settingOf(loadVolume('nginx-basic')),
    uuid,
    keyEncrypted: true,
    secretKey: secret,
  });

  it('come back as they were', () => {
    expect(unwrapSecrets(wrapped(wrapSecret('pässword', uuid))).secretKey).to.equal('pässword');
  });

  it('are left alone where they are not wrapped, not there, or taken out', () => {
    const plain = { ...wrapped('plain'), keyEncrypted: false };
    expect(unwrapSecrets(plain)).to.equal(plain);
    expect(unwrapSecrets(wrapped('')).secretKey).to.equal('');
    expect(unwrapSecrets(wrapped('removed')).secretKey).to.equal('');
  });

  it('are refused where the key of the blocks was taken out, or another volume’s', () => {
    const stripped = { ...wrapped(''), encryptKey: 'removed' };
    expect(() => unwrapSecrets(stripped)).to.throw(/EncryptKey .* was removed/);
    const foreign = wrapped(wrapSecret('x', 'another uuid'));
    expect(() => unwrapSecrets(foreign)).to.throw(/SecretKey .* cannot be read/);
  });
});
