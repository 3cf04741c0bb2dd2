/** A volume as it was opened: its setting, where its keys are, and what must not be done to it. */

import { toByteString } from '../codec/bytes.ts';
import type { BlockLayout } from '../codec/block.ts';
import { DecodeError } from '../codec/error.ts';
import { encodeKey, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { decodeSetting, readRefusal, writeRefusal, type Setting } from '../codec/setting.ts';
import type { MetaAddress } from '../codec/url.ts';
import { VolumeError } from './error.ts';
import type { EtcdStore } from './ports.ts';

export interface Volume {
  readonly setting: Setting;
  /** What every metadata key starts with. */
  readonly prefix: ByteString;
  /** How block keys are named. */
  readonly blocks: BlockLayout;
  /** Why this program does not write the volume, in one sentence; absent if it does. */
  readonly writeRefusal?: string;
  /** The revision of the store at which all this was read. */
  readonly revision: bigint;
  /** A metadata key as the store has it. */
  keyOf(key: MetaKey): ByteString;
}

/**
 * Opens the volume at an address. Throws `VolumeError` if there is none, if it cannot be read, or if its blocks are in
 * another etcd than its metadata.
 */
export async function openVolume(
  store: EtcdStore,
  address: Pick<MetaAddress, 'prefix'>,
  signal?: AbortSignal,
): Promise<Volume> {
  const { prefix } = address;
  const options = signal === undefined ? {} : { signal };
  const { kvs, revision } = await store.get([prefix + encodeKey({ kind: 'setting' })], options);
  const stored = kvs[0]?.value;
  if (stored === undefined) {
    throw new VolumeError(
      'There is no JuiceFS volume at this address: check host and path, or make one with the verb format.',
    );
  }
  const setting = settingOf(stored);
  const refusal = readRefusal(setting);
  if (refusal !== undefined) throw new VolumeError(`The volume ${setting.name} cannot be read: ${refusal}`);
  await requireBlocksHere(store, setting, options);
  const refusesWrites = writeRefusal(setting);
  return {
    setting,
    prefix,
    blocks: { name: setting.name, hashPrefix: setting.hashPrefix },
    ...(refusesWrites === undefined ? {} : { writeRefusal: refusesWrites }),
    revision,
    keyOf: (key) => prefix + encodeKey(key),
  };
}

/** Decodes a volume's `setting`. Throws `VolumeError` if it is none. */
export function settingOf(value: Uint8Array): Setting {
  try {
    return decodeSetting(value);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new VolumeError(`What is stored at this address is no JuiceFS volume: ${error.message}.`, {
      cause: error,
    });
  }
}

/** The object that `format` puts beside the blocks (layout 1.4) proves that they are in this etcd. */
async function requireBlocksHere(
  store: EtcdStore,
  { name, uuid }: Setting,
  options: { readonly signal?: AbortSignal },
): Promise<void> {
  const { kvs } = await store.get([uuidKey(name)], options);
  const found = kvs[0]?.value;
  if (found === undefined) {
    throw new VolumeError(
      `The data of the volume ${name} are not in the etcd that holds its metadata; another data etcd is not supported.`,
    );
  }
  if (toByteString(found).trim() !== uuid) {
    throw new VolumeError(
      `The data in this etcd belong to another volume called ${name}; those of this one are elsewhere or overwritten.`,
    );
  }
}

/** The object that says whose data the keys below a volume's name are. */
export function uuidKey(name: string): ByteString {
  return `${name}/juicefs_uuid`;
}
