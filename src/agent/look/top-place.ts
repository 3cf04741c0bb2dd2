/** Whether a name of the view stands at the top of DIR, so that whoever works there sees what is published below it. */

import type { ByteString } from '../../codec/kv.ts';
import { topTarget, type Layout } from '../disk/layout.ts';
import type { FsPort } from '../base/ports.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Path } from '../../reconcile/entry.ts';
import { ancestorsOf } from '../../reconcile/push-change.ts';
import type { SeenAtTop } from './top-memory.ts';

/** As the agent's own link, or as a real directory, which is united with what the link led to. */
function isShownAtTop(fs: FsPort, layout: Layout, name: ByteString): boolean {
  const at = layout.top(name);
  const type = fs.lstat('look at top', at)?.type;
  if (type === 'directory') return true;
  return type === 'symlink' && fs.readlink('look at top', at) === topTarget(name);
}

/**
 * Whether somebody has put a real directory in the place of a name since it was looked at there, or has put something into it
 * at a path or above it.
 */
export function isNewInDirectory(fs: FsPort, layout: Layout, seen: SeenAtTop, path: Path): boolean {
  const [name = path] = path.split('/', 1);
  if (fs.lstat('look at top', layout.top(name))?.type !== 'directory') return false;
  return [...ancestorsOf(path), path].some((at) => {
    const stat = fs.lstat('look at top', layout.top(at));
    const counts = at === name || stat?.type !== 'directory';
    return stat !== undefined && counts && !seen.hasSeen(at, stat.ino);
  });
}

/**
 * Whether a name of the view has been removed, moved or replaced at the top. A name that the agent itself has taken away for a
 * moment has not, nor has one of a carried entry, which has no name there.
 */
export function hasLeftTop(fs: FsPort, layout: Layout, state: LedgerState, name: ByteString): boolean {
  const slot = state.slots.get(name);
  if (slot === undefined || slot.type === 'other' || state.mending.has(name)) return false;
  return !isShownAtTop(fs, layout, name);
}
