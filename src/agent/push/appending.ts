/** Which new contents of a file may be pushed as an addition to what the volume has. */

import { FLAG_APPEND } from '../../codec/attr.ts';
import { DecodeError } from '../../codec/error.ts';
import { RECORD_SIZE } from '../../codec/slice.ts';
import type { InodeIndex } from '../../reconcile/inode-index.ts';
import type { PushChange } from '../../reconcile/push-change.ts';

/** Bytes from which on a file is not stored again where only its end grew. Below, a new inode is better for its readers. */
const LARGE = 1n << 20n;
/** Records of a chunk from which on a file is stored anew: mounts compact at 100, and there may be no mount. */
const MANY_RECORDS = 100;

/**
 * Whether it may: a large file (or one that is append-only) with one name that is longer now, as the volume was when the
 * change was made. Whether it begins with the old contents shows when it is read.
 */
export function mayAppend(change: PushChange, index: InodeIndex | undefined): boolean {
  const { old, new: wanted, movedFrom, link } = change;
  if (old?.type !== 'file' || wanted?.type !== 'file' || movedFrom !== undefined) return false;
  if (link !== undefined) return false;
  if (wanted.size <= old.size || old.nlink !== 1 || old.digest === '') return false;
  const record = index?.get(old.ino);
  const attr = record?.attr?.value;
  if (record === undefined || attr === undefined || attr instanceof DecodeError) return false;
  // No writer changes contents without the mtime: with the same one the digest is still that of the contents.
  if (attr.mtimeNs !== old.mtimeNs || attr.length !== old.size || attr.parent === 0n) return false;
  if (old.size < LARGE && (attr.flags & FLAG_APPEND) === 0) return false;
  return [...record.chunks.values()].every(({ raw }) => raw.length < MANY_RECORDS * RECORD_SIZE);
}
