/** Turns removals and additions of the same local inode into moves, whole directories at once where nothing else changed. */

import { withAcl, withXattrs } from './combine.ts';
import { nameOf, parentOf, sameEntry, type Entry, type Path } from './entry.ts';
import type { Change } from './change.ts';
import type { PushChange } from './push-change.ts';

export interface MoveInput {
  readonly changes: readonly Change[];
  /** The path at which the local inode that is now at `path` was before, if it left there. */
  readonly cameFrom: (path: Path) => Path | undefined;
  /** Every path that the volume has; asked for once, and only when a directory may have moved. */
  readonly paths: () => Iterable<Path>;
}

/** The changes with moves in place of what they explain. Changes that are no part of a move stay as they are. */
export function findMoves({ changes, cameFrom, paths }: MoveInput): PushChange[] {
  const byPath = new Map(changes.map((change) => [change.path, change]));
  const result = new Map<Path, PushChange>(byPath);
  moveDirectories(byPath, result, cameFrom, paths);
  moveFiles(result, cameFrom);
  return [...result.values()];
}

type Changes = ReadonlyMap<Path, Change>;
type CameFrom = MoveInput['cameFrom'];

function moveDirectories(
  changes: Changes,
  result: Map<Path, PushChange>,
  cameFrom: CameFrom,
  paths: MoveInput['paths'],
): void {
  const sources = directorySources(changes, cameFrom);
  if (sources.size === 0) return;
  const volume = [...paths()].sort();
  const changed = [...changes.keys()].sort();
  // From the top down: below a directory that moved as a whole nothing is left to find.
  for (const [to, from] of [...sources].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = result.get(to)?.new;
    const gone = result.get(from)?.old;
    if (entry === undefined || gone === undefined) continue;
    const was = below(volume, from);
    const now = below(changed, to);
    if (!isWhole(changes, cameFrom, { from, to }, was, now)) continue;
    for (const path of [from, ...was, ...now]) result.delete(path);
    result.set(to, { path: to, old: gone, new: moved(gone, entry), movedFrom: from });
  }
}

/** For new directories the removed one that a file in them suggests: it came from there, under the same name below. */
function directorySources(changes: Changes, cameFrom: CameFrom): Map<Path, Path> {
  const sources = new Map<Path, Path>();
  for (const { path, old, new: entry } of changes.values()) {
    if (entry?.type !== 'file' || old !== undefined) continue;
    let [to, from]: [Path, Path | undefined] = [path, cameFrom(path)];
    while (from !== undefined && nameOf(to) === nameOf(from)) {
      to = parentOf(to) ?? '';
      from = parentOf(from) ?? '';
      if (sources.has(to) || !isNewDirectory(changes.get(to)) || !isGoneDirectory(changes.get(from))) break;
      sources.set(to, from);
    }
  }
  return sources;
}

function isNewDirectory(change: Change | undefined): boolean {
  return change?.old === undefined && change?.new?.type === 'directory';
}

function isGoneDirectory(change: Change | undefined): boolean {
  return change?.old?.type === 'directory' && change.new === undefined;
}

/** Everything the volume has below `from` is below `to` now, unchanged, and nothing else is. */
function isWhole(
  changes: Changes,
  cameFrom: CameFrom,
  { from, to }: { readonly from: Path; readonly to: Path },
  was: readonly Path[],
  now: readonly Path[],
): boolean {
  if (was.length !== now.length) return false;
  return was.every((path) => {
    const removed = changes.get(path);
    const target = changes.get(to + path.slice(from.length));
    if (removed === undefined || removed.new !== undefined || target === undefined) return false;
    if (target.old !== undefined || !sameEntry(removed.old, target.new)) return false;
    return target.new?.type !== 'file' || cameFrom(target.path) === path;
  });
}

/** The paths below a directory, of sorted ones: they stand together. */
function below(sorted: readonly Path[], dir: Path): readonly Path[] {
  const prefix = `${dir}/`;
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? '') < prefix) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (sorted[end]?.startsWith(prefix)) end += 1;
  return sorted.slice(low, end);
}

function moveFiles(result: Map<Path, PushChange>, cameFrom: CameFrom): void {
  const sources = new Map<Path, Path>();
  const targets = new Map<Path, Path>();
  for (const { path: to, new: entry, movedFrom } of result.values()) {
    const from = entry?.type === 'file' && movedFrom === undefined ? cameFrom(to) : undefined;
    const gone = from === undefined ? undefined : result.get(from);
    if (from === undefined || from === to || gone === undefined || targets.has(from)) continue;
    if (entry?.type !== 'file' || gone.old?.type !== 'file' || gone.old.digest !== entry.digest) continue;
    sources.set(to, from);
    targets.set(from, to);
  }
  // What left a path must leave it empty, or to another move: else the name is still in use.
  for (let [to, from] of [...sources]) {
    while (sources.get(to) === from && result.get(from)?.new !== undefined && !sources.has(from)) {
      sources.delete(to);
      const next = targets.get(to);
      if (next === undefined) break;
      [to, from] = [next, to];
    }
  }
  const before = new Map(result);
  for (const from of sources.values()) if (!sources.has(from)) result.delete(from);
  const left = new Set(sources.values());
  for (const [to, from] of sources) {
    const old = before.get(from)?.old;
    const change = before.get(to);
    if (old === undefined || change?.new === undefined) continue;
    const move = { path: to, old, new: moved(old, change.new), movedFrom: from };
    // What stood there goes, unless it moves on itself.
    const over = left.has(to) ? undefined : change.old;
    result.set(to, over === undefined ? move : { ...move, over });
  }
}

/** A move keeps the volume's inode, owner, extended attributes and the bits that this side does not hold. */
function moved(old: Entry, now: Entry): Entry {
  const { ino, uid, gid, xattrs, acl } = old;
  return {
    ...withAcl(withXattrs(now, xattrs), acl),
    ino,
    uid,
    gid,
    mode: (old.mode & ~0o777) | (now.mode & 0o777),
  };
}
