import { expect } from 'chai';
import { DecodeError } from '../../../src/codec/error.ts';
import { decodeSetting, readRefusal, writeRefusal, type Setting } from '../../../src/codec/setting.ts';

const JSON_OF_FORMAT = `{
"Name": "demo-vol",
"UUID": "cf4419a8-83ec-4ec6-8710-403f198089b5",
"Storage": "etcd",
"Tiers": {"0": {"ID": 0, "StorageClass": "", "Tag": ""}},
"Bucket": "HOST:2379",
"BlockSize": 64,
"Compression": "none",
"EncryptAlgo": "aes256gcm-rsa",
"TrashDays": 1,
"MetaVersion": 1,
"MinClientVersion": "1.1.0-A",
"DirStats": true,
"EnableACL": false
}`;

function decode(text: string): Setting {
  return decodeSetting(new TextEncoder().encode(text));
}

const PLAIN = decode(JSON_OF_FORMAT);

describe('setting', () => {
  it('decodes, absent fields as zero', () => {
    expect(PLAIN).to.include({
      name: 'demo-vol',
      uuid: 'cf4419a8-83ec-4ec6-8710-403f198089b5',
      storage: 'etcd',
      bucket: 'HOST:2379',
      blockSize: 64,
      blockSizeBytes: 65536,
      compression: 'none',
      encryptAlgo: 'aes256gcm-rsa',
      trashDays: 1,
      metaVersion: 1,
      minClientVersion: '1.1.0-A',
      dirStats: true,
      enableAcl: false,
      accessKey: '',
      secretKey: '',
      encryptKey: '',
      keyEncrypted: false,
      shards: 0,
      hashPrefix: false,
      capacity: 0n,
      inodes: 0n,
      maxClientVersion: '',
      userGroupQuota: false,
      changeLog: false,
    });
  });

  it('decodes limits and flags that are set', () => {
    const setting = decode(
      '{"Capacity": 10737418240, "Inodes": 100000, "HashPrefix": true, "AccessKey": "u"}',
    );
    expect(setting).to.include({ capacity: 10737418240n, inodes: 100000n, hashPrefix: true, accessKey: 'u' });
  });

  for (const [what, text] of [
    ['nothing', ''],
    ['no JSON', '{"Name": '],
    ['a list', '[]'],
    ['null', 'null'],
    ['a text', '"etcd"'],
    ['a name that is a number', '{"Name": 1}'],
    ['a block size that is a text', '{"BlockSize": "64"}'],
    ['a block size that is not whole', '{"BlockSize": 64.5}'],
    ['a flag that is a number', '{"HashPrefix": 1}'],
  ] as const) {
    it(`${what}: is no setting`, () => {
      expect(() => decode(text))
        .to.throw(DecodeError)
        .that.includes({ what: 'setting' });
    });
  }

  it('bytes that are no UTF-8: is no setting', () => {
    expect(() => decodeSetting(new Uint8Array([0x22, 0xff, 0x22]))).to.throw(DecodeError);
  });

  it('quotes nothing of a broken setting, which may hold secrets', () => {
    expect(() => decode('{"SecretKey": "hunter2" oops'))
      .to.throw(DecodeError)
      .that.not.matches(/hunter2/);
  });
});

describe('refusals', () => {
  it('none for a plain volume', () => {
    expect([readRefusal(PLAIN), writeRefusal(PLAIN)]).to.deep.equal([undefined, undefined]);
  });

  const readable: readonly [what: string, change: Partial<Setting>][] = [
    ['lz4', { compression: 'lz4' }],
    ['zstd', { compression: 'zstd' }],
    ['no compression named', { compression: '' }],
    ['storage in capitals', { storage: 'ETCD' }],
    ['hash prefix', { hashPrefix: true }],
    ['one shard', { shards: 1 }],
    ['two shards', { shards: 2 }],
    ['encryption', { encryptKey: 'PEM', encryptAlgo: 'aes256gcm-rsa' }],
    ['encryption with ChaCha20', { encryptKey: 'PEM', encryptAlgo: 'chacha20-rsa' }],
    ['encryption by 1.0, which has no name', { encryptKey: 'PEM', encryptAlgo: '' }],
    ['block size 16384', { blockSize: 16384 }],
    ['from 1.4.0-A', { minClientVersion: '1.4.0-A' }],
    ['from 1.4.2', { minClientVersion: '1.4.2' }],
    ['from nowhere', { minClientVersion: '' }],
    ['up to 1.4.0', { maxClientVersion: '1.4.0' }],
    ['up to 2.0', { maxClientVersion: '2.0' }],
    ['metadata version 0', { metaVersion: 0 }],
    ['an encryption algorithm without a key', { encryptAlgo: 'sm4gcm' }],
  ];
  for (const [what, change] of readable) {
    it(`reads: ${what}`, () => {
      expect(readRefusal({ ...PLAIN, ...change })).to.equal(undefined);
    });
  }

  const unreadable: readonly [what: string, change: Partial<Setting>, sentence: RegExp][] = [
    ['metadata version 2', { metaVersion: 2 }, /metadata version is 2/],
    ['another storage', { storage: 's3' }, /stored in "s3"/],
    ['no storage', { storage: '' }, /stored in ""/],
    ['an unknown compression', { compression: 'brotli' }, /compression is "brotli"/],
    ['SM4', { encryptKey: 'PEM', encryptAlgo: 'sm4gcm' }, /encrypted with "sm4gcm"/],
    ['block size 0', { blockSize: 0 }, /block size is 0 KiB/],
    ['block size 32', { blockSize: 32 }, /block size is 32 KiB/],
    ['block size 96', { blockSize: 96 }, /block size is 96 KiB/],
    ['block size 32768', { blockSize: 32768 }, /block size is 32768 KiB/],
    ['no name', { name: '' }, /no valid name/],
    ['a name with a slash', { name: 'a/b' }, /no valid name/],
    ['from 1.5.0-A', { minClientVersion: '1.5.0-A' }, /asks for clients from 1\.5\.0-A/],
    ['from 2.0.0', { minClientVersion: '2.0.0' }, /asks for clients from 2\.0\.0/],
    ['from nonsense', { minClientVersion: 'new' }, /makes no sense/],
    ['up to 1.3.9', { maxClientVersion: '1.3.9' }, /allows clients up to 1\.3\.9/],
    ['up to nonsense', { maxClientVersion: '1' }, /makes no sense/],
  ];
  for (const [what, change, sentence] of unreadable) {
    it(`neither reads nor writes: ${what}`, () => {
      expect(readRefusal({ ...PLAIN, ...change })).to.match(sentence);
      expect(writeRefusal({ ...PLAIN, ...change })).to.match(sentence);
    });
  }

  const unwritable: readonly [what: string, change: Partial<Setting>, sentence: RegExp][] = [
    ['Ranger', { rangerRestUrl: 'https://ranger' }, /Ranger decides/],
  ];
  for (const [what, change, sentence] of unwritable) {
    it(`reads but does not write: ${what}`, () => {
      expect(readRefusal({ ...PLAIN, ...change })).to.equal(undefined);
      expect(writeRefusal({ ...PLAIN, ...change })).to.match(sentence);
    });
  }
});
