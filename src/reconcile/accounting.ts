/** What a transaction owes to statistics, counters, quotas and limits, summed first and written once. */

import { decodeAttr, type Attr } from '../codec/attr.ts';
import { ByteReader } from '../codec/bytes.ts';
import {
  allocated,
  decodeCounter,
  decodeDirStat,
  encodeCounter,
  encodeDirStat,
  type DirStat,
} from '../codec/counter.ts';
import { decodeDentry } from '../codec/dentry.ts';
import { sessionRange, type MetaKey } from '../codec/key.ts';
import type { Setting } from '../codec/setting.ts';
import type { Draft } from './draft.ts';
import {
  directoryUsage,
  ENDLESS,
  leastRoom,
  roomOfVolume,
  settleDirectoryQuotas,
  settleQuota,
  type Usage,
} from './quotas.ts';

export const NO_STAT: DirStat = { length: 0n, space: 0n, inodes: 0n };

/** What a volume keeps accounts of, and its limits. */
export type AccountSettings = Pick<Setting, 'dirStats' | 'userGroupQuota' | 'capacity' | 'inodes'>;

/** What one name of an inode adds to its directory (layout 8.4): special files, links and directories count 4096. */
export function statOf(attr: Pick<Attr, 'type' | 'length'>): DirStat {
  const length = attr.type === 'file' ? attr.length : 0n;
  return { length, space: allocated(length), inodes: 1n };
}

export function sum(a: DirStat, b: DirStat, sign: 1n | -1n = 1n): DirStat {
  return {
    length: a.length + sign * b.length,
    space: a.space + sign * b.space,
    inodes: a.inodes + sign * b.inodes,
  };
}

const USED_SPACE: MetaKey = { kind: 'counter', name: 'usedSpace' };
const TOTAL_INODES: MetaKey = { kind: 'counter', name: 'totalInodes' };

/** The sums when they were last settled, whose quotas were looked at, and the room that all of them had left. */
interface Settled extends Usage {
  readonly room: Usage;
  readonly users: ReadonlySet<number>;
  readonly groups: ReadonlySet<number>;
}

/** The deltas of one transaction (layout 8.3 to 8.5). */
export class Accounting {
  readonly #settings: AccountSettings;
  #directories = new Map<bigint, DirStat>();
  #moved = new Set<bigint>();
  #users = new Map<number, Usage>();
  #groups = new Map<number, Usage>();
  #space = 0n;
  #inodes = 0n;
  /** What `settle` last saw, and the room that it left. */
  #settled: Settled = { room: ENDLESS, space: 0n, inodes: 0n, users: new Set(), groups: new Set() };

  constructor(settings: AccountSettings) {
    this.#settings = settings;
  }

  /** A name of the inode now stands in the directory. */
  enter(directory: bigint, attr: Pick<Attr, 'type' | 'length'>): void {
    this.#directories.set(directory, sum(this.#directories.get(directory) ?? NO_STAT, statOf(attr)));
  }

  /** A name of the inode stands there no more. */
  leave(directory: bigint, attr: Pick<Attr, 'type' | 'length'>): void {
    this.#directories.set(directory, sum(this.#directories.get(directory) ?? NO_STAT, statOf(attr), -1n));
  }

  /** A directory has another parent: what lies below it counts in other quotas now. */
  moved(directory: bigint): void {
    this.#moved.add(directory);
  }

  /** The volume has one more inode. */
  add(attr: Pick<Attr, 'type' | 'length' | 'uid' | 'gid'>): void {
    this.addUnowned(attr);
    this.#own(attr, 1n);
  }

  /** The volume has one more inode that counts in nobody's quota: a directory of the trash. */
  addUnowned(attr: Pick<Attr, 'type' | 'length'>): void {
    this.#space += statOf(attr).space;
    this.#inodes += 1n;
  }

  /** The volume has one inode less. */
  drop(attr: Pick<Attr, 'type' | 'length' | 'uid' | 'gid'>): void {
    this.dropUnowned(attr);
    this.#own(attr, -1n);
  }

  /** Takes back `addUnowned`. */
  dropUnowned(attr: Pick<Attr, 'type' | 'length'>): void {
    this.#space -= statOf(attr).space;
    this.#inodes -= 1n;
  }

  /**
   * Whether what came since `settle` last ran surely fits into all quotas and limits that it found. Only true of new
   * inodes in directories that are as new: what else is limited is not known before it is settled.
   */
  get hasRoom(): boolean {
    const { room, space, inodes, users, groups } = this.#settled;
    return (
      this.#space - space <= room.space &&
      this.#inodes - inodes <= room.inodes &&
      [...this.#users.keys()].every((id) => users.has(id)) &&
      [...this.#groups.keys()].every((id) => groups.has(id))
    );
  }

  /** The inode has another owner. */
  giveTo(before: Attr, after: Pick<Attr, 'uid' | 'gid'>): void {
    this.#own(before, -1n);
    this.#own({ type: before.type, length: before.length, uid: after.uid, gid: after.gid }, 1n);
  }

  checkpoint(): () => void {
    const [directories, space, inodes] = [new Map(this.#directories), this.#space, this.#inodes];
    const [moved, users, groups] = [new Set(this.#moved), new Map(this.#users), new Map(this.#groups)];
    return () => {
      this.#directories = directories;
      this.#moved = moved;
      this.#users = users;
      this.#groups = groups;
      this.#space = space;
      this.#inodes = inodes;
    };
  }

  /** Writes the sums into the draft: once, as its last step. Throws `OverLimit` if a quota or limit has no room. */
  settle(draft: Draft, nowNs: bigint): void {
    const { dirStats, capacity, inodes } = this.#settings;
    const directories = dirStats ? [...this.#directories] : [];
    const owed = directories.filter(
      ([ino, delta]) =>
        (delta.length !== 0n || delta.space !== 0n || delta.inodes !== 0n) &&
        // A directory that goes takes its statistics along.
        !isDeleted(draft, { kind: 'dirStat', ino }),
    );
    const owners = this.#owners();
    draft.expect(
      ...owed.map(([ino]): MetaKey => ({ kind: 'dirStat', ino })),
      ...(this.#space === 0n ? [] : [USED_SPACE]),
      ...(this.#inodes === 0n ? [] : [TOTAL_INODES]),
      ...owners.map(({ key }) => key),
    );
    // Before the statistics: what a moved directory held is read from them.
    let room = ENDLESS;
    if (dirStats) {
      const usage = directoryUsage(draft, directories, this.#moved, (ino) => recount(draft, ino));
      room = leastRoom(room, settleDirectoryQuotas(draft, usage));
    }
    for (const [ino, delta] of owed) settleDirectory(draft, ino, delta, nowNs);
    room = owners
      .map(({ key, usage, of }) => settleQuota(draft, key, usage, () => of))
      .reduce(leastRoom, room);
    const space = addTo(draft, USED_SPACE, this.#space);
    const total = addTo(draft, TOTAL_INODES, this.#inodes);
    // A counter that is not touched was not read: whatever comes next is settled again.
    room = leastRoom(room, {
      space: capacity > 0n && this.#space <= 0n ? 0n : roomOfVolume(space, this.#space, capacity, 'bytes'),
      inodes: inodes > 0n && this.#inodes <= 0n ? 0n : roomOfVolume(total, this.#inodes, inodes, 'inodes'),
    });
    this.#settled = {
      room,
      space: this.#space,
      inodes: this.#inodes,
      users: new Set([...this.#users].filter(isOwed).map(([id]) => id)),
      groups: new Set([...this.#groups].filter(isOwed).map(([id]) => id)),
    };
  }

  #own(attr: Pick<Attr, 'type' | 'length' | 'uid' | 'gid'>, sign: 1n | -1n): void {
    if (!this.#settings.userGroupQuota) return;
    const { space } = statOf(attr);
    for (const [owners, id] of [
      [this.#users, attr.uid],
      [this.#groups, attr.gid],
    ] as const) {
      const usage = owners.get(id) ?? { space: 0n, inodes: 0n };
      owners.set(id, { space: usage.space + sign * space, inodes: usage.inodes + sign });
    }
  }

  #owners(): { readonly key: MetaKey; readonly usage: Usage; readonly of: string }[] {
    return [
      ...[...this.#users].filter(isOwed).map(([id, usage]) => {
        return { key: { kind: 'userQuota', uid: BigInt(id) } as const, usage, of: `user ${id}` };
      }),
      ...[...this.#groups].filter(isOwed).map(([id, usage]) => {
        return { key: { kind: 'groupQuota', gid: BigInt(id) } as const, usage, of: `group ${id}` };
      }),
    ];
  }
}

function isOwed([, usage]: [number, Usage]): boolean {
  return usage.space !== 0n || usage.inodes !== 0n;
}

/** Whether the draft took the key away, which is more than that it is not there. */
function isDeleted(draft: Draft, key: MetaKey): boolean {
  return draft.wrote(key) && draft.peek(key) === undefined;
}

/** Real clients add what they did to the statistics within about a second (layout 8.4); longer, to be sure. */
const FLUSHED_NS = 5_000_000_000n;

function settleDirectory(draft: Draft, ino: bigint, delta: DirStat, nowNs: bigint): void {
  const key: MetaKey = { kind: 'dirStat', ino };
  // A real `format` writes none for the root (layout 13.4): counted anew, as the real client does. When mounts may still
  // owe something, they count anew as well when they flush, and would add it to what we have counted already. That they
  // have not yet is compared: from then on we owe our part.
  const stored = draft.get(key);
  if (stored === undefined && !isQuiet(draft, ino, nowNs) && isMounted(draft, nowNs)) return;
  const stat = stored === undefined ? undefined : decodeDirStat(stored);
  const isUsable = stat !== undefined && (!isNegative(stat) || !isQuiet(draft, ino, nowNs));
  // The sum may be negative: when we remove what a mount made a moment ago, the mount's own flush makes it right. To
  // count anew at that moment would count that entry twice.
  draft.put(key, encodeDirStat(isUsable ? sum(stat, delta) : recount(draft, ino)));
}

function isNegative(stat: DirStat): boolean {
  return stat.space < 0n || stat.inodes < 0n;
}

/** Whether nobody changed the directory of late, so that nobody has anything left to add. */
function isQuiet(draft: Draft, ino: bigint, nowNs: bigint): boolean {
  const value = draft.before({ kind: 'attr', ino });
  return value !== undefined && decodeAttr(value).mtimeNs < nowNs - FLUSHED_NS;
}

/** Whether a session is alive; they write when they expire every 12 s (layout 9.1). */
function isMounted(draft: Draft, nowNs: bigint): boolean {
  return [...draft.peekRange(sessionRange()).values()].some((value) => {
    const expires = new ByteReader(value, 'session expiry').i64be();
    return expires * 1_000_000_000n > nowNs;
  });
}

function recount(draft: Draft, ino: bigint): DirStat {
  const children = [...draft.peekDentries(ino).values()].map(decodeDentry);
  draft.expect(...children.map((child): MetaKey => ({ kind: 'attr', ino: child.ino })));
  let stat = NO_STAT;
  for (const child of children) {
    const value = draft.peek({ kind: 'attr', ino: child.ino });
    // A name that leads nowhere counts as an entry without contents.
    stat = sum(stat, statOf(value === undefined ? { type: child.type, length: 0n } : decodeAttr(value)));
  }
  return stat;
}

/** What the counter then is; read only if something is added. */
function addTo(draft: Draft, key: MetaKey, delta: bigint): bigint {
  if (delta === 0n) return 0n;
  const stored = draft.get(key);
  const count = (stored === undefined ? 0n : decodeCounter(stored)) + delta;
  draft.put(key, encodeCounter(count));
  return count;
}
