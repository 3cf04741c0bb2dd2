/** What a transaction owes to directory statistics and volume counters, summed first and written once. */

import { decodeAttr, type Attr } from '../codec/attr.ts';
import {
  allocated,
  decodeCounter,
  decodeDirStat,
  encodeCounter,
  encodeDirStat,
  type DirStat,
} from '../codec/counter.ts';
import { decodeDentry } from '../codec/dentry.ts';
import type { MetaKey } from '../codec/key.ts';
import type { Draft } from './draft.ts';

export const NO_STAT: DirStat = { length: 0n, space: 0n, inodes: 0n };

/** What one name of an inode adds to its directory (layout 8.4): special files, links and directories count 4096. */
function statOf(attr: Pick<Attr, 'type' | 'length'>): DirStat {
  const length = attr.type === 'file' ? attr.length : 0n;
  return { length, space: allocated(length), inodes: 1n };
}

function sum(a: DirStat, b: DirStat, sign: 1n | -1n = 1n): DirStat {
  return {
    length: a.length + sign * b.length,
    space: a.space + sign * b.space,
    inodes: a.inodes + sign * b.inodes,
  };
}

const USED_SPACE: MetaKey = { kind: 'counter', name: 'usedSpace' };
const TOTAL_INODES: MetaKey = { kind: 'counter', name: 'totalInodes' };

/** The deltas of one transaction (layout 8.3, 8.4). */
export class Accounting {
  readonly #dirStats: boolean;
  #directories = new Map<bigint, DirStat>();
  #space = 0n;
  #inodes = 0n;

  /** `dirStats`: whether the volume keeps statistics (setting `DirStats`). */
  constructor(dirStats: boolean) {
    this.#dirStats = dirStats;
  }

  /** A name of the inode now stands in the directory. */
  enter(directory: bigint, attr: Pick<Attr, 'type' | 'length'>): void {
    this.#directories.set(directory, sum(this.#directories.get(directory) ?? NO_STAT, statOf(attr)));
  }

  /** A name of the inode stands there no more. */
  leave(directory: bigint, attr: Pick<Attr, 'type' | 'length'>): void {
    this.#directories.set(directory, sum(this.#directories.get(directory) ?? NO_STAT, statOf(attr), -1n));
  }

  /** The volume has one more inode. */
  add(attr: Pick<Attr, 'type' | 'length'>): void {
    this.#space += statOf(attr).space;
    this.#inodes += 1n;
  }

  /** The volume has one inode less. */
  drop(attr: Pick<Attr, 'type' | 'length'>): void {
    this.#space -= statOf(attr).space;
    this.#inodes -= 1n;
  }

  checkpoint(): () => void {
    const [directories, space, inodes] = [new Map(this.#directories), this.#space, this.#inodes];
    return () => {
      this.#directories = directories;
      this.#space = space;
      this.#inodes = inodes;
    };
  }

  /** Writes the sums into the draft: once, as its last step. */
  settle(draft: Draft, nowNs: bigint): void {
    const directories = this.#dirStats ? [...this.#directories] : [];
    const owed = directories.filter(
      ([ino, delta]) =>
        (delta.length !== 0n || delta.space !== 0n || delta.inodes !== 0n) &&
        // A directory that goes takes its statistics along.
        !isDeleted(draft, { kind: 'dirStat', ino }),
    );
    draft.expect(
      ...owed.map(([ino]): MetaKey => ({ kind: 'dirStat', ino })),
      ...(this.#space === 0n ? [] : [USED_SPACE]),
      ...(this.#inodes === 0n ? [] : [TOTAL_INODES]),
    );
    for (const [ino, delta] of owed) settleDirectory(draft, ino, delta, nowNs);
    addTo(draft, USED_SPACE, this.#space);
    addTo(draft, TOTAL_INODES, this.#inodes);
  }
}

/** Whether the draft took the key away, which is more than that it is not there. */
function isDeleted(draft: Draft, key: MetaKey): boolean {
  return draft.wrote(key) && draft.peek(key) === undefined;
}

/** Real clients add what they did to the statistics within about a second (layout 8.4); longer, to be sure. */
const FLUSHED_NS = 5_000_000_000n;

function settleDirectory(draft: Draft, ino: bigint, delta: DirStat, nowNs: bigint): void {
  const key: MetaKey = { kind: 'dirStat', ino };
  const stored = draft.get(key);
  // A real `format` writes none for the root (layout 13.4): counted anew, as the real client does.
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

function addTo(draft: Draft, key: MetaKey, delta: bigint): void {
  if (delta === 0n) return;
  const stored = draft.get(key);
  draft.put(key, encodeCounter((stored === undefined ? 0n : decodeCounter(stored)) + delta));
}
