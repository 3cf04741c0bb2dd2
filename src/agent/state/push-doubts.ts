/** What pushes without a known outcome may have made the volume hold, or make it hold yet. */

import { sameEntry, type Entry, type Path } from '../../reconcile/entry.ts';
import type { LedgerRecord } from './ledger-record.ts';
import { inodePairs, type ReplacedInode, type ReplacedInodes } from './replaced-inodes.ts';

/** One of them at a path. */
export interface Doubt {
  /** `undefined`: nothing. */
  readonly entry: Entry | undefined;
  /** The inode on disk that it was made of. */
  readonly inode: ReplacedInode | undefined;
}

type PushRecord = Extract<LedgerRecord, { t: 'pushing' }>;

/** Of one path; with more the oldest goes. */
const DOUBTS_A_PATH = 4;

export class PushDoubts {
  readonly #doubts = new Map<Path, readonly Doubt[]>();

  get size(): number {
    return this.#doubts.size;
  }

  entries(): IterableIterator<[Path, readonly Doubt[]]> {
    return this.#doubts.entries();
  }

  /** A push that has ended without an answer. */
  add(entries: ReadonlyMap<Path, Entry | undefined>, inodes: ReplacedInodes): void {
    for (const [path, entry] of entries) {
      const doubt = { entry, inode: inodes.at(path) };
      const others = (this.#doubts.get(path) ?? []).filter((other) => !sameDoubt(other, doubt));
      this.#doubts.set(path, [...others, doubt].slice(-DOUBTS_A_PATH));
    }
  }

  delete(path: Path): void {
    this.#doubts.delete(path);
  }

  clear(): void {
    this.#doubts.clear();
  }

  /** As `ReplacedInodes.isReused`. */
  isReused(ino: bigint, bornNs: bigint): boolean {
    return [...this.#doubts.values()]
      .flat()
      .some(({ inode }) => inode?.ino === ino && inode.seenNs !== undefined && inode.seenNs < bornNs);
  }

  /** The same inode under another number, at one path or everywhere. */
  renumber(ino: bigint, next: Partial<ReplacedInode>, at?: Path): void {
    for (const [path, doubts] of this.#doubts) {
      if (at !== undefined && at !== path) continue;
      this.#doubts.set(
        path,
        doubts.map((doubt) =>
          doubt.inode?.ino === ino ? { ...doubt, inode: { ...doubt.inode, ...next } } : doubt,
        ),
      );
    }
  }

  /** As pushes that followed each other, without some paths; the one that comes next makes a doubt of the last. */
  *records(except: ReadonlySet<Path>): Generator<PushRecord> {
    for (let age = 0; ; age += 1) {
      const some = [...this.#doubts].flatMap(([path, doubts]) => {
        const doubt = except.has(path) ? undefined : doubts[age];
        return doubt === undefined ? [] : [{ path, ...doubt }];
      });
      if (some.length === 0) return;
      yield pushRecord(
        some.map(({ path, entry }) => [path, entry]),
        some.flatMap(({ path, inode }) => (inode === undefined ? [] : [[path, inode] as const])),
      );
    }
  }
}

export function pushRecord(
  entries: Iterable<readonly [Path, Entry | undefined]>,
  inodes: Iterable<readonly [Path, ReplacedInode]>,
): PushRecord {
  const pairs = [...entries].map(([path, entry]) => [path, entry ?? null] as const);
  return { t: 'pushing', entries: pairs, ...inodePairs(inodes) };
}

function sameDoubt(a: Doubt, b: Doubt): boolean {
  if (a.inode?.ino !== b.inode?.ino || !sameEntry(a.entry, b.entry)) return false;
  return a.entry?.type !== 'file' || b.entry?.type !== 'file' || a.entry.ino === b.entry.ino;
}
