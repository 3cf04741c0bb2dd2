/** Turns removals and additions of the same local inode into moves, whole directories at once where nothing else changed. */

import type { Change } from './change.ts';
import { parentOf, sameEntry, type Entry, type Path } from './entry.ts';
import type { PushChange } from './push-change.ts';

export interface MoveInput {
  readonly changes: readonly Change[];
  /** The path at which the local inode that is now at `path` was before, if it vanished there. */
  readonly cameFrom: (path: Path) => Path | undefined;
  /** What the volume has below a directory: all paths, without the directory itself. */
  readonly below: (dir: Path) => Iterable<Path>;
}

/** The changes with moves in place of what they explain. Changes that are no part of a move stay as they are. */
export function findMoves(input: MoveInput): PushChange[] {
  const byPath = new Map(input.changes.map((change) => [change.path, change]));
  const result = new Map<Path, PushChange>(byPath);
  const used = new Set<Path>();
  for (const { path: to, new: entry } of input.changes) {
    if (entry?.type !== 'directory' || !result.has(to)) continue;
    const from = directorySource(to, byPath, input);
    const gone = from === undefined ? undefined : byPath.get(from)?.old;
    if (from === undefined || gone === undefined || used.has(from)) continue;
    used.add(from);
    for (const path of [from, ...input.below(from)]) result.delete(path);
    for (const path of byPath.keys()) if (path.startsWith(`${to}/`)) result.delete(path);
    result.set(to, { path: to, old: gone, new: moved(gone, entry), movedFrom: from });
  }
  for (const change of [...result.values()]) {
    const { path: to, old: over, new: entry } = change;
    if (entry?.type !== 'file' || change.movedFrom !== undefined) continue;
    const from = input.cameFrom(to);
    const gone = from === undefined ? undefined : result.get(from);
    if (from === undefined || gone?.new !== undefined || gone?.old?.type !== 'file') continue;
    if (gone.old.digest !== entry.digest || gone.movedFrom !== undefined) continue;
    result.delete(from);
    const move = { path: to, old: gone.old, new: moved(gone.old, entry), movedFrom: from };
    result.set(to, over === undefined ? move : { ...move, over });
  }
  return [...result.values()];
}

/** A move keeps the volume's inode, owner and the bits that this side does not hold. */
function moved(old: Entry, now: Entry): Entry {
  return { ...now, ino: old.ino, uid: old.uid, gid: old.gid, mode: (old.mode & ~0o777) | (now.mode & 0o777) };
}

/** The directory that `to` was before: everything the volume has below it is below `to` now, and nothing else is. */
function directorySource(to: Path, byPath: ReadonlyMap<Path, Change>, input: MoveInput): Path | undefined {
  const added = [...byPath.values()].filter(
    ({ path, new: entry }) => path.startsWith(`${to}/`) && entry !== undefined,
  );
  const witness = added.find(({ path }) => input.cameFrom(path) !== undefined);
  if (witness === undefined || byPath.get(to)?.old !== undefined) return undefined;
  let from: Path | undefined = input.cameFrom(witness.path);
  for (let at: Path | undefined = witness.path; at !== to && from !== undefined; at = parentOf(at ?? '')) {
    from = parentOf(from);
    if (at === undefined || at === '') return undefined;
  }
  if (from === undefined || from === '' || byPath.get(from)?.new !== undefined || !byPath.has(from))
    return undefined;
  const source = from;
  const was = [...input.below(source)];
  if (was.length !== added.length) return undefined;
  const whole = was.every((path) => {
    const target = byPath.get(to + path.slice(source.length));
    const old = byPath.get(path);
    if (old === undefined || old.new !== undefined || target?.new === undefined || target.old !== undefined)
      return false;
    if (target.new.type === 'file' && input.cameFrom(target.path) !== path) return false;
    return sameEntry(old.old, target.new);
  });
  return whole ? source : undefined;
}
