/** Reads the local side: what differs from the ledger in the trees, at the top of DIR and among the kept inodes. */

import type { ByteString } from '../../codec/kv.ts';
import { join, parentOf, type Path } from '../../reconcile/entry.ts';
import { ancestorsOf, isAtOrBelow } from '../../reconcile/push-change.ts';
import { otherTree, type TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import {
  adoptionOf,
  belowNow,
  carriedSlot,
  isBusyBelow,
  topsOf,
  type Adoption,
  type Extent,
  type Look,
} from './look.ts';
import { linkedPath, linkInItself, type PathNow } from './own-link.ts';
import type { FileStat } from '../base/ports.ts';
import { isPublished } from './published-inode.ts';
import { Replaced } from './replaced.ts';
import { KeptScanner } from './scan-kept.ts';
import { ScanReader, type ScannerOptions } from './scan-reader.ts';
import { TopScanner } from './scan-top.ts';
import { movedPaths, type Sighting } from './sighting.ts';
import { isReused, sameKind, sameSignature, sameSlotContent, type Slot } from '../disk/slot.ts';
import type { SeenAtTop } from './top-memory.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** Looks at the local side. Remembers between looks only what has not settled. */
export class Scanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #top: TopScanner;
  readonly #kept: KeptScanner;
  readonly #replaced: Replaced;
  /** Directories of the trees by their place on disk, as they were when they were listed. */
  readonly #listed = new Map<ByteString, { readonly path: Path; readonly mtimeNs: bigint }>();

  constructor(options: ScannerOptions) {
    this.#o = options;
    this.#reader = new ScanReader(options);
    this.#replaced = new Replaced(options);
    this.#top = new TopScanner(options, this.#reader, this.#replaced);
    this.#kept = new KeptScanner(options, this.#reader, this.#replaced);
  }

  /** Whether something waits to settle: look again soon. */
  get waiting(): boolean {
    return !this.#reader.settling.waiting().next().done;
  }

  async look(state: LedgerState, extent: Extent): Promise<Look> {
    const look: Look = {
      edits: new Map(),
      adoptions: new Map(),
      losers: [],
      idle: new Map(),
      found: { idle: new Map(), kept: new Map() },
      parted: new Set(),
      same: new Set(),
      kept: new Map(),
      mend: new Set(),
      busy: new Set(),
      leaving: new Set(),
      born: new Map(),
      problems: new Map(),
      damage: this.#damage(state),
    };
    if (look.damage !== undefined) return look;
    const dirs = this.#extent(extent);
    if (extent !== 'all' && state.active !== undefined && dirs.has('') && this.#top.hasMoved(state)) {
      // What is below a name that moved counts at its new place, which may be anywhere: all has to be known.
      return this.look(state, 'all');
    }
    const keptWaits = [...this.#reader.settling.waiting()].some((name) => name.startsWith('kept:'));
    this.#reader.settling.startRound();
    const { active } = state;
    this.#replaced.startLook(state, extent === 'all');
    if (active === undefined) {
      await this.#top.look(state, 'a', look);
      this.#reader.settling.endRound((name) => name.startsWith('top:'));
      return look;
    }
    const sightings: Sighting[] = [];
    const deep = extent === 'all';
    for (const dir of dirs) {
      if (this.#isDirectory(active, dir)) await this.#lookAtActive(state, active, dir, deep, sightings, look);
    }
    this.#sightOtherNames(state, active, sightings);
    this.#judgeActive(state, active, sightings, look);
    const idle = otherTree(active);
    for (const dir of dirs) {
      if (this.#isDirectory(idle, dir)) await this.#lookAtIdle(state, idle, dir, deep, look);
    }
    for (const [path, slot] of state.found.idle)
      if (slot !== undefined) this.#top.keepLinked(state, path, slot, look);
    if (dirs.has('')) await this.#top.look(state, active, look);
    if (extent === 'all' || keptWaits) this.#kept.look(state, this.#top.inodes, look);
    this.#reader.settling.endRound((name) => look.tops !== undefined && name.startsWith('top:'));
    return look;
  }

  /** The hinted directories and those where something waits; for a whole look just the root, which recurses. */
  #extent(extent: Extent): ReadonlySet<Path> {
    if (extent === 'all') return new Set(['']);
    const dirs = new Set(extent);
    for (const name of this.#reader.settling.waiting()) {
      const [where, path] = [name.slice(0, name.indexOf(':')), name.slice(name.indexOf(':') + 1)];
      if (where !== 'kept') dirs.add(where === 'top' ? '' : (parentOf(path) ?? ''));
    }
    return dirs;
  }

  /** A hint may name what is a symlink by now; what is behind it is none of ours. */
  #isDirectory(tree: TreeName, dir: Path): boolean {
    return statInTree(this.#o.fs, 'look', this.#o.layout, tree, dir)?.type === 'directory';
  }

  /** The agent itself has removed a name from a real directory at the top. */
  forgetAtTop(path: Path): void {
    this.#top.memory.forget(path);
  }

  /** What the last looks have seen at the top. */
  get seenAtTop(): SeenAtTop {
    return this.#top.memory;
  }

  /** Directories of a tree in which names came or went since they were listed, as far as they were, or that got another mode. */
  touchedSince(tree: TreeName, { slots }: LedgerState): Path[] {
    const root = this.#o.layout.tree(tree);
    const touched: Path[] = [];
    // What was below a directory that is none any more is not there: where a symlink stands now, another one might be found.
    const gone = new Set<ByteString>();
    for (const [at, { path, mtimeNs }] of [...this.#listed].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (at !== root && !at.startsWith(`${root}/`)) continue;
      const isBelowGone = [...ancestorsOf(at)].some((above) => gone.has(above));
      const stat = isBelowGone ? undefined : this.#o.fs.lstat('look again', at);
      if (stat?.type !== 'directory') {
        gone.add(at);
        this.#listed.delete(at);
      } else if (stat.mtimeNs !== mtimeNs || hasOtherMode(slots.get(path), stat)) touched.push(path);
    }
    return touched;
  }

  /** This program changed directories itself: what is known of them counts no more until they are listed again. */
  forgetListed(directories: Iterable<ByteString>): void {
    for (const at of directories) this.#listed.delete(at);
  }

  #damage(state: LedgerState): string | undefined {
    const { fs, layout } = this.#o;
    if (state.active === undefined) return undefined;
    for (const tree of ['a', 'b'] as const) {
      const stat = fs.lstat('look at tree', layout.tree(tree));
      if (tree !== state.active && stat === undefined) continue;
      if (stat?.type !== 'directory') return `..${tree} is missing or no directory`;
    }
    const text = fs.readlink('look at data', layout.data);
    if (text === undefined) return '..data is missing or no symlink';
    return text === `..${state.active}` ? undefined : `..data points to ${text}`;
  }

  #listInTree(tree: TreeName, path: Path, look: Look): ByteString[] | undefined {
    const at = this.#o.layout.inTree(tree, path);
    const stat = this.#o.fs.lstat('list', at);
    if (stat?.type === 'directory') {
      this.#listed.set(at, { path, mtimeNs: stat.mtimeNs });
      this.#replaced.noteDirectory(at, stat.ino);
    }
    return this.#reader.list(at, path, look);
  }

  // Phase 1: what differs. Nothing is judged yet, because a rename is seen as two differences.
  async #lookAtActive(
    state: LedgerState,
    tree: TreeName,
    dir: Path,
    deep: boolean,
    into: Sighting[],
    look: Look,
  ): Promise<void> {
    const { fs, layout } = this.#o;
    const names = this.#listInTree(tree, dir, look);
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
        linkedPath(state, path, slot, this.#pathNow(state)) === undefined &&
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
        await this.#lookAtActive(state, tree, path, deep, into, look);
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

  // Phase 2: which differences count now.
  #judgeActive(state: LedgerState, tree: TreeName, sightings: readonly Sighting[], look: Look): void {
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
        this.#keepLinked(state, path, at, stat, look);
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
      if (isWritten && !this.#isShared(tree, path, stat)) look.parted.add(path);
    }
    for (const [path, slot] of look.edits) this.#judgeLinkedTop(state, tree, path, slot, look);
  }

  /** Whether the other tree has this very inode at a path. */
  #isShared(tree: TreeName, path: Path, { ino }: FileStat): boolean {
    const { fs, layout } = this.#o;
    return statInTree(fs, 'look at other tree', layout, otherTree(tree), path)?.ino === ino;
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

  /** What a link of our own leads to stays until the link has settled and is in the published tree. */
  #keepLinked(state: LedgerState, path: Path, at: ByteString, stat: FileStat | undefined, look: Look): void {
    const slot = stat?.type === 'symlink' ? this.#reader.read(path, at, stat, look) : undefined;
    if (slot !== undefined) this.#top.keepLinked(state, path, slot, look);
  }

  #pathNow({ slots }: LedgerState): PathNow {
    return (name) => this.#top.memory.pathNow(name, slots);
  }

  /** `mv` or `cp -r` of a top-level name into a directory brings our link there: what it leads to is meant. */
  #judgeLinkedTop(state: LedgerState, tree: TreeName, path: Path, slot: Slot | undefined, look: Look): void {
    const top = slot === undefined ? undefined : linkedPath(state, path, slot, this.#pathNow(state));
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
      this.#top.keepLinked(state, to, moved, look);
      if (isMove) topsOf(look).set(other, undefined);
    }
  }

  // A shared inode is looked at in the active tree; here count names that are not the expected inode.
  async #lookAtIdle(state: LedgerState, tree: TreeName, dir: Path, deep: boolean, look: Look): Promise<void> {
    const { fs, layout } = this.#o;
    const names = this.#reader.list(layout.inTree(tree, dir), dir, look);
    if (names === undefined) return;
    const present = new Set(names);
    for (const name of state.slots.namesIn(dir)) {
      const path = join(dir, name);
      if (present.has(name)) continue;
      for (const below of [...state.slots.below(path)]) {
        if (state.idleAt(below) !== undefined) this.#judgeIdle(state, tree, below, undefined, look);
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
      } else if (stat.type === 'file' && this.#isShared(tree, path, stat)) {
        // What is new in it is found in the active tree, though that may not have been read yet.
        this.#reader.settling.forget(`idle:${path}`);
      } else {
        this.#judgeIdle(state, tree, path, stat, look);
      }
      if (stat.type === 'directory' && (deep || expected?.type !== 'directory')) {
        await this.#lookAtIdle(state, tree, path, deep, look);
      }
    }
  }

  #judgeIdle(state: LedgerState, tree: TreeName, path: Path, stat: FileStat | undefined, look: Look): void {
    // A find that changes before it is dealt with is found as a whole once more.
    const expected = state.loggedIdleAt(path);
    const at = this.#o.layout.inTree(tree, path);
    this.#keepLinked(state, path, at, stat, look);
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

function hasOtherMode(slot: Slot | undefined, { mode }: FileStat): boolean {
  return slot?.type === 'directory' && slot.signature.mode !== mode;
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

/** Carried entries are followed by inode alone: what is in them is nobody's business. */
function sameInode(slot: Slot, stat: FileStat): boolean {
  return (
    (slot.type === 'directory') === (stat.type === 'directory') &&
    (slot.type === 'directory' || slot.signature.ino === stat.ino)
  );
}

function isExpected(expected: Slot, stat: FileStat, own: boolean): boolean {
  if (!sameKind(expected, stat)) return false;
  // A publish that was killed may have left a directory of the idle tree open, or not given it its mode yet.
  if (expected.type === 'directory') return expected.signature.mode === stat.mode;
  return own ? sameSignature(expected, stat) : expected.signature.ino === stat.ino;
}
