/** What one look at the local side has found. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { FileStat } from '../base/ports.ts';
import { signatureOf, type Slot } from '../disk/slot.ts';

/** Something found outside the active tree that shall become part of the view. */
export interface Adoption {
  readonly slot: Slot;
  /** Where the inode is; a second name is made from there. */
  readonly source: ByteString;
  /** The view has this inode under another name and keeps it there: a file of its own is made from it. */
  readonly copy?: true;
}

/** A content that was written over a version that is no longer the published one. */
export interface Loser {
  readonly path: Path;
  readonly slot: Extract<Slot, { type: 'file' }>;
  readonly source: ByteString;
  /** Its name in `kept`; absent: it is in the idle tree. */
  readonly kept?: string;
}

/** What one look found. All of it has settled. */
export interface Look {
  /** In the active tree: what the path holds now (`undefined`: nothing). */
  readonly edits: Map<Path, Slot | undefined>;
  /** In the idle tree or in `kept`: to be brought into the view (`undefined`: removed there). */
  readonly adoptions: Map<Path, Adoption | undefined>;
  /** The same for names at the top, all that there are; absent when the top was not looked at. */
  tops?: Map<Path, Adoption | undefined>;
  readonly losers: Loser[];
  /** What the idle tree holds, where that is news of which nothing else becomes. */
  readonly idle: Map<Path, Slot | undefined>;
  /** The same where `adoptions` or `losers` say what becomes of it: until that is on disk a start has to find it again. */
  readonly found: {
    readonly idle: Map<Path, Slot | undefined>;
    /** By name in `kept`. */
    readonly kept: Map<string, Slot>;
  };
  /** New contents of an inode that the idle tree has not got any more, although nothing that the agent did took it away. */
  readonly parted: Set<Path>;
  /** Where the idle tree turned out to hold what the active one does. */
  readonly same: Set<Path>;
  /** New records of kept inodes; `null` releases one. */
  readonly kept: Map<string, { readonly path: Path; readonly slot: Slot } | null>;
  /** Top-level names whose own symlink can be put back at once. */
  readonly mend: Set<ByteString>;
  /** Paths that differ and have not settled. */
  readonly busy: Set<Path>;
  /** Names of the view that have left the top, or in whose place somebody makes a directory, as far as the top was looked at. */
  readonly leaving: Set<ByteString>;
  /** When the files that differ were made, settled or not, by inode: a number that is given out again is another inode. */
  readonly born: Map<bigint, bigint>;
  /** Paths that cannot be read, and why. */
  readonly problems: Map<Path, string>;
  /** The agent's own names are damaged: nothing below was looked at, and nothing may be taken for a removal. */
  readonly damage: string | undefined;
}

/** Which part to look at: everything, or some directories of the view (`''` is the top). */
export type Extent = 'all' | ReadonlySet<Path>;

/** The adoptions of a look that comes by the top. */
export function topsOf(look: Look): Map<Path, Adoption | undefined> {
  return (look.tops ??= new Map());
}

/** `mv` takes the inode along, `cp` makes another one. */
export function adoptionOf(slot: Slot, source: ByteString, isMove: boolean): Adoption {
  return isMove ? { slot, source } : { slot, source, copy: true };
}

/** What a name of the active tree holds, with what this look has found there; busy paths are not known yet. */
export function belowNow({ slots }: LedgerState, { edits }: Look, name: Path): Map<Path, Slot> {
  const below = new Map<Path, Slot>();
  for (const path of slots.below(name)) {
    const slot = edits.has(path) ? edits.get(path) : slots.get(path);
    if (slot !== undefined) below.set(path, slot);
  }
  for (const [path, slot] of edits) if (slot !== undefined && isAtOrBelow(path, name)) below.set(path, slot);
  return below;
}

/** Whether something at or below a path has not settled. */
export function isBusyBelow({ busy }: { readonly busy: ReadonlySet<Path> }, path: Path): boolean {
  for (const other of busy) if (isAtOrBelow(other, path)) return true;
  return false;
}

export function carriedSlot(stat: FileStat): Slot {
  const signature = signatureOf(stat);
  return { type: stat.type === 'directory' ? 'directory' : 'other', signature };
}
