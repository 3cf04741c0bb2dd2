/** The clean-up's operations on a transaction being written, accounts included. */

import type { Attr } from '../codec/attr.ts';
import { decodeCounter, encodeCounter, encodeTimeCounter } from '../codec/counter.ts';
import { decodeDelayedSlices, encodeDelayedSlices } from '../codec/delayed-slices.ts';
import { DecodeError } from '../codec/error.ts';
import {
  chunkRange,
  decodeKey,
  dentryRange,
  parentRange,
  TRASH_INO,
  xattrRange,
  type MetaKey,
} from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { decodeFlocks, decodePlocks, encodeFlocks, encodePlocks } from '../codec/lock.ts';
import { decodeSlices, encodeSlices } from '../codec/slice.ts';
import { Stale } from './refusal.ts';
import { dropName } from './remove.ts';
import { sliceKey, type SliceName } from './volume-facts.ts';
import { refuseFixed, type Place, type Work } from './work.ts';

/** Slices whose counts fit into one transaction. */
const SLICES_AT_ONCE = 50;

/** A name, and the inode that it led to when it was found. */
export interface PlacedInode {
  readonly place: Place;
  readonly ino: bigint;
}

/** Asks for all at once what each of the names needs. */
function expectNames({ draft }: Work, names: readonly PlacedInode[]): void {
  draft.expect(
    ...names.flatMap(({ place, ino }): MetaKey[] => [
      { kind: 'attr', ino },
      { kind: 'dentry', ...place },
    ]),
  );
  const directories = names.filter(({ ino }) => draft.attr(ino)?.type === 'directory');
  draft.expectRanges(...directories.map(({ ino }) => dentryRange(ino)));
}

/** Entries of the trash go for good (layout 11.2); the directory that they were in is not touched, as mounts do it. */
export function purgeAll(work: Work, names: readonly PlacedInode[]): void {
  expectNames(work, names);
  for (const { place, ino } of names) purge(work, place, ino);
}

function purge(work: Work, place: Place, ino: bigint): void {
  const { draft, accounting } = work;
  draft.expect({ kind: 'dentry', ...place }, { kind: 'attr', ino });
  const dentry = draft.dentry(place.parent, place.name);
  if (dentry?.ino !== ino) throw new Stale('the entry is another one');
  const attr = draft.attr(ino);
  draft.delete({ kind: 'dentry', ...place });
  // A name that leads nowhere stands in the statistics as an empty entry.
  if (attr === undefined) {
    accounting.leave(place.parent, { type: dentry.type, length: 0n });
    return;
  }
  refuseFixed(attr);
  if (attr.type !== 'directory' && attr.nlink > 1) {
    dropName({ ...work, trashDays: 0 }, place, { ino, dentry, attr });
    return;
  }
  accounting.leave(place.parent, attr);
  dropInode(work, ino, attr);
}

/** An empty directory of the trash's root goes. */
export function purgeHour(work: Work, name: ByteString, ino: bigint): void {
  const { draft, accounting } = work;
  draft.expect({ kind: 'dentry', parent: TRASH_INO, name }, { kind: 'attr', ino });
  if (draft.dentry(TRASH_INO, name)?.ino !== ino) throw new Stale('the entry is another one');
  const attr = draft.attr(ino);
  draft.delete({ kind: 'dentry', parent: TRASH_INO, name });
  if (attr === undefined) return;
  requireEmpty(work, ino);
  draft.delete({ kind: 'attr', ino });
  draft.delete({ kind: 'dirStat', ino });
  draft.deleteRange(xattrRange(ino));
  accounting.dropUnowned(attr);
}

/** The file that a dead session held open loses its inode (upstream `doDeleteSustainedInode`). */
export function dropHeld(work: Work, { sid, ino, expiry }: HeldFile): void {
  const { draft } = work;
  const held: MetaKey = { kind: 'sustained', sid, ino };
  draft.expect(held, { kind: 'attr', ino }, { kind: 'sessionExpire', sid });
  requireDead(work, sid, expiry);
  if (draft.get(held) === undefined) throw new Stale('nothing is held open');
  draft.delete(held);
  const attr = draft.attr(ino);
  // With a name it is in use again, whatever the key says.
  if (attr !== undefined && attr.nlink === 0) dropInode(work, ino, attr);
}

interface HeldFile {
  readonly sid: bigint;
  readonly ino: bigint;
  /** Mod revision of the session's `SE` key when it was found dead; 0 if it had none. */
  readonly expiry: bigint;
}

function requireDead({ draft }: Work, sid: bigint, expiry: bigint): void {
  const key: MetaKey = { kind: 'sessionExpire', sid };
  draft.get(key);
  if (draft.modRevision(key) !== expiry) throw new Stale('the session is alive');
}

/** An inode that no name leads to goes, as it was when that was found. */
export function dropUnnamed(work: Work, ino: bigint, modRevision: bigint): void {
  const attr = work.draft.attr(ino);
  if (attr === undefined || work.draft.modRevision({ kind: 'attr', ino }) !== modRevision)
    throw new Stale('the inode is another one');
  dropInode(work, ino, attr);
}

/** Whoever was about to name what is in such a tree has lost from here on: naming compares the mark. */
export function fenceDetached(work: Work, root: bigint): void {
  const key: MetaKey = { kind: 'detached', ino: root };
  const mark = work.draft.get(key);
  if (mark === undefined) throw new Stale('the tree was attached');
  work.draft.put(key, mark);
}

/** Some names of a tree that was never attached go with their inodes: what is below others before them. */
export function dropDetached(work: Work, root: bigint, names: readonly PlacedInode[]): void {
  const { draft } = work;
  requireDetached(work, root);
  expectNames(work, names);
  for (const { place, ino } of names) {
    const dentry = draft.dentry(place.parent, place.name);
    if (dentry?.ino !== ino) continue;
    draft.delete({ kind: 'dentry', ...place });
    const attr = draft.attr(ino);
    if (attr !== undefined) dropInode(work, ino, attr);
  }
}

/** The root of such a tree, once it is empty. */
export function dropDetachedRoot(work: Work, root: bigint): void {
  requireDetached(work, root);
  const attr = work.draft.attr(root);
  if (attr !== undefined) dropInode(work, root, attr);
  work.draft.delete({ kind: 'detached', ino: root });
}

function requireDetached({ draft }: Work, root: bigint): void {
  if (draft.get({ kind: 'detached', ino: root }) === undefined) throw new Stale('the tree was attached');
}

/** The inode with all that is stored under it; data of a file await their deletion (layout 10.6, 11.3). */
function dropInode(work: Work, ino: bigint, attr: Attr): void {
  const { draft, accounting, nowNs } = work;
  if (attr.type === 'directory') {
    requireEmpty(work, ino);
    draft.delete({ kind: 'dirStat', ino });
  }
  draft.delete({ kind: 'attr', ino });
  draft.deleteRange(xattrRange(ino));
  if (attr.parent === 0n) draft.deleteRange(parentRange(ino));
  if (attr.type === 'symlink') draft.delete({ kind: 'symlink', ino });
  if (attr.type === 'file') {
    const value = encodeTimeCounter(nowNs / 1_000_000_000n);
    draft.put({ kind: 'deletedFile', ino, length: attr.length }, value);
  }
  accounting.drop(attr);
}

function requireEmpty({ draft }: Work, ino: bigint): void {
  if (draft.peekDentries(ino).size > 0) throw new Stale('the directory is not empty');
  draft.compareNoNewDentry(ino);
}

/**
 * Takes references of the first chunk of a file without names away, as many as fit, and the chunk with the last of them;
 * with the last chunk goes the key that says that there is something to do. Whether something is left. A file that has its
 * inode is not one without names.
 */
export function releaseFile({ draft }: Work, ino: bigint, length: bigint): boolean {
  const file: MetaKey = { kind: 'deletedFile', ino, length };
  draft.expect(file, { kind: 'attr', ino });
  if (draft.get({ kind: 'attr', ino }) !== undefined) throw new Stale('the file is there');
  if (draft.get(file) === undefined) throw new Stale('its data are deleted');
  // Compared whole: a compaction that is under way adds no chunk.
  const chunks = draft.readRange(chunkRange(ino));
  const [first] = chunks;
  if (first === undefined) {
    draft.delete(file);
    return false;
  }
  const records = decodeSlices(first.value);
  const taken = release(draft, records);
  const left = records.filter((record) => record.id !== 0n && !taken.has(sliceKey(record)));
  const key = decodeKey(first.key);
  if (left.length > 0) draft.put(key, encodeSlices(left));
  else draft.delete(key);
  const isLast = left.length === 0 && chunks.length === 1;
  if (isLast) draft.delete(file);
  return !isLast;
}

/** The same for several small files; those of which something is left. */
export function releaseFiles<F extends { readonly ino: bigint; readonly length: bigint }>(
  work: Work,
  files: readonly F[],
): F[] {
  const { draft } = work;
  draft.expect(
    ...files.flatMap(({ ino, length }): MetaKey[] => [
      { kind: 'deletedFile', ino, length },
      { kind: 'attr', ino },
    ]),
  );
  const ranges = files.map(({ ino }) => chunkRange(ino));
  draft.expectRanges(...ranges);
  const records = ranges
    .flatMap((range) => draft.readRange(range).slice(0, 1))
    .flatMap(({ value }) => decodeSlices(value));
  draft.expect(
    ...records.filter(({ id }) => id !== 0n).map(({ id, size }): MetaKey => ({ kind: 'sliceRef', id, size })),
  );
  return files.filter(({ ino, length }) => releaseFile(work, ino, length));
}

/** Takes references of the slices of one `L` key away, as many as fit. Whether something is left. */
export function releaseDelayed({ draft }: Work, seconds: bigint, id: bigint): boolean {
  const key: MetaKey = { kind: 'delayedSlices', seconds, id };
  const raw = draft.get(key);
  if (raw === undefined) return false;
  const slices = decodeDelayedSlices(raw);
  const taken = release(draft, slices);
  const left = slices.filter((slice) => slice.id !== 0n && !taken.has(sliceKey(slice)));
  if (left.length === 0) draft.delete(key);
  else draft.put(key, encodeDelayedSlices(left));
  return left.length > 0;
}

/** Counts the first of these slices down, once for each time they are named; those that were. */
function release(draft: Work['draft'], names: readonly SliceName[]): ReadonlySet<string> {
  const counts = new Map<string, SliceName & { readonly count: bigint }>();
  for (const { id, size } of names) {
    const key = sliceKey({ id, size });
    const count = counts.get(key)?.count ?? 0n;
    if (id === 0n || (count === 0n && counts.size >= SLICES_AT_ONCE)) continue;
    counts.set(key, { id, size, count: count + 1n });
  }
  const keyOf = ({ id, size }: SliceName): MetaKey => ({ kind: 'sliceRef', id, size });
  draft.expect(...[...counts.values()].map(keyOf));
  for (const slice of counts.values()) {
    const stored = draft.get(keyOf(slice));
    const value = (stored === undefined ? 0n : decodeCounter(stored)) - slice.count;
    draft.put(keyOf(slice), encodeCounter(value));
  }
  return new Set(counts.keys());
}

/** Locks of a dead session go; its own keys are last. */
export function dropLocks(work: Work, sid: bigint, expiry: bigint, locks: readonly MetaKey[]): void {
  const { draft } = work;
  draft.expect({ kind: 'sessionExpire', sid }, ...locks);
  requireDead(work, sid, expiry);
  for (const key of locks) {
    const raw = draft.get(key);
    if (raw === undefined) continue;
    const left = withoutLocksOf(sid, key, raw);
    if (left.length === raw.length) continue;
    if (left.length === 0) draft.delete(key);
    else draft.put(key, left);
  }
}

export function dropSession(work: Work, sid: bigint, expiry: bigint): void {
  requireDead(work, sid, expiry);
  work.draft.delete({ kind: 'sessionExpire', sid });
  work.draft.delete({ kind: 'sessionHeartbeat', sid });
  work.draft.delete({ kind: 'sessionInfo', sid });
}

/** Whether a session has a lock in the value of an `F` or `P` key. Bytes that are no locks hold none. */
export function hasLock(sid: bigint, key: MetaKey, raw: Uint8Array): boolean {
  return withoutLocksOf(sid, key, raw).length !== raw.length;
}

/** The records of other sessions (layout 9.2). Bytes that are no locks stay as they are. */
function withoutLocksOf(sid: bigint, key: MetaKey, raw: Uint8Array): Uint8Array {
  const isOther = (lock: { readonly sid: bigint }): boolean => lock.sid !== sid;
  try {
    return key.kind === 'plock'
      ? encodePlocks(decodePlocks(raw).filter(isOther))
      : encodeFlocks(decodeFlocks(raw).filter(isOther));
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return raw;
  }
}
