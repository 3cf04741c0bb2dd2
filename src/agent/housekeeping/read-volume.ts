/** Reads all of a volume at one revision: metadata as facts, and what is stored of its blocks. */

import { blockRange, parseBlockKey } from '../../codec/block.ts';
import { prefixRange } from '../../codec/bytes.ts';
import { DecodeError } from '../../codec/error.ts';
import { blockName, type StoredBlocks } from '../../reconcile/audit-slices.ts';
import { VolumeFacts } from '../../reconcile/volume-facts.ts';
import type { BlockStore, EtcdStore } from '../base/ports.ts';
import type { Volume } from '../volume/volume.ts';
import { withSignal } from '../base/signal.ts';

export interface VolumeReading {
  readonly facts: VolumeFacts;
  readonly revision: bigint;
}

/** All metadata at one revision, which is the newest one. */
export async function readFacts(
  store: EtcdStore,
  volume: Volume,
  signal?: AbortSignal,
): Promise<VolumeReading> {
  const facts = new VolumeFacts();
  const { prefix } = volume;
  const revision = await store.snapshot(
    [prefixRange(prefix)],
    (kv) => facts.add({ ...kv, key: kv.key.slice(prefix.length) }),
    withSignal(signal),
  );
  return { facts, revision };
}

/**
 * Every block that is stored, read and unpacked: what is wrong with each is its text. At a revision of the metadata where
 * they are beside them; elsewhere as they are now.
 */
export async function readBlocks(
  volume: Volume,
  revision: bigint,
  signal?: AbortSignal,
): Promise<StoredBlocks> {
  const { data } = volume;
  const blocks = new Map<bigint, Map<string, string | undefined>>();
  const unpacking: Promise<void>[] = [];
  const options = {
    ...(data.besideMetadata ? { revision } : {}),
    ...withSignal(signal),
  };
  for (const store of data.stores) {
    await store.snapshot(
      [blockRange(volume.setting.name)],
      ({ key, value }) => {
        const block = parseBlockKey(volume.blocks, key);
        if (block === undefined) return;
        const ofSlice = blocks.get(block.id) ?? new Map<string, string | undefined>();
        blocks.set(block.id, ofSlice);
        const name = blockName(block.index, block.length);
        // Pages come one after the other, so that few wait to be unpacked.
        unpacking.push(
          problemOf(data, value, block.length).then((problem) => void ofSlice.set(name, problem)),
        );
      },
      options,
    );
  }
  await Promise.all(unpacking);
  return blocks;
}

async function problemOf(data: BlockStore, value: Uint8Array, length: number): Promise<string | undefined> {
  try {
    await data.unpack(value, length);
    return undefined;
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return error.message;
  }
}
