/** A volume as it was opened: its setting, where its keys are, and what must not be done to it. */

import type { BlockLayout } from '../../codec/block.ts';
import { DecodeError } from '../../codec/error.ts';
import { encodeKey, type MetaKey } from '../../codec/key.ts';
import type { ByteString } from '../../codec/kv.ts';
import { decodeSetting, readRefusal, writeRefusal, type Setting } from '../../codec/setting.ts';
import type { MetaAddress } from '../../codec/url.ts';
import { VolumeError } from '../base/error.ts';
import { openBlocks, type DataOptions } from './open-blocks.ts';
import type { BlockStore, EtcdStore } from '../base/ports.ts';
import { withSignal } from '../base/signal.ts';

export interface Volume {
  readonly setting: Setting;
  /** What every metadata key starts with. */
  readonly prefix: ByteString;
  /** How block keys are named. */
  readonly blocks: BlockLayout;
  /** Where the blocks are. */
  readonly data: BlockStore;
  /** Why this program does not write the volume, in one sentence; absent if it does. */
  readonly writeRefusal?: string;
  /** The revision of the store at which all this was read. */
  readonly revision: bigint;
  /** A metadata key as the store has it. */
  keyOf(key: MetaKey): ByteString;
  /** Ends the connections that were opened for the blocks alone; the caller's store stays. */
  close(): Promise<void>;
}

/**
 * Opens the volume at an address, and its blocks. Throws `VolumeError` if there is none, if it cannot be read, or if its
 * blocks are not found or cannot be decrypted.
 */
export async function openVolume(
  store: EtcdStore,
  address: Pick<MetaAddress, 'prefix'>,
  signal?: AbortSignal,
  data: DataOptions = {},
): Promise<Volume> {
  const { prefix } = address;
  const options = withSignal(signal);
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
  const refusesWrites = writeRefusal(setting);
  const blocks = await openBlocks(store, setting, data, signal);
  return {
    setting,
    prefix,
    blocks: { name: setting.name, hashPrefix: setting.hashPrefix },
    data: blocks,
    ...(refusesWrites === undefined ? {} : { writeRefusal: refusesWrites }),
    revision,
    keyOf: (key) => prefix + encodeKey(key),
    close: () => blocks.close(),
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
