/** Links at the top of DIR that somebody moved or copied into a directory: what they led to is meant, never their text. */

import type { ByteString } from '../codec/kv.ts';
import { join, parentOf, type Path } from '../reconcile/entry.ts';
import { isAtOrBelow } from '../reconcile/push-change.ts';
import type { LedgerState } from './ledger-state.ts';
import type { Slot } from './slot.ts';

/**
 * The name at the top whose link this is by its text: inside a tree it leads nowhere. A link that the volume has, or
 * beside a `..data` of its own, is an ordinary one.
 */
export function ownLink(state: LedgerState, path: Path, slot: Slot): ByteString | undefined {
  if (slot.type !== 'symlink' || !slot.target.startsWith('..data/') || !path.includes('/')) return undefined;
  const top = slot.target.slice('..data/'.length);
  if (top === '' || top.includes('/')) return undefined;
  const agreed = state.ancestor.get(path);
  if (agreed?.type === 'symlink' && agreed.target === slot.target) return undefined;
  return state.slots.has(join(parentOf(path) ?? '', '..data')) ? undefined : top;
}

/** The same, as long as the view has something under that name to be put in the link's place. */
export function linkedTop(state: LedgerState, path: Path, slot: Slot): ByteString | undefined {
  const top = ownLink(state, path, slot);
  return top === undefined || !state.slots.has(top) || isAtOrBelow(path, top) ? undefined : top;
}

/** The same, once the view has something else in the link's place and nothing left under that name: it is of no use. */
export function spentLink(state: LedgerState, path: Path, slot: Slot): boolean {
  const top = ownLink(state, path, slot);
  const there = state.slots.get(path);
  return top !== undefined && !state.slots.has(top) && there !== undefined && there.type !== 'symlink';
}
