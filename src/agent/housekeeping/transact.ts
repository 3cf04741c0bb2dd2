/** Runs one decision as one transaction: reads what it asks for, compares all of it, and decides again when it lost. */

import { DecodeError } from '../../codec/error.ts';
import type { Compare } from '../../codec/kv.ts';
import { decodeKey } from '../../codec/key.ts';
import { Accounting } from '../../reconcile/accounting.ts';
import { Draft, Unanswered } from '../../reconcile/draft.ts';
import { Refused, Stale } from '../../reconcile/refusal.ts';
import type { Work } from '../../reconcile/work.ts';
import { AgentError } from '../base/error.ts';
import type { Clock, LeaseStore } from '../base/ports.ts';
import { PushView } from '../push/push-view.ts';
import type { Volume } from '../volume/volume.ts';

/** What every step of the clean-up needs of the world. */
export interface CleanupContext {
  readonly store: LeaseStore;
  readonly volume: Volume;
  readonly clock: Clock;
  /** Compared by every transaction: that this worker is still the elected one. */
  readonly guard: readonly Compare[];
  readonly signal?: AbortSignal;
}

/** Another worker was elected: nothing more is written by this one. */
class DeposedError extends AgentError {
  constructor() {
    super('ERR_DEPOSED', 'another worker has taken over');
  }
}

export type Outcome =
  | {
      readonly outcome: 'done';
      /** Files whose data now await deletion. */ readonly deleted: readonly DeletedFile[];
    }
  /** The volume is not what the decision was made for: there is nothing to do, or somebody else did it. */
  | { readonly outcome: 'stale' }
  /** It must not be done; a phrase for people. */
  | { readonly outcome: 'refused'; readonly reason: string }
  /** Others wrote the same keys each time. */
  | { readonly outcome: 'lost' };

export interface DeletedFile {
  readonly ino: bigint;
  readonly length: bigint;
}

const TRIES = 20;
const JITTER_MS = 4;
const MAX_JITTER_MS = 250;

/** Decides and commits. Every lost try reads and decides anew. Throws `DeposedError`, and the store's errors. */
export async function transact(context: CleanupContext, decide: (work: Work) => void): Promise<Outcome> {
  const { store, volume, clock, guard, signal } = context;
  const { prefix, setting } = volume;
  let view = new PushView(store, prefix, undefined);
  for (let tries = 0; tries < TRIES;) {
    const draft = new Draft(view, prefix);
    const accounting = new Accounting(setting);
    const nowNs = clock.nowNs();
    try {
      decide({ draft, accounting, trashDays: 0, nowNs });
      accounting.settle(draft, nowNs);
    } catch (error) {
      if (error instanceof Unanswered) {
        await view.fetch(error.need, signal);
        continue;
      }
      if (error instanceof Stale) return { outcome: 'stale' };
      if (error instanceof Refused || error instanceof DecodeError)
        return { outcome: 'refused', reason: error.message };
      throw error;
    }
    const { compares, ops } = draft.finish();
    if (ops.length === 0) return { outcome: 'done', deleted: [] };
    const result = await store.commit({ compares: [...guard, ...compares], ops }, signal);
    if (result.outcome === 'committed') {
      const deleted = ops.flatMap((op): DeletedFile[] => {
        if (op.type !== 'put') return [];
        const key = decodeKey(op.key.slice(prefix.length));
        return key.kind === 'deletedFile' ? [{ ino: key.ino, length: key.length }] : [];
      });
      return { outcome: 'done', deleted };
    }
    requireGuard(guard, result.current);
    view = new PushView(store, prefix, undefined);
    await clock.sleep(Math.min(MAX_JITTER_MS, JITTER_MS * 2 ** tries) * clock.random(), signal);
    tries += 1;
  }
  return { outcome: 'lost' };
}

/** Throws `DeposedError` if a lost transaction lost because another worker was elected. */
export function requireGuard(
  guard: readonly Compare[],
  current: ReadonlyMap<string, { readonly modRevision: bigint } | undefined>,
): void {
  for (const compare of guard) {
    if ('key' in compare && (current.get(compare.key)?.modRevision ?? 0n) !== compare.modRevision)
      throw new DeposedError();
  }
}
