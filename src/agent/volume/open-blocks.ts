/** Finds where a volume's blocks are and opens them: beside the metadata, at the setting's bucket, or where the caller says. */

import { readFileSync } from 'node:fs';

import { toByteString } from '../../codec/bytes.ts';
import { decrypt, type BlockCipher } from '../../codec/encrypt.ts';
import { DecodeError } from '../../codec/error.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Setting } from '../../codec/setting.ts';
import { bucketsOf, shardOf } from '../../codec/shard.ts';
import { parseBucket, type BucketAddress } from '../../codec/url.ts';
import { EtcdBlockStore } from './block-store.ts';
import { loadCipher, PASSPHRASE_ENV } from './cipher.ts';
import { systemClock } from '../base/clock.ts';
import { AuthError, ConfigError, UnavailableError, VolumeError } from '../base/error.ts';
import { etcdStore } from '../etcd/etcd.ts';
import { packingOf } from './packing.ts';
import type { BlockStore, EtcdStore, LeaseStore } from '../base/ports.ts';
import { unwrapSecrets } from './secret.ts';
import { withSignal } from '../base/signal.ts';

/** What the caller knows of a volume's data; the setting has the rest (layout 1.3). */
export interface DataOptions {
  /** Address of the etcd that holds the blocks, instead of the setting's. */
  readonly bucket?: string;
  /** User and password of that etcd, instead of the setting's. */
  readonly accessKey?: string;
  readonly secretKey?: string;
  /** Of the key in the setting of an encrypted volume. */
  readonly passphrase?: string;
}

/** What the command line and the environment say; names of variables are the real client's. Throws `ConfigError`. */
export function dataOptionsFrom(
  bucket: string | undefined,
  passphraseFile: string | undefined,
  env: NodeJS.ProcessEnv,
): DataOptions {
  const accessKey = env['ACCESS_KEY'] || undefined;
  const secretKey = env['SECRET_KEY'] || undefined;
  const passphrase =
    passphraseFile === undefined ? env[PASSPHRASE_ENV] || undefined : readPassphrase(passphraseFile);
  return {
    ...(bucket === undefined ? {} : { bucket }),
    ...(accessKey === undefined ? {} : { accessKey }),
    ...(secretKey === undefined ? {} : { secretKey }),
    ...(passphrase === undefined ? {} : { passphrase }),
  };
}

/** The first line of a file. */
function readPassphrase(file: string): string {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0] ?? '';
  } catch (error) {
    throw new ConfigError('the passphrase of the volume cannot be read', { path: file, cause: error });
  }
}

/** The object that says whose data the keys below a volume's name are. */
export function uuidKey(name: string): ByteString {
  return `${name}/juicefs_uuid`;
}

/**
 * Opens the blocks of a volume; `close` of what is returned ends what was opened. Throws `VolumeError` if they are not
 * found or cannot be decrypted, `ConfigError` for a bucket that is no address.
 */
export async function openBlocks(
  metadata: EtcdStore,
  stored: Setting,
  options: DataOptions = {},
  signal?: AbortSignal,
): Promise<BlockStore> {
  const setting = unwrapSecrets(stored);
  const cipher =
    setting.encryptKey === ''
      ? undefined
      : await loadCipher(setting.encryptKey, setting.encryptAlgo, options.passphrase);
  const opened = await findStores(metadata, setting, cipher, options, signal);
  const packing = await packingOf(setting, cipher);
  return new EtcdBlockStore({ name: setting.name, ...opened, packing, clock: systemClock });
}

interface Opened {
  readonly stores: readonly EtcdStore[];
  readonly elsewhere?: readonly LeaseStore[];
}

async function findStores(
  metadata: EtcdStore,
  setting: Setting,
  cipher: BlockCipher | undefined,
  options: DataOptions,
  signal: AbortSignal | undefined,
): Promise<Opened> {
  const beside: Opened = { stores: [metadata] };
  const { name } = setting;
  const proofIn = (store: EtcdStore): Promise<Proof> => proof(store, setting, cipher, signal);
  const isSharded = setting.shards > 1;
  // A bucket often names the host as whoever formatted the volume saw it: where the metadata are is asked first.
  let here: Proof = 'missing';
  if (options.bucket === undefined && !isSharded) {
    here = await proofIn(metadata);
    if (here === 'ours') return beside;
  }
  const addresses = addressesOf(setting, options);
  const { clusterId } = await metadata.status(signal);
  const stores: LeaseStore[] = [];
  try {
    let isBeside = true;
    for (const address of addresses) {
      const store = etcdStore(withLogin(address, setting, options), systemClock);
      stores.push(store);
      isBeside &&= (await statusOf(store, address, signal)).clusterId === clusterId;
    }
    const isReadable = isBeside && (await proofIn(metadata)) === 'ours';
    if (isReadable) {
      await closeAll(stores);
      return beside;
    }
    const store = stores[shardOf(uuidKey(name), stores.length)];
    const there = store === undefined ? 'missing' : await proofIn(store);
    if (there === 'ours') return { stores, elsewhere: stores };
    const hosts = addresses.map(hostsOf).join(' and ');
    if (there === 'foreign' || here === 'foreign') {
      const where = there === 'foreign' ? `The data at ${hosts}` : 'The data in the etcd of the metadata';
      throw new VolumeError(
        `${where} belong to another volume called ${name}; those of this one are elsewhere or overwritten: say where with --bucket.`,
      );
    }
    throw new VolumeError(
      options.bucket === undefined && !isSharded
        ? `The data of the volume ${name} are neither in the etcd that holds its metadata nor in that of its setting (${hosts}): say where with --bucket.`
        : `The data of the volume ${name} are not at ${hosts}.`,
    );
  } catch (error) {
    await closeAll(stores);
    throw error;
  }
}

async function closeAll(stores: readonly EtcdStore[]): Promise<void> {
  await Promise.all(stores.map((store) => store.close()));
}

type Proof = 'ours' | 'foreign' | 'missing';

/** The object that `format` puts beside the blocks (layout 1.4) proves whose they are. */
async function proof(
  store: EtcdStore,
  { name, uuid }: Setting,
  cipher: BlockCipher | undefined,
  signal: AbortSignal | undefined,
): Promise<Proof> {
  try {
    const { kvs } = await store.get([uuidKey(name)], withSignal(signal));
    const stored = kvs[0]?.value;
    if (stored === undefined) return 'missing';
    // Encrypted like a block, but never compressed.
    const text = cipher === undefined ? stored : await decrypt(stored, cipher);
    return toByteString(text).trim() === uuid ? 'ours' : 'foreign';
  } catch (error) {
    if (error instanceof DecodeError) return 'foreign';
    // The metadata's user need not see the data.
    if (error instanceof AuthError) return 'missing';
    throw error;
  }
}

function addressesOf(setting: Setting, { bucket }: DataOptions): readonly BucketAddress[] {
  const text = bucket ?? setting.bucket;
  const buckets = setting.shards > 1 ? bucketsOf(text, setting.shards) : [text];
  const fail = (reason: string): never => {
    if (bucket !== undefined) throw new ConfigError(`--bucket ${reason}`);
    throw new VolumeError(
      `The bucket of the volume ${setting.name} ${reason}: say where it is with --bucket.`,
    );
  };
  if (buckets === undefined) return fail(`needs %d for the numbers of its ${setting.shards} shards`);
  try {
    return buckets.map(parseBucket);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return fail(`is no address of an etcd: ${error.message}`);
  }
}

/** User info in the address is ignored: access key and secret key are user and password (layout 1.3). */
function withLogin(
  address: BucketAddress,
  setting: Setting,
  options: DataOptions,
): Parameters<typeof etcdStore>[0] {
  const user = options.accessKey ?? setting.accessKey;
  const password = options.secretKey ?? setting.secretKey;
  return { ...address, ...(user === '' ? {} : { user, password }), prefix: `${setting.name}/` };
}

async function statusOf(
  store: EtcdStore,
  address: BucketAddress,
  signal: AbortSignal | undefined,
): Promise<{ readonly clusterId: string }> {
  try {
    return await store.status(signal);
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    const reason = `The etcd of the volume's data (${hostsOf(address)}) cannot be reached`;
    throw new UnavailableError(`${reason}: ${error.message}`, { cause: error });
  }
}

function hostsOf({ endpoints }: BucketAddress): string {
  return endpoints.map(({ host, port }) => `${host}:${port}`).join(',');
}
