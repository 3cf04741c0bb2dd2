/** `format`: makes a volume that the real client accepts, in one transaction. */

import { createCipheriv, createHash, randomBytes, randomUUID } from 'node:crypto';
import { encodeAttr, type Attr } from '../../codec/attr.ts';
import { prefixRange, toBytes } from '../../codec/bytes.ts';
import { encodeCounter, encodeDirStat } from '../../codec/counter.ts';
import { encodeKey, ROOT_INO, TRASH_INO, type MetaKey } from '../../codec/key.ts';
import type { Kv, StoreOp } from '../../codec/kv.ts';
import type { MetaAddress } from '../../codec/url.ts';
import { NO_STAT } from '../../reconcile/accounting.ts';
import { ConfigError, VolumeError } from '../error.ts';
import { uuidKey } from '../volume.ts';
import { EXIT, print, withSignal, type VerbContext } from './context.ts';

export interface FormatOptions {
  /** 3 to 63 of a-z, 0-9 and dash. */
  readonly name: string;
  /** KiB; a power of two from 64 to 1024, 1024 if not given. */
  readonly blockSizeKiB?: number;
  /** Days that deleted files stay in the trash, 1 if not given; 0: deletes are final. */
  readonly trashDays?: number;
  /** Spreads block keys over 256 folders. */
  readonly hashPrefix?: boolean;
}

/**
 * Formats a volume whose blocks live in the etcd of its metadata (layout 10.0). Throws `ConfigError` for options that
 * etcd or JuiceFS cannot hold, `VolumeError` if something is there already.
 */
export async function format(context: VerbContext, options: FormatOptions): Promise<number> {
  const { store, address, clock } = context;
  const { name } = options;
  requireSane(options);
  await requireEmpty(context, name);
  const uuid = randomUUID();
  const trashDays = options.trashDays ?? 1;
  const nowNs = clock.nowNs();
  const metadata: readonly (readonly [key: MetaKey, value: Uint8Array])[] = [
    [{ kind: 'setting' }, encodeSetting(address, options, uuid)],
    [{ kind: 'attr', ino: ROOT_INO }, encodeAttr(directoryAttr(0o777, nowNs))],
    ...(trashDays > 0
      ? [[{ kind: 'attr', ino: TRASH_INO }, encodeAttr(directoryAttr(0o555, nowNs))] as const]
      : []),
    [{ kind: 'counter', name: 'nextInode' }, encodeCounter(2n)],
    [{ kind: 'counter', name: 'nextChunk' }, encodeCounter(1n)],
    // The real client leaves this one out, and its fsck then stumbles over the root (layout 13.4).
    [{ kind: 'dirStat', ino: ROOT_INO }, encodeDirStat(NO_STAT)],
  ];
  const ops: StoreOp[] = [
    { type: 'put', key: uuidKey(name), value: toBytes(uuid) },
    ...metadata.map(([key, value]): StoreOp => ({
      type: 'put',
      key: address.prefix + encodeKey(key),
      value,
    })),
  ];
  const compares = [
    { range: prefixRange(address.prefix), maxModRevision: 0n },
    { range: prefixRange(`${name}/`), maxModRevision: 0n },
  ];
  const result = await store.commit({ compares, ops }, context.signal);
  if (result.outcome === 'lost') {
    const { kvs } = await store.get([uuidKey(name)], withSignal(context));
    // An attempt without an answer may have been ours.
    if (!isOurs(kvs[0], uuid)) {
      throw new VolumeError(
        `Somebody else put keys where the volume ${name} was to be: nothing was written.`,
      );
    }
  }
  await print(context.out, `Formatted the volume ${name} (${uuid}).\n`);
  return EXIT.done;
}

function isOurs(kv: Kv | undefined, uuid: string): boolean {
  return kv !== undefined && new TextDecoder().decode(kv.value) === uuid;
}

function requireSane({ name, blockSizeKiB = 1024, trashDays = 1 }: FormatOptions): void {
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
  if (!Number.isInteger(trashDays) || trashDays < 0) {
    throw new ConfigError(`The days in the trash must be a whole number from 0 on, not ${trashDays}.`);
  }
}

async function requireEmpty(context: VerbContext, name: string): Promise<void> {
  const { store, address } = context;
  const { kvs } = await store.get([address.prefix + encodeKey({ kind: 'setting' })], withSignal(context));
  if (kvs[0] !== undefined) {
    throw new VolumeError('There is a volume at this address already: it was left as it is.');
  }
  // Refused again by the transaction; asked first for the sake of the sentence.
  if (await hasKeys(context, address.prefix)) {
    throw new VolumeError(
      'There are keys at this address that belong to no volume: remove them or use another path.',
    );
  }
  if (await hasKeys(context, `${name}/`)) {
    throw new VolumeError(
      `There are objects below ${name}/ in this etcd already: choose another name or remove them.`,
    );
  }
}

async function hasKeys({ store }: VerbContext, prefix: string): Promise<boolean> {
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
function encodeSetting(address: MetaAddress, options: FormatOptions, uuid: string): Uint8Array {
  const { user = '', password = '' } = address;
  const setting = {
    Name: options.name,
    UUID: uuid,
    Storage: 'etcd',
    Tiers: { '0': { ID: 0, StorageClass: '', Tag: '' } },
    Bucket: bucketOf(address),
    ...(user === '' ? {} : { AccessKey: user }),
    ...(password === '' ? {} : { SecretKey: wrapSecret(password, uuid) }),
    BlockSize: options.blockSizeKiB ?? 1024,
    Compression: 'none',
    ...(options.hashPrefix === true ? { HashPrefix: true } : {}),
    EncryptAlgo: 'aes256gcm-rsa',
    ...(password === '' ? {} : { KeyEncrypted: true }),
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

/** How the real client hides a secret in the setting (layout 2.1). */
function wrapSecret(secret: string, uuid: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-128-gcm', createHash('md5').update(uuid).digest(), nonce);
  const sealed = [cipher.update(secret, 'utf8'), cipher.final()];
  return Buffer.concat([nonce, ...sealed, cipher.getAuthTag()]).toString('base64');
}
