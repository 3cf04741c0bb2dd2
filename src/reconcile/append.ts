/** New bytes at the end of the inode that is there (layout 10.2, 13.2 "append a record"): what it holds is not stored again. */

import { FLAG_IMMUTABLE, type Attr } from '../codec/attr.ts';
import type { MetaKey } from '../codec/key.ts';
import { CHUNK_SIZE, decodeSlices, encodeSlices, type SliceRecord } from '../codec/slice.ts';
import { besideMtime, type Content } from './operations.ts';
import { Refused, Stale } from './refusal.ts';
import { withAttributes, type WantedAttributes } from './set-attributes.ts';
import { later, type Found, type Work } from './work.ts';

const CHUNK = BigInt(CHUNK_SIZE);

/**
 * Appends to a file with one name, whose contents are those that `content.appendTo` counts. Throws `Stale` if it has another
 * length: who wrote it meanwhile is not written over.
 */
export function appendContent(
  work: Work,
  found: Found,
  wanted: { readonly mtimeNs: bigint } & WantedAttributes,
  content: Content,
): Attr {
  const { draft, accounting, nowNs } = work;
  const { ino, attr: old } = found;
  const start = content.appendTo ?? 0n;
  // Append-only is what such a file may be.
  if ((old.flags & FLAG_IMMUTABLE) !== 0) throw new Refused('the entry is immutable (chattr +i)');
  if (old.length !== start) throw new Stale('the contents were changed');
  if (old.nlink !== 1 || old.parent === 0n) throw new Stale('the file has got another name');
  const added = new Map(content.chunks.map(({ index, records }) => [index, records]));
  for (let index = Number(start / CHUNK); BigInt(index) * CHUNK < content.length; index += 1) {
    const key: MetaKey = { kind: 'chunk', ino, index };
    const before = draft.get(key);
    const records = added.get(index) ?? [];
    const kept = before === undefined ? [] : decodeSlices(before);
    const first = index === Number(start / CHUNK) ? Number(start % CHUNK) : 0;
    const all = [...kept, ...coverLeftovers(kept, records, first), ...records];
    if (all.length > kept.length) draft.put(key, encodeSlices(all));
  }
  const mtimeNs = later(wanted.mtimeNs, old.mtimeNs);
  const attr: Attr = {
    ...withAttributes(work, old, wanted),
    mtimeNs,
    ctimeNs: besideMtime(later(nowNs, old.ctimeNs), mtimeNs),
    length: content.length,
  };
  draft.putAttr(ino, attr);
  accounting.leave(old.parent, old);
  accounting.enter(old.parent, attr);
  accounting.drop(old);
  accounting.add(attr);
  return attr;
}

/**
 * What a chunk holds past the end of its file is not seen, and comes to light where the new contents have zeros and hence no
 * slice: a record of zeros goes over it.
 */
function coverLeftovers(
  kept: readonly SliceRecord[],
  records: readonly SliceRecord[],
  first: number,
): SliceRecord[] {
  const end = Math.max(0, ...kept.filter(({ id }) => id !== 0n).map(({ pos, len }) => pos + len));
  if (end <= first) return [];
  let covered = first;
  for (const { pos, len } of records) {
    if (pos > covered) break;
    covered = pos + len;
  }
  return covered >= end ? [] : [{ pos: first, id: 0n, size: 0, off: 0, len: end - first }];
}
