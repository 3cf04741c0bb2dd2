/** Looks at the names at the top of DIR: the agent's own links, and what editors and tools put in their place. */

import type { ByteString } from '../../codec/kv.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import { isOwnName, topTarget, type TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { adoptionOf, belowNow, isBusyBelow, topsOf, type Adoption, type Look } from './look.ts';
import type { FileStat } from '../base/ports.ts';
import { linkedPath, linkInItself, ownLink, ownTop, spentLink, type PathNow } from './own-link.ts';
import type { Replaced } from './replaced.ts';
import type { ScannerOptions, ScanReader } from './scan-reader.ts';
import { QUIET_MS } from './settle.ts';
import { TopMemory, type Seen } from './top-memory.ts';
import { hasLeftTop } from './top-place.ts';
import { sameButCtime, sameKind, sameSlotContent, signatureOf, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

export class TopScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly memory = new TopMemory();
  #active: TreeName | undefined;
  /** Names at the top whose link was moved into a directory that is still being made. */
  readonly #heldByLinks = new Set<ByteString>();
  readonly #replaced: Replaced;

  constructor(options: ScannerOptions, reader: ScanReader, replaced: Replaced) {
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
  }

  /** Inodes that stand at the top in place of a link, as of the last look: edits of them are found there. */
  get inodes(): ReadonlySet<bigint> {
    return this.memory.files;
  }

  async look(state: LedgerState, active: TreeName, look: Look): Promise<void> {
    const { fs, layout, excluded } = this.#o;
    const tops = topsOf(look);
    this.#active = active;
    this.memory.startLook(state.slots);
    const names = fs.readdir('list top', layout.root).filter((name) => !isOwnName(name));
    const present = new Set(names);
    const directories = new Set<ByteString>();
    this.#heldByLinks.clear();
    const files = new Map<ByteString, bigint>();
    const others = new Map<ByteString, FileStat>();
    // What was moved into a directory is known before something else takes its name.
    for (const name of names) {
      const stat = fs.lstat('look top', layout.top(name));
      if (stat === undefined || excluded(name)) continue;
      if (stat.type !== 'directory') others.set(name, stat);
      else {
        directories.add(name);
        await this.#lookAtTopDirectory(state, name, layout.top(name), stat, look);
      }
    }
    for (const [name, stat] of others) {
      const at = layout.top(name);
      if (stat.type === 'symlink') this.#lookAtLink(state, active, name, at, stat, present, look);
      else if (stat.type === 'file') {
        files.set(name, stat.ino);
        this.#lookAtFile(state, name, at, stat, look);
      } else this.#lookAtSpecial(state, name, at, stat, look);
    }
    this.memory.endLook(directories, files);
    for (const name of state.slots.namesIn(''))
      if (!excluded(name) && hasLeftTop(fs, layout, state, name)) look.leaving.add(name);
    for (const name of state.slots.namesIn('')) {
      // Carried entries of the tree have no name at the top; one that a link was moved from is settled already.
      if (
        present.has(name) ||
        tops.has(name) ||
        look.adoptions.has(name) ||
        look.busy.has(name) ||
        excluded(name) ||
        state.slots.get(name)?.type === 'other'
      )
        continue;
      if (state.mending.has(name) || this.#isInItself(state, name, look)) {
        look.mend.add(name);
        continue;
      }
      this.#noteReplaced(state, name);
      if (!this.#reader.isSettled('top', name, undefined, QUIET_MS.absence)) look.busy.add(name);
      else if (!this.#waitsBelow(state, name, look)) this.#removeBelow(state, name, look);
    }
  }

  #lookAtLink(
    state: LedgerState,
    active: TreeName,
    name: ByteString,
    at: ByteString,
    stat: FileStat,
    present: ReadonlySet<ByteString>,
    look: Look,
  ): void {
    const { fs, layout } = this.#o;
    const tops = topsOf(look);
    const text = fs.readlink('look top', at);
    // Gone since it was listed, or something else by now: the next look says what it means.
    if (text === undefined) return;
    const named = ownTop(text) ?? '';
    const other = this.memory.linkNow(stat.ino, named, state.slots);
    if (named === name && other === name) {
      this.#reader.settling.forget(`top:${name}`);
      if (!state.slots.has(name)) look.mend.add(name);
      return;
    }
    this.memory.noteLink(name, text);
    if (named !== '' && state.slots.has(other)) {
      // Our own link under another name: `mv` when the old name is gone, `cp -r` else (watch-and-flip 7).
      const isMove = !this.#isAtTop(other);
      // So it is when something else has the old name by now.
      const isLeft = isMove || !this.#isInPlace(state, other);
      const below = belowNow(state, look, other);
      const overtaken = new Map<Path, ByteString>();
      for (const [path, slot] of isLeft ? below : []) {
        const top = this.#overtakenTop(state, path, slot);
        if (top !== undefined) overtaken.set(path, top);
      }
      if (isLeft && [other, ...overtaken.values()].some((path) => isBusyBelow(look, path))) {
        // Edits below it move with it once they have settled.
        for (const path of [name, other, ...below.keys()]) look.busy.add(path);
        for (const top of overtaken.values())
          for (const path of belowNow(state, look, top).keys()) look.busy.add(path);
        this.memory.noteWaiting(name);
        return;
      }
      // `ln` and `cp -l` give the link itself a second name: what it leads to is meant.
      if (isMove) this.memory.noteRename(other, name);
      const isSecondName = fs.lstat('look top', layout.top(other))?.ino === stat.ino;
      // What the name led to before goes, if it was of another kind or had more in it.
      this.#noteReplaced(state, name);
      if (this.#waitsBelow(state, name, look)) {
        for (const path of [other, ...below.keys()]) look.busy.add(path);
        return;
      }
      this.#removeBelow(state, name, look);
      for (const [path, slot] of below) {
        const source = layout.inTree(active, path);
        const to = name + path.slice(other.length);
        const top = overtaken.get(path);
        if (top === undefined) {
          tops.set(to, adoptionOf(slot, source, isMove || isSecondName));
          this.keepLinked(state, to, slot, look);
        } else {
          for (const [from, was] of belowNow(state, look, top))
            tops.set(to + from.slice(top.length), adoptionOf(was, layout.inTree(active, from), true));
        }
        if (isMove) tops.set(path, undefined);
      }
      return;
    }
    const slot = this.#reader.read(name, at, stat, look, true);
    if (slot === undefined) return;
    if (sameSlotContent(slot, state.slots.get(name))) look.mend.add(name);
    else if (!this.#reader.isSettled('top', name, stat, QUIET_MS.content + this.#o.settleMs)) {
      this.memory.noteWaiting(name);
      look.busy.add(name);
    } else this.#adoptOver(state, name, { slot, source: at }, look);
  }

  /** Whether a name of the view is missing at the top, or its link stands there under another name. */
  hasMoved(state: LedgerState): boolean {
    const { fs, layout, excluded } = this.#o;
    const names = fs.readdir('list top', layout.root);
    const present = new Set(names);
    for (const name of state.slots.namesIn('')) {
      if (present.has(name) || excluded(name) || state.mending.has(name)) continue;
      if (state.slots.get(name)?.type !== 'other') return true;
    }
    return names.some((name) => {
      const text = isOwnName(name) ? undefined : fs.readlink('look top', layout.top(name));
      const led = text === undefined || text === topTarget(name) ? undefined : ownTop(text);
      return led !== undefined && state.slots.has(led);
    });
  }

  #lookAtFile(state: LedgerState, name: ByteString, at: ByteString, stat: FileStat, look: Look): void {
    this.memory.files.add(stat.ino);
    look.born.set(stat.ino, stat.bornNs);
    const before = state.slots.get(name);
    if (before?.type === 'file' && before.signature.ino === stat.ino) this.memory.noteShared(name, before);
    const slot = look.edits.has(name) ? look.edits.get(name) : before;
    // The editor's file is the inode in the trees already: edits of it are seen there.
    if (slot?.type === 'file' && slot.signature.ino === stat.ino) return;
    this.#replaced.noteArrived('top', name, stat);
    const shared = this.memory.sharedAt(name, stat.ino);
    if (shared !== undefined && (sameButCtime(shared, stat) || this.#replaced.isSuperseded(stat))) {
      // Somebody replaced or removed it in the tree itself: what stands here is what that was done to.
      look.mend.add(name);
      return;
    }
    if (!this.#reader.isSettled('top', name, stat, QUIET_MS.content + this.#o.settleMs, at)) {
      this.memory.noteWaiting(name);
      look.busy.add(name);
      return;
    }
    const read = this.#reader.read(name, at, stat, look);
    if (read !== undefined) this.#adoptOver(state, name, { slot: read, source: at }, look);
  }

  #lookAtSpecial(state: LedgerState, name: ByteString, at: ByteString, stat: FileStat, look: Look): void {
    const slot = this.#reader.read(name, at, stat, look);
    if (slot?.type !== 'special' || state.slots.get(name)?.signature.ino === stat.ino) return;
    this.#adoptOver(state, name, { slot, source: at }, look);
  }

  /** A file or link in place of whatever the view has there. */
  #adoptOver(state: LedgerState, path: Path, adoption: Adoption, look: Look): void {
    this.#noteReplaced(state, path);
    if (this.#waitsBelow(state, path, look)) return;
    this.#removeBelow(state, path, look);
    topsOf(look).set(path, adoption);
  }

  #noteReplaced(state: LedgerState, path: Path): void {
    for (const below of state.slots.below(path)) {
      const slot = state.slots.get(below);
      if (slot?.type === 'file') this.#replaced.noteMissingAtTop(below, slot);
    }
  }

  /** What was written below a name right before the name went goes with it, once it is known what it is. */
  #waitsBelow(state: LedgerState, path: Path, look: Look): boolean {
    const belongs = (other: Path): boolean => isAtOrBelow(other, path) || this.#isLinkTo(path, other);
    const isHeld = this.#heldByLinks.has(path);
    if (!isHeld && ![...look.busy].some((other) => other !== path && belongs(other))) return false;
    for (const other of [path, ...state.slots.below(path)]) look.busy.add(other);
    if (!path.includes('/')) this.memory.noteWaiting(path);
    return true;
  }

  /** Whether the link of a name at the top was moved to a path of the tree. */
  #isLinkTo(top: Path, path: Path): boolean {
    if (top.includes('/') || !path.includes('/') || this.#active === undefined) return false;
    const { fs, layout } = this.#o;
    if (statInTree(fs, 'look at link', layout, this.#active, path)?.type !== 'symlink') return false;
    return this.#o.fs.readlink('look at link', layout.inTree(this.#active, path)) === topTarget(top);
  }

  /** Whether the link of a name was moved into what it leads to. */
  #isInItself(state: LedgerState, name: ByteString, look: Look): boolean {
    return [...belowNow(state, look, name)].some(([path, slot]) => linkInItself(state, path, slot) === name);
  }

  /** The end of a path and of all below it, what this look has found there included. */
  #removeBelow(state: LedgerState, path: Path, look: Look): void {
    const tops = topsOf(look);
    // What links led to that were moved there goes as well.
    for (const other of tops.keys()) if (isAtOrBelow(other, path)) tops.delete(other);
    for (const below of state.slots.below(path)) tops.set(below, undefined);
    for (const [edited, slot] of look.edits) {
      if (slot !== undefined && isAtOrBelow(edited, path)) tops.set(edited, undefined);
    }
  }

  async #lookAtTopDirectory(
    state: LedgerState,
    name: ByteString,
    at: ByteString,
    stat: FileStat,
    look: Look,
  ): Promise<void> {
    const seen = this.memory.noteDirectory(name, stat.ino, state.slots.get(name)?.type !== 'directory');
    // Whoever makes it goes on in it by its name for a while.
    const held: ByteString[] = [];
    if (!this.#isQuiet(name, at, stat, look, held)) {
      look.busy.add(name);
      look.leaving.add(name);
      for (const top of held) this.#heldByLinks.add(top);
      return;
    }
    const before = new Set(seen);
    const found: Seen = new Set();
    let merged = await this.#lookAtDirectory(state, name, at, stat, look, seen, found);
    for (const path of before) {
      if (found.has(path) || topsOf(look).has(path) || isBelowAny(path, look.problems)) continue;
      if (!state.slots.has(path)) {
        seen?.delete(path);
        continue;
      }
      merged = false;
      if (this.#reader.isSettled('top', path, undefined, QUIET_MS.absence)) topsOf(look).set(path, undefined);
      else look.busy.add(path);
    }
    if (merged) look.mend.add(name);
  }

  /** Whether no name came or went for a while in a directory and in all below it. */
  #isQuiet(path: Path, at: ByteString, stat: FileStat, look: Look, held: ByteString[]): boolean {
    let quiet = this.#reader.isSettled('top', path, stat, QUIET_MS.content + this.#o.settleMs);
    this.memory.noteStanding(path, stat.ino);
    for (const name of this.#reader.list(at, path, look) ?? []) {
      const below = this.#o.fs.lstat('look top directory', `${at}/${name}`);
      if (below !== undefined) this.memory.noteStanding(join(path, name), below.ino);
      if (below?.type === 'file') this.#replaced.noteArrived('top', join(path, name), below);
      if (below?.type === 'symlink') {
        const text = this.#o.fs.readlink('look at link', `${at}/${name}`);
        const top = text === undefined ? undefined : ownTop(text);
        if (top !== undefined) held.push(top);
      }
      if (below?.type === 'directory')
        quiet = this.#isQuiet(join(path, name), `${at}/${name}`, below, look, held) && quiet;
    }
    return quiet;
  }

  /**
   * A real directory where the link was: a union, never a removal (watch-and-flip 7, `tar x` and `rsync -a`), but for what
   * was `seen` in it before. Returns whether the tree has all of it.
   */
  async #lookAtDirectory(
    state: LedgerState,
    dir: Path,
    at: ByteString,
    stat: FileStat,
    look: Look,
    seen: Seen | undefined,
    found: Seen,
  ): Promise<boolean> {
    const tops = topsOf(look);
    const known = state.slots.get(dir);
    let merged = known?.type === 'directory' && (seen === undefined || sameMode(known.signature, stat));
    if (!merged) {
      const adoption = { slot: { type: 'directory', signature: signatureOf(stat) }, source: at } as const;
      if (known !== undefined && known.type !== 'directory') this.#adoptOver(state, dir, adoption, look);
      else tops.set(dir, adoption);
    }
    seen?.add(dir);
    found.add(dir);
    const names = this.#reader.list(at, dir, look);
    if (names === undefined) return false;
    for (const name of names) {
      const breath = this.#reader.breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const below = `${at}/${name}`;
      const stat = this.#o.fs.lstat('look top directory', below);
      if (stat === undefined) continue;
      if (stat.type === 'directory') {
        merged = (await this.#lookAtDirectory(state, path, below, stat, look, seen, found)) && merged;
        continue;
      }
      seen?.add(path);
      found.add(path);
      merged = this.#lookInDirectory(state, path, below, stat, look) && merged;
    }
    return merged;
  }

  /**
   * One of our own links that was moved into a real directory: once that is in the tree, the link is found there, and what
   * it leads to takes its place. Until then it is not removed.
   */
  keepLinked(state: LedgerState, path: Path, slot: Slot, look: Look): void {
    const moved = linkedPath(state, path, slot, this.pathNow(state));
    if (moved === undefined || this.#isAtTop(moved)) return;
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
  #overtakenTop(state: LedgerState, path: Path, slot: Slot): Path | undefined {
    const top = linkedPath(state, path, slot, this.pathNow(state));
    return top === undefined || !this.#isAtTop(top) || this.#isInPlace(state, top) ? undefined : top;
  }

  /**
   * Takes what a link in a real directory led to from the tree: where something else has the name at the top by now, or where
   * that has been followed to its place in such a directory before, and the link has moved on.
   */
  #follow(state: LedgerState, path: Path, from: Path, stat: FileStat, look: Look): boolean {
    if (this.#active === undefined || !state.slots.has(from) || this.#isInPlace(state, from)) return false;
    const isMove = !this.#isAtTop(from);
    if (isMove && !from.includes('/')) return false;
    const tops = topsOf(look);
    const below = belowNow(state, look, from);
    if (isBusyBelow(look, from)) {
      look.busy.add(path);
      this.#heldByLinks.add(from);
      return true;
    }
    this.memory.noteFollowed(path, stat.ino, state.slots.get(path));
    if (isMove) this.memory.noteRename(from, path);
    for (const [was, slot] of below) {
      const source = this.#o.layout.inTree(this.#active, was);
      tops.set(path + was.slice(from.length), adoptionOf(slot, source, true));
      if (isMove) tops.set(was, undefined);
    }
    return true;
  }

  /** Whether there is anything at a path from the top. */
  #isAtTop(path: Path): boolean {
    return this.#o.fs.lstat('look top', this.#o.layout.top(path)) !== undefined;
  }

  /** Whether what the view has at a path is found there from the top: through the agent's own link, or as one that led there. */
  #isInPlace(state: LedgerState, path: Path): boolean {
    const { fs, layout } = this.#o;
    const [first = path] = path.split('/', 1);
    if (fs.readlink('look at link', layout.top(first)) === topTarget(first)) return true;
    const text = first === path ? undefined : fs.readlink('look at link', layout.top(path));
    const named = text === undefined ? undefined : ownTop(text);
    return named !== undefined && this.memory.pathNow(named, state.slots) === path;
  }

  /** Where the view has by now what a link with a name of the top in its text led to when it was made. */
  pathNow({ slots }: LedgerState): PathNow {
    return (name) => this.memory.pathNow(name, slots);
  }

  /** A file, link or special file in a real directory. Returns whether the tree has it. */
  #lookInDirectory(state: LedgerState, path: Path, at: ByteString, stat: FileStat, look: Look): boolean {
    if (stat.type === 'file') this.memory.files.add(stat.ino);
    const slot = state.slots.get(path);
    if (slot !== undefined && sameKind(slot, stat) && slot.signature.ino === stat.ino) return true;
    if (stat.type === 'file') this.#replaced.noteArrived('top', path, stat);
    if (stat.type === 'symlink') {
      const read = this.#reader.read(path, at, stat, look);
      const pathNow = this.pathNow(state);
      if (read !== undefined && spentLink(state, path, read, pathNow)) return true;
      const named = read === undefined ? undefined : ownLink(state, path, read);
      if (named !== undefined && this.memory.isFollowed(path, stat.ino, slot)) return true;
      if (
        named !== undefined &&
        this.#follow(state, path, this.memory.linkNow(stat.ino, named, state.slots), stat, look)
      )
        return false;
      if (read !== undefined) this.keepLinked(state, path, read, look);
      if (read !== undefined && sameSlotContent(read, slot)) return true;
    }
    if (!this.#reader.isSettled('top', path, stat, QUIET_MS.content + this.#o.settleMs, at)) {
      look.busy.add(path);
      return false;
    }
    const read = this.#reader.read(path, at, stat, look);
    if (read === undefined) return false;
    if (slot?.type === 'directory') this.#adoptOver(state, path, { slot: read, source: at }, look);
    else topsOf(look).set(path, { slot: read, source: at });
    return false;
  }
}

function sameMode(signature: { readonly mode: number }, stat: { readonly mode: number }): boolean {
  return (signature.mode & 0o777) === (stat.mode & 0o777);
}

function isBelowAny(path: Path, directories: ReadonlyMap<Path, unknown>): boolean {
  return [...directories.keys()].some((dir) => isAtOrBelow(path, dir));
}
