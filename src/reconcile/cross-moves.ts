/**
 * Moves that one side made and that the other side's changes cross (design 4.4, "Moves first"). They are made on the other
 * side by themselves, before anything is reconciled: then an edit or an addition is where its file or directory is now, and
 * a path-by-path comparison says the right thing.
 */

import type { Held } from './attributes.ts';
import { nameOf, parentOf, sameEntry, type Entry, type Path, type Tree } from './entry.ts';
import type { Delta } from './reconcile.ts';
import { ancestorsOf, isAtOrBelow } from './push-change.ts';

/** An entry, and all below it, that is to be at another path on one side. */
export interface Move {
  /** Where both sides agreed on it last. */
  readonly base: Path;
  /** Where it is on the side that is to move it. The same as `to`: there is nothing to move but what is agreed on. */
  readonly from: Path;
  readonly to: Path;
}

export interface CrossMoves {
  readonly toLocal: readonly Move[];
  readonly toRemote: readonly Move[];
  /** Nothing at or below these paths is to be reconciled before the moves are made. */
  readonly waiting: readonly Path[];
}

export interface CrossMovesInput {
  readonly ancestor: Tree;
  /** All paths that may differ, those that cannot be judged yet included. */
  readonly local: Delta;
  readonly remote: Delta;
  readonly held: Held;
  /** Where the inode that this side has at a path was before, if it left there. */
  readonly cameFrom: (path: Path) => Path | undefined;
  /** Paths of this side that are not known yet, or that a push is about. */
  readonly unsettled: ReadonlySet<Path>;
  /** Moves in the volume that it has refused: they are a removal and an addition. */
  readonly isRefused?: (move: Move) => boolean;
}

/** Deterministic. Moves that cross others wait, or are none: a removal and an addition. */
export function findCrossMoves(input: CrossMovesInput): CrossMoves {
  const { local, remote, unsettled } = input;
  if (remote.size === 0 || local.size + unsettled.size === 0) return NO_MOVES;
  return new Finder(input).find();
}

export const NO_MOVES: CrossMoves = { toLocal: [], toRemote: [], waiting: [] };

/** Whether a path is not to be reconciled before moves are made: what goes with them, and the directories that they leave. */
export function isHeldByMoves({ waiting }: CrossMoves, path: Path, ancestor: Tree): boolean {
  return waiting.some(
    (place) => isAtOrBelow(path, place) || (ancestor.has(path) && isAtOrBelow(place, path)),
  );
}

interface Candidate {
  readonly side: 'local' | 'remote';
  readonly move: Move;
}

class Finder {
  readonly #input: CrossMovesInput;

  constructor(input: CrossMovesInput) {
    this.#input = input;
  }

  find(): CrossMoves {
    const candidates = this.#candidates();
    if (candidates.length === 0) return NO_MOVES;
    const places = candidates.flatMap(({ move }) => placesOf(move));
    const isFree = (path: Path): boolean => !places.some((place) => isAtOrBelow(path, place));
    const taken: Path[] = [];
    const waiting = new Set<Path>();
    const chosen: Candidate[] = [];
    for (const candidate of candidates) {
      const { move } = candidate;
      const verdict = this.#verdict(candidate, isFree);
      if (verdict === 'none') continue;
      this.#wait(move, waiting);
      const isAlone = !placesOf(move).some((path) => taken.some((other) => touches(path, other)));
      if (verdict === 'wait' || !isAlone) continue;
      taken.push(...placesOf(move));
      chosen.push(candidate);
    }
    const movesOf = (side: Candidate['side']): Move[] =>
      chosen.flatMap((one) => (one.side === side ? [one.move] : []));
    return { toLocal: movesOf('local'), toRemote: movesOf('remote'), waiting: [...waiting] };
  }

  /** Its paths wait, and directories above that a side has not any more: what becomes of all in them depends on the move. */
  #wait(move: Move, waiting: Set<Path>): void {
    for (const path of placesOf(move)) waiting.add(path);
    for (const dir of [...ancestorsOf(move.base), ...ancestorsOf(move.from)]) {
      const isThere = [this.#local(dir), this.#remote(dir)].every((entry) => entry?.type === 'directory');
      if (this.#input.ancestor.has(dir) && !isThere) waiting.add(dir);
    }
  }

  #candidates(): Candidate[] {
    const here = this.#localMoves();
    const there = this.#remoteMoves();
    const candidates: Candidate[] = [];
    for (const [base, to] of [...there].sort(byPath)) {
      const mine = here.get(base);
      const from = mine ?? base;
      const isCrossed = mine === undefined ? this.#isChangedBelow('local', base) : this.#differs(from, to);
      if (isCrossed) candidates.push({ side: 'local', move: { base, from, to } });
    }
    for (const [base, to] of [...here].sort(byPath)) {
      if (there.has(base) || !this.#isChangedBelow('remote', base)) continue;
      candidates.push({ side: 'remote', move: { base, from: base, to } });
    }
    return candidates;
  }

  #local(path: Path): Entry | undefined {
    const { local, ancestor } = this.#input;
    return local.has(path) ? local.get(path) : ancestor.get(path);
  }

  #remote(path: Path): Entry | undefined {
    const { remote, ancestor } = this.#input;
    return remote.has(path) ? remote.get(path) : ancestor.get(path);
  }

  #isChangedBelow(side: 'local' | 'remote', base: Path): boolean {
    const { ancestor, held, unsettled, local, remote } = this.#input;
    const delta = side === 'local' ? local : remote;
    for (const [path, entry] of delta)
      if (isAtOrBelow(path, base) && !sameEntry(entry, ancestor.get(path), held)) return true;
    return side === 'local' && [...unsettled].some((path) => isAtOrBelow(path, base));
  }

  /** Whether what both sides moved is to be moved on, or is not the same where both have it. */
  #differs(from: Path, to: Path): boolean {
    if (from !== to) return true;
    const { held, local, remote } = this.#input;
    for (const path of [...local.keys(), ...remote.keys()]) {
      if (isAtOrBelow(path, to) && !sameEntry(this.#local(path), this.#remote(path), held)) return true;
    }
    return false;
  }

  /** By the volume's inode; of a directory that moved, that one alone. */
  #remoteMoves(): Map<Path, Path> {
    const { ancestor, remote } = this.#input;
    const left = new Map<bigint, Path>();
    for (const path of remote.keys()) {
      const entry = ancestor.get(path);
      if (entry === undefined || entry.ino === 0n || hasNames(entry)) continue;
      if (this.#remote(path)?.ino !== entry.ino) left.set(entry.ino, path);
    }
    const moves = new Map<Path, Path>();
    for (const [path, entry] of remote) {
      const base = entry === undefined || hasNames(entry) ? undefined : left.get(entry.ino);
      if (base === undefined || ancestor.get(base)?.type !== entry?.type) continue;
      if (this.#remote(base) === undefined) moves.set(base, path);
    }
    return topmost(moves);
  }

  /** By the inodes of files on disk; a directory by the files that went with it. */
  #localMoves(): Map<Path, Path> {
    const { ancestor, local, cameFrom } = this.#input;
    const moves = new Map<Path, Path>();
    const arrived = new Set<Path>();
    const note = (base: Path, path: Path): boolean => {
      if (moves.has(base) || arrived.has(path)) return moves.get(base) === path;
      moves.set(base, path);
      arrived.add(path);
      return true;
    };
    for (const [path, entry] of [...local].sort(byPath)) {
      if (entry?.type !== 'file' || hasNames(entry) || ancestor.has(path)) continue;
      const base = cameFrom(path);
      const agreed = base === undefined ? undefined : ancestor.get(base);
      if (base === undefined || agreed?.type !== 'file' || hasNames(agreed)) continue;
      if (this.#local(base) !== undefined || !note(base, path)) continue;
      let [from, to] = [base, path];
      while (nameOf(from) === nameOf(to)) {
        const [dirFrom, dirTo] = [parentOf(from), parentOf(to)];
        if (!dirFrom || !dirTo || !this.#isNewHere(dirTo) || !this.#isGoneHere(dirFrom)) break;
        if (!note(dirFrom, dirTo)) break;
        [from, to] = [dirFrom, dirTo];
      }
    }
    return topmost(moves);
  }

  #isNewHere(path: Path): boolean {
    return !this.#input.ancestor.has(path) && this.#local(path)?.type === 'directory';
  }

  #isGoneHere(path: Path): boolean {
    return this.#input.ancestor.get(path)?.type === 'directory' && this.#local(path) === undefined;
  }

  /** `none`: it cannot be made, and is a removal and an addition. */
  #verdict({ side, move }: Candidate, isFree: (path: Path) => boolean): 'now' | 'wait' | 'none' {
    const { base, from, to } = move;
    const { ancestor, unsettled, isRefused } = this.#input;
    const at = (path: Path): Entry | undefined => (side === 'local' ? this.#local(path) : this.#remote(path));
    const other = (path: Path): Entry | undefined =>
      side === 'local' ? this.#remote(path) : this.#local(path);
    if (at(from)?.type !== ancestor.get(base)?.type || other(to)?.type !== ancestor.get(base)?.type)
      return 'none';
    if (side === 'remote' && isRefused?.(move) === true) return 'none';
    const isUnsettled = placesOf(move).some((path) =>
      [...unsettled].some((one) => touches(path, one) && one !== ''),
    );
    if (from === to) return isUnsettled ? 'wait' : 'now';
    if (at(to) !== undefined || isAtOrBelow(to, from) || isAtOrBelow(from, to)) return 'none';
    let isUnsettledAbove = false;
    for (const dir of ancestorsOf(to)) {
      const type = at(dir)?.type;
      if (type === 'directory') break;
      // The other side made it: it comes first, unless that is part of such a move itself.
      if (type !== undefined || other(dir)?.type !== 'directory' || ancestor.has(dir) || !isFree(dir))
        return 'none';
      isUnsettledAbove = true;
    }
    return isUnsettled || isUnsettledAbove ? 'wait' : 'now';
  }
}

function hasNames(entry: Entry): boolean {
  return entry.type === 'file' && entry.nlink > 1;
}

/** The moves without those that a move of the directory above explains. */
function topmost(moves: ReadonlyMap<Path, Path>): Map<Path, Path> {
  return new Map(
    [...moves].filter(([base, to]) => {
      const [dirBase, dirTo] = [parentOf(base), parentOf(to)];
      if (dirBase === undefined || dirTo === undefined || nameOf(base) !== nameOf(to)) return true;
      return moves.get(dirBase) !== dirTo;
    }),
  );
}

function placesOf({ base, from, to }: Move): Path[] {
  return [...new Set([base, from, to])];
}

/** Whether one of two paths is the other or lies below it. */
function touches(a: Path, b: Path): boolean {
  return isAtOrBelow(a, b) || isAtOrBelow(b, a);
}

function byPath([a]: readonly [Path, unknown], [b]: readonly [Path, unknown]): number {
  return a < b ? -1 : 1;
}
