/** Whether an inode is in the published tree, or in both. */

import type { Path } from '../../reconcile/entry.ts';
import { otherTree, type TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Look } from './look.ts';
import type { FileStat } from '../base/ports.ts';
import type { ScannerOptions } from './scan-reader.ts';
import type { Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

type Options = Pick<ScannerOptions, 'fs' | 'layout'>;

/** Whether an inode stands at a path of the active tree. */
export function isPublishedAt(
  { fs, layout }: Options,
  { active }: LedgerState,
  path: Path,
  ino: bigint,
): boolean {
  return active !== undefined && statInTree(fs, 'look at moved', layout, active, path)?.ino === ino;
}

/** Whether an inode is in the active tree, most likely at `path`; `look` knows what is new there. */
export function isPublished(
  options: Options,
  state: LedgerState,
  path: Path,
  ino: bigint,
  look: Look,
): boolean {
  const isIt = (slot: Slot | undefined): boolean => slot?.type === 'file' && slot.signature.ino === ino;
  // The number of an inode that has just gone may have been given out anew.
  const isThere = (other: Path): boolean => isPublishedAt(options, state, other, ino);
  if (isIt(state.slots.get(path)) && !look.edits.has(path) && isThere(path)) return true;
  for (const [other, slot] of look.edits) if (isIt(slot) && isThere(other)) return true;
  for (const [other, slot] of state.slots.entries())
    if (isIt(slot) && !look.edits.has(other) && isThere(other)) return true;
  return false;
}

/** Whether the other one of the two trees has this very inode at a path. */
export function isInOtherTree(
  { fs, layout }: Options,
  tree: TreeName,
  path: Path,
  { ino }: FileStat,
): boolean {
  return statInTree(fs, 'look at other tree', layout, otherTree(tree), path)?.ino === ino;
}
