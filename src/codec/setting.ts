/** The volume's format record, and the reasons to refuse a volume. */

import { encryptionOf } from './encrypt.ts';
import { DecodeError } from './error.ts';

/** The value of `setting` (layout 2, upstream `meta.Format`); an absent field is zero, false or empty. */
export interface Setting {
  readonly name: string;
  readonly uuid: string;
  readonly storage: string;
  /** Where the blocks are; see `parseBucket`. */
  readonly bucket: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly sessionToken: string;
  readonly storageClass: string;
  /** KiB. */
  readonly blockSize: number;
  /** `blockSize` in bytes. */
  readonly blockSizeBytes: number;
  /** `none`, `lz4`, `zstd`; empty is `none`. */
  readonly compression: string;
  readonly shards: number;
  readonly hashPrefix: boolean;
  /** PEM; non-empty means that the blocks are encrypted. */
  readonly encryptKey: string;
  /** Also set on volumes without encryption. */
  readonly encryptAlgo: string;
  /** Whether the secrets of this record are wrapped. */
  readonly keyEncrypted: boolean;
  /** Bytes, 0 for no limit. Inexact above 2^53, as JSON numbers are. */
  readonly capacity: bigint;
  /** Inodes, 0 for no limit. */
  readonly inodes: bigint;
  /** Mbit/s, 0 for no limit. */
  readonly uploadLimit: number;
  readonly downloadLimit: number;
  /** 0: deletes are final. */
  readonly trashDays: number;
  readonly metaVersion: number;
  readonly minClientVersion: string;
  readonly maxClientVersion: string;
  readonly dirStats: boolean;
  readonly userGroupQuota: boolean;
  readonly enableAcl: boolean;
  readonly rangerRestUrl: string;
  readonly rangerService: string;
  readonly changeLog: boolean;
}

/** Decodes the JSON of `setting`. Throws `DecodeError` if it is no JSON object or a field has another type. */
export function decodeSetting(value: Uint8Array): Setting {
  const fields = parseObject(value);
  const text = (name: string): string => {
    const field = fields.get(name) ?? '';
    if (typeof field !== 'string') throw wrong(`${name} is no text`);
    return field;
  };
  const count = (name: string): number => {
    const field = fields.get(name) ?? 0;
    if (typeof field !== 'number' || !Number.isInteger(field)) throw wrong(`${name} is no whole number`);
    return field;
  };
  const flag = (name: string): boolean => {
    const field = fields.get(name) ?? false;
    if (typeof field !== 'boolean') throw wrong(`${name} is neither true nor false`);
    return field;
  };
  return {
    name: text('Name'),
    uuid: text('UUID'),
    storage: text('Storage'),
    bucket: text('Bucket'),
    accessKey: text('AccessKey'),
    secretKey: text('SecretKey'),
    sessionToken: text('SessionToken'),
    storageClass: text('StorageClass'),
    blockSize: count('BlockSize'),
    blockSizeBytes: count('BlockSize') * 1024,
    compression: text('Compression'),
    shards: count('Shards'),
    hashPrefix: flag('HashPrefix'),
    encryptKey: text('EncryptKey'),
    encryptAlgo: text('EncryptAlgo'),
    keyEncrypted: flag('KeyEncrypted'),
    capacity: BigInt(count('Capacity')),
    inodes: BigInt(count('Inodes')),
    uploadLimit: count('UploadLimit'),
    downloadLimit: count('DownloadLimit'),
    trashDays: count('TrashDays'),
    metaVersion: count('MetaVersion'),
    minClientVersion: text('MinClientVersion'),
    maxClientVersion: text('MaxClientVersion'),
    dirStats: flag('DirStats'),
    userGroupQuota: flag('UserGroupQuota'),
    enableAcl: flag('EnableACL'),
    rangerRestUrl: text('RangerRestUrl'),
    rangerService: text('RangerService'),
    changeLog: flag('ChangeLog'),
  };
}

function wrong(message: string): DecodeError {
  return new DecodeError('setting', 0, message);
}

function parseObject(value: Uint8Array): ReadonlyMap<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(value));
  } catch {
    // The parser's message quotes the text around the fault, and this record holds secrets.
    throw wrong('it is no JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw wrong('it is no JSON object');
  return new Map(Object.entries(json));
}

/** The release of JuiceFS whose layout this codec knows. */
const RELEASE: readonly [major: number, minor: number] = [1, 4];

/** Why the volume cannot be read, in one sentence; `undefined` if it can (layout 2). */
export function readRefusal(setting: Setting): string | undefined {
  if (setting.metaVersion > 1) {
    return `The metadata version is ${setting.metaVersion}; only version 1 is known.`;
  }
  const versionRefusal = clientVersionRefusal(setting);
  if (versionRefusal !== undefined) return versionRefusal;
  if (!/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(setting.name)) {
    return 'The volume has no valid name, so its blocks cannot be found.';
  }
  if (setting.storage.toLowerCase() !== 'etcd') {
    return `The blocks are stored in ${JSON.stringify(setting.storage)}; only etcd is supported.`;
  }
  const { blockSize } = setting;
  if (blockSize < 64 || blockSize > 16384 || !Number.isInteger(Math.log2(blockSize))) {
    return `The block size is ${blockSize} KiB; it must be a power of two from 64 to 16384.`;
  }
  if (!['', 'none', 'lz4', 'zstd'].includes(setting.compression)) {
    return `The compression is ${JSON.stringify(setting.compression)}; only none, lz4 and zstd are known.`;
  }
  // The algorithm is named on every volume; the key alone says that blocks are encrypted.
  if (setting.encryptKey !== '' && encryptionOf(setting.encryptAlgo) === undefined) {
    return `The blocks are encrypted with ${JSON.stringify(setting.encryptAlgo)}; only aes256gcm-rsa and chacha20-rsa are known.`;
  }
  return undefined;
}

/** Why this program does not write the volume, in one sentence; `undefined` if it does. */
export function writeRefusal(setting: Setting): string | undefined {
  const refusal = readRefusal(setting);
  if (refusal !== undefined) return refusal;
  if (setting.rangerRestUrl !== '')
    return 'Ranger decides who may change the volume, and this program does not ask it.';
  return undefined;
}

function clientVersionRefusal(setting: Setting): string | undefined {
  const [min, max] = [setting.minClientVersion, setting.maxClientVersion];
  const release = RELEASE.join('.');
  // A tag like `-A` sorts below its own version but above all earlier releases, so major and minor decide.
  if (min !== '') {
    const order = compareToRelease(min);
    if (order === undefined) return `The least client version ${JSON.stringify(min)} makes no sense.`;
    if (order > 0) return `The volume asks for clients from ${min}; its layout is known up to ${release}.`;
  }
  if (max !== '') {
    const order = compareToRelease(max);
    if (order === undefined) return `The greatest client version ${JSON.stringify(max)} makes no sense.`;
    if (order < 0) return `The volume allows clients up to ${max}, older than ${release}.`;
  }
  return undefined;
}

function compareToRelease(version: string): number | undefined {
  const match = /^(\d{1,9})\.(\d{1,9})(?:\.\d{1,9})?(?:[-+].*)?$/.exec(version);
  if (match === null) return undefined;
  return Number(match[1]) - RELEASE[0] || Number(match[2]) - RELEASE[1];
}
