/** What a push is asked for, and what it answers. */

import type { Entry } from '../reconcile/entry.ts';
import type { PushChange } from '../reconcile/push-change.ts';
import type { ReadContent } from './content.ts';
import type { LiveIndex } from './push-view.ts';

export interface PushOptions {
  /** The directory that paths start from; the volume's root if not given. */
  readonly root?: bigint;
  /** The index to plan on; without it all metadata are read as they are needed. */
  readonly live?: LiveIndex;
  readonly read: ReadContent;
  readonly signal?: AbortSignal;
  /** Told after each transaction: changes that have an outcome, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What became of one change. */
export type ChangeOutcome =
  | {
      readonly outcome: 'committed';
      readonly change: PushChange;
      /** Of the store, at which the volume has it. */
      readonly revision: bigint;
      /** The entry as the volume has it now; absent after a removal. */
      readonly entry: Entry | undefined;
    }
  /** Another writer came first: read again and reconcile. Nothing of this change is in the volume. */
  | { readonly outcome: 'lost'; readonly change: PushChange }
  /** The volume was not what the change was made for: read again and reconcile. */
  | { readonly outcome: 'stale'; readonly change: PushChange; readonly reason: string }
  /** It cannot be pushed as things are; a phrase for people. */
  | { readonly outcome: 'refused'; readonly change: PushChange; readonly reason: string }
  /** The contents were not those of the digest when they were read: look at the file again. */
  | { readonly outcome: 'changed'; readonly change: PushChange };

export interface PushOutcome {
  /** One for each change, in the order of the changes. */
  readonly changes: readonly ChangeOutcome[];
  /** The store's revision of each transaction that committed, ascending. */
  readonly revisions: readonly bigint[];
}
