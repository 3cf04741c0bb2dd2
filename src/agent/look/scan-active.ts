/** The part of a look that reads the tree that is shown: every edit made through it. */

import type { ByteString } from '../../codec/kv.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import { otherTree, type TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Listed } from './listed.ts';
import { adoptionOf, belowNow, carriedSlot, isBusyBelow, topsOf, type Look } from './look.ts';
import { linkedPath, linkInItself } from './own-link.ts';
import type { FileStat } from '../base/ports.ts';
import { isInOtherTree } from './published-inode.ts';
import type { Replaced } from './replaced.ts';
import type { ScanReader, ScannerOptions } from './scan-reader.ts';
import type { TopScanner } from './scan-top.ts';
import { movedPaths, type Sighting } from './sighting.ts';
import { isReused, sameSignature, sameSlotContent, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** What it shares with the other parts of a scanner. */
interface Shared {
  readonly reader: ScanReader;
  readonly replaced: Replaced;
  readonly top: TopScanner;
  readonly listed: Listed;
}

export class ActiveScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #replaced: Replaced;
  readonly #top: TopScanner;
  readonly #listed: Listed;

  constructor(options: ScannerOptions, { reader, replaced, top, listed }: Shared) {
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
    this.#top = top;
    this.#listed = listed;
  }

  /**
   * Looks at some directories, `deep` with all below them. First at what differs: nothing is judged before all is seen, because a
   * rename is seen as two differences.
   */
  async look(
    state: LedgerState,
    tree: TreeName,
    dirs: Iterable<Path>,
    deep: boolean,
    look: Look,
  ): Promise<void> {
    const sightings: Sighting[] = [];
    for (const dir of dirs) await this.#lookAt(state, tree, dir, deep, sightings, look);
    this.#sightOtherNames(state, tree, sightings);
    this.#judge(state, tree, sightings, look);
  }

  #list(tree: TreeName, path: Path, look: Look): ByteString[] | undefined {
    const at = this.#o.layout.inTree(tree, path);
    const stat = this.#o.fs.lstat('list', at);
    if (stat?.type === 'directory') {
      this.#listed.note(at, path, stat.mtimeNs);
      this.#replaced.noteDirectory(at, stat.ino);
    }
    return this.#reader.list(at, path, look);
  }

  async #lookAt(
    state: LedgerState,
    tree: TreeName,
    dir: Path,
    deep: boolean,
    into: Sighting[],
    look: Look,
  ): Promise<void> {
    const { fs, layout } = this.#o;
    const names = this.#list(tree, dir, look);
    if (names === undefined) return;
    const present = new Set(names);
    for (const name of state.slots.namesIn(dir)) {
      if (present.has(name)) continue;
      for (const path of state.slots.below(join(dir, name))) {
        into.push({ path, stat: undefined, slot: state.slots.get(path) });
      }
    }
    for (const name of names) {
      const breath = this.#reader.breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const stat = fs.lstat('look', layout.inTree(tree, path));
      if (stat === undefined) continue;
      const slot = state.slots.get(path);
      const same =
        slot !== undefined &&
        (this.#o.excluded(path)
          ? sameInode(slot, stat)
          : this.#isSame(slot, stat, layout.inTree(tree, path))) &&
        linkedPath(state, path, slot, this.#top.links.pathNow(state)) === undefined &&
        linkInItself(state, path, slot) === undefined;
      if (same) {
        this.#reader.settling.forget(`active:${path}`);
      } else into.push({ path, stat, slot });
      if (slot?.type === 'directory' && stat.type !== 'directory') {
        for (const below of state.slots.below(path)) {
          if (below === path) continue;
          into.push({ path: below, stat: undefined, slot: state.slots.get(below), isReplaced: true });
        }
      }
      if (stat.type === 'directory' && (deep || slot?.type !== 'directory')) {
        await this.#lookAt(state, tree, path, deep, into, look);
      }
    }
  }

  #isSame(slot: Slot, stat: FileStat, at: ByteString): boolean {
    if (!sameSignature(slot, stat)) return false;
    return slot.type !== 'directory' || !this.#reader.hasOtherXattrs(slot, at, stat);
  }

  /** The other names of files that differ: what is edited under one name is edited under all, wherever they are. */
  #sightOtherNames(state: LedgerState, tree: TreeName, sightings: Sighting[]): void {
    const seen = new Set(sightings.map(({ path }) => path));
    for (const { stat, slot } of [...sightings]) {
      const before = slot?.type === 'file' ? state.slots.namesOf(slot.signature.ino) : [];
      const now = stat?.type === 'file' ? state.slots.namesOf(stat.ino) : [];
      for (const path of [...before, ...now]) {
        if (seen.has(path) || this.#o.excluded(path)) continue;
        seen.add(path);
        const known = state.slots.get(path);
        const found = statInTree(this.#o.fs, 'look at other name', this.#o.layout, tree, path);
        if (known !== undefined && found !== undefined && sameSignature(known, found)) continue;
        sightings.push({ path, stat: found, slot: known });
      }
    }
  }

  /** What is known of an inode: by the name at which it stands, or by another one. */
  #knownInode(state: LedgerState, slot: Slot | undefined, stat: FileStat | undefined): Slot | undefined {
    if (stat?.type !== 'file' || slot?.signature.ino === stat.ino) return slot;
    const [other] = state.slots.namesOf(stat.ino);
    const known = other === undefined ? undefined : state.slots.get(other);
    return known === undefined || isReused(known, stat.bornNs) ? slot : known;
  }

  /** How long a difference has to be quiet before it counts; milliseconds. */
  #quietMs(state: LedgerState, { path, stat, slot, isReplaced }: Sighting, moved: ReadonlySet<Path>): number {
    if (this.#o.excluded(path) || moved.has(path) || isReplaced === true) return 0;
    return this.#reader.quietMs(stat, this.#knownInode(state, slot, stat));
  }

  #judge(state: LedgerState, tree: TreeName, sightings: readonly Sighting[], look: Look): void {
    const moved = movedPaths(sightings.filter(({ path }) => !this.#o.excluded(path)));
    this.#replaced.noteMoves(tree, sightings);
    for (const { stat } of sightings) if (stat?.type === 'file') look.born.set(stat.ino, stat.bornNs);
    const quietMs = (sighting: Sighting): number => this.#quietMs(state, sighting, moved);
    const waiting = sightings.filter((sighting) => quietMs(sighting) > 0).map(({ path }) => path);
    this.#reader.noteBegun('active', waiting);
    for (const sighting of sightings) {
      const { path, stat, slot } = sighting;
      if (this.#o.excluded(path)) {
        look.edits.set(path, stat === undefined ? undefined : carriedSlot(stat));
        continue;
      }
      if (slot?.type === 'file' && slot.signature.ino !== stat?.ino)
        this.#replaced.noteMissing(tree, path, slot, stat);
      if (stat?.type === 'file' && slot?.signature.ino !== stat.ino)
        this.#replaced.noteArrived('tree', path, stat);
      const at = this.#o.layout.inTree(tree, path);
      if (!this.#reader.isSettled('active', path, stat, quietMs(sighting), at)) {
        look.busy.add(path);
        this.#top.links.keepLinkedAt(state, path, at, stat, look);
        continue;
      }
      if (slot?.type === 'file') this.#judgeReplaced(state, tree, path, slot.signature.ino, look);
      if (stat === undefined) {
        look.edits.set(path, undefined);
        this.#replaced.forgetDirectory(at);
        continue;
      }
      const read = this.#reader.read(path, at, stat, look);
      if (read === undefined) {
        // It changed while it was read: what was known of it must not be pushed in its place.
        if (!look.problems.has(path)) {
          this.#reader.waitAgain('active', path, stat);
          look.busy.add(path);
        }
        continue;
      }
      look.edits.set(path, read);
      const isWritten = slot?.signature.ino === stat.ino && !sameSlotContent(read, slot);
      if (isWritten && !isInOtherTree(this.#o, tree, path, stat)) look.parted.add(path);
    }
    for (const [path, slot] of look.edits) this.#judgeLinkedTop(state, tree, path, slot, look);
  }

  /** Writes down what superseded inodes hold, so that a later start does not take it for news. */
  #judgeReplaced(state: LedgerState, tree: TreeName, path: Path, ino: bigint, look: Look): void {
    const { fs, layout } = this.#o;
    const other = otherTree(tree);
    const stat = statInTree(fs, 'look at replaced', layout, other, path);
    if (stat?.type === 'file' && stat.ino === ino && this.#replaced.isSuperseded(stat)) {
      const slot = this.#reader.read(path, layout.inTree(other, path), stat, look);
      if (slot !== undefined) look.idle.set(path, slot);
    }
    for (const [name, record] of state.kept) {
      if (record.slot.signature.ino !== ino) continue;
      const at = `${layout.kept}/${name}`;
      const kept = fs.lstat('look at replaced', at);
      if (kept?.type !== 'file' || kept.ino !== ino || !this.#replaced.isKeptSuperseded(record, kept))
        continue;
      const slot = this.#reader.read(record.path, at, kept, look);
      if (slot !== undefined) look.kept.set(name, { path: record.path, slot });
    }
  }

  /** `mv` or `cp -r` of a top-level name into a directory brings our link there: what it leads to is meant. */
  #judgeLinkedTop(state: LedgerState, tree: TreeName, path: Path, slot: Slot | undefined, look: Look): void {
    const top =
      slot === undefined ? undefined : linkedPath(state, path, slot, this.#top.links.pathNow(state));
    if (slot !== undefined && linkInItself(state, path, slot) !== undefined)
      look.adoptions.set(path, undefined);
    if (top === undefined) return;
    // A directory that is being removed takes the link along, and with it what the link led to.
    const [first] = path.split('/', 1);
    if (this.#o.fs.lstat('look top', this.#o.layout.top(first ?? path)) === undefined) return;
    const isMove = this.#o.fs.lstat('look top', this.#o.layout.top(top)) === undefined;
    const below = belowNow(state, look, top);
    if (isMove && isBusyBelow(look, top)) {
      // Edits below it move with it once they have settled.
      look.edits.delete(path);
      for (const other of [path, ...below.keys()]) look.busy.add(other);
      return;
    }
    if (isMove) this.#top.memory.noteRename(top, path);
    for (const [other, moved] of below) {
      const source = this.#o.layout.inTree(tree, other);
      const to = path + other.slice(top.length);
      topsOf(look).set(to, adoptionOf(moved, source, isMove));
      this.#top.links.keepLinked(state, to, moved, look);
      if (isMove) topsOf(look).set(other, undefined);
    }
  }
}

/** Carried entries are followed by inode alone: what is in them is nobody's business. */
function sameInode(slot: Slot, stat: FileStat): boolean {
  return (
    (slot.type === 'directory') === (stat.type === 'directory') &&
    (slot.type === 'directory' || slot.signature.ino === stat.ino)
  );
}
