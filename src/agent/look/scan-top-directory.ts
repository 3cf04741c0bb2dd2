/** Looks at real directories at the top of DIR, as `tar x`, `rsync -a` and `mkdir` make them in the place of a link. */

import type { ByteString } from '../../codec/kv.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { topsOf, type Look } from './look.ts';
import { ownLink, ownTop, spentLink } from './own-link.ts';
import type { FileStat } from '../base/ports.ts';
import type { Replaced } from './replaced.ts';
import type { ScanReader, ScannerOptions } from './scan-reader.ts';
import { QUIET_MS } from './settle.ts';
import { sameKind, sameSlotContent, signatureOf } from '../disk/slot.ts';
import type { Takeover } from './takeover.ts';
import type { TopLinks } from './top-links.ts';
import type { Seen, TopMemory } from './top-memory.ts';

/** What it shares with the look at the other names at the top. */
interface Shared {
  readonly reader: ScanReader;
  readonly replaced: Replaced;
  readonly memory: TopMemory;
  readonly links: TopLinks;
  readonly takeover: Takeover;
}

export class TopDirectoryScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #replaced: Replaced;
  readonly #memory: TopMemory;
  readonly #links: TopLinks;
  readonly #takeover: Takeover;

  constructor(options: ScannerOptions, { reader, replaced, memory, links, takeover }: Shared) {
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
    this.#memory = memory;
    this.#links = links;
    this.#takeover = takeover;
  }

  /** One that stands at a name of the top. */
  async look(
    state: LedgerState,
    name: ByteString,
    at: ByteString,
    stat: FileStat,
    look: Look,
  ): Promise<void> {
    const seen = this.#memory.noteDirectory(name, stat.ino, state.slots.get(name)?.type !== 'directory');
    // Whoever makes it goes on in it by its name for a while.
    const held: ByteString[] = [];
    if (!this.#isQuiet(name, at, stat, look, held)) {
      look.busy.add(name);
      look.leaving.add(name);
      for (const top of held) this.#memory.heldByLinks.add(top);
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
    this.#memory.noteStanding(path, stat.ino);
    for (const name of this.#reader.list(at, path, look) ?? []) {
      const below = this.#o.fs.lstat('look top directory', `${at}/${name}`);
      if (below !== undefined) this.#memory.noteStanding(join(path, name), below.ino);
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
      if (known !== undefined && known.type !== 'directory') this.#takeover.adopt(state, dir, adoption, look);
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

  /** A file, link or special file in a real directory. Returns whether the tree has it. */
  #lookInDirectory(state: LedgerState, path: Path, at: ByteString, stat: FileStat, look: Look): boolean {
    if (stat.type === 'file') this.#memory.files.add(stat.ino);
    const slot = state.slots.get(path);
    if (slot !== undefined && sameKind(slot, stat) && slot.signature.ino === stat.ino) return true;
    if (stat.type === 'file') this.#replaced.noteArrived('top', path, stat);
    if (stat.type === 'symlink') {
      const read = this.#reader.read(path, at, stat, look);
      const pathNow = this.#links.pathNow(state);
      if (read !== undefined && spentLink(state, path, read, pathNow)) return true;
      const named = read === undefined ? undefined : ownLink(state, path, read);
      if (named !== undefined && this.#memory.isFollowed(path, stat.ino, slot)) return true;
      if (
        named !== undefined &&
        this.#links.follow(state, path, this.#memory.linkNow(stat.ino, named, state.slots), stat, look)
      )
        return false;
      if (read !== undefined) this.#links.keepLinked(state, path, read, look);
      if (read !== undefined && sameSlotContent(read, slot)) return true;
    }
    if (!this.#reader.isSettled('top', path, stat, QUIET_MS.content + this.#o.settleMs, at)) {
      look.busy.add(path);
      return false;
    }
    const read = this.#reader.read(path, at, stat, look);
    if (read === undefined) return false;
    if (slot?.type === 'directory') this.#takeover.adopt(state, path, { slot: read, source: at }, look);
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
