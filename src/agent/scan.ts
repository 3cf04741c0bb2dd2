/** Reads the local side: what differs from the ledger in the trees, at the top of DIR and among the kept inodes. */

import { createHash } from 'node:crypto';

import type { ByteString } from '../codec/kv.ts';
import { join, parentOf, type Path } from '../reconcile/entry.ts';
import { isAtOrBelow } from '../reconcile/push-change.ts';
import { targetInVolume, topTargetInVolume } from '../reconcile/target.ts';
import { codeOf } from './error.ts';
import { isOwnName, otherTree, topTarget, type Layout, type TreeName } from './layout.ts';
import type { LedgerState } from './ledger.ts';
import type { Clock, FileStat, FsPort } from './ports.ts';
import { QUIET_MS, Settling } from './settle.ts';
import { sameButCtime, sameKind, sameSignature, sameSlotContent, signatureOf, type Slot } from './slot.ts';
import { statInTree } from './tree-stat.ts';

/** Calls between two breaths of the event loop. */
const BREATH = 200;
const READ_BYTES = 1 << 20;
/** Replaced inodes that are remembered; forgetting one keeps a copy too many. */
const REPLACED_LIMIT = 10_000;

/** Something found outside the active tree that shall become part of the view. */
export interface Adoption {
  readonly slot: Slot;
  /** Where the inode is; a second name is made from there. */
  readonly source: ByteString;
  /** The view has this inode under another name and keeps it there: a file of its own is made from it. */
  readonly copy?: true;
}

/** A content that was written over a version that is no longer the published one. */
export interface Loser {
  readonly path: Path;
  readonly slot: Extract<Slot, { type: 'file' }>;
  readonly source: ByteString;
}

/** What one look found. All of it has settled. */
export interface Look {
  /** In the active tree: what the path holds now (`undefined`: nothing). */
  readonly edits: Map<Path, Slot | undefined>;
  /** In the idle tree or in `kept`: to be brought into the view (`undefined`: removed there). */
  readonly adoptions: Map<Path, Adoption | undefined>;
  /** The same for names at the top, all that there are; absent when the top was not looked at. */
  tops?: Map<Path, Adoption | undefined>;
  readonly losers: Loser[];
  /** What the idle tree holds, where that is news. */
  readonly idle: Map<Path, Slot | undefined>;
  /** Where the idle tree turned out to hold what the active one does. */
  readonly same: Set<Path>;
  /** New records of kept inodes; `null` releases one. */
  readonly kept: Map<string, { readonly path: Path; readonly slot: Slot } | null>;
  /** Top-level names whose own symlink can be put back at once. */
  readonly mend: Set<ByteString>;
  /** Paths that differ and have not settled. */
  readonly busy: Set<Path>;
  /** Paths that cannot be read, and why. */
  readonly problems: Map<Path, string>;
  /** The agent's own names are damaged: nothing below was looked at, and nothing may be taken for a removal. */
  readonly damage: string | undefined;
}

/** Which part to look at: everything, or some directories of the view (`''` is the top). */
export type Extent = 'all' | ReadonlySet<Path>;

interface ScannerOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  /** Whether a path takes no part in the sync; such a path is carried as it is. */
  readonly excluded: (path: Path) => boolean;
  /** Extra quiet time wanted; milliseconds. */
  readonly settleMs: number;
  /** How long an inode that left the trees is kept; milliseconds. */
  readonly keepMs: number;
}

interface Sighting {
  readonly path: Path;
  readonly stat: FileStat | undefined;
  readonly slot: Slot | undefined;
  /** Something else stands where its directory was: it does not come back by itself. */
  readonly isReplaced?: true;
}

/** Looks at the local side. Remembers between looks only what has not settled. */
export class Scanner {
  readonly #o: ScannerOptions;
  readonly #settling = new Settling();
  /** Inodes that stand at the top in place of a link, as of the last look there: edits of them are found there. */
  readonly #atTop = new Set<bigint>();
  /** Inodes that somebody replaced or removed: when they lost their name, at the latest. */
  readonly #replaced = new Map<bigint, { readonly path: Path; readonly ns: bigint }>();
  /** Directories of the trees by their place on disk, as they were when they were listed. */
  readonly #listed = new Map<ByteString, { readonly path: Path; readonly mtimeNs: bigint }>();
  #calls = 0;

  constructor(options: ScannerOptions) {
    this.#o = options;
  }

  /** Whether something waits to settle: look again soon. */
  get waiting(): boolean {
    return !this.#settling.waiting().next().done;
  }

  async look(state: LedgerState, extent: Extent): Promise<Look> {
    const look: Look = {
      edits: new Map(),
      adoptions: new Map(),
      losers: [],
      idle: new Map(),
      same: new Set(),
      kept: new Map(),
      mend: new Set(),
      busy: new Set(),
      problems: new Map(),
      damage: this.#damage(state),
    };
    if (look.damage !== undefined) return look;
    if (extent !== 'all' && state.active !== undefined && extent.has('') && this.#hasMovedLink(state)) {
      // What is below a name that moved counts at its new place: all of it has to be known.
      return this.look(state, 'all');
    }
    const keptWaits = [...this.#settling.waiting()].some((name) => name.startsWith('kept:'));
    const dirs = this.#extent(extent);
    this.#settling.startRound();
    const { active } = state;
    if (active === undefined) {
      await this.#lookAtTop(state, 'a', look);
      this.#settling.endRound((name) => name.startsWith('top:'));
      return look;
    }
    const sightings: Sighting[] = [];
    const deep = extent === 'all';
    for (const dir of dirs) {
      if (this.#isDirectory(active, dir)) await this.#lookAtActive(state, active, dir, deep, sightings, look);
    }
    this.#judgeActive(state, active, sightings, look);
    const idle = otherTree(active);
    for (const dir of dirs) {
      if (this.#isDirectory(idle, dir)) await this.#lookAtIdle(state, idle, dir, deep, look);
    }
    if (dirs.has('')) await this.#lookAtTop(state, active, look);
    if (extent === 'all' || keptWaits) this.#lookAtKept(state, look);
    this.#settling.endRound((name) => look.tops !== undefined && name.startsWith('top:'));
    return look;
  }

  /** The hinted directories and those where something waits; for a whole look just the root, which recurses. */
  #extent(extent: Extent): ReadonlySet<Path> {
    if (extent === 'all') return new Set(['']);
    const dirs = new Set(extent);
    for (const name of this.#settling.waiting()) {
      const [where, path] = [name.slice(0, name.indexOf(':')), name.slice(name.indexOf(':') + 1)];
      if (where !== 'kept') dirs.add(where === 'top' ? '' : (parentOf(path) ?? ''));
    }
    return dirs;
  }

  /** A hint may name what is a symlink by now; what is behind it is none of ours. */
  #isDirectory(tree: TreeName, dir: Path): boolean {
    return statInTree(this.#o.fs, 'look', this.#o.layout, tree, dir)?.type === 'directory';
  }

  /** Directories of a tree in which names came or went since they were listed, as far as they were. */
  touchedSince(tree: TreeName): Path[] {
    const root = this.#o.layout.tree(tree);
    const touched: Path[] = [];
    for (const [at, { path, mtimeNs }] of this.#listed) {
      if (at !== root && !at.startsWith(`${root}/`)) continue;
      const stat = this.#o.fs.lstat('look again', at);
      if (stat?.type !== 'directory') this.#listed.delete(at);
      else if (stat.mtimeNs !== mtimeNs) touched.push(path);
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
    const data = fs.lstat('look at data', layout.data);
    if (data?.type !== 'symlink') return '..data is missing or no symlink';
    const text = fs.readlink('look at data', layout.data);
    return text === `..${state.active}` ? undefined : `..data points to ${text}`;
  }

  #breathe(): Promise<void> | undefined {
    this.#calls += 1;
    if (this.#calls % BREATH !== 0) return undefined;
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** The names in a directory; `undefined` when it is none any more, or closed: then nothing is known of what is in it. */
  #list(at: ByteString, path: Path, look: Look): ByteString[] | undefined {
    const { fs } = this.#o;
    try {
      // Names that can be listed and not looked at are no help.
      fs.lstat('list', `${at}/.`);
      return fs.readdir('list', at);
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EACCES') look.problems.set(path, 'cannot be read: EACCES');
      else if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
      return undefined;
    }
  }

  #listInTree(tree: TreeName, path: Path, look: Look): ByteString[] | undefined {
    const at = this.#o.layout.inTree(tree, path);
    const stat = this.#o.fs.lstat('list', at);
    if (stat?.type === 'directory') this.#listed.set(at, { path, mtimeNs: stat.mtimeNs });
    return this.#list(at, path, look);
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
      const breath = this.#breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const stat = fs.lstat('look', layout.inTree(tree, path));
      if (stat === undefined) continue;
      const slot = state.slots.get(path);
      const same =
        slot !== undefined &&
        (this.#o.excluded(path) ? sameInode(slot, stat) : sameSignature(slot, stat)) &&
        linkedTop(state, path, slot) === undefined;
      if (same) {
        this.#settling.forget(`active:${path}`);
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

  // Phase 2: which differences count now.
  #judgeActive(state: LedgerState, tree: TreeName, sightings: readonly Sighting[], look: Look): void {
    const moved = movedPaths(sightings.filter(({ path }) => !this.#o.excluded(path)));
    for (const sighting of sightings) {
      const { path, stat, slot } = sighting;
      if (this.#o.excluded(path)) {
        look.edits.set(path, stat === undefined ? undefined : carriedSlot(stat));
        continue;
      }
      if (slot?.type === 'file' && slot.signature.ino !== stat?.ino) this.#noteReplaced(tree, path, slot);
      const quietMs = moved.has(path) || sighting.isReplaced === true ? 0 : this.#quiet(stat, slot);
      if (!this.#settled('active', path, stat, quietMs)) {
        look.busy.add(path);
        continue;
      }
      if (slot?.type === 'file') this.#judgeReplaced(state, tree, path, slot.signature.ino, look);
      if (stat === undefined) {
        look.edits.set(path, undefined);
        continue;
      }
      const read = this.#read(path, this.#o.layout.inTree(tree, path), stat, look);
      if (read !== undefined) look.edits.set(path, read);
    }
    for (const [path, slot] of look.edits) this.#judgeLinkedTop(state, tree, path, slot, look);
  }

  /** When an inode lost its name at the latest: its directory was written then. The first look that misses it says so. */
  #noteReplaced(tree: TreeName, path: Path, { signature: { ino } }: Slot): void {
    // A moved inode loses one name after the other: the last one counts.
    if (this.#replaced.get(ino)?.path === path) return;
    const dir = this.#o.fs.lstat('look at directory', this.#o.layout.inTree(tree, parentOf(path) ?? ''));
    if (dir === undefined) return;
    if (this.#replaced.size >= REPLACED_LIMIT) this.#replaced.clear();
    this.#replaced.set(ino, { path, ns: dir.mtimeNs });
  }

  /**
   * Whether what is in an inode was written before its name went. Then it was there to be seen by whoever replaced or
   * removed it, and is no late edit, although another tree or `kept` still has the inode.
   */
  #isSuperseded({ ino, mtimeNs }: FileStat): boolean {
    const replaced = this.#replaced.get(ino);
    return replaced !== undefined && mtimeNs < replaced.ns;
  }

  /** Writes down what superseded inodes hold, so that a later start does not take it for news. */
  #judgeReplaced(state: LedgerState, tree: TreeName, path: Path, ino: bigint, look: Look): void {
    const { fs, layout } = this.#o;
    const other = otherTree(tree);
    const stat = statInTree(fs, 'look at replaced', layout, other, path);
    if (stat?.type === 'file' && stat.ino === ino && this.#isSuperseded(stat)) {
      const slot = this.#read(path, layout.inTree(other, path), stat, look);
      if (slot !== undefined) look.idle.set(path, slot);
    }
    for (const [name, record] of state.kept) {
      if (record.slot.signature.ino !== ino) continue;
      const at = `${layout.kept}/${name}`;
      const kept = fs.lstat('look at replaced', at);
      if (kept?.type !== 'file' || kept.ino !== ino || !this.#isSuperseded(kept)) continue;
      const slot = this.#read(record.path, at, kept, look);
      if (slot !== undefined) look.kept.set(name, { path: record.path, slot });
    }
  }

  /** `mv` or `cp -r` of a top-level name into a directory brings our link there: what it leads to is meant. */
  #judgeLinkedTop(state: LedgerState, tree: TreeName, path: Path, slot: Slot | undefined, look: Look): void {
    const top = slot === undefined ? undefined : linkedTop(state, path, slot);
    if (top === undefined) return;
    const isMove = this.#o.fs.lstat('look top', this.#o.layout.top(top)) === undefined;
    const below = [...state.slots.below(top)];
    if (isMove && below.some((other) => look.busy.has(other))) {
      // Edits below it move with it once they have settled.
      look.edits.delete(path);
      for (const other of [path, ...below]) look.busy.add(other);
      return;
    }
    for (const other of below) {
      const source = this.#o.layout.inTree(tree, other);
      const moved = state.slots.get(other);
      if (moved === undefined) continue;
      look.adoptions.set(path + other.slice(top.length), adoptionOf(moved, source, isMove));
      if (isMove) look.adoptions.set(other, undefined);
    }
  }

  #quiet(stat: FileStat | undefined, slot: Slot | undefined): number {
    if (stat === undefined) return QUIET_MS.absence;
    if (stat.type !== 'file') return 0;
    const s = slot?.signature;
    const sameBytes =
      slot?.type === 'file' && s?.ino === stat.ino && s.size === stat.size && s.mtimeNs === stat.mtimeNs;
    return sameBytes ? 0 : QUIET_MS.content + this.#o.settleMs;
  }

  #settled(where: string, path: Path, stat: FileStat | undefined, quietMs: number): boolean {
    // The ctime moves with every link that a publish makes.
    const print =
      stat === undefined ? '-' : `${stat.type} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.mode}`;
    return this.#settling.isSettled(
      `${where}:${path}`,
      print,
      quietMs,
      this.#o.clock.monotonicMs(),
      where === 'top',
    );
  }

  /** The slot of what stands at `at`; `undefined` when it changed while it was read (the next look tries again). */
  #read(path: Path, at: ByteString, stat: FileStat, look: Look, top = false): Slot | undefined {
    const { fs, layout } = this.#o;
    if (this.#o.excluded(path)) return carriedSlot(stat);
    const signature = signatureOf(stat);
    if (stat.type === 'directory') return { type: 'directory', signature };
    if (stat.type === 'symlink') {
      const text = fs.readlink('look', at);
      const target = top ? topTargetInVolume(text, layout.root) : targetInVolume(text, path, layout.root);
      return { type: 'symlink', signature, target };
    }
    if (stat.type !== 'file') return { type: 'other', signature };
    try {
      const digest = digestOf(fs, at, stat);
      if (digest !== undefined) return { type: 'file', signature, digest };
    } catch (error) {
      look.problems.set(path, `cannot be read: ${codeOf(error) ?? String(error)}`);
    }
    return undefined;
  }

  // A shared inode is looked at in the active tree; here count names that are not the expected inode.
  async #lookAtIdle(state: LedgerState, tree: TreeName, dir: Path, deep: boolean, look: Look): Promise<void> {
    const { fs, layout } = this.#o;
    const names = this.#list(layout.inTree(tree, dir), dir, look);
    if (names === undefined) return;
    const expectedAt = (path: Path): Slot | undefined =>
      state.stale.has(path) ? state.stale.get(path) : state.slots.get(path);
    const present = new Set(names);
    for (const name of state.slots.namesIn(dir)) {
      const path = join(dir, name);
      if (present.has(name)) continue;
      for (const below of [...state.slots.below(path)]) {
        if (expectedAt(below) !== undefined) this.#judgeIdle(state, tree, below, undefined, look);
      }
    }
    for (const name of names) {
      const breath = this.#breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const stat = fs.lstat('look idle', layout.inTree(tree, path));
      if (stat === undefined) continue;
      const expected = expectedAt(path);
      const current = state.slots.get(path);
      if (expected !== undefined && isExpected(expected, stat, state.stale.has(path))) {
        this.#settling.forget(`idle:${path}`);
      } else if (current !== undefined && isExpected(current, stat, false)) {
        look.same.add(path);
      } else {
        this.#judgeIdle(state, tree, path, stat, look);
      }
      if (stat.type === 'directory' && (deep || expected?.type !== 'directory')) {
        await this.#lookAtIdle(state, tree, path, deep, look);
      }
    }
  }

  #judgeIdle(state: LedgerState, tree: TreeName, path: Path, stat: FileStat | undefined, look: Look): void {
    const expected = state.stale.has(path) ? state.stale.get(path) : state.slots.get(path);
    if (!this.#settled('idle', path, stat, this.#quiet(stat, expected))) {
      look.busy.add(path);
      return;
    }
    const at = this.#o.layout.inTree(tree, path);
    const slot = stat === undefined ? undefined : this.#read(path, at, stat, look);
    if (stat !== undefined && slot === undefined) return;
    look.idle.set(path, slot);
    const current = state.slots.get(path);
    if (sameSlotContent(slot, current)) return;
    if (sameSlotContent(slot, expected) && slot?.type !== 'other') return;
    if (stat !== undefined && (this.#isSuperseded(stat) || this.#atTop.has(stat.ino))) return;
    // An inode that was moved: edits of it are seen where it is shown.
    if (slot?.type === 'file' && isPublished(state, path, slot.signature.ino, look)) return;
    // The edit counts as one of the published version when the idle tree held that very content.
    const isCurrent = sameSlotContent(expected, current);
    if (slot === undefined) {
      if (isCurrent) adoptAt(state, path, undefined, look);
    } else if (isCurrent || this.#o.excluded(path) || slot.type === 'directory') {
      adoptAt(state, path, { slot, source: at }, look);
    } else if (slot.type === 'file') {
      look.losers.push({ path, slot, source: at });
    }
  }

  async #lookAtTop(state: LedgerState, active: TreeName, look: Look): Promise<void> {
    const { fs, layout, excluded } = this.#o;
    const tops = new Map<Path, Adoption | undefined>();
    look.tops = tops;
    this.#atTop.clear();
    const names = fs.readdir('list top', layout.root).filter((name) => !isOwnName(name));
    const present = new Set(names);
    for (const name of names) {
      const at = layout.top(name);
      const stat = fs.lstat('look top', at);
      if (stat === undefined || excluded(name)) continue;
      if (stat.type === 'symlink') this.#lookAtTopLink(state, active, name, at, stat, present, look);
      else if (stat.type === 'file') this.#lookAtTopFile(state, name, at, stat, look);
      else if (stat.type === 'directory') await this.#lookAtTopDirectory(state, name, at, stat, look);
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
      if (this.#settled('top', name, undefined, QUIET_MS.absence)) {
        for (const path of state.slots.below(name)) tops.set(path, undefined);
      } else {
        look.busy.add(name);
      }
    }
  }

  #lookAtTopLink(
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
      this.#settling.forget(`top:${name}`);
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
    const slot = this.#read(name, at, stat, look, true);
    if (slot === undefined) return;
    if (sameSlotContent(slot, state.slots.get(name))) look.mend.add(name);
    else this.#adoptOver(state, name, { slot, source: at }, look);
  }

  #hasMovedLink(state: LedgerState): boolean {
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

  #lookAtTopFile(state: LedgerState, name: ByteString, at: ByteString, stat: FileStat, look: Look): void {
    this.#atTop.add(stat.ino);
    const slot = state.slots.get(name);
    // The editor's file is the inode in the trees already: edits of it are seen there.
    if (slot?.type === 'file' && slot.signature.ino === stat.ino) return;
    if (!this.#settled('top', name, stat, QUIET_MS.content + this.#o.settleMs)) {
      look.busy.add(name);
      return;
    }
    const read = this.#read(name, at, stat, look);
    if (read !== undefined) this.#adoptOver(state, name, { slot: read, source: at }, look);
  }

  /** A file or link in place of whatever the view has there. */
  #adoptOver(state: LedgerState, path: Path, adoption: Adoption, look: Look): void {
    const tops = topsOf(look);
    for (const below of state.slots.below(path)) if (below !== path) tops.set(below, undefined);
    tops.set(path, adoption);
  }

  /** A real directory where the link was: a union, never a removal (watch-and-flip 7, `tar x` and `rsync -a`). */
  async #lookAtTopDirectory(
    state: LedgerState,
    dir: Path,
    at: ByteString,
    stat: FileStat,
    look: Look,
  ): Promise<boolean> {
    const tops = topsOf(look);
    let merged = state.slots.get(dir)?.type === 'directory';
    if (!merged) tops.set(dir, { slot: { type: 'directory', signature: signatureOf(stat) }, source: at });
    const names = this.#list(at, dir, look);
    if (names === undefined) return false;
    for (const name of names) {
      const breath = this.#breathe();
      if (breath !== undefined) await breath;
      const path = join(dir, name);
      const below = `${at}/${name}`;
      const found = this.#o.fs.lstat('look top directory', below);
      if (found === undefined) continue;
      if (found.type === 'file') this.#atTop.add(found.ino);
      if (found.type === 'directory') {
        merged = (await this.#lookAtTopDirectory(state, path, below, found, look)) && merged;
        continue;
      }
      const slot = state.slots.get(path);
      if (slot !== undefined && sameKind(slot, found) && slot.signature.ino === found.ino) continue;
      if (found.type === 'symlink') {
        const read = this.#read(path, below, found, look);
        if (read !== undefined && sameSlotContent(read, slot)) continue;
      }
      merged = false;
      const quietMs = found.type === 'file' ? QUIET_MS.content + this.#o.settleMs : 0;
      if (!this.#settled('top', path, found, quietMs)) {
        look.busy.add(path);
        continue;
      }
      const read = this.#read(path, below, found, look);
      if (read !== undefined) tops.set(path, { slot: read, source: below });
    }
    if (merged && !dir.includes('/')) look.mend.add(dir);
    return merged;
  }

  #lookAtKept(state: LedgerState, look: Look): void {
    const { fs, layout, clock, keepMs } = this.#o;
    for (const [name, record] of state.kept) {
      const at = `${layout.kept}/${name}`;
      const stat = fs.lstat('look kept', at);
      if (stat === undefined || this.#o.excluded(record.path)) {
        look.kept.set(name, null);
        continue;
      }
      if (sameSignature(record.slot, stat)) {
        this.#settling.forget(`kept:${name}`);
        if (clock.nowNs() - stat.ctimeNs > BigInt(keepMs) * 1_000_000n) look.kept.set(name, null);
        continue;
      }
      if (this.#atTop.has(stat.ino)) continue;
      if (isPublished(state, record.path, stat.ino, look)) {
        // Edits of it are seen in the tree, if only under another name; when it leaves that, it is kept again.
        look.kept.set(name, null);
        continue;
      }
      const onlyCtime = sameButCtime(record.slot, stat);
      if (!this.#settled('kept', name, stat, onlyCtime ? 0 : QUIET_MS.content)) continue;
      // Our own link moved the ctime. What not even its owner may read is known by its size and mtime alone.
      const slot =
        onlyCtime && !canOpen(fs, at)
          ? { ...record.slot, signature: signatureOf(stat) }
          : this.#read(record.path, at, stat, look);
      if (slot === undefined) continue;
      look.kept.set(name, { path: record.path, slot });
      if (slot.type !== 'file' || sameSlotContent(slot, record.slot) || this.#isSuperseded(stat)) continue;
      const current = state.slots.get(record.path);
      if (sameSlotContent(slot, current)) continue;
      if (sameSlotContent(record.slot, current)) look.adoptions.set(record.path, { slot, source: at });
      else look.losers.push({ path: record.path, slot, source: at });
    }
  }
}

/** The adoptions of a look that comes by the top. */
function topsOf(look: Look): Map<Path, Adoption | undefined> {
  return (look.tops ??= new Map());
}

/**
 * The top-level name whose link stands inside a tree, where somebody moved or copied it: it leads nowhere there. A link
 * that the volume has, or beside a `..data` of its own, is an ordinary one.
 */
function linkedTop(state: LedgerState, path: Path, slot: Slot): ByteString | undefined {
  if (slot.type !== 'symlink' || !slot.target.startsWith('..data/') || !path.includes('/')) return undefined;
  const top = slot.target.slice('..data/'.length);
  if (top.includes('/') || !state.slots.has(top) || isAtOrBelow(path, top)) return undefined;
  const agreed = state.ancestor.get(path);
  if (agreed?.type === 'symlink' && agreed.target === slot.target) return undefined;
  return state.slots.has(join(parentOf(path) ?? '', '..data')) ? undefined : top;
}

/** What is found in place of a directory is the end of all that was below it. */
function adoptAt(state: LedgerState, path: Path, adoption: Adoption | undefined, look: Look): void {
  if (adoption?.slot.type !== 'directory') {
    for (const below of state.slots.below(path)) look.adoptions.set(below, undefined);
  }
  look.adoptions.set(path, adoption);
}

/** Whether an inode is in the active tree, most likely at `path`; `look` knows what is new there. */
function isPublished(state: LedgerState, path: Path, ino: bigint, look: Look): boolean {
  const isIt = (slot: Slot | undefined): boolean => slot?.type === 'file' && slot.signature.ino === ino;
  if (isIt(state.slots.get(path)) && !look.edits.has(path)) return true;
  for (const slot of look.edits.values()) if (isIt(slot)) return true;
  for (const [other, slot] of state.slots.entries()) if (isIt(slot) && !look.edits.has(other)) return true;
  return false;
}

/** `mv` takes the inode along, `cp` makes another one. */
function adoptionOf(slot: Slot, source: ByteString, isMove: boolean): Adoption {
  return isMove ? { slot, source } : { slot, source, copy: true };
}

function carriedSlot(stat: FileStat): Slot {
  const signature = signatureOf(stat);
  return { type: stat.type === 'directory' ? 'directory' : 'other', signature };
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

/** Paths on both ends of a rename: an inode that vanished here and appeared there, otherwise untouched. */
function movedPaths(sightings: readonly Sighting[]): ReadonlySet<Path> {
  const gone = new Map<bigint, Sighting>();
  for (const sighting of sightings) {
    if (sighting.stat === undefined && sighting.slot?.type === 'file')
      gone.set(sighting.slot.signature.ino, sighting);
  }
  const moved = new Set<Path>();
  if (gone.size === 0) return moved;
  for (const { path, stat } of sightings) {
    const from = stat?.type === 'file' ? gone.get(stat.ino) : undefined;
    const before = from?.slot?.signature;
    if (stat === undefined || from === undefined || before === undefined) continue;
    if (before.size !== stat.size || before.mtimeNs !== stat.mtimeNs) continue;
    moved.add(path);
    moved.add(from.path);
  }
  // A directory that vanished counts as moved when all that was in it has.
  const absent = new Set<Path>();
  for (const { path, stat } of sightings) if (stat === undefined) absent.add(path);
  const filled = new Set([...absent].map((path) => parentOf(path) ?? ''));
  const withMoved = new Set<Path>();
  const withOther = new Set<Path>();
  for (const path of absent) {
    if (!moved.has(path) && filled.has(path)) continue;
    const above = moved.has(path) ? withMoved : withOther;
    for (let dir = parentOf(path); dir !== undefined && !above.has(dir); dir = parentOf(dir)) above.add(dir);
  }
  for (const { path, slot } of sightings) {
    if (slot?.type === 'directory' && absent.has(path) && withMoved.has(path) && !withOther.has(path))
      moved.add(path);
  }
  return moved;
}

function canOpen(fs: FsPort, at: ByteString): boolean {
  try {
    fs.close('look kept', fs.openRead('look kept', at));
    return true;
  } catch {
    return false;
  }
}

/** SHA-256 of a file; `undefined` when it changed while it was read. Throws Node's error when it cannot be opened. */
function digestOf(fs: FsPort, at: ByteString, stat: FileStat): string | undefined {
  const fd = fs.openRead('digest', at);
  try {
    const hash = createHash('sha256');
    const buffer = new Uint8Array(Math.min(READ_BYTES, Math.max(Number(stat.size), 1)));
    let position = 0;
    for (;;) {
      const n = fs.read('digest', fd, buffer, position);
      if (n === 0) break;
      hash.update(buffer.subarray(0, n));
      position += n;
    }
    const after = fs.fstat('digest', fd);
    const same = after.ino === stat.ino && after.size === stat.size && after.mtimeNs === stat.mtimeNs;
    return same && BigInt(position) === stat.size ? hash.digest('hex') : undefined;
  } finally {
    fs.close('digest', fd);
  }
}
