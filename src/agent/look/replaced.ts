/** Inodes that somebody replaced or removed, and since when: what was in them before that is no late edit. */

import type { ByteString } from '../../codec/kv.ts';
import { parentOf, type Path } from '../../reconcile/entry.ts';
import { isOwnName, otherTree, type TreeName } from '../disk/layout.ts';
import type { KeptRecord } from '../state/ledger-record.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { FileStat } from '../base/ports.ts';
import type { ScannerOptions } from './scan-reader.ts';
import type { Sighting } from './sighting.ts';
import type { Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** Replaced inodes that are remembered; forgetting one keeps a copy too many. */
const REPLACED_LIMIT = 10_000;

/** Where a directory is on disk now, and when names in it came or went last. */
interface MovedDirectory {
  readonly at: ByteString;
  readonly mtimeNs: bigint;
}

type MovedDirectories = ReadonlyMap<bigint, MovedDirectory>;

type ReplacedOptions = Pick<ScannerOptions, 'fs' | 'layout' | 'excluded'>;

/** Told of what looks miss at a path. Forgets nothing that matters: a copy too many is all that a lost memory costs. */
export class Replaced {
  readonly #o: ReplacedOptions;
  /** When they lost their name, at the latest. */
  readonly #replaced = new Map<bigint, { readonly path: Path; readonly ns: bigint }>();
  /** Where looks have seen files under names that the published tree had not at that place, by inode: moved ones, perhaps. */
  #arrived = new Map<bigint, { readonly where: 'tree' | 'top'; readonly path: Path }>();
  /** When such a file lost that name, at the latest. */
  readonly #departed = new Map<bigint, { readonly path: Path; readonly ns: bigint }>();
  /** Directories that this look has found at another path than the published tree had them, by inode. */
  #movedDirectories: MovedDirectories = new Map();
  /** Inodes of the directories of the published tree by their place on disk, until their removal has settled. */
  readonly #inodes = new Map<ByteString, bigint>();

  constructor(options: ReplacedOptions) {
    this.#o = options;
  }

  /** A directory of a tree stands at a place on disk. */
  noteDirectory(at: ByteString, ino: bigint): void {
    this.#inodes.set(at, ino);
  }

  /** That nothing stands at a place any more has settled. */
  forgetDirectory(at: ByteString): void {
    this.#inodes.delete(at);
  }

  /**
   * A look begins. What an earlier one has seen under a new name and is not there any more has lost that one as well: what had
   * been written to it by then was there to be seen. Not if a publish has put something else there.
   */
  startLook({ active, slots }: Pick<LedgerState, 'active' | 'slots'>, isWhole: boolean): void {
    const { fs, layout } = this.#o;
    for (const [ino, { where, path }] of this.#arrived) {
      const stat = (at: Path): FileStat | undefined =>
        where === 'tree' && active !== undefined
          ? statInTree(fs, 'look at arrived', layout, active, at)
          : fs.lstat('look at arrived', at === '' ? layout.root : layout.top(at));
      const now = stat(path);
      if (now?.ino === ino) continue;
      this.#arrived.delete(ino);
      if (where === 'tree' && now !== undefined && slots.get(path)?.signature.ino === now.ino) continue;
      const dir = stat(parentOf(path) ?? '');
      if (dir?.type !== 'directory') continue;
      if (this.#departed.size >= REPLACED_LIMIT) this.#departed.clear();
      this.#departed.set(ino, { path, ns: dir.mtimeNs });
    }
    // A whole look comes by all that are still new.
    if (isWhole) this.#arrived = new Map();
  }

  /** A file stands in the published tree or at the top where the ledger has another one, or none. */
  noteArrived(where: 'tree' | 'top', path: Path, { ino }: FileStat): void {
    this.#departed.delete(ino);
    this.#arrived.set(ino, { where, path });
  }

  /** All that differs in the published tree is known: which directories have moved. */
  noteMoves(tree: TreeName, sightings: readonly Sighting[]): void {
    this.#movedDirectories = findMovedDirectories(this.#o, tree, sightings);
  }

  /** A file of the published tree is not at its path any more; `now` is what stands there. */
  noteMissing(tree: TreeName, path: Path, slot: Slot, now: FileStat | undefined): void {
    const moved = this.#movedDirectory(tree, path);
    if (moved !== undefined) this.#noteInMoved(path, slot, moved);
    else this.#note(path, slot, () => this.#endOf(tree, path, slot, now));
  }

  /** What had a name at the top is not there any more. */
  noteMissingAtTop(path: Path, slot: Slot): void {
    const { fs, layout } = this.#o;
    this.#note(path, slot, () => fs.lstat('look at root', layout.root)?.mtimeNs);
  }

  /** What was carried through a flip before it had settled has left the tree that it came to: its name there went. */
  noteCarried(idle: TreeName, path: Path, carried: Slot, { ino }: FileStat): void {
    const { fs, layout, excluded } = this.#o;
    if (excluded(path) || carried.signature.ino !== ino) return;
    const active = otherTree(idle);
    if (statInTree(fs, 'look at carried', layout, active, path)?.ino === ino) return;
    this.#note(path, carried, () => this.#directoryAbove(active, path)?.mtimeNs);
  }

  /**
   * Whether what is in an inode was written before its name went. Then it was there to be seen by whoever replaced or
   * removed it, and is no late edit, although another tree or `kept` still has the inode.
   */
  isSuperseded({ ino, mtimeNs, bornNs }: FileStat): boolean {
    const lost = [this.#replaced.get(ino), this.#departed.get(ino)];
    return lost.some((at) => at !== undefined && mtimeNs < at.ns && bornNs <= at.ns);
  }

  /**
   * The same for a kept inode. One that nobody had known at its path came there from another one, and that it is gone from
   * that says nothing of it.
   */
  isKeptSuperseded(record: KeptRecord, stat: FileStat): boolean {
    const lost = [this.#replaced.get(stat.ino), this.#departed.get(stat.ino)];
    const isFromHere = wasKnown(record, stat) || lost.some((at) => at?.path === record.path);
    return isFromHere && this.isSuperseded(stat);
  }

  /** When an inode lost its name at the latest. The first look that misses it says so. */
  #note(path: Path, { signature: { ino, ctimeNs } }: Slot, latest: () => bigint | undefined): void {
    // A moved inode loses one name after the other: the last one counts. A number that was given out anew is another inode.
    const noted = this.#replaced.get(ino);
    if (noted?.path === path && ctimeNs <= noted.ns) return;
    const ns = latest();
    if (ns === undefined) return;
    if (this.#replaced.size >= REPLACED_LIMIT) this.#replaced.clear();
    this.#replaced.set(ino, { path, ns });
  }

  /**
   * The end of a name of the published tree at the latest: its directory was written then. That may be long after it, as
   * names come and go, by a publish as well, while the inode is edited under its name in the other tree. So what took its
   * place tells it better, and a name that went before this tree was published says nothing of what nobody has looked at.
   */
  #endOf(tree: TreeName, path: Path, slot: Slot, now: FileStat | undefined): bigint | undefined {
    const written = this.#directoryAbove(tree, path)?.mtimeNs;
    if (written === undefined) return undefined;
    if (now !== undefined) return now.ctimeNs < written ? now.ctimeNs : written;
    const { fs, layout } = this.#o;
    const flipped = fs.lstat('look at data', layout.data)?.ctimeNs ?? 0n;
    return written > flipped ? written : slot.signature.ctimeNs;
  }

  /** The directory that held a path; where that has gone too, the one that held it, which was written later. */
  #directoryAbove(tree: TreeName, path: Path): FileStat | undefined {
    const { fs, layout } = this.#o;
    for (let above = parentOf(path); above !== undefined; above = parentOf(above)) {
      const stat = statInTree(fs, 'look at directory', layout, tree, above);
      if (stat?.type === 'directory') return stat;
    }
    return undefined;
  }

  /** The directory that held a path, if it was moved: what was replaced in it lost its name at its new place. */
  #movedDirectory(tree: TreeName, path: Path): MovedDirectory | undefined {
    const ino = this.#inodes.get(this.#o.layout.inTree(tree, parentOf(path) ?? ''));
    return ino === undefined ? undefined : this.#movedDirectories.get(ino);
  }

  /** As `note`, of a file in a directory that was moved; if it is still in there, it has not lost its name. */
  #noteInMoved(path: Path, { signature: { ino } }: Slot, { at, mtimeNs }: MovedDirectory): void {
    const there = this.#o.fs.lstat('look at moved', `${at}/${path.slice((parentOf(path) ?? '').length + 1)}`);
    if (there?.ino !== ino) this.#replaced.set(ino, { path, ns: mtimeNs });
  }
}

/** Whether a kept inode is the one that was known at its path. */
export function wasKnown({ slot }: KeptRecord, { ino }: FileStat): boolean {
  return slot.type !== 'other' && slot.signature.ino === ino;
}

/**
 * Directories at other paths than before, if any has left its own: those of the sightings, and real ones at the top, to
 * which they may have been moved.
 */
function findMovedDirectories(
  { fs, layout }: ReplacedOptions,
  tree: TreeName,
  sightings: readonly Sighting[],
): MovedDirectories {
  const found = new Map<bigint, MovedDirectory>();
  if (!sightings.some(({ stat, slot }) => slot?.type === 'directory' && stat?.type !== 'directory'))
    return found;
  for (const { path, stat, slot } of sightings) {
    if (stat?.type === 'directory' && slot?.type !== 'directory')
      found.set(stat.ino, { at: layout.inTree(tree, path), mtimeNs: stat.mtimeNs });
  }
  const walk = (at: ByteString): void => {
    const stat = fs.lstat('look for moved', at);
    if (stat?.type !== 'directory') return;
    found.set(stat.ino, { at, mtimeNs: stat.mtimeNs });
    try {
      for (const name of fs.readdir('look for moved', at)) walk(`${at}/${name}`);
    } catch {
      // Gone meanwhile, or closed to this agent: then it is not known when names in it went.
    }
  };
  for (const name of fs.readdir('list top', layout.root)) if (!isOwnName(name)) walk(layout.top(name));
  return found;
}
