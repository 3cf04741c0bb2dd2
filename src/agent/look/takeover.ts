/** What takes the place of a name at the top or below it, and what that is the end of. */

import { isAtOrBelow } from '../../reconcile/push-change.ts';
import type { Path } from '../../reconcile/entry.ts';
import { topTarget } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { topsOf, type Adoption, type Look } from './look.ts';
import type { Replaced } from './replaced.ts';
import type { ScannerOptions } from './scan-reader.ts';
import type { TopMemory } from './top-memory.ts';
import { statInTree } from '../disk/tree-stat.ts';

export class Takeover {
  readonly #o: ScannerOptions;
  readonly #memory: TopMemory;
  readonly #replaced: Replaced;

  constructor(options: ScannerOptions, memory: TopMemory, replaced: Replaced) {
    this.#o = options;
    this.#memory = memory;
    this.#replaced = replaced;
  }

  /** A file or link in place of whatever the view has there. */
  adopt(state: LedgerState, path: Path, adoption: Adoption, look: Look): void {
    this.noteReplaced(state, path);
    if (this.waitsBelow(state, path, look)) return;
    this.removeBelow(state, path, look);
    topsOf(look).set(path, adoption);
  }

  /** Files that the view has at a path and below it are not found there any more. */
  noteReplaced(state: LedgerState, path: Path): void {
    for (const below of state.slots.below(path)) {
      const slot = state.slots.get(below);
      if (slot?.type === 'file') this.#replaced.noteMissingAtTop(below, slot);
    }
  }

  /** What was written below a name right before the name went goes with it, once it is known what it is. Returns whether it waits. */
  waitsBelow(state: LedgerState, path: Path, look: Look): boolean {
    const belongs = (other: Path): boolean => isAtOrBelow(other, path) || this.#isLinkTo(state, path, other);
    const isHeld = this.#memory.heldByLinks.has(path);
    if (!isHeld && ![...look.busy].some((other) => other !== path && belongs(other))) return false;
    for (const other of [path, ...state.slots.below(path)]) look.busy.add(other);
    if (!path.includes('/')) this.#memory.noteWaiting(path);
    return true;
  }

  /** Whether the link of a name at the top was moved to a path of the tree. */
  #isLinkTo({ active }: LedgerState, top: Path, path: Path): boolean {
    if (top.includes('/') || !path.includes('/') || active === undefined) return false;
    const { fs, layout } = this.#o;
    if (statInTree(fs, 'look at link', layout, active, path)?.type !== 'symlink') return false;
    return this.#o.fs.readlink('look at link', layout.inTree(active, path)) === topTarget(top);
  }

  /** The end of a path and of all below it, what this look has found there included. */
  removeBelow(state: LedgerState, path: Path, look: Look): void {
    const tops = topsOf(look);
    // What links led to that were moved there goes as well.
    for (const other of tops.keys()) if (isAtOrBelow(other, path)) tops.delete(other);
    for (const below of state.slots.below(path)) tops.set(below, undefined);
    for (const [edited, slot] of look.edits) {
      if (slot !== undefined && isAtOrBelow(edited, path)) tops.set(edited, undefined);
    }
  }
}
