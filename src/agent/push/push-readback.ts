/** What became of a transaction that lost after an attempt without a known outcome: the volume itself tells (design 4.4). */

import { decodeSlices } from '../../codec/slice.ts';
import type { Plan, Planned, Prepared } from '../../reconcile/plan-remote.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import type { StoredContent } from './content.ts';
import type { CommitResult } from '../base/ports.ts';
import type { HoldContext } from './push-hold.ts';
import { writtenAt } from './push-verdict.ts';
import { withSignal } from '../base/signal.ts';

/** What was claimed and stored for a change. */
export type Claimant = Prepared & { readonly content?: StoredContent };

interface Lost {
  readonly result: Extract<CommitResult, { outcome: 'lost' }>;
  readonly plan: Extract<Plan, { status: 'plan' }>;
  /** Changes without an outcome. */
  readonly prepared: ReadonlyMap<PushChange, Claimant>;
  /** The directory without a name whose entries the transaction was to name. */
  readonly hold: bigint | undefined;
  readonly signal: AbortSignal | undefined;
  /** The blocks of a change are another client's by now. */
  readonly onTakenOver: (change: PushChange) => void;
}

/**
 * Whether an earlier attempt of a lost transaction had committed, and at which revision. `undefined` is only returned
 * once it is certain that none did or that nothing of it is left.
 */
export async function committedAfterAll(
  context: HoldContext,
  { result, plan: { transaction, planned }, prepared, hold, signal, onTakenOver }: Lost,
): Promise<bigint | undefined> {
  if (!result.ambiguous) return undefined;
  const { store, volume } = context;
  const options = withSignal(signal);
  if (hold !== undefined) {
    // Only the transaction that sets the names takes the mark away, and nobody has forgotten it yet.
    const { kvs } = await store.get([volume.keyOf({ kind: 'detached', ino: hold })], options);
    if (kvs[0] !== undefined) return undefined;
    return writtenAt(transaction, result.current) ?? result.revision;
  }
  if (await isInPlace(context, planned, prepared, options))
    return writtenAt(transaction, result.current) ?? result.revision;
  // What was claimed for contents in place gets no attr.
  const ino = planned.find(({ change, entry }) => {
    const claimed = prepared.get(change)?.ino;
    return claimed !== undefined && claimed === entry?.ino;
  })?.entry?.ino;
  if (ino === undefined) return writtenAt(transaction, result.current);
  const { kvs } = await store.get([volume.keyOf({ kind: 'attr', ino })], options);
  // Nobody else writes the attr of an inode that we claimed before it has a name.
  const created = kvs[0]?.createRevision;
  if (created !== undefined) return created;
  // It may have come and gone: then its blocks belong to whoever deletes the file's data.
  await findTakenOver(context, planned, prepared, onTakenOver);
  return undefined;
}

/** Whether an inode that was there has a slice of ours, swapped or appended: nobody else gives one to it. */
async function isInPlace(
  { store, volume }: HoldContext,
  planned: readonly Planned[],
  prepared: ReadonlyMap<PushChange, Claimant>,
  options: { readonly signal?: AbortSignal },
): Promise<boolean> {
  for (const { change, entry } of planned) {
    const content = prepared.get(change)?.content;
    const [chunk] = content?.chunks ?? [];
    const kind = change.link?.kind;
    const isMeant = kind === 'in-place' || kind === 'name-in-place' || content?.appendTo !== undefined;
    if (!isMeant || entry === undefined || chunk === undefined) continue;
    const key = volume.keyOf({ kind: 'chunk', ino: entry.ino, index: chunk.index });
    const { kvs } = await store.get([key], options);
    const found = kvs[0] === undefined ? [] : decodeSlices(kvs[0].value);
    if (found.some(({ id }) => chunk.records.some((record) => record.id === id))) return true;
  }
  return false;
}

/** Contents whose blocks another client has already taken over for deletion. */
async function findTakenOver(
  { store, volume }: HoldContext,
  planned: readonly Planned[],
  prepared: ReadonlyMap<PushChange, Claimant>,
  onTakenOver: (change: PushChange) => void,
): Promise<void> {
  for (const { change } of planned) {
    const { ino, content } = prepared.get(change) ?? {};
    if (ino === undefined || content === undefined) continue;
    const { kvs } = await store.get([volume.keyOf({ kind: 'deletedFile', ino, length: content.length })]);
    if (kvs[0] !== undefined) onTakenOver(change);
  }
}
