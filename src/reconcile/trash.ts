/** Where deleted names go (layout 11.1). */

import { FLAG_SKIP_TRASH, type Attr } from '../codec/attr.ts';
import { decodeCounter, encodeCounter, encodeDirStat } from '../codec/counter.ts';
import { TRASH_INO, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { MAX_NAME_BYTES } from '../codec/name.ts';
import { NO_STAT } from './accounting.ts';
import type { Place, Work } from './work.ts';

/** Where a deleted name goes; `undefined` if it goes for good (layout 11.1, upstream `checkTrash`). */
export function trashPlace(work: Work, place: Place, ino: bigint, attr: Attr): Place | undefined {
  if (work.trashDays <= 0 || (attr.flags & FLAG_SKIP_TRASH) !== 0) return undefined;
  const hour = trashOfHour(work);
  const trash = { parent: hour, name: trashName(place, ino) };
  // Only an inode with several names can already be there under this one.
  if (attr.nlink > 1 && attr.type !== 'directory' && work.draft.dentry(hour, trash.name) !== undefined)
    return undefined;
  return trash;
}

/** The name of a trash entry, cut to what a name may have (upstream `trashEntry`). */
export function trashName(place: Place, ino: bigint): ByteString {
  return `${place.parent}-${ino}-${place.name}`.slice(0, MAX_NAME_BYTES);
}

/** The name of the trash directory of a moment: its UTC hour. */
export function trashHourName(nowNs: bigint): string {
  const [date, time] = new Date(Number(nowNs / 1_000_000n)).toISOString().split('T');
  return `${date}-${time?.slice(0, 2)}`;
}

/** When the hour of a trash directory began, in seconds since 1970; `undefined` for a name that is no hour. */
export function hourOfTrashName(name: ByteString): number | undefined {
  const match = /^(\d{4})-(\d{2})-(\d{2})-(\d{2})$/.exec(name);
  if (match === null) return undefined;
  const ms = Date.parse(`${match[1]}-${match[2]}-${match[3]}T${match[4]}:00:00Z`);
  return Number.isNaN(ms) ? undefined : ms / 1000;
}

/** This hour's trash directory, made if it is missing (layout 11.1, upstream `getTrashDir`). */
function trashOfHour(work: Work): bigint {
  const { draft, accounting, nowNs } = work;
  const name = trashHourName(nowNs);
  const existing = draft.dentry(TRASH_INO, name);
  if (existing !== undefined) return existing.ino;
  const counter: MetaKey = { kind: 'counter', name: 'nextTrash' };
  const stored = draft.get(counter);
  const number = (stored === undefined ? 0n : decodeCounter(stored)) + 1n;
  const ino = TRASH_INO + number;
  const attr: Attr = {
    flags: 0,
    type: 'directory',
    mode: 0o555,
    uid: 0,
    gid: 0,
    atimeNs: nowNs,
    mtimeNs: nowNs,
    ctimeNs: nowNs,
    nlink: 2,
    length: 4096n,
    rdev: 0,
    parent: TRASH_INO,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
    rest: new Uint8Array(0),
  };
  draft.put(counter, encodeCounter(number));
  draft.newInode(ino);
  draft.putDentry(TRASH_INO, name, { type: 'directory', ino });
  draft.putAttr(ino, attr);
  draft.put({ kind: 'dirStat', ino }, encodeDirStat(NO_STAT));
  // The real client counts it for no user or group, neither now nor when it goes (upstream `getTrashDir`).
  accounting.addUnowned(attr);
  return ino;
}
