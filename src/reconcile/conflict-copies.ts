/** Which conflict copies a volume has, as its index shows them. */

import { DecodeError } from '../codec/error.ts';
import { ROOT_INO } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { CONFLICTS, copyPath, RECORDS, recordPath } from './conflict-path.ts';
import { join, type Path } from './entry.ts';
import type { InodeIndex } from './inode-index.ts';

/** Whether something stands at a path from the volume's root. */
export function isInVolume(index: InodeIndex, path: Path): boolean {
  return inodeAt(index, path) !== undefined;
}

/** Whether the copy of a path with this record is there, whoever made it and when. */
export function hasCopy(index: InodeIndex, path: Path, id: ByteString): boolean {
  return [...stampsIn(index, `${CONFLICTS}/${RECORDS}`)].some(
    (stamp) => isInVolume(index, recordPath(stamp, id)) && isInVolume(index, copyPath(stamp, path)),
  );
}

/** How many copies there are, and the stamp of the oldest; what is no directory below `.conflicts` counts. */
export function countCopies(index: InodeIndex): {
  readonly count: number;
  readonly oldest: ByteString | undefined;
} {
  const stamps = [...stampsIn(index, CONFLICTS)].filter((name) => name !== RECORDS).sort();
  let count = 0;
  for (const stamp of stamps) count += countBelow(index, join(CONFLICTS, stamp));
  return { count, oldest: stamps[0] };
}

function* stampsIn(index: InodeIndex, path: Path): Iterable<ByteString> {
  const ino = inodeAt(index, path);
  if (ino !== undefined) yield* index.list(ino).keys();
}

function countBelow(index: InodeIndex, path: Path): number {
  const start = inodeAt(index, path);
  // A damaged volume may have a cycle of directories.
  const seen = new Set<bigint>();
  const stack = start === undefined ? [] : [start];
  let count = 0;
  for (let ino = stack.pop(); ino !== undefined; ino = stack.pop()) {
    if (seen.has(ino)) continue;
    seen.add(ino);
    for (const { dentry } of index.list(ino).values()) {
      if (dentry instanceof DecodeError || dentry.type !== 'directory') count += 1;
      else stack.push(dentry.ino);
    }
  }
  return count;
}

function inodeAt(index: InodeIndex, path: Path): bigint | undefined {
  let ino = ROOT_INO;
  for (const name of path.split('/')) {
    const dentry = index.list(ino).get(name)?.dentry;
    if (dentry === undefined || dentry instanceof DecodeError) return undefined;
    ino = dentry.ino;
  }
  return ino;
}
