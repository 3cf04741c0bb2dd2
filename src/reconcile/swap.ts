/** New contents for the inode that is there, so that all its names follow (layout 13.2, "swap the chunk value"). */

import type { Attr } from '../codec/attr.ts';
import { decodeCounter, encodeTimeCounter } from '../codec/counter.ts';
import { decodeDelayedSlices, encodeDelayedSlices } from '../codec/delayed-slices.ts';
import { chunkRange, decodeKey, parentRange, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { decodeSlices } from '../codec/slice.ts';
import { besideMtime, putContent, sliceIds, type Content, type NewInode } from './operations.ts';
import { later, refuseFixed, type Found, type Work } from './work.ts';

interface StoredChunk {
  readonly key: ByteString;
  readonly value: Uint8Array;
}

/**
 * Replaces the contents of a file in place. The old slices are dropped as a compaction drops them where the volume has a
 * trash; else they go to `inode.ino`, a claimed number that never gets a name, as the data of a deleted file: their
 * counts and blocks are then done by whoever handles that (layout 11.3), and a crash leaves nothing to know.
 */
export function swapContent(
  work: Work,
  found: Found,
  inode: Pick<NewInode, 'ino' | 'mtimeNs'>,
  content: Content,
): Attr {
  const { draft, accounting, nowNs } = work;
  const { ino, attr: old } = found;
  refuseFixed(old);
  const chunks = draft.readRange(chunkRange(ino));
  const parents = namesByParent(work, ino, old);
  for (const { key } of chunks) draft.delete(decodeKey(key));
  if (work.trashDays > 0) delaySlices(work, chunks, content);
  else discardSlices(work, inode.ino, chunks, old.length);
  putContent(work, ino, content);
  // Readers of a mount know nothing but the mtime to tell them (layout trap 7).
  const mtimeNs = inode.mtimeNs > old.mtimeNs ? inode.mtimeNs : old.mtimeNs + 1n;
  const attr: Attr = {
    ...old,
    mtimeNs,
    ctimeNs: besideMtime(later(nowNs, old.ctimeNs), mtimeNs),
    length: content.length,
  };
  draft.putAttr(ino, attr);
  for (const [parent, names] of parents) {
    for (let n = 0n; n < names; n += 1n) {
      accounting.leave(parent, old);
      accounting.enter(parent, attr);
    }
  }
  accounting.drop(old);
  accounting.add(attr);
  return attr;
}

/** How many names the inode has in each directory, the trash included. */
function namesByParent({ draft }: Work, ino: bigint, attr: Attr): Map<bigint, bigint> {
  if (attr.parent > 0n) return new Map([[attr.parent, 1n]]);
  const names = new Map<bigint, bigint>();
  for (const { key, value } of draft.readRange(parentRange(ino))) {
    const decoded = decodeKey(key);
    if (decoded.kind === 'parent') names.set(decoded.parent, decodeCounter(value));
  }
  return names;
}

/** Leaves the old slices to the job that empties the trash, in the form in which a compaction does (layout 10.11). */
function delaySlices({ draft, nowNs }: Work, chunks: readonly StoredChunk[], content: Content): void {
  const dropped = chunks.flatMap(({ value }) => decodeSlices(value)).filter(({ id }) => id > 0n);
  const [first] = dropped;
  if (first === undefined) return;
  const seconds = nowNs / 1_000_000_000n;
  const fresh = sliceIds(content)[0];
  const key: MetaKey = { kind: 'delayedSlices', seconds, id: fresh ?? first.id };
  // An old slice may have given its number to such a key before, in this very second.
  const stored = fresh === undefined ? draft.get(key) : undefined;
  const before = stored === undefined ? [] : decodeDelayedSlices(stored);
  draft.put(key, encodeDelayedSlices([...before, ...dropped]));
}

function discardSlices(
  { draft, nowNs }: Work,
  grave: bigint,
  chunks: readonly StoredChunk[],
  length: bigint,
): void {
  if (chunks.length === 0) return;
  for (const { key, value } of chunks) {
    const decoded = decodeKey(key);
    if (decoded.kind === 'chunk') draft.put({ ...decoded, ino: grave }, value);
  }
  const seconds = encodeTimeCounter(nowNs / 1_000_000_000n);
  draft.put({ kind: 'deletedFile', ino: grave, length }, seconds);
}
