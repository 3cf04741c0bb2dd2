/** Quotas of directories, users and groups, and the limits of the volume: what is used of them, and when they refuse. */

import { decodeAttr, type Attr } from '../codec/attr.ts';
import { escapeBytes, utf8Text } from '../codec/bytes.ts';
import { decodeDirStat, decodeQuota, encodeQuota, type DirStat } from '../codec/counter.ts';
import { decodeDentry } from '../codec/dentry.ts';
import { ROOT_INO, TRASH_INO, type MetaKey } from '../codec/key.ts';
import type { Draft } from './draft.ts';
import { OverLimit, Refused, Stale } from './refusal.ts';

/** An amount, or a change of one. */
export interface Usage {
  /** Allocated bytes. */
  readonly space: bigint;
  readonly inodes: bigint;
}

/**
 * What a transaction adds to the quota of each directory that has one (layout 8.5): what its directories' own entries
 * changed by, and all that lies below directories that have another parent now. A quota counts what is below its
 * directory, not the directory itself. `recount` answers for a directory without statistics.
 */
export function directoryUsage(
  draft: Draft,
  directories: readonly (readonly [ino: bigint, delta: DirStat])[],
  moved: ReadonlySet<bigint>,
  recount: (ino: bigint) => DirStat,
): Map<bigint, Usage> {
  const changed = directories.filter(
    ([ino, { space, inodes }]) => ino < TRASH_INO && (space !== 0n || inodes !== 0n),
  );
  const chains = new Map(changed.map(([ino]) => [ino, chainOf(draft, ino, attrNow)]));
  const moves = [...moved].map((ino) => ({
    ino,
    before: chainOf(draft, ino, attrBefore),
    now: chainOf(draft, ino, attrNow),
  }));
  const all = new Set([...chains.values(), ...moves.flatMap(({ before, now }) => [before, now])].flat());
  draft.expect(...[...all].map(quotaKey));
  const hasQuota = (ino: bigint): boolean => draft.get(quotaKey(ino)) !== undefined;
  const limited = new Set([...all].filter(hasQuota));

  const owed = new Map<bigint, Usage>();
  const owe = (chain: readonly bigint[], usage: Usage, sign: 1n | -1n): void => {
    for (const ino of chain) {
      if (!limited.has(ino)) continue;
      const before = owed.get(ino) ?? { space: 0n, inodes: 0n };
      owed.set(ino, {
        space: before.space + sign * usage.space,
        inodes: before.inodes + sign * usage.inodes,
      });
    }
  };
  for (const [ino, delta] of changed) owe(chains.get(ino) ?? [], delta, 1n);
  for (const { ino, before, now } of moves) {
    const left = before.filter((one) => limited.has(one) && !now.includes(one));
    const entered = now.filter((one) => limited.has(one) && !before.includes(one));
    if (left.length + entered.length === 0) continue;
    const usage = usageBefore(draft, ino, moved, recount);
    owe(left, usage, -1n);
    owe(entered, usage, 1n);
  }
  return owed;
}

/** More than any volume has. */
const NO_LIMIT = 1n << 62n;

/** Room where nothing is limited. */
export const ENDLESS: Usage = { space: NO_LIMIT, inodes: NO_LIMIT };

/** The room that is in both. */
export function leastRoom(a: Usage, b: Usage): Usage {
  return {
    space: a.space < b.space ? a.space : b.space,
    inodes: a.inodes < b.inodes ? a.inodes : b.inodes,
  };
}

/**
 * Adds to the quotas, and returns the room that is left in all of them. Throws `OverLimit` with the directory's path if
 * one has none.
 */
export function settleDirectoryQuotas(draft: Draft, owed: ReadonlyMap<bigint, Usage>): Usage {
  return [...owed]
    .map(([ino, usage]) => settleQuota(draft, quotaKey(ino), usage, () => pathOf(draft, ino)))
    .reduce(leastRoom, ENDLESS);
}

/**
 * Adds to the quota under a key, and returns the room that is left; an owner's first use makes the record, without limits.
 * Throws `OverLimit` if it has no room; `of` says whose quota it is.
 */
export function settleQuota(draft: Draft, key: MetaKey, usage: Usage, of: () => string): Usage {
  const stored = draft.get(key);
  const quota =
    stored === undefined
      ? { maxSpace: -1n, maxInodes: -1n, usedSpace: 0n, usedInodes: 0n }
      : decodeQuota(stored);
  if (isOver(quota.usedSpace, usage.space, quota.maxSpace)) {
    throw new OverLimit(
      `the quota of ${of()} ${noRoom(quota.usedSpace, usage.space, quota.maxSpace, 'bytes')}`,
    );
  }
  if (isOver(quota.usedInodes, usage.inodes, quota.maxInodes)) {
    const room = noRoom(quota.usedInodes, usage.inodes, quota.maxInodes, 'inodes');
    throw new OverLimit(`the quota of ${of()} ${room}`);
  }
  const usedSpace = quota.usedSpace + usage.space;
  const usedInodes = quota.usedInodes + usage.inodes;
  if (usage.space !== 0n || usage.inodes !== 0n) {
    draft.put(key, encodeQuota({ ...quota, usedSpace, usedInodes }));
  }
  return { space: roomIn(usedSpace, quota.maxSpace), inodes: roomIn(usedInodes, quota.maxInodes) };
}

/** The room that the volume has left. Throws `OverLimit` if it is larger now than it may be; `max` 0 is no limit. */
export function roomOfVolume(now: bigint, added: bigint, max: bigint, unit: 'bytes' | 'inodes'): bigint {
  if (isOver(now - added, added, max)) {
    throw new OverLimit(`the volume's limit ${noRoom(now - added, added, max, unit)}`);
  }
  return roomIn(now, max);
}

/** 0 where more is used than may be. */
function roomIn(used: bigint, max: bigint): bigint {
  if (max <= 0n) return NO_LIMIT;
  return used < max ? max - used : 0n;
}

function isOver(used: bigint, added: bigint, max: bigint): boolean {
  return added > 0n && max > 0n && used + added > max;
}

function noRoom(used: bigint, added: bigint, max: bigint, unit: 'bytes' | 'inodes'): string {
  const show = (n: bigint): string => (unit === 'bytes' ? sizeText(n) : `${n}`);
  const what = unit === 'bytes' ? '' : ' files and directories';
  return `has no room: ${show(used)} of ${show(max)}${what} are used, and the push needs ${show(added)} more`;
}

function sizeText(bytes: bigint): string {
  let size = Number(bytes);
  for (const unit of ['bytes', 'KiB', 'MiB', 'GiB']) {
    if (Math.abs(size) < 1024) return `${unit === 'bytes' ? size : size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
}

const quotaKey = (ino: bigint): MetaKey => ({ kind: 'dirQuota', ino });
const statKey = (ino: bigint): MetaKey => ({ kind: 'dirStat', ino });

/** A directory and all above it, compared: a move of any of them changes whose quota counts. */
function chainOf(
  draft: Draft,
  ino: bigint,
  attrOf: (draft: Draft, ino: bigint) => Attr | undefined,
): bigint[] {
  const chain = new Set<bigint>();
  for (let at = ino; at < TRASH_INO;) {
    if (chain.has(at))
      throw new Refused('the directories above it form a cycle; juicefs fsck shows such damage');
    chain.add(at);
    if (at === ROOT_INO) break;
    const attr = attrOf(draft, at);
    if (attr === undefined) throw new Stale('a directory above it is not there any more');
    at = attr.parent;
  }
  return [...chain];
}

/** As the transaction leaves it; one that it removes still counts where it was. */
function attrNow(draft: Draft, ino: bigint): Attr | undefined {
  const attr = draft.attr(ino);
  return attr === undefined || attr.parent >= TRASH_INO ? attrBefore(draft, ino) : attr;
}

function attrBefore(draft: Draft, ino: bigint): Attr | undefined {
  const value = before(draft, { kind: 'attr', ino });
  return value === undefined ? undefined : decodeAttr(value);
}

/** What the key held before the transaction; compared. */
function before(draft: Draft, key: MetaKey): Uint8Array | undefined {
  // What was written was read, and so compared, before that.
  return draft.wrote(key) ? draft.before(key) : draft.get(key);
}

/** Directories of a moved tree whose statistics are compared; of larger ones the rest is taken as it was read. */
const COMPARED_DIRECTORIES = 48;

/** All below a directory before the transaction, without what moved out of it by itself. */
function usageBefore(
  draft: Draft,
  root: bigint,
  moved: ReadonlySet<bigint>,
  recount: (ino: bigint) => DirStat,
): Usage {
  if (moved.size === 1) {
    const own = draft.get(quotaKey(root));
    if (own !== undefined) {
      const { usedSpace, usedInodes } = decodeQuota(own);
      return { space: usedSpace, inodes: usedInodes };
    }
  }
  let usage: Usage = { space: 0n, inodes: 0n };
  let seen = 0;
  for (let level = [root]; level.length > 0;) {
    draft.expect(...level.map(statKey));
    const below: bigint[] = [];
    for (const ino of level) {
      seen += 1;
      const stored = seen > COMPARED_DIRECTORIES ? draft.before(statKey(ino)) : before(draft, statKey(ino));
      const stat = stored === undefined ? recount(ino) : decodeDirStat(stored);
      usage = { space: usage.space + stat.space, inodes: usage.inodes + stat.inodes };
      for (const value of draft.dentriesBefore(ino)) {
        const child = decodeDentry(value);
        if (child.type === 'directory' && !moved.has(child.ino)) below.push(child.ino);
      }
    }
    level = below;
  }
  return usage;
}

/** The path of a directory from the volume's root, for people. */
function pathOf(draft: Draft, ino: bigint): string {
  const names: string[] = [];
  for (let at = ino; at !== ROOT_INO && names.length < 256;) {
    const parent = draft.attr(at)?.parent;
    if (parent === undefined) break;
    const child = [...draft.peekDentries(parent)].find(([, value]) => decodeDentry(value).ino === at);
    names.unshift(child === undefined ? `inode ${at}` : (utf8Text(child[0]) ?? escapeBytes(child[0])));
    at = parent;
  }
  return `/${names.join('/')}`;
}
