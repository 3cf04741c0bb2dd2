/**
 * The agent's own links at the top that somebody moved or copied: what they led to is meant, and stays until it is found at its new
 * place.
 */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { topTarget } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { adoptionOf, belowNow, isBusyBelow, topsOf, type Look } from './look.ts';
import { linkedPath, linkInItself, ownTop, type PathNow } from './own-link.ts';
import type { FileStat } from '../base/ports.ts';
import type { ScanReader, ScannerOptions } from './scan-reader.ts';
import type { Slot } from '../disk/slot.ts';
import type { TopMemory } from './top-memory.ts';

export class TopLinks {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #memory: TopMemory;

  constructor(options: ScannerOptions, reader: ScanReader, memory: TopMemory) {
    this.#o = options;
    this.#reader = reader;
    this.#memory = memory;
  }

  /**
   * One of our own links that was moved into a real directory: once that is in the tree, the link is found there, and what
   * it leads to takes its place. Until then it is not removed.
   */
  keepLinked(state: LedgerState, path: Path, slot: Slot, look: Look): void {
    const moved = linkedPath(state, path, slot, this.pathNow(state));
    if (moved === undefined || this.isAtTop(moved)) return;
    for (const other of state.slots.below(moved)) look.busy.add(other);
  }

  /** The same for what stands at a path of a tree and has not settled there. */
  keepLinkedAt(state: LedgerState, path: Path, at: ByteString, stat: FileStat | undefined, look: Look): void {
    const slot = stat?.type === 'symlink' ? this.#reader.read(path, at, stat, look) : undefined;
    if (slot !== undefined) this.keepLinked(state, path, slot, look);
  }

  /**
   * The name at the top whose link was moved to a path of the view, where something else has that name by now: once that
   * is in the tree, what the link led to is not found there any more.
   */
  overtakenTop(state: LedgerState, path: Path, slot: Slot): Path | undefined {
    const top = linkedPath(state, path, slot, this.pathNow(state));
    return top === undefined || !this.isAtTop(top) || this.isInPlace(state, top) ? undefined : top;
  }

  /**
   * Takes what a link in a real directory led to from the tree: where something else has the name at the top by now, or where
   * that has been followed to its place in such a directory before, and the link has moved on.
   */
  follow(state: LedgerState, path: Path, from: Path, stat: FileStat, look: Look): boolean {
    const { active } = state;
    if (active === undefined || !state.slots.has(from) || this.isInPlace(state, from)) return false;
    const isMove = !this.isAtTop(from);
    if (isMove && !from.includes('/')) return false;
    const tops = topsOf(look);
    const below = belowNow(state, look, from);
    if (isBusyBelow(look, from)) {
      look.busy.add(path);
      this.#memory.heldByLinks.add(from);
      return true;
    }
    this.#memory.noteFollowed(path, stat.ino, state.slots.get(path));
    if (isMove) this.#memory.noteRename(from, path);
    for (const [was, slot] of below) {
      const source = this.#o.layout.inTree(active, was);
      tops.set(path + was.slice(from.length), adoptionOf(slot, source, true));
      if (isMove) tops.set(was, undefined);
    }
    return true;
  }

  /** Whether there is anything at a path from the top. */
  isAtTop(path: Path): boolean {
    return this.#o.fs.lstat('look top', this.#o.layout.top(path)) !== undefined;
  }

  /** Whether what the view has at a path is found there from the top: through the agent's own link, or as one that led there. */
  isInPlace(state: LedgerState, path: Path): boolean {
    const { fs, layout } = this.#o;
    const [first = path] = path.split('/', 1);
    if (fs.readlink('look at link', layout.top(first)) === topTarget(first)) return true;
    const text = first === path ? undefined : fs.readlink('look at link', layout.top(path));
    const named = text === undefined ? undefined : ownTop(text);
    return named !== undefined && this.#memory.pathNow(named, state.slots) === path;
  }

  /** Where the view has by now what a link with a name of the top in its text led to when it was made. */
  pathNow({ slots }: LedgerState): PathNow {
    return (name) => this.#memory.pathNow(name, slots);
  }

  /** Whether the link of a name was moved into what it leads to. */
  isInItself(state: LedgerState, name: ByteString, look: Look): boolean {
    return [...belowNow(state, look, name)].some(([path, slot]) => linkInItself(state, path, slot) === name);
  }
}
