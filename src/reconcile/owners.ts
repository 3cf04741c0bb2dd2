/** Who owns what a push creates (design 4.4): an agent that may not give files away hands down the parent's owner. */

import type { Change } from './change.ts';
import { parentOf, type Entry, type Path } from './entry.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The changes with owners for new entries: each takes those of its parent in the volume, which may itself be new. `root`
 * owns the view's root. Entries that are there keep theirs anyway.
 */
export function inheritOwners(
  changes: readonly Change[],
  volumeEntry: (path: Path) => Owner | undefined,
  root: Owner,
): Change[] {
  const owners = new Map<Path, Owner>();
  const ownerOf = (dir: Path): Owner => (dir === '' ? root : (owners.get(dir) ?? volumeEntry(dir) ?? root));
  const inherited = new Map<Change, Change>();
  for (const change of [...changes].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    if (change.new === undefined || change.old !== undefined) continue;
    const { uid, gid } = ownerOf(parentOf(change.path) ?? '');
    owners.set(change.path, { uid, gid });
    const entry: Entry = { ...change.new, uid, gid };
    inherited.set(change, { ...change, new: entry });
  }
  return changes.map((change) => inherited.get(change) ?? change);
}
