/** Whether a name of the view stands at the top of DIR, so that whoever works there sees what is published below it. */

import type { ByteString } from '../../codec/kv.ts';
import { topTarget, type Layout } from '../disk/layout.ts';
import type { FsPort } from '../base/ports.ts';
import type { LedgerState } from '../state/ledger-state.ts';

/** As the agent's own link, or as a real directory, which is united with what the link led to. */
function isShownAtTop(fs: FsPort, layout: Layout, name: ByteString): boolean {
  const at = layout.top(name);
  const type = fs.lstat('look at top', at)?.type;
  if (type === 'directory') return true;
  return type === 'symlink' && fs.readlink('look at top', at) === topTarget(name);
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
