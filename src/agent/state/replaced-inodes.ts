/** Which inodes on disk were agreed on at paths that hold another one by now, or none: moves are told by them. */

import type { Path } from '../../reconcile/entry.ts';
import type { Pairs } from './ledger-record.ts';

export interface ReplacedInode {
  readonly ino: bigint;
  /** Its ctime when it was seen there last, in nanoseconds since the epoch; `undefined`: in a log that did not say. */
  readonly seenNs: bigint | undefined;
}

/** Inodes by path in a record of the log. */
export interface InodePairs {
  readonly inodes?: Pairs<bigint>;
  readonly seen?: Pairs<bigint>;
}

export function inodePairs(inodes: Iterable<readonly [Path, ReplacedInode]>): Required<InodePairs> {
  const all = [...inodes];
  const seen = all.flatMap(([path, { seenNs }]) => (seenNs === undefined ? [] : [[path, seenNs] as const]));
  return { inodes: all.map(([path, { ino }]) => [path, ino] as const), seen };
}

export class ReplacedInodes {
  readonly #inodes = new Map<Path, ReplacedInode>();
  readonly #paths = new Map<bigint, Set<Path>>();

  has(path: Path): boolean {
    return this.#inodes.has(path);
  }

  at(path: Path): ReplacedInode | undefined {
    return this.#inodes.get(path);
  }

  inoAt(path: Path): bigint | undefined {
    return this.#inodes.get(path)?.ino;
  }

  entries(): IterableIterator<[Path, ReplacedInode]> {
    return this.#inodes.entries();
  }

  get size(): number {
    return this.#inodes.size;
  }

  /** The paths that an inode has left, the last one last. */
  leftBy(ino: bigint): ReadonlySet<Path> {
    return this.#paths.get(ino) ?? NONE;
  }

  set(path: Path, inode: ReplacedInode): void {
    if (this.inoAt(path) === inode.ino) return;
    this.delete(path);
    this.#inodes.set(path, inode);
    this.#paths.set(inode.ino, (this.#paths.get(inode.ino) ?? new Set()).add(path));
  }

  delete(path: Path): void {
    const before = this.#inodes.get(path);
    if (before === undefined) return;
    this.#inodes.delete(path);
    const paths = this.#paths.get(before.ino);
    paths?.delete(path);
    if (paths?.size === 0) this.#paths.delete(before.ino);
  }

  /** As a record of the log names them. */
  setAll({ inodes = [], seen = [] }: InodePairs): void {
    const seenNs = new Map(seen);
    for (const [path, ino] of inodes)
      if (ino !== null) this.set(path, { ino, seenNs: seenNs.get(path) ?? undefined });
  }

  clear(): void {
    this.#inodes.clear();
    this.#paths.clear();
  }

  /** Whether the number of an inode that left was given to a file that was made then, in nanoseconds since the epoch. */
  isReused(ino: bigint, bornNs: bigint): boolean {
    for (const path of this.leftBy(ino)) {
      const { seenNs } = this.#inodes.get(path) ?? {};
      if (seenNs !== undefined && seenNs < bornNs) return true;
    }
    return false;
  }

  /** The same inode under another number. */
  renumber(ino: bigint, next: bigint): void {
    for (const path of [...this.leftBy(ino)])
      this.set(path, { ino: next, seenNs: this.#inodes.get(path)?.seenNs });
  }
}

const NONE: ReadonlySet<Path> = new Set();
