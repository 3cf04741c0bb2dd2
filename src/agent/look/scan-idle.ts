/**
 * The part of a look that reads the tree that is not shown: edits by whoever still stands in it since a flip. An inode that both trees
 * share is looked at in the shown one; here count names that are not the expected inode.
 */

import { join, type Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import type { TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Adoption, Look } from './look.ts';
import type { FileStat } from '../base/ports.ts';
import { isInOtherTree, isPublished } from './published-inode.ts';
import type { Replaced } from './replaced.ts';
import type { ScanReader, ScannerOptions } from './scan-reader.ts';
import type { TopScanner } from './scan-top.ts';
import { sameKind, sameSignature, sameSlotContent, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

export class IdleScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #replaced: Replaced;
  readonly #top: TopScanner;

  constructor(options: ScannerOptions, reader: ScanReader, replaced: Replaced, top: TopScanner) {
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
    this.#top = top;
  }

  /** Looks at a directory, `deep` with all below it. */
  async look(state: LedgerState, tree: TreeName, dir: Path, deep: boolean, look: Look): Promise<void> {
    const { fs, layout } = this.#o;
    const names = this.#reader.list(layout.inTree(tree, dir), dir, look);
    if (names === undefined) return;
    const present = new Set(names);
    for (const name of state.slots.namesIn(dir)) {
      const path = join(dir, name);
      if (present.has(name)) continue;
      for (const below of [...state.slots.below(path)]) {
        if (state.idleAt(below) !== undefined) this.#judge(state, tree, below, undefined, look);
      }
    }
    for (const name of names) {
      const breath = this.#reader.breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const stat = fs.lstat('look idle', layout.inTree(tree, path));
      if (stat === undefined) continue;
      const expected = state.idleAt(path);
      const current = state.slots.get(path);
      if (expected !== undefined && isExpected(expected, stat, state.isStaleOrFound(path))) {
        this.#reader.settling.forget(`idle:${path}`);
      } else if (current !== undefined && isExpected(current, stat, false)) {
        look.same.add(path);
      } else if (stat.type === 'file' && isInOtherTree(this.#o, tree, path, stat)) {
        // What is new in it is found in the active tree, though that may not have been read yet.
        this.#reader.settling.forget(`idle:${path}`);
      } else {
        this.#judge(state, tree, path, stat, look);
      }
      if (stat.type === 'directory' && (deep || expected?.type !== 'directory')) {
        await this.look(state, tree, path, deep, look);
      }
    }
  }

  #judge(state: LedgerState, tree: TreeName, path: Path, stat: FileStat | undefined, look: Look): void {
    // A find that changes before it is dealt with is found as a whole once more.
    const expected = state.loggedIdleAt(path);
    const at = this.#o.layout.inTree(tree, path);
    this.#top.links.keepLinkedAt(state, path, at, stat, look);
    if (!this.#reader.isSettled('idle', path, stat, this.#reader.quietMs(stat, expected), at)) {
      look.busy.add(path);
      return;
    }
    const slot = stat === undefined ? undefined : this.#reader.read(path, at, stat, look);
    if (stat !== undefined && slot === undefined) return;
    look.idle.set(path, slot);
    const current = state.slots.get(path);
    if (sameSlotContent(slot, current)) return;
    if (sameSlotContent(slot, expected) && slot?.type !== 'other') return;
    if (stat !== undefined && expected?.type === 'other')
      this.#replaced.noteCarried(tree, path, expected, stat);
    if (stat !== undefined && this.#top.inodes.has(stat.ino)) return;
    // A name that neither tree had was given to it by somebody who wants it there.
    const isNewName = expected === undefined && current === undefined;
    if (stat !== undefined && !isNewName && this.#replaced.isSuperseded(stat)) return;
    // An inode that was moved in the published tree: edits of it are seen where it is shown. One that was moved in this tree is
    // an edit of its new path, as the end of its old name is one of that.
    if (slot?.type === 'file' && !isNewName && !this.#isMovedHere(state, tree, path, slot)) {
      if (isPublished(this.#o, state, path, slot.signature.ino, look)) return;
    }
    // The edit counts as one of the published version when the idle tree held that very content.
    // What somebody has put there in the published tree meanwhile is newer.
    const isCurrent = sameSlotContent(expected, current) && !look.edits.has(path);
    if (slot === undefined) {
      if (!isCurrent || !adoptAt(state, path, undefined, look)) return;
    } else if (isCurrent || this.#o.excluded(path) || slot.type === 'directory') {
      adoptAt(state, path, { slot, source: at }, look);
    } else if (slot.type === 'file') {
      look.losers.push({ path, slot, source: at });
    } else return;
    look.idle.delete(path);
    look.found.idle.set(path, slot);
  }

  /** Whether somebody has moved an inode of the idle tree to a path from another one. */
  #isMovedHere(state: LedgerState, tree: TreeName, path: Path, { signature: { ino } }: Slot): boolean {
    const { fs, layout } = this.#o;
    if (state.idleAt(path)?.signature.ino === ino) return false;
    return state.slots
      .namesOf(ino)
      .some(
        (other) =>
          other !== path &&
          state.idleAt(other)?.signature.ino === ino &&
          statInTree(fs, 'look at other name', layout, tree, other)?.ino !== ino,
      );
  }
}

/**
 * What is found in place of a directory is the end of all that was below it. A directory that is gone from the idle tree
 * stays as long as there is something below it that came with the active tree: whoever removed it had not seen that. Returns
 * whether it goes.
 */
function adoptAt(state: LedgerState, path: Path, adoption: Adoption | undefined, look: Look): boolean {
  if (adoption === undefined) {
    const below = [...state.slots.below(path)];
    const news = below.filter((other) => other !== path && isNews(state, other));
    for (const other of below) {
      if (!news.some((kept) => isAtOrBelow(kept, other))) look.adoptions.set(other, undefined);
    }
    if (news.length > 0) return false;
  } else if (adoption.slot.type !== 'directory') {
    for (const below of state.slots.below(path)) look.adoptions.set(below, undefined);
  }
  look.adoptions.set(path, adoption);
  return true;
}

/** Whether the active tree holds something else at a path than the idle one did when the two changed places. */
function isNews(state: LedgerState, path: Path): boolean {
  return !sameSlotContent(state.idleAt(path), state.slots.get(path));
}

function isExpected(expected: Slot, stat: FileStat, own: boolean): boolean {
  if (!sameKind(expected, stat)) return false;
  // A publish that was killed may have left a directory of the idle tree open, or not given it its mode yet.
  if (expected.type === 'directory') return expected.signature.mode === stat.mode;
  return own ? sameSignature(expected, stat) : expected.signature.ino === stat.ino;
}
