/** Looks at the names at the top of DIR: the agent's own links, and what editors and tools put in their place. */

import type { ByteString } from '../codec/kv.ts';
import { join, type Path } from '../reconcile/entry.ts';
import { isAtOrBelow } from '../reconcile/push-change.ts';
import { isOwnName, topTarget, type TreeName } from './layout.ts';
import type { LedgerState } from './ledger.ts';
import { adoptionOf, topsOf, type Adoption, type Look } from './look.ts';
import type { FileStat } from './ports.ts';
import type { ScannerOptions, ScanReader } from './scan-reader.ts';
import { QUIET_MS } from './settle.ts';
import { sameKind, sameSlotContent, signatureOf } from './slot.ts';

export class TopScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #inodes = new Set<bigint>();

  constructor(options: ScannerOptions, reader: ScanReader) {
    this.#o = options;
    this.#reader = reader;
  }

  /** Inodes that stand at the top in place of a link, as of the last look: edits of them are found there. */
  get inodes(): ReadonlySet<bigint> {
    return this.#inodes;
  }

  async look(state: LedgerState, active: TreeName, look: Look): Promise<void> {
    const { fs, layout, excluded } = this.#o;
    const tops = new Map<Path, Adoption | undefined>();
    look.tops = tops;
    this.#inodes.clear();
    const names = fs.readdir('list top', layout.root).filter((name) => !isOwnName(name));
    const present = new Set(names);
    for (const name of names) {
      const at = layout.top(name);
      const stat = fs.lstat('look top', at);
      if (stat === undefined || excluded(name)) continue;
      if (stat.type === 'symlink') this.#lookAtLink(state, active, name, at, stat, present, look);
      else if (stat.type === 'file') this.#lookAtFile(state, name, at, stat, look);
      else if (stat.type === 'directory') await this.#lookAtDirectory(state, name, at, stat, look);
      else this.#lookAtSpecial(state, name, at, stat, look);
    }
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
      if (state.mending.has(name)) {
        look.mend.add(name);
        continue;
      }
      if (this.#reader.isSettled('top', name, undefined, QUIET_MS.absence)) {
        for (const path of state.slots.below(name)) tops.set(path, undefined);
      } else {
        look.busy.add(name);
      }
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
    if (text === topTarget(name)) {
      this.#reader.settling.forget(`top:${name}`);
      if (!state.slots.has(name)) look.mend.add(name);
      return;
    }
    const other = text.startsWith('..data/') ? text.slice('..data/'.length) : '';
    if (other !== '' && !other.includes('/') && state.slots.has(other)) {
      // Our own link under another name: `mv` when the old name is gone, `cp -r` else (watch-and-flip 7).
      const isMove = !present.has(other);
      const waiting = isMove ? [...look.busy].filter((path) => isAtOrBelow(path, other)) : [];
      if (waiting.length > 0) {
        // Edits below it move with it once they have settled.
        for (const path of [name, other, ...state.slots.below(other)]) look.busy.add(path);
        return;
      }
      for (const path of [...state.slots.below(other)]) {
        const slot = state.slots.get(path);
        if (slot === undefined) continue;
        const source = layout.inTree(active, path);
        tops.set(name + path.slice(other.length), adoptionOf(slot, source, isMove));
        if (isMove) tops.set(path, undefined);
      }
      return;
    }
    const slot = this.#reader.read(name, at, stat, look, true);
    if (slot === undefined) return;
    if (sameSlotContent(slot, state.slots.get(name))) look.mend.add(name);
    else this.#adoptOver(state, name, { slot, source: at }, look);
  }

  hasMovedLink(state: LedgerState): boolean {
    const { fs, layout } = this.#o;
    return fs.readdir('list top', layout.root).some((name) => {
      if (isOwnName(name) || fs.lstat('look top', layout.top(name))?.type !== 'symlink') return false;
      const text = fs.readlink('look top', layout.top(name));
      return (
        text !== topTarget(name) &&
        text.startsWith('..data/') &&
        state.slots.has(text.slice('..data/'.length))
      );
    });
  }

  #lookAtFile(state: LedgerState, name: ByteString, at: ByteString, stat: FileStat, look: Look): void {
    this.#inodes.add(stat.ino);
    const slot = state.slots.get(name);
    // The editor's file is the inode in the trees already: edits of it are seen there.
    if (slot?.type === 'file' && slot.signature.ino === stat.ino) return;
    if (!this.#reader.isSettled('top', name, stat, QUIET_MS.content + this.#o.settleMs)) {
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
    const tops = topsOf(look);
    for (const below of state.slots.below(path)) if (below !== path) tops.set(below, undefined);
    tops.set(path, adoption);
  }

  /** A real directory where the link was: a union, never a removal (watch-and-flip 7, `tar x` and `rsync -a`). */
  async #lookAtDirectory(
    state: LedgerState,
    dir: Path,
    at: ByteString,
    stat: FileStat,
    look: Look,
  ): Promise<boolean> {
    const tops = topsOf(look);
    let merged = state.slots.get(dir)?.type === 'directory';
    if (!merged) tops.set(dir, { slot: { type: 'directory', signature: signatureOf(stat) }, source: at });
    const names = this.#reader.list(at, dir, look);
    if (names === undefined) return false;
    for (const name of names) {
      const breath = this.#reader.breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const below = `${at}/${name}`;
      const found = this.#o.fs.lstat('look top directory', below);
      if (found === undefined) continue;
      if (found.type === 'file') this.#inodes.add(found.ino);
      if (found.type === 'directory') {
        merged = (await this.#lookAtDirectory(state, path, below, found, look)) && merged;
        continue;
      }
      const slot = state.slots.get(path);
      if (slot !== undefined && sameKind(slot, found) && slot.signature.ino === found.ino) continue;
      if (found.type === 'symlink') {
        const read = this.#reader.read(path, below, found, look);
        if (read !== undefined && sameSlotContent(read, slot)) continue;
      }
      merged = false;
      const quietMs = found.type === 'file' ? QUIET_MS.content + this.#o.settleMs : 0;
      if (!this.#reader.isSettled('top', path, found, quietMs)) {
        look.busy.add(path);
        continue;
      }
      const read = this.#reader.read(path, below, found, look);
      if (read !== undefined) tops.set(path, { slot: read, source: below });
    }
    if (merged && !dir.includes('/')) look.mend.add(dir);
    return merged;
  }
}
