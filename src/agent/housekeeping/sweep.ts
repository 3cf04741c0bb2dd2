/**
 * Deletes blocks: of slices that are counted down to nothing, and those that nothing has ever named. The only place where
 * the clean-up deletes a block, always after all of the metadata were read once more (ADR 7).
 */

import { blockRange, parseBlockKey } from '../../codec/block.ts';
import { prefixRange } from '../../codec/bytes.ts';
import { encodeCounter } from '../../codec/counter.ts';
import type { MetaKey } from '../../codec/key.ts';
import type { ByteString, Compare, KeyRange, StoreOp } from '../../codec/kv.ts';
import { planSlices, unnamedBlocks, type ListedBlock } from '../../reconcile/cleanup.ts';
import { VolumeFacts, type SliceName } from '../../reconcile/volume-facts.ts';
import { keysOfSlice } from '../volume/blocks.ts';
import { AuthError } from '../base/error.ts';
import { fenceKey } from '../volume/own-keys.ts';
import { safeRevision } from './age.ts';
import type { CleanupOptions, CleanupReport } from './report.ts';
import { readFacts } from './read-volume.ts';
import { requireGuard, type CleanupContext } from './transact.ts';
import { withSignal } from '../base/signal.ts';

/** Keys of one transaction. */
const AT_ONCE = 100;
/** Looks at what is new. */
const LOOKS = 6;

export async function sweep(
  context: CleanupContext,
  safe: bigint,
  options: CleanupOptions,
  report: CleanupReport,
): Promise<void> {
  const { store, volume, signal } = context;
  const { facts, revision } = await readFacts(store, volume, signal);
  const { dead, redundant, tooLow, forgotten } = planSlices(facts, safe);
  for (const { count, ...slice } of tooLow) {
    if ((await setCount(context, slice, count - 1n)) !== undefined) report.counts += 1;
    else report.left.push(`slice ${slice.id} is counted too low`);
  }
  report.slices += await deleteSlices(context, dead);
  for (const slice of redundant) if (await deleteCount(context, slice)) report.counts += 1;
  for (const slice of forgotten) {
    const modRevision = await setCount(context, slice, -1n);
    if (modRevision === undefined) report.left.push(`slice ${slice.id} is counted and named by nothing`);
    else if (await deleteSlice(context, { ...slice, modRevision })) report.slices += 1;
  }
  const { old, young } = unnamedBlocks(
    facts,
    await listBlocks(context, revision),
    await safeForBlocks(context, safe, options),
  );
  report.youngBlocks += young;
  for (let at = 0; at < old.length; at += AT_ONCE) {
    const some = old.slice(at, at + AT_ONCE);
    report.blocks += await deleteUnnamed(context, some, revision);
  }
}

/** Up to which revision of each store a block that nothing names is old; `safe` is the metadata's. */
export async function safeForBlocks(
  context: CleanupContext,
  safe: bigint,
  options: CleanupOptions,
): Promise<readonly bigint[]> {
  const { elsewhere } = context.volume.data;
  if (elsewhere.length === 0) return [safe];
  return Promise.all(
    elsewhere.map(async (store) => {
      try {
        return await safeRevision({ ...context, store, guard: [] }, options.minAge, options);
      } catch (error) {
        // A user that may write blocks alone: the age of what is there cannot be measured.
        if (error instanceof AuthError) return 0n;
        throw error;
      }
    }),
  );
}

/** The keys of all blocks without their values: at a revision where they are beside the metadata, else as they are now. */
export async function listBlocks(
  { volume, signal }: CleanupContext,
  revision: bigint,
): Promise<ListedBlock[]> {
  const { data } = volume;
  const blocks: ListedBlock[] = [];
  const at = data.besideMetadata ? { revision } : {};
  for (const [shard, store] of data.stores.entries()) {
    await store.snapshot(
      [blockRange(volume.setting.name)],
      ({ key, modRevision }) => {
        const block = parseBlockKey(volume.blocks, key);
        if (block !== undefined) blocks.push({ key, id: block.id, modRevision, shard });
      },
      { ...at, keysOnly: true, ...withSignal(signal) },
    );
  }
  return blocks;
}

type CountedSlice = SliceName & { readonly modRevision: bigint };

/** Everything that can name a slice: chunks, and slices whose end is delayed. */
function namingRanges(prefix: ByteString): readonly KeyRange[] {
  return [prefixRange(`${prefix}A`), prefixRange(`${prefix}L`)];
}

function countKey({ id, size }: SliceName): MetaKey {
  return { kind: 'sliceRef', id, size };
}

/**
 * Sets a count that was wrong when everything was read; its new mod revision, or `undefined` if it changed since: whoever
 * names a slice that has a count, or takes a name away, writes the count in the same transaction.
 */
async function setCount(
  { store, volume, guard, signal }: CleanupContext,
  slice: CountedSlice,
  value: bigint,
): Promise<bigint | undefined> {
  const key = volume.keyOf(countKey(slice));
  const compares = [...guard, { key, modRevision: slice.modRevision }];
  const result = await store.commit(
    { compares, ops: [{ type: 'put', key, value: encodeCounter(value) }] },
    signal,
  );
  if (result.outcome === 'committed') return result.revision;
  requireGuard(guard, result.current);
  return undefined;
}

async function deleteCount(
  { store, volume, guard, signal }: CleanupContext,
  slice: CountedSlice,
): Promise<boolean> {
  const key = volume.keyOf(countKey(slice));
  const compares = [...guard, { key, modRevision: slice.modRevision }];
  const result = await store.commit({ compares, ops: [{ type: 'delete', key }] }, signal);
  if (result.outcome === 'lost') requireGuard(guard, result.current);
  return result.outcome === 'committed';
}

/** Small slices together, and one by one where that does not work. How many were deleted. */
async function deleteSlices(context: CleanupContext, slices: readonly CountedSlice[]): Promise<number> {
  const { store, volume, guard, signal } = context;
  const { blockSizeBytes } = volume.setting;
  const blocksOf = ({ id, size }: SliceName): ByteString[] =>
    keysOfSlice(volume.blocks, id, size, blockSizeBytes);
  let deleted = 0;
  let batch: CountedSlice[] = [];
  let keys = 0;
  const flush = async (): Promise<void> => {
    const some = batch;
    batch = [];
    keys = 0;
    if (some.length === 0) return;
    const counts = some.map((slice) => ({ key: volume.keyOf(countKey(slice)), slice }));
    const result = await store.commit(
      {
        compares: [...guard, ...counts.map(({ key, slice }) => ({ key, modRevision: slice.modRevision }))],
        ops: [...counts.map(({ key }) => key), ...some.flatMap(blocksOf)].map((key) => ({
          type: 'delete',
          key,
        })),
      },
      signal,
    );
    if (result.outcome === 'committed') {
      deleted += some.length;
      return;
    }
    requireGuard(guard, result.current);
    for (const slice of some) if (await deleteSlice(context, slice)) deleted += 1;
  };
  for (const slice of slices) {
    const own = blocksOf(slice).length + 1;
    if (own > AT_ONCE || !volume.data.besideMetadata) {
      if (await deleteSlice(context, slice)) deleted += 1;
      continue;
    }
    if (keys + own > AT_ONCE) await flush();
    batch.push(slice);
    keys += own;
  }
  await flush();
  return deleted;
}

/**
 * Blocks first, then the count, each time comparing the count: whoever names the slice once more counts it up in the same
 * transaction.
 */
async function deleteSlice(context: CleanupContext, slice: CountedSlice): Promise<boolean> {
  const { store, volume, guard, signal } = context;
  const key = volume.keyOf(countKey(slice));
  const keys = keysOfSlice(volume.blocks, slice.id, slice.size, volume.setting.blockSizeBytes);
  if (!volume.data.besideMetadata) {
    // No transaction has both. Nobody names a slice again that nothing names: copies and clones start from a record.
    const { kvs } = await store.get([key], withSignal(signal));
    if (kvs[0]?.modRevision !== slice.modRevision) return false;
    await volume.data.delete(keys, signal);
    return deleteCount(context, slice);
  }
  for (let at = 0; at < keys.length; at += AT_ONCE) {
    const result = await store.commit(
      {
        compares: [...guard, { key, modRevision: slice.modRevision }],
        ops: keys.slice(at, at + AT_ONCE).map((one): StoreOp => ({ type: 'delete', key: one })),
      },
      signal,
    );
    if (result.outcome === 'committed') continue;
    requireGuard(guard, result.current);
    return false;
  }
  return deleteCount(context, slice);
}

/**
 * Deletes blocks that nothing named at a revision. What is newer in the metadata is read until a transaction passes in
 * which nothing is newer still: then nothing names them at the moment in which they go; on a busy volume at the moment
 * before. Every such transaction writes the fence, so that a writer who stored blocks before it, and compares the fence,
 * stores them again.
 */
async function deleteUnnamed(
  context: CleanupContext,
  blocks: readonly ListedBlock[],
  readAt: bigint,
): Promise<number> {
  const { store, volume, guard, signal } = context;
  const ranges = namingRanges(volume.prefix);
  let left = [...blocks];
  let revision = readAt;
  for (let looks = 0; looks < LOOKS && left.length > 0; looks += 1) {
    // On a volume that is written to all the time the last look has to do, a moment before.
    const strict = looks < LOOKS - 1 ? ranges : [];
    const here = volume.data.besideMetadata ? left : [];
    const compares: Compare[] = [
      ...guard,
      ...here.map(({ key, modRevision }): Compare => ({ key, modRevision })),
      ...strict.map((range): Compare => ({ range, maxModRevision: revision })),
    ];
    const ops: StoreOp[] = [
      ...here.map(({ key }): StoreOp => ({ type: 'delete', key })),
      { type: 'put', key: fenceKey(volume.setting.uuid), value: new Uint8Array() },
    ];
    const result = await store.commit({ compares, ops }, signal);
    if (result.outcome === 'committed') {
      return here.length > 0 ? here.length : deleteElsewhere(context, left);
    }
    requireGuard(guard, result.current);
    const facts = new VolumeFacts();
    const since = revision + 1n;
    revision = await store.snapshot(
      ranges,
      (kv) => facts.add({ ...kv, key: kv.key.slice(volume.prefix.length) }),
      { changedSince: since, ...withSignal(signal) },
    );
    const named = new Set([...facts.countReferences().values()].map(({ id }) => id));
    const isSame = ({ key, modRevision }: ListedBlock): boolean =>
      result.current.get(key)?.modRevision === modRevision;
    left = left.filter((block) => !named.has(block.id) && (here.length === 0 || isSame(block)));
  }
  return 0;
}

/** The same for blocks in other stores, which no transaction has together with the metadata: right after the fence. */
async function deleteElsewhere(
  { volume, signal }: CleanupContext,
  blocks: readonly ListedBlock[],
): Promise<number> {
  let deleted = 0;
  for (const [shard, store] of volume.data.elsewhere.entries()) {
    const own = blocks.filter((block) => block.shard === shard);
    if (own.length === 0) continue;
    const result = await store.commit(
      {
        compares: own.map(({ key, modRevision }): Compare => ({ key, modRevision })),
        ops: own.map(({ key }): StoreOp => ({ type: 'delete', key })),
      },
      signal,
    );
    if (result.outcome === 'committed') deleted += own.length;
  }
  return deleted;
}
