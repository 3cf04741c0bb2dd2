/** What a look has seen to differ in the published tree, before any of it is judged. */

import { parentOf, type Path } from '../../reconcile/entry.ts';
import type { FileStat } from '../base/ports.ts';
import { sameKind, type Slot } from '../disk/slot.ts';

export interface Sighting {
  readonly path: Path;
  readonly stat: FileStat | undefined;
  readonly slot: Slot | undefined;
  /** Something else stands where its directory was: it does not come back by itself. */
  readonly isReplaced?: true;
}

/** Paths on both ends of a rename: an inode that vanished here and appeared there, otherwise untouched. */
export function movedPaths(sightings: readonly Sighting[]): ReadonlySet<Path> {
  const gone = new Map<bigint, Sighting>();
  for (const sighting of sightings) {
    if (sighting.stat === undefined && sighting.slot !== undefined && sighting.slot.type !== 'other')
      gone.set(sighting.slot.signature.ino, sighting);
  }
  const moved = new Set<Path>();
  if (gone.size === 0) return moved;
  for (const { path, stat } of sightings) {
    const from = stat === undefined ? undefined : gone.get(stat.ino);
    if (stat === undefined || from?.slot === undefined || !sameKind(from.slot, stat)) continue;
    const before = from.slot.signature;
    // The number alone may have been given to another inode by now; the size of a directory is nobody's.
    if (before.mtimeNs !== stat.mtimeNs || (stat.type !== 'directory' && before.size !== stat.size)) continue;
    moved.add(path);
    moved.add(from.path);
  }
  // A directory that vanished counts as moved when all that was in it has; what was empty goes with the one above.
  const absent = new Map<Path, Slot | undefined>();
  for (const { path, stat, slot } of sightings) if (stat === undefined) absent.set(path, slot);
  const filled = new Set([...absent.keys()].map((path) => parentOf(path) ?? ''));
  const withMoved = new Set<Path>();
  const withOther = new Set<Path>();
  for (const [path, slot] of absent) {
    if (!moved.has(path) && (filled.has(path) || slot?.type === 'directory')) continue;
    const above = moved.has(path) ? withMoved : withOther;
    for (let dir = parentOf(path); dir !== undefined && !above.has(dir); dir = parentOf(dir)) above.add(dir);
  }
  for (const path of [...absent.keys()].sort()) {
    if (absent.get(path)?.type !== 'directory') continue;
    const goesAlong = filled.has(path) ? withMoved.has(path) : moved.has(parentOf(path) ?? '');
    if (goesAlong && !withOther.has(path)) moved.add(path);
  }
  return moved;
}
