/** What a volume has to be cleaned of: the work that mounts do in the background (layout 9.1, 9.3, 11), as a list of jobs. */

import { ROOT_INO, TRASH_INO } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import type { PlacedInode } from './cleanup-operations.ts';
import { hourOfTrashName } from './trash.ts';
import type { SliceName, VolumeFacts } from './volume-facts.ts';

/** One thing to do; each is decided again on what is stored when it is done, so a job may be old. */
export type Job =
  /** A file that a dead session held open loses its inode; its data await deletion. */
  | { readonly kind: 'held'; readonly sid: bigint; readonly ino: bigint; readonly expiry: bigint }
  /** A dead session's locks go, and then its own keys. */
  | { readonly kind: 'session'; readonly sid: bigint; readonly expiry: bigint }
  /** Entries of the trash that are old enough, and what is below them: that first. */
  | { readonly kind: 'trash'; readonly names: readonly PlacedInode[] }
  /** The directory of an hour, once it is empty. */
  | { readonly kind: 'hour'; readonly name: ByteString; readonly ino: bigint }
  /** A tree that was begun and never attached, what is below it first. */
  | { readonly kind: 'detached'; readonly root: bigint; readonly names: readonly PlacedInode[] }
  /** An inode that no name leads to. */
  | { readonly kind: 'unnamed'; readonly ino: bigint; readonly modRevision: bigint }
  /** Slices that compaction or a swap dropped long enough ago. */
  | { readonly kind: 'delayed'; readonly seconds: bigint; readonly id: bigint }
  /** Data of a file that has no names. */
  | { readonly kind: 'data'; readonly ino: bigint; readonly length: bigint };

export interface CleanupRequest {
  readonly facts: VolumeFacts;
  readonly nowNs: bigint;
  readonly trashDays: number;
  /** What was written at this revision or before is old enough to belong to nobody. */
  readonly safeRevision: bigint;
}

const HOUR_SECONDS = 3600n;
const DAY_SECONDS = 24n * HOUR_SECONDS;
/** A mount renews its session every few seconds, and its clock may be another one. */
const SESSION_GRACE_SECONDS = 300n;

/** The jobs in the order in which they make work for each other: what loses its inode early has its data deleted late. */
export function planCleanup(request: CleanupRequest): Job[] {
  return [
    ...sessionJobs(request),
    ...trashJobs(request),
    ...detachedJobs(request),
    ...unnamedJobs(request),
    ...delayedJobs(request),
    ...dataJobs(request),
  ];
}

function secondsOf({ nowNs }: CleanupRequest): bigint {
  return nowNs / 1_000_000_000n;
}

/**
 * A session is dead when the time that its mount gave it is over: for minutes, or for a moment if nothing of it was
 * written for as long as `safeRevision` says.
 */
function sessionJobs(request: CleanupRequest): Job[] {
  const { facts, safeRevision } = request;
  const now = secondsOf(request);
  return [...facts.sessionRevisions].flatMap(([sid, written]): Job[] => {
    const expiry = facts.sessions.get(sid);
    const isOld = written <= safeRevision;
    const isDead =
      expiry === undefined
        ? isOld
        : expiry.value + SESSION_GRACE_SECONDS < now || (expiry.value < now && isOld);
    if (!isDead) return [];
    const held = facts.sustained.filter((one) => one.sid === sid);
    return [
      ...held.map(({ ino }): Job => ({ kind: 'held', sid, ino, expiry: expiry?.modRevision ?? 0n })),
      { kind: 'session', sid, expiry: expiry?.modRevision ?? 0n },
    ];
  });
}

/** Hours older than the trash keeps things, and two hours more, as mounts do it; never the current one (layout 11.2). */
function trashJobs(request: CleanupRequest): Job[] {
  const { facts, trashDays } = request;
  const keptSeconds = Number(DAY_SECONDS) * trashDays + 2 * Number(HOUR_SECONDS);
  const edge = Number(secondsOf(request)) - keptSeconds;
  const jobs: Job[] = [];
  for (const [name, { value }] of facts.list(TRASH_INO)) {
    const hour = hourOfTrashName(name);
    if (hour === undefined || hour >= edge || value.ino <= TRASH_INO) continue;
    jobs.push({ kind: 'trash', names: namesBelow(facts, value.ino) });
    jobs.push({ kind: 'hour', name, ino: value.ino });
  }
  return jobs;
}

/** All names below a directory, deepest first: a directory after what is in it. */
function namesBelow(facts: VolumeFacts, root: bigint): PlacedInode[] {
  const found: PlacedInode[] = [];
  const seen = new Set<bigint>([root]);
  const queue = [root];
  for (let dir = queue.shift(); dir !== undefined; dir = queue.shift()) {
    for (const [name, { value }] of facts.list(dir)) {
      found.push({ place: { parent: dir, name }, ino: value.ino });
      if (value.type !== 'directory' || seen.has(value.ino)) continue;
      seen.add(value.ino);
      queue.push(value.ino);
    }
  }
  return found.reverse();
}

function detachedJobs(request: CleanupRequest): Job[] {
  const { facts } = request;
  const edge = secondsOf(request) - DAY_SECONDS;
  return [...facts.detached].flatMap(([root, { value: begun }]): Job[] => {
    if (begun >= edge || facts.namesOf(root).length > 0) return [];
    return [{ kind: 'detached', root, names: namesBelow(facts, root) }];
  });
}

/** Directories with entries are left: what is in them is somebody's, and `fsck` tells of it. */
function unnamedJobs({ facts, safeRevision }: CleanupRequest): Job[] {
  const known = new Set<bigint>([
    ...[ROOT_INO, TRASH_INO],
    ...facts.detached.keys(),
    ...facts.sustained.map(({ ino }) => ino),
  ]);
  return [...facts.attrs].flatMap(([ino, { modRevision }]): Job[] => {
    const isNamed = known.has(ino) || facts.namesOf(ino).length > 0;
    if (isNamed || modRevision > safeRevision || facts.list(ino).size > 0) return [];
    return [{ kind: 'unnamed', ino, modRevision }];
  });
}

function delayedJobs(request: CleanupRequest): Job[] {
  const edge = secondsOf(request) - DAY_SECONDS * BigInt(request.trashDays);
  return request.facts.delayed.flatMap(({ value: { seconds, id } }): Job[] =>
    seconds < edge ? [{ kind: 'delayed', seconds, id }] : [],
  );
}

/** Whoever removed the last name deletes the data at once; after an hour it has died over it (layout 9.3). */
function dataJobs(request: CleanupRequest): Job[] {
  const edge = secondsOf(request) - HOUR_SECONDS;
  const { facts } = request;
  return facts.deleted.flatMap(({ ino, length, value }): Job[] =>
    value < edge && facts.attr(ino) === undefined ? [{ kind: 'data', ino, length }] : [],
  );
}

/** What the counts of slices say when nothing is left to be decremented. */
export interface SliceJobs {
  /** Counted below zero and named by nothing: blocks and count go. */
  readonly dead: readonly (SliceName & { readonly modRevision: bigint })[];
  /** Counted as 0, which is what an absent count says. */
  readonly redundant: readonly (SliceName & { readonly modRevision: bigint })[];
  /** Counted too low although they are named: a mount would delete their blocks (layout trap 12). */
  readonly tooLow: readonly (SliceName & { readonly modRevision: bigint; readonly count: bigint })[];
  /** Counted, named by nothing, and old: given to the deletion of blocks. */
  readonly forgotten: readonly (SliceName & { readonly modRevision: bigint })[];
}

export function planSlices(facts: VolumeFacts, safeRevision: bigint): SliceJobs {
  const counts = facts.countReferences();
  const jobs = {
    dead: [] as (SliceName & { modRevision: bigint })[],
    redundant: [] as (SliceName & { modRevision: bigint })[],
    tooLow: [] as (SliceName & { modRevision: bigint; count: bigint })[],
    forgotten: [] as (SliceName & { modRevision: bigint })[],
  };
  const isComplete = !facts.broken.some(({ key }) => key.kind === 'chunk' || key.kind === 'delayedSlices');
  for (const [key, { id, size, value, modRevision }] of facts.references) {
    const count = counts.get(key)?.count ?? 0n;
    const slice = { id, size, modRevision };
    if (value < 0n && count > 0n) jobs.tooLow.push({ ...slice, count });
    else if (!isComplete) continue;
    else if (value < 0n) jobs.dead.push(slice);
    else if (count === 0n && modRevision <= safeRevision) jobs.forgotten.push(slice);
    else if (value === 0n && count === 1n) jobs.redundant.push(slice);
  }
  return jobs;
}

/** A block as a listing tells of it. */
export interface ListedBlock {
  readonly key: ByteString;
  readonly id: bigint;
  /** Of the store that has it. */
  readonly modRevision: bigint;
  /** Which of the volume's stores has it. */
  readonly shard: number;
}

/**
 * Blocks of slices that no chunk, delayed slice or count names; the young ones may still be on their way to a name. Each
 * store has revisions of its own.
 */
export function unnamedBlocks(
  facts: VolumeFacts,
  blocks: Iterable<ListedBlock>,
  safeRevisions: readonly bigint[],
): { readonly old: readonly ListedBlock[]; readonly young: number } {
  if (facts.broken.some(({ key }) => key.kind === 'chunk' || key.kind === 'delayedSlices')) {
    return { old: [], young: 0 };
  }
  const named = new Set<bigint>();
  for (const { id } of facts.countReferences().values()) named.add(id);
  for (const { id } of facts.references.values()) named.add(id);
  const old: ListedBlock[] = [];
  let young = 0;
  for (const block of blocks) {
    if (named.has(block.id)) continue;
    if (block.modRevision <= (safeRevisions[block.shard] ?? 0n)) old.push(block);
    else young += 1;
  }
  return { old, young };
}
