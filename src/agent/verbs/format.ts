/** `format`: makes a volume that the real client accepts. */

import { encodeAttr, type Attr } from '../../codec/attr.ts';
import { equalBytes, prefixRange, toBytes } from '../../codec/bytes.ts';
import { compressionOf } from '../../codec/compress.ts';
import { encodeCounter, encodeDirStat } from '../../codec/counter.ts';
import { encrypt, encryptionOf, type BlockCipher, type Encryption } from '../../codec/encrypt.ts';
import { encodeKey, ROOT_INO, TRASH_INO, type MetaKey } from '../../codec/key.ts';
import type { Compare, StoreOp } from '../../codec/kv.ts';
import { decodeSetting } from '../../codec/setting.ts';
import { parseBucket, type BucketAddress, type MetaAddress } from '../../codec/url.ts';
import { NO_STAT } from '../../reconcile/accounting.ts';
import { deleteKeys } from '../volume/blocks.ts';
import { loadCipher } from '../volume/cipher.ts';
import { ConfigError, DecodeError, VolumeError } from '../base/error.ts';
import { etcdStore } from '../etcd/etcd.ts';
import { uuidKey } from '../volume/open-blocks.ts';
import type { EtcdStore } from '../base/ports.ts';
import { wrapSecret } from '../volume/secret.ts';
import { EXIT, print, type VerbContext } from './context.ts';
import { withSignal } from '../base/signal.ts';

export interface FormatOptions {
  /** 3 to 63 of a-z, 0-9 and dash. */
  readonly name: string;
  /** KiB; a power of two from 64 to 1024, 1024 if not given. */
  readonly blockSizeKiB?: number;
  /** Days that deleted files stay in the trash, 1 if not given; 0: deletes are final. */
  readonly trashDays?: number;
  /** Spreads block keys over 256 folders. */
  readonly hashPrefix?: boolean;
  /** `none` if not given. */
  readonly compression?: string;
  /** Private RSA key (PEM) that blocks are encrypted with; its passphrase is in the context's `data`. */
  readonly encryptKey?: string;
  /** `aes256gcm-rsa` if not given. */
  readonly encryptAlgo?: string;
}

const DEFAULT_ALGORITHM: Encryption = 'aes256gcm-rsa';

/**
 * Formats a volume (layout 10.0), its blocks in the etcd of its metadata or in that of the context's bucket. Throws
 * `ConfigError` for options that etcd or JuiceFS cannot hold, `VolumeError` if something is there already.
 */
export async function format(context: VerbContext, options: FormatOptions): Promise<number> {
  requireSane(options);
  const cipher =
    options.encryptKey === undefined
      ? undefined
      : await loadCipher(
          options.encryptKey,
          options.encryptAlgo ?? DEFAULT_ALGORITHM,
          context.data?.passphrase,
        );
  const data = await openDataStore(context, options.name);
  try {
    await requireEmpty(context, data, options.name);
    return await formatInto(context, data, options, cipher);
  } finally {
    if (data !== context.store) await data.close();
  }
}

async function formatInto(
  context: VerbContext,
  data: EtcdStore,
  options: FormatOptions,
  cipher: BlockCipher | undefined,
): Promise<number> {
  const { store, address, clock } = context;
  const { name } = options;
  const uuid = clock.uuid();
  const trashDays = options.trashDays ?? 1;
  const nowNs = clock.nowNs();
  const metadata: readonly (readonly [key: MetaKey, value: Uint8Array])[] = [
    [{ kind: 'setting' }, encodeSetting(context, options, uuid)],
    [{ kind: 'attr', ino: ROOT_INO }, encodeAttr(directoryAttr(0o777, nowNs))],
    ...(trashDays > 0
      ? [[{ kind: 'attr', ino: TRASH_INO }, encodeAttr(directoryAttr(0o555, nowNs))] as const]
      : []),
    [{ kind: 'counter', name: 'nextInode' }, encodeCounter(2n)],
    [{ kind: 'counter', name: 'nextChunk' }, encodeCounter(1n)],
    // The real client leaves this one out, and its fsck then stumbles over the root (layout 13.4).
    [{ kind: 'dirStat', ino: ROOT_INO }, encodeDirStat(NO_STAT)],
  ];
  const plain = toBytes(uuid);
  const proof = {
    type: 'put' as const,
    key: uuidKey(name),
    // Encrypted like a block, but never compressed (layout 1.4).
    value: cipher === undefined ? plain : await encrypt(plain, cipher),
  };
  const ops = metadata.map(([key, value]): StoreOp => ({
    type: 'put',
    key: address.prefix + encodeKey(key),
    value,
  }));
  const emptyMetadata = { range: prefixRange(address.prefix), maxModRevision: 0n };
  const emptyData = { range: prefixRange(`${name}/`), maxModRevision: 0n };
  if (data === store) {
    await commitOurs(context, data, proof, [emptyMetadata, emptyData], [proof, ...ops]);
  } else {
    // Two etcds, two transactions: the object first, as the real client does.
    await commitOurs(context, data, proof, [emptyData], [proof]);
    const result = await store.commit({ compares: [emptyMetadata], ops }, context.signal);
    if (result.outcome === 'lost' && !(await hasOurSetting(context, uuid))) {
      await deleteKeys(data, [proof.key]);
      throw new VolumeError(somebodyElse(name));
    }
  }
  await print(context.out, `Formatted the volume ${name} (${uuid}).\n`);
  return EXIT.done;
}

/** Commits what makes the volume, of which the object is a part. An attempt without an answer may have been ours. */
async function commitOurs(
  context: VerbContext,
  data: EtcdStore,
  proof: Extract<StoreOp, { type: 'put' }>,
  compares: readonly Compare[],
  ops: readonly StoreOp[],
): Promise<void> {
  const result = await data.commit({ compares, ops }, context.signal);
  if (result.outcome !== 'lost') return;
  const { kvs } = await data.get([proof.key], withSignal(context.signal));
  const found = kvs[0]?.value;
  if (found === undefined || !equalBytes(found, proof.value)) {
    throw new VolumeError(somebodyElse(proof.key.split('/', 1)[0] ?? ''));
  }
}

function somebodyElse(name: string): string {
  return `Somebody else put keys where the volume ${name} was to be: nothing was written.`;
}

async function hasOurSetting(context: VerbContext, uuid: string): Promise<boolean> {
  const key = context.address.prefix + encodeKey({ kind: 'setting' });
  const { kvs } = await context.store.get([key], withSignal(context.signal));
  return kvs[0] !== undefined && decodeSetting(kvs[0].value).uuid === uuid;
}

/** The etcd that the blocks go to: the metadata's own where the bucket names it. */
async function openDataStore(context: VerbContext, name: string): Promise<EtcdStore> {
  const { store, data = {}, clock, signal } = context;
  if (data.bucket === undefined) return store;
  let address: BucketAddress;
  try {
    address = parseBucket(data.bucket);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new ConfigError(`--bucket is no address of an etcd: ${error.message}`);
  }
  const { accessKey: user = '', secretKey: password = '' } = data;
  const opened = etcdStore(
    { ...address, ...(user === '' ? {} : { user, password }), prefix: `${name}/` },
    clock,
  );
  try {
    const [here, there] = await Promise.all([store.status(signal), opened.status(signal)]);
    if (here.clusterId !== there.clusterId || user !== '') return opened;
  } catch (error) {
    await opened.close();
    throw error;
  }
  await opened.close();
  return store;
}

function requireSane(options: FormatOptions): void {
  const { name, blockSizeKiB = 1024, trashDays = 1, compression = 'none', encryptKey, encryptAlgo } = options;
  if (!/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(name)) {
    throw new ConfigError(
      `${JSON.stringify(name)} is no volume name: 3 to 63 of a-z, 0-9 and dash, with no dash at either end.`,
    );
  }
  if (blockSizeKiB > 1024) {
    throw new ConfigError(
      `Blocks of ${blockSizeKiB} KiB do not fit into etcd, which takes requests of 1.5 MiB: use 1024 KiB or less.`,
    );
  }
  if (blockSizeKiB < 64 || !Number.isInteger(Math.log2(blockSizeKiB))) {
    throw new ConfigError(`The block size must be 64, 128, 256, 512 or 1024 KiB, not ${blockSizeKiB}.`);
  }
  if (compressionOf(compression) === undefined) {
    throw new ConfigError(`The compression is none, lz4 or zstd, not ${JSON.stringify(compression)}.`);
  }
  if (encryptAlgo !== undefined && encryptionOf(encryptAlgo) === undefined) {
    throw new ConfigError(
      `The encryption is aes256gcm-rsa or chacha20-rsa, not ${JSON.stringify(encryptAlgo)}.`,
    );
  }
  if (encryptAlgo !== undefined && encryptKey === undefined) {
    throw new ConfigError('--encrypt-algo means nothing without --encrypt-rsa-key.');
  }
  if (!Number.isInteger(trashDays) || trashDays < 0) {
    throw new ConfigError(`The days in the trash must be a whole number from 0 on, not ${trashDays}.`);
  }
}

async function requireEmpty(context: VerbContext, data: EtcdStore, name: string): Promise<void> {
  const { store, address } = context;
  const { kvs } = await store.get(
    [address.prefix + encodeKey({ kind: 'setting' })],
    withSignal(context.signal),
  );
  if (kvs[0] !== undefined) {
    throw new VolumeError('There is a volume at this address already: it was left as it is.');
  }
  // Refused again by the transaction; asked first for the sake of the sentence.
  if (await hasKeys(store, address.prefix)) {
    throw new VolumeError(
      'There are keys at this address that belong to no volume: remove them or use another path.',
    );
  }
  if (await hasKeys(data, `${name}/`)) {
    throw new VolumeError(
      `There are objects below ${name}/ in this etcd already: choose another name or remove them.`,
    );
  }
}

async function hasKeys(store: EtcdStore, prefix: string): Promise<boolean> {
  // A transaction without writes that passes only if the range is empty: nothing of a large range is read.
  const compares = [{ range: prefixRange(prefix), maxModRevision: 0n }];
  return (await store.commit({ compares, ops: [] })).outcome === 'lost';
}

function directoryAttr(mode: number, nowNs: bigint): Attr {
  return {
    flags: 0,
    type: 'directory',
    mode,
    uid: 0,
    gid: 0,
    atimeNs: nowNs,
    mtimeNs: nowNs,
    ctimeNs: nowNs,
    nlink: 2,
    length: 4096n,
    rdev: 0,
    parent: ROOT_INO,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
    rest: new Uint8Array(0),
  };
}

/** The setting as the real client of 1.4 writes it: JSON with line breaks and no indent (layout 2). */
function encodeSetting(
  { address, data = {} }: VerbContext,
  options: FormatOptions,
  uuid: string,
): Uint8Array {
  const { accessKey: user = data.bucket === undefined ? (address.user ?? '') : '' } = data;
  const { secretKey: password = data.bucket === undefined ? (address.password ?? '') : '' } = data;
  const { encryptKey = '' } = options;
  const setting = {
    Name: options.name,
    UUID: uuid,
    Storage: 'etcd',
    Tiers: { '0': { ID: 0, StorageClass: '', Tag: '' } },
    Bucket: data.bucket ?? bucketOf(address),
    ...(user === '' ? {} : { AccessKey: user }),
    ...(password === '' ? {} : { SecretKey: wrapSecret(password, uuid) }),
    BlockSize: options.blockSizeKiB ?? 1024,
    Compression: options.compression ?? 'none',
    ...(options.hashPrefix === true ? { HashPrefix: true } : {}),
    ...(encryptKey === '' ? {} : { EncryptKey: wrapSecret(encryptKey, uuid) }),
    // Named on every volume; the key alone says that blocks are encrypted (layout 2).
    EncryptAlgo: options.encryptAlgo ?? DEFAULT_ALGORITHM,
    ...(password === '' && encryptKey === '' ? {} : { KeyEncrypted: true }),
    TrashDays: options.trashDays ?? 1,
    MetaVersion: 1,
    MinClientVersion: '1.1.0-A',
    DirStats: true,
    EnableACL: false,
  };
  return new TextEncoder().encode(JSON.stringify(setting, undefined, 1).replaceAll(/^ +/gm, ''));
}

/** The object store's address: the metadata's hosts and TLS files, without path and user (layout 1.3). */
function bucketOf({ endpoints, tls }: MetaAddress): string {
  const hosts = endpoints
    .map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`)
    .join(',');
  if (tls === undefined) return hosts;
  const query = new URLSearchParams({
    ...(tls.ca === undefined ? {} : { cacert: tls.ca }),
    ...(tls.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls.key === undefined ? {} : { key: tls.key }),
    ...(tls.serverName === undefined ? {} : { 'server-name': tls.serverName }),
    ...(tls.insecureSkipVerify ? { 'insecure-skip-verify': 'true' } : {}),
  });
  return `etcd://${hosts}?${query.toString()}`;
}
