/** What is on disk and was never meant to be: attributes that this side could not hold or that a way of saving loses. */

import { sameXattrs, type Held, type Xattrs } from '../../reconcile/attributes.ts';
import type { Entry } from '../../reconcile/entry.ts';
import { entryOfSlot, type Lacks, type Slot } from './slot.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * A slot as it was read, with what it lacks of the entry that `before` stood for. On the same inode a change is meant.
 * A file saved as a new inode keeps owner and extended attributes of the old one (design 4.4) where the new one shows
 * no will of its own: it is root's, or has no extended attributes at all.
 */
export function withLacks(next: Slot, before: Slot | undefined): Slot {
  if (before === undefined || next.lacks !== undefined || next.type !== before.type) return next;
  const entry = entryOfSlot(before);
  if (entry === undefined) return next;
  const isSame = next.type === 'directory' || next.signature.ino === before.signature.ino;
  return withoutNothing(next, isSame ? stillLacked(next, before) : lostBySaving(next, before, entry));
}

function stillLacked(next: Slot, before: Slot): Lacks {
  const { lacks = {}, signature: was } = before;
  const now = next.signature;
  const still: Mutable<Lacks> = {};
  if (lacks.owner !== undefined && now.uid === was.uid && now.gid === was.gid) still.owner = lacks.owner;
  if (lacks.mtimeNs !== undefined && now.mtimeNs === was.mtimeNs) still.mtimeNs = lacks.mtimeNs;
  if (lacks.xattrs !== undefined) still.xattrs = without(lacks.xattrs, next.xattrs);
  return still;
}

function lostBySaving(next: Slot, before: Slot, entry: Entry): Lacks {
  const { uid, gid } = next.signature;
  const lost: Mutable<Lacks> = {};
  if (uid === 0 && gid === 0 && (entry.uid !== 0 || entry.gid !== 0))
    lost.owner = { uid: entry.uid, gid: entry.gid };
  const kept = isEmpty(next.xattrs) ? entry.xattrs : before.lacks?.xattrs;
  if (kept !== undefined) lost.xattrs = without(kept, next.xattrs);
  return lost;
}

/**
 * A slot from a time when less was held: what differs from what both sides agreed on is no edit. `newly` says what is
 * held now and was not.
 */
export function asAgreed(slot: Slot, agreed: Entry | undefined, newly: Held): Slot {
  const entry = entryOfSlot(slot);
  if (agreed === undefined || entry === undefined || entry.type !== agreed.type) return slot;
  const lacks: Mutable<Lacks> = { ...slot.lacks };
  if (newly.owners && (entry.uid !== agreed.uid || entry.gid !== agreed.gid))
    lacks.owner = { uid: agreed.uid, gid: agreed.gid };
  if (newly.times && entry.mtimeNs !== agreed.mtimeNs) lacks.mtimeNs = agreed.mtimeNs;
  if (newly.xattrs && !sameXattrs(entry.xattrs, agreed.xattrs))
    lacks.xattrs = without(agreed.xattrs ?? {}, slot.xattrs);
  return withoutNothing(slot, lacks);
}

function withoutNothing({ lacks: _before, ...slot }: Slot, lacks: Lacks): Slot {
  const { xattrs, ...rest } = lacks;
  const some: Lacks = isEmpty(xattrs) ? rest : lacks;
  return Object.keys(some).length === 0 ? slot : { ...slot, lacks: some };
}

function without(xattrs: Xattrs, present: Xattrs = {}): Xattrs {
  return Object.fromEntries(Object.entries(xattrs).filter(([name]) => present[name] === undefined));
}

function isEmpty(xattrs: Xattrs = {}): boolean {
  return Object.keys(xattrs).length === 0;
}
