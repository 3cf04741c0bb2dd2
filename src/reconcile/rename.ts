/** A rename in two halves, so that entries that trade names all leave before any arrives (layout 10.8). */

import type { Attr } from '../codec/attr.ts';
import { ROOT_INO, TRASH_INO } from '../codec/key.ts';
import { Refused, Stale } from './refusal.ts';
import { remove } from './remove.ts';
import {
  addParentCount,
  directory,
  later,
  refuseLoss,
  refuseFixed,
  touch,
  type Found,
  type Place,
  type Work,
} from './work.ts';

/** An entry taken from its name, to be attached elsewhere in the same transaction. */
export interface Detached extends Found {
  readonly from: Place;
}

/** The first half of a rename (layout 10.8, upstream `doRename`): the old name goes. */
export function detach(work: Work, from: Place, found: Found): Detached {
  refuseFixed(found.attr);
  refuseLoss(directory(work, from.parent));
  work.draft.delete({ kind: 'dentry', ...from });
  touch(work, from.parent, found.attr.type === 'directory' ? -1 : 0);
  work.accounting.leave(from.parent, found.attr);
  return { ...found, from };
}

/** The second half of a rename: the new name. What had it is removed first; `undefined` means that the name is free. */
export function attach(work: Work, to: Place, moved: Detached, over: Found | undefined): Attr {
  const { draft, accounting, nowNs } = work;
  const { ino, from } = moved;
  directory(work, to.parent);
  if (over !== undefined) remove(work, to, over);
  if (draft.dentry(to.parent, to.name) !== undefined) throw new Stale('another entry has the name');
  // Read again: an earlier operation of this transaction may have written it.
  let attr = draft.attr(ino) ?? moved.attr;
  const isDirectory = attr.type === 'directory';
  if (from.parent !== to.parent) {
    if (isDirectory) {
      refuseCycle(work, ino, to.parent);
      accounting.moved(ino);
    }
    if (attr.parent > 0n) {
      attr = { ...attr, parent: to.parent };
    } else {
      addParentCount(draft, ino, to.parent, 1n);
      addParentCount(draft, ino, from.parent, -1n);
    }
  }
  draft.putDentry(to.parent, to.name, moved.dentry);
  attr = { ...attr, ctimeNs: later(nowNs, attr.ctimeNs) };
  draft.putAttr(ino, attr);
  touch(work, to.parent, isDirectory ? 1 : 0);
  accounting.enter(to.parent, attr);
  return attr;
}

/** Compares the attrs of all directories above the target, so that no two moves can make a cycle together. */
function refuseCycle({ draft }: Work, moved: bigint, target: bigint): void {
  const seen = new Set<bigint>();
  for (let ino = target; ino !== ROOT_INO;) {
    if (ino === moved) throw new Refused('a directory cannot move into itself');
    if (seen.has(ino))
      throw new Refused('the directories above it form a cycle; juicefs fsck shows such damage');
    seen.add(ino);
    const attr = draft.attr(ino);
    if (attr === undefined || attr.type !== 'directory')
      throw new Stale('the directory is not there any more');
    if (attr.parent >= TRASH_INO) throw new Refused('the directory is in the trash');
    ino = attr.parent;
  }
}
