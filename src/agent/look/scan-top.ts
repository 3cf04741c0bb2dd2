/** Looks at the names at the top of DIR: the agent's own links, and what editors and tools put in their place. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { isOwnName, topTarget, type TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { adoptionOf, belowNow, isBusyBelow, topsOf, type Look } from './look.ts';
import type { FileStat } from '../base/ports.ts';
import { ownTop } from './own-link.ts';
import type { Replaced } from './replaced.ts';
import type { ScannerOptions, ScanReader } from './scan-reader.ts';
import { TopDirectoryScanner } from './scan-top-directory.ts';
import { QUIET_MS } from './settle.ts';
import { sameButCtime, sameSlotContent } from '../disk/slot.ts';
import { Takeover } from './takeover.ts';
import { TopLinks } from './top-links.ts';
import { TopMemory } from './top-memory.ts';
import { hasLeftTop } from './top-place.ts';

export class TopScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly memory = new TopMemory();
  readonly links: TopLinks;
  readonly #replaced: Replaced;
  readonly #takeover: Takeover;
  readonly #directories: TopDirectoryScanner;

  constructor(options: ScannerOptions, reader: ScanReader, replaced: Replaced) {
    const { memory } = this;
    const links = new TopLinks(options, reader, memory);
    const takeover = new Takeover(options, memory, replaced);
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
    this.links = links;
    this.#takeover = takeover;
    this.#directories = new TopDirectoryScanner(options, { reader, replaced, memory, links, takeover });
  }

  /** Inodes that stand at the top in place of a link, as of the last look: edits of them are found there. */
  get inodes(): ReadonlySet<bigint> {
    return this.memory.files;
  }

  async look(state: LedgerState, active: TreeName, look: Look): Promise<void> {
    const { fs, layout, excluded } = this.#o;
    const tops = topsOf(look);
    this.memory.startLook(state.slots);
    const names = fs.readdir('list top', layout.root).filter((name) => !isOwnName(name));
    const present = new Set(names);
    const directories = new Set<ByteString>();
    const files = new Map<ByteString, bigint>();
    const others = new Map<ByteString, FileStat>();
    // What was moved into a directory is known before something else takes its name.
    for (const name of names) {
      const stat = fs.lstat('look top', layout.top(name));
      if (stat === undefined || excluded(name)) continue;
      if (stat.type !== 'directory') others.set(name, stat);
      else {
        directories.add(name);
        await this.#directories.look(state, name, layout.top(name), stat, look);
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
      if (state.mending.has(name) || this.links.isInItself(state, name, look)) {
        look.mend.add(name);
        continue;
      }
      this.#takeover.noteReplaced(state, name);
      if (!this.#reader.isSettled('top', name, undefined, QUIET_MS.absence)) look.busy.add(name);
      else if (!this.#takeover.waitsBelow(state, name, look)) this.#takeover.removeBelow(state, name, look);
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
      const isMove = !this.links.isAtTop(other);
      // So it is when something else has the old name by now.
      const isLeft = isMove || !this.links.isInPlace(state, other);
      const below = belowNow(state, look, other);
      const overtaken = new Map<Path, ByteString>();
      for (const [path, slot] of isLeft ? below : []) {
        const top = this.links.overtakenTop(state, path, slot);
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
      this.#takeover.noteReplaced(state, name);
      if (this.#takeover.waitsBelow(state, name, look)) {
        for (const path of [other, ...below.keys()]) look.busy.add(path);
        return;
      }
      this.#takeover.removeBelow(state, name, look);
      for (const [path, slot] of below) {
        const source = layout.inTree(active, path);
        const to = name + path.slice(other.length);
        const top = overtaken.get(path);
        if (top === undefined) {
          tops.set(to, adoptionOf(slot, source, isMove || isSecondName));
          this.links.keepLinked(state, to, slot, look);
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
    } else this.#takeover.adopt(state, name, { slot, source: at }, look);
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
    if (read !== undefined) this.#takeover.adopt(state, name, { slot: read, source: at }, look);
  }

  #lookAtSpecial(state: LedgerState, name: ByteString, at: ByteString, stat: FileStat, look: Look): void {
    const slot = this.#reader.read(name, at, stat, look);
    if (slot?.type !== 'special' || state.slots.get(name)?.signature.ino === stat.ino) return;
    this.#takeover.adopt(state, name, { slot, source: at }, look);
  }
}
