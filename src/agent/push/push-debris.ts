/** Takes away what a killed push left in the volume without a name, from what it had claimed before (design G4). */

import { blocksOfSliceRange } from '../../codec/block.ts';
import { decodeKey } from '../../codec/key.ts';
import { prefixRange } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import { decodeSlices } from '../../codec/slice.ts';
import { decodeDelayedSlices } from '../../codec/delayed-slices.ts';
import type { Claim } from './push-outcome.ts';
import { removeHold, type HoldContext } from './push-hold.ts';
import { assertSameStore, type IsSameStore } from '../base/same-store.ts';
import { withSignal } from '../base/signal.ts';

/** The claims of pushes that may have left something. */
export interface Claimed {
  /** Ids. */
  readonly slices: ReadonlySet<bigint>;
  readonly holds: ReadonlySet<bigint>;
  /** What the last transaction relied on. */
  readonly relied: Extract<Claim, { kind: 'relied' }> | undefined;
}

/**
 * Removes directories without names, and blocks of slices that nothing names. Only of processes that have ended: what
 * they sent may still be on its way, and is made to fail first. May be repeated after any failure. Throws `DecodeError`
 * when what is damaged may name them: then the blocks stay; and so with `UnavailableError` when the store is not the same any more.
 */
export async function removeDebris(
  context: HoldContext,
  { slices, holds, relied }: Claimed,
  { isSameStore, signal }: { readonly isSameStore?: IsSameStore; readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { store, volume } = context;
  const options = withSignal(signal);
  if (relied !== undefined) {
    const [stored] = (await store.get([relied.key], options)).kvs;
    if (stored?.modRevision === relied.modRevision) {
      // The same value again, so that the key has moved. Lost: then it has as well.
      const { key, modRevision } = relied;
      await store.commit(
        { compares: [{ key, modRevision }], ops: [{ type: 'put', key, value: stored.value }] },
        signal,
      );
    }
  }
  for (const ino of holds) await removeHold(context, ino);
  if (slices.size === 0) return;
  const named = new Set<bigint>();
  const records = [prefixRange(`${volume.prefix}A`), prefixRange(`${volume.prefix}L`)];
  await store.snapshot(
    records,
    ({ key, value }) => {
      const { kind } = decodeKey(key.slice(volume.prefix.length));
      if (kind === 'chunk') for (const { id } of decodeSlices(value)) named.add(id);
      else if (kind === 'delayedSlices') for (const { id } of decodeDelayedSlices(value)) named.add(id);
    },
    options,
  );
  const ranges = [...slices]
    .filter((id) => !named.has(id))
    .map((id) => blocksOfSliceRange(volume.blocks, id));
  const keys: ByteString[] = [];
  for (const data of volume.data.stores)
    await data.snapshot(ranges, ({ key }) => keys.push(key), { ...options, keysOnly: true });
  // A backup may not know of what names them.
  assertSameStore(isSameStore);
  await volume.data.delete(keys, signal);
}
