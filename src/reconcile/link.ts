/** One more name of a file (layout 10.5, upstream `doLink`), in two halves: the inode is held before any name of it goes. */

import type { Attr } from '../codec/attr.ts';
import { Stale } from './refusal.ts';
import { addParentCount, directory, later, refuseFixed, touch, type Place, type Work } from './work.ts';

/** The first half: the inode counts one name more. From now on, and for ever, its names are counted by directory. */
export function hold(work: Work, ino: bigint): void {
  const { draft, nowNs } = work;
  const attr = draft.attr(ino);
  if (attr === undefined) throw new Stale('the file to link is not there any more');
  if (attr.type !== 'file') throw new Stale('what is to be linked is no file');
  refuseFixed(attr);
  if (attr.parent > 0n) addParentCount(draft, ino, attr.parent, 1n);
  draft.putAttr(ino, { ...attr, nlink: attr.nlink + 1, parent: 0n, ctimeNs: later(nowNs, attr.ctimeNs) });
}

/** The second half: the name. */
export function putName(work: Work, place: Place, ino: bigint): Attr {
  const { draft, accounting } = work;
  const { parent, name } = place;
  draft.expect({ kind: 'attr', ino: parent }, { kind: 'dentry', parent, name });
  directory(work, parent);
  if (draft.dentry(parent, name) !== undefined) throw new Stale('another entry has the name');
  const attr = draft.attr(ino);
  if (attr === undefined) throw new Stale('the file to link is not there any more');
  draft.putDentry(parent, name, { type: 'file', ino });
  addParentCount(draft, ino, parent, 1n);
  touch(work, parent, 0);
  accounting.enter(parent, attr);
  return attr;
}
