/** What a push is asked for, and what it answers. */

import type { ByteString } from '../../codec/kv.ts';
import type { Entry } from '../../reconcile/entry.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import type { ReadContent } from './content.ts';
import type { LiveIndex } from './push-view.ts';
import type { IsSameStore } from '../base/same-store.ts';

export interface PushOptions {
  /** The directory that paths start from; the volume's root if not given. */
  readonly root?: bigint;
  /** The index to plan on; without it all metadata are read as they are needed. */
  readonly live?: LiveIndex;
  readonly read: ReadContent;
  /** Whether the owner of `new` is set on entries that are there. */
  readonly owners?: boolean;
  /** Whether the mtime of `new` is set on entries whose contents stay. */
  readonly times?: boolean;
  /** Whether the extended attributes of `new` are set, where it has some. */
  readonly xattrs?: boolean;
  /**
   * The changes may belong together, as those of one save do: where the contents of one are not those of its digest any more, all
   * of them are `changed`, unless something is committed by then. Without it the others go.
   */
  readonly isTogether?: boolean;
  /**
   * Whether the store is still known to be the one that the push began with. Once it is not, numbers that were claimed may be
   * of another store: nothing more is committed or deleted, and the push rejects with `UnavailableError`.
   */
  readonly isSameStore?: IsSameStore;
  readonly signal?: AbortSignal;
  /** Told after each transaction: changes that have an outcome, of all. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly onClaim?: (claim: Claim) => void;
  /** The push is about to reject, and something of it is in the volume, or may get there. */
  readonly onUnanswered?: () => void;
}

/**
 * Something that is stored before anything names it, told before it is: whoever starts next can take away what a killed
 * push left (`removeDebris`).
 */
export type Claim =
  /** Blocks of these slices. */
  | { readonly kind: 'slices'; readonly ids: readonly bigint[] }
  /** A directory without a name. */
  | { readonly kind: 'hold'; readonly ino: bigint }
  /** The next transaction relies on this key, named in full: once it has moved, the transaction cannot commit any more. */
  | { readonly kind: 'relied'; readonly key: ByteString; readonly modRevision: bigint };

/** What became of one change. */
export type ChangeOutcome =
  | {
      readonly outcome: 'committed';
      readonly change: PushChange;
      /** Of the store, at which the volume has it. */
      readonly revision: bigint;
      /** At which its attributes were written last: before `revision` where they stood ready without a name. */
      readonly writtenAt: bigint;
      /** The entry as the volume has it now; absent after a removal. */
      readonly entry: Entry | undefined;
    }
  /** Another writer came first: read again and reconcile. Nothing of this change is in the volume. */
  | { readonly outcome: 'lost'; readonly change: PushChange }
  /** The volume was not what the change was made for: read again and reconcile. */
  | { readonly outcome: 'stale'; readonly change: PushChange; readonly reason: string }
  /** It cannot be pushed as things are; a phrase for people. */
  | { readonly outcome: 'refused'; readonly change: PushChange; readonly reason: string }
  /** Its contents, or those of what it depends on, were not those of the digest when they were read: look again. */
  | { readonly outcome: 'changed'; readonly change: PushChange };

export interface PushOutcome {
  /** One for each change, in the order of the changes. */
  readonly changes: readonly ChangeOutcome[];
  /** The store's revision of each transaction that changed what others see, ascending; several: it was cut. */
  readonly revisions: readonly bigint[];
}
