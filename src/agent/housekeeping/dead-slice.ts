/** Deletes a slice that nothing refers to: its blocks, then its count (layout 5.4). Every step may be repeated. */

import { decodeCounter } from '../../codec/counter.ts';
import type { SliceName } from '../../reconcile/volume-facts.ts';
import { keysOfSlice } from '../volume/blocks.ts';
import type { EtcdStore } from '../base/ports.ts';
import type { Volume } from '../volume/volume.ts';
import { withSignal } from '../base/signal.ts';

/** Whether it was deleted: not if its count is no longer below zero, or changed meanwhile. */
export async function deleteDeadSlice(
  store: EtcdStore,
  volume: Volume,
  { id, size }: SliceName,
  signal?: AbortSignal,
): Promise<boolean> {
  const key = volume.keyOf({ kind: 'sliceRef', id, size });
  const { kvs } = await store.get([key], withSignal(signal));
  const count = kvs[0];
  if (count === undefined || decodeCounter(count.value) >= 0n) return false;
  // Nobody refers to a slice that is not referred to: a copy or a clone starts from a record, and there is none.
  await volume.data.delete(keysOfSlice(volume.blocks, id, size, volume.setting.blockSizeBytes), signal);
  const result = await store.commit(
    { compares: [{ key, modRevision: count.modRevision }], ops: [{ type: 'delete', key }] },
    signal,
  );
  return result.outcome === 'committed';
}
