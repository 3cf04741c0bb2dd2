/** What the lines of the ledger's log say; replaying all of them gives the state. */

import type { ByteString } from '../../codec/kv.ts';
import type { Held } from '../../reconcile/attributes.ts';
import type { Entry, Path } from '../../reconcile/entry.ts';
import type { AncestorEntry } from './ancestor-entry.ts';
import type { Anchor } from '../follow/history.ts';
import type { TreeName } from '../disk/layout.ts';
import type { Claimed } from '../push/push-debris.ts';
import type { Slot } from '../disk/slot.ts';

/** What this state belongs to; another volume or view is refused. */
export interface StateOwner {
  readonly uuid: string;
  readonly subdir: string;
}

/** An inode that left a tree, and the content it had then. */
export interface KeptRecord {
  readonly path: Path;
  readonly slot: Slot;
}

/** A local content that lost and waits to become a conflict copy. */
export interface ParkedRecord {
  readonly path: Path;
  /** The file or symlink, as it goes into the volume. */
  readonly entry: Entry;
  /** Revision of the version it lost against. */
  readonly revision: bigint;
  /** One sentence for people. */
  readonly reason: string;
  /** The volume's version, which loses to a local one: it is kept before that is pushed. Absent: the local version. */
  readonly side?: 'remote';
  /** When it lost; nanoseconds since the epoch. */
  readonly timeNs?: bigint;
  /** Revision that was published then. */
  readonly base?: bigint;
  readonly versions?: {
    readonly ancestor: Entry | null;
    readonly local: Entry | null;
    readonly remote: Entry | null;
  };
}

/** Values by path; `null`: there is none. */
export type Pairs<T> = readonly (readonly [Path, T | null])[];

/** One line of the log. */
export type LedgerRecord =
  /** `format`: in logs of format 1. */
  | { readonly t: 'owner'; readonly format?: number; readonly owner: StateOwner }
  /** The idle tree is about to hold these; written before the first of them gets a visible name. */
  | {
      readonly t: 'intent';
      readonly tree: TreeName;
      readonly revision: bigint;
      readonly slots: Pairs<Slot>;
      readonly ancestor: Pairs<AncestorEntry>;
      /** What has not settled in the active tree and gets a second name in this one; absent: nothing. */
      readonly carried?: Pairs<Slot>;
      /** Where the idle tree stays as a look has found it: what the log says of it there stays true until the commit. */
      readonly found?: readonly Path[];
    }
  /** The intent's tree is published; final signatures, and what the other tree still holds at these paths. */
  | {
      readonly t: 'commit';
      readonly tree: TreeName;
      readonly revision: bigint;
      readonly slots: Pairs<Slot>;
      readonly stale: Pairs<Slot>;
      readonly ancestor: Pairs<AncestorEntry>;
      /** Records of kept inodes by name, with what had been found in them and is dealt with by this; absent: none. */
      readonly kept?: readonly (readonly [string, KeptRecord])[];
    }
  /** What a look found in the active tree, and what the idle tree holds at some paths (`same`: what the active holds). */
  | {
      readonly t: 'look';
      readonly slots: Pairs<Slot>;
      readonly stale: Pairs<Slot>;
      readonly same: readonly Path[];
    }
  /** Recovery has dealt with the intent. */
  | { readonly t: 'settled' }
  /** Names at the top that are missing until their symlinks are back: nobody has removed them. Replaces the ones before. */
  | { readonly t: 'mending'; readonly names: readonly ByteString[] }
  /** Local entries that were there before the first publish and are not pushed (`--adopt` does). */
  | { readonly t: 'unadopted'; readonly add: readonly Path[]; readonly remove: readonly Path[] }
  /** The state's `replaced`, where the log is written afresh; elsewhere it follows from slots and ancestor; when they were `seen` last. */
  | { readonly t: 'replaced'; readonly inodes: Pairs<bigint>; readonly seen?: Pairs<bigint> }
  /** Inodes on disk that are gone: what has their numbers now is another file. */
  | { readonly t: 'reused'; readonly inodes: readonly bigint[] }
  /**
   * The inodes on disk that are agreed on are those that the paths hold now; with `sameInodes` those that were, with `inodes` (when
   * they were `seen` last), where it names some, these.
   */
  | {
      readonly t: 'ancestor';
      readonly entries: Pairs<AncestorEntry>;
      readonly revision?: bigint;
      readonly sameInodes?: true;
      readonly inodes?: Pairs<bigint>;
      readonly seen?: Pairs<bigint>;
    }
  /** Which attributes this side holds from now on; what differed in others before is no edit. */
  | { readonly t: 'held'; readonly held: Held }
  /**
   * A transaction that makes the volume hold these is about to be sent; of which inodes on disk, and when they were `seen` last. What
   * became of the one before it is not known, if nothing says that it was `pushed`. Without entries: nothing is sent.
   */
  | {
      readonly t: 'pushing';
      readonly entries: Pairs<Entry>;
      readonly inodes?: Pairs<bigint>;
      readonly seen?: Pairs<bigint>;
    }
  /** What became of it is known; `all`: nor is any other one on its way. */
  | { readonly t: 'pushed'; readonly all?: true }
  /** Pushes are about to store this, which nothing names yet; adds to what was claimed before. */
  | {
      readonly t: 'claimed';
      /** Ids. */
      readonly slices?: readonly bigint[];
      readonly hold?: bigint;
      readonly relied?: Claimed['relied'];
    }
  /** Which boot of the machine this state was used in last. */
  | { readonly t: 'boot'; readonly id: string }
  /** What a reboot had left empty at a path; `null`: somebody has taken it away. */
  | { readonly t: 'quarantined'; readonly name: string; readonly path: Path | null }
  /** Which patterns take no part from now on, and paths that did not before and are here. */
  | { readonly t: 'filter'; readonly patterns: readonly string[]; readonly entered: readonly Path[] }
  /** The newest key of the volume that was taken in. */
  | { readonly t: 'anchor'; readonly anchor: Anchor }
  /** A guard's trip that a person has accepted, by what tripped: an acceptance is spent once. */
  | { readonly t: 'accepted'; readonly trip: string; readonly times?: number }
  /**
   * Nothing that was agreed on counts any more: the volume is another one, or has another history. What is on disk is
   * known as before, and equal agrees, different conflicts, nothing is removed. `trees`: of those nothing is known either.
   */
  | { readonly t: 'forgotten'; readonly trees?: true }
  /** Whatever was claimed has names or is gone. */
  | { readonly t: 'unclaimed' }
  | { readonly t: 'kept'; readonly name: string; readonly record: KeptRecord | null }
  | { readonly t: 'parked'; readonly name: string; readonly record: ParkedRecord | null };
