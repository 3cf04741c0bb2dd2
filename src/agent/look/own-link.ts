/** Links at the top of DIR that somebody moved or copied into a directory: what they led to is meant, never their text. */

import type { ByteString } from '../../codec/kv.ts';
import { join, parentOf, type Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import { isTreeName } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Slot } from '../disk/slot.ts';

/** The name at the top whose link of the agent's own has this text. */
export function ownTop(text: ByteString): ByteString | undefined {
  const [data = '', top = '', ...below] = text.split('/');
  return isTreeName(data) && top !== '' && below.length === 0 ? top : undefined;
}

/**
 * The name at the top whose link this is by its text: inside a tree it leads nowhere. A link that the volume has, or
 * beside a directory of that name, is an ordinary one.
 */
export function ownLink(state: LedgerState, path: Path, slot: Slot): ByteString | undefined {
  const top = slot.type === 'symlink' && path.includes('/') ? ownTop(slot.target) : undefined;
  if (top === undefined || slot.type !== 'symlink') return undefined;
  const agreed = state.ancestor.get(path);
  if (agreed?.type === 'symlink' && agreed.target === slot.target) return undefined;
  const [data = ''] = slot.target.split('/', 1);
  return state.slots.has(join(parentOf(path) ?? '', data)) ? undefined : top;
}

/** Where the view has by now what was under a name at the top; the name itself if it is there, or nowhere. */
export type PathNow = (name: ByteString) => Path;

/** Where the view has what is to be put in the link's place; `undefined` if it is nowhere, or in that place already. */
export function linkedPath(state: LedgerState, path: Path, slot: Slot, pathNow: PathNow): Path | undefined {
  const top = ownLink(state, path, slot);
  const now = top === undefined ? undefined : pathNow(top);
  return now === undefined || !state.slots.has(now) || isAtOrBelow(path, now) ? undefined : now;
}

/**
 * The name at the top whose link was moved or copied into what it leads to, where a directory could not go: it is put back to
 * the top, and the link that leads to itself goes.
 */
export function linkInItself(state: LedgerState, path: Path, slot: Slot): ByteString | undefined {
  const top = ownLink(state, path, slot);
  return top !== undefined && isAtOrBelow(path, top) && state.slots.has(top) ? top : undefined;
}

/** Whether the view has something else in the link's place and nothing elsewhere that it could mean: it is of no use. */
export function spentLink(state: LedgerState, path: Path, slot: Slot, pathNow: PathNow): boolean {
  const top = ownLink(state, path, slot);
  const there = state.slots.get(path);
  if (top === undefined || there === undefined || slot.type !== 'symlink') return false;
  if (there.type === 'symlink' && there.target === slot.target) return false;
  const now = pathNow(top);
  return now === path || !state.slots.has(now);
}
