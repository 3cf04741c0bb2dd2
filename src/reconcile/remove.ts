/** unlink and rmdir: names that go, to the trash or for good, and the inodes that lose their last one. */

import { encodeTimeCounter } from '../codec/counter.ts';
import { encodeDentry } from '../codec/dentry.ts';
import { parentRange, xattrRange, type MetaKey } from '../codec/key.ts';
import { NotEmpty, Stale } from './refusal.ts';
import { trashPlace } from './trash.ts';
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

/** unlink and rmdir (layout 10.6, 10.7, upstream `doUnlink`, `doRmdir`). */
export function remove(work: Work, place: Place, found: Found): void {
  refuseFixed(found.attr);
  refuseLoss(directory(work, place.parent));
  work.draft.delete({ kind: 'dentry', ...place });
  if (found.attr.type === 'directory') {
    dropDirectory(work, place, found);
    touch(work, place.parent, -1);
  } else {
    dropName(work, place, found);
    touch(work, place.parent, 0);
  }
}

/** One name less of an inode that is no directory. The dentry and the parent's times are the caller's. */
export function dropName(work: Work, place: Place, { ino, dentry }: Found): void {
  const { draft, accounting, nowNs } = work;
  const attr = draft.attr(ino);
  if (attr === undefined) throw new Stale('the entry is not there any more');
  const ctimeNs = later(nowNs, attr.ctimeNs);
  accounting.leave(place.parent, attr);
  const trash = trashPlace(work, place, ino, attr);
  if (trash !== undefined) {
    if (attr.parent > 0n) {
      draft.putAttr(ino, { ...attr, ctimeNs, parent: trash.parent });
    } else {
      draft.putAttr(ino, { ...attr, ctimeNs });
      addParentCount(draft, ino, trash.parent, 1n);
      addParentCount(draft, ino, place.parent, -1n);
    }
    draft.put({ kind: 'dentry', ...trash }, encodeDentry(dentry));
    accounting.enter(trash.parent, attr);
  } else if (attr.nlink > 1) {
    draft.putAttr(ino, { ...attr, ctimeNs, nlink: attr.nlink - 1 });
    if (attr.parent === 0n) addParentCount(draft, ino, place.parent, -1n);
  } else {
    draft.delete({ kind: 'attr', ino });
    // Each range costs room in the transaction.
    if (!draft.isEmpty(xattrRange(ino))) draft.deleteRange(xattrRange(ino));
    if (attr.parent === 0n) draft.deleteRange(parentRange(ino));
    if (attr.type === 'symlink') draft.delete({ kind: 'symlink', ino });
    if (attr.type === 'file') {
      // Its chunks and blocks wait for whoever handles this key (layout 11.3).
      const seconds = encodeTimeCounter(nowNs / 1_000_000_000n);
      draft.put({ kind: 'deletedFile', ino, length: attr.length }, seconds);
    }
    accounting.drop(attr);
  }
}

/** A directory without entries goes. The dentry and the parent's attr are the caller's. */
function dropDirectory(work: Work, place: Place, { ino, dentry, attr }: Found): void {
  const { draft, accounting, nowNs } = work;
  if (draft.peekDentries(ino).size > 0) throw new NotEmpty('the directory is not empty');
  draft.compareNoNewDentry(ino);
  accounting.leave(place.parent, attr);
  draft.delete({ kind: 'dirStat', ino });
  const quota: MetaKey = { kind: 'dirQuota', ino };
  if (draft.get(quota) !== undefined) draft.delete(quota);
  const trash = trashPlace(work, place, ino, attr);
  if (trash !== undefined) {
    // Its own entries went in this very transaction at the earliest: take what that left of the attr.
    const now = draft.attr(ino) ?? attr;
    draft.putAttr(ino, { ...now, ctimeNs: later(nowNs, now.ctimeNs), parent: trash.parent });
    draft.put({ kind: 'dentry', ...trash }, encodeDentry(dentry));
    accounting.enter(trash.parent, attr);
  } else {
    draft.delete({ kind: 'attr', ino });
    draft.deleteRange(xattrRange(ino));
    accounting.drop(attr);
  }
}
