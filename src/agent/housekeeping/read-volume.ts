/** Reads all of a volume at one revision: metadata as facts, and what is stored of its blocks. */

import { blockRange, parseBlockKey } from '../../codec/block.ts';
import { prefixRange } from '../../codec/bytes.ts';
import { compressionOf, unpackBlock } from '../../codec/compress.ts';
import { DecodeError } from '../../codec/error.ts';
import { blockName, type StoredBlocks } from '../../reconcile/audit-slices.ts';
import { VolumeFacts } from '../../reconcile/volume-facts.ts';
import { loadCodecs } from '../codecs.ts';
import type { EtcdStore } from '../ports.ts';
import type { Volume } from '../volume.ts';

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
    signal === undefined ? {} : { signal },
  );
  return { facts, revision };
}

/** Every block that is stored at a revision, read and unpacked: what is wrong with each is its text. */
export async function readBlocks(
  store: EtcdStore,
  volume: Volume,
  revision: bigint,
  signal?: AbortSignal,
): Promise<StoredBlocks> {
  const codecs = await loadCodecs();
  const compression = compressionOf(volume.setting.compression) ?? 'none';
  const blocks = new Map<bigint, Map<string, string | undefined>>();
  await store.snapshot(
    [blockRange(volume.setting.name)],
    ({ key, value }) => {
      const block = parseBlockKey(volume.blocks, key);
      if (block === undefined) return;
      let problem: string | undefined;
      try {
        unpackBlock(compression, value, block.length, codecs);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
        problem = error.message;
      }
      const ofSlice = blocks.get(block.id) ?? new Map<string, string | undefined>();
      ofSlice.set(blockName(block.index, block.length), problem);
      blocks.set(block.id, ofSlice);
    },
    { revision, ...(signal === undefined ? {} : { signal }) },
  );
  return blocks;
}
