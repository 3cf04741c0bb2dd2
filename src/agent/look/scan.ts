/** Reads the local side: what differs from the ledger in the trees, at the top of DIR and among the kept inodes. */

import type { ByteString } from '../../codec/kv.ts';
import { parentOf, type Path } from '../../reconcile/entry.ts';
import { otherTree, type TreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { Listed } from './listed.ts';
import type { Extent, Look } from './look.ts';
import { Replaced } from './replaced.ts';
import { ActiveScanner } from './scan-active.ts';
import { IdleScanner } from './scan-idle.ts';
import { KeptScanner } from './scan-kept.ts';
import { ScanReader, type ScannerOptions } from './scan-reader.ts';
import { TopScanner } from './scan-top.ts';
import type { SeenAtTop } from './top-memory.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** Looks at the local side. Remembers between looks only what has not settled. */
export class Scanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #top: TopScanner;
  readonly #active: ActiveScanner;
  readonly #idle: IdleScanner;
  readonly #kept: KeptScanner;
  readonly #replaced: Replaced;
  readonly #listed: Listed;

  constructor(options: ScannerOptions) {
    const reader = new ScanReader(options);
    const replaced = new Replaced(options);
    const listed = new Listed(options);
    const top = new TopScanner(options, reader, replaced);
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
    this.#listed = listed;
    this.#top = top;
    this.#active = new ActiveScanner(options, { reader, replaced, top, listed });
    this.#idle = new IdleScanner(options, reader, replaced, top);
    this.#kept = new KeptScanner(options, reader, replaced);
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
    const deep = extent === 'all';
    await this.#active.look(state, active, this.#directories(active, dirs), deep, look);
    const idle = otherTree(active);
    for (const dir of this.#directories(idle, dirs)) await this.#idle.look(state, idle, dir, deep, look);
    for (const [path, slot] of state.found.idle)
      if (slot !== undefined) this.#top.links.keepLinked(state, path, slot, look);
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

  /** A hint may name what is a symlink by now; what is behind it is none of ours. Asked one by one, as they are looked at. */
  *#directories(tree: TreeName, dirs: Iterable<Path>): Iterable<Path> {
    const { fs, layout } = this.#o;
    for (const dir of dirs) if (statInTree(fs, 'look', layout, tree, dir)?.type === 'directory') yield dir;
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
  touchedSince(tree: TreeName, state: LedgerState): Path[] {
    return this.#listed.touchedSince(tree, state);
  }

  /** This program changed directories itself: what is known of them counts no more until they are listed again. */
  forgetListed(directories: Iterable<ByteString>): void {
    this.#listed.forget(directories);
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
}
