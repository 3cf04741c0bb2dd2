/**
 * Inodes that our pushes took from their names: a mount that has one open still writes to it, and its write, fsync and
 * close succeed, with the text in the trash (design 4.1.6).
 */

import { DecodeError } from '../../codec/error.ts';
import { TRASH_INO } from '../../codec/key.ts';
import type { FileEntry, Path } from '../../reconcile/entry.ts';
import { contentKey } from '../../reconcile/extents.ts';
import type { Clock } from '../base/ports.ts';
import type { Remote } from './remote.ts';
import type { StagedFile } from './stage.ts';

/** How long such an inode is watched; milliseconds. */
const WATCHED_MS = 3_600_000;
/** Inodes watched at most; the oldest are forgotten first. */
const WATCHED_LIMIT = 10_000;
/** A content that has not changed for this long is taken as meant; milliseconds. */
const SETTLED_MS = 1_000;

/** A content that came after its file had been replaced or removed. */
export interface LateContent {
  /** Where the file was last. */
  readonly path: Path;
  readonly entry: FileEntry;
  readonly staged: StagedFile;
}

interface Displaced {
  readonly path: Path;
  readonly untilMs: number;
  /** What is known and kept of it. */
  digest: string;
  /** Mod revision of its attr when that was last looked at. */
  seen: bigint;
  /** Since when the attr stands as it does now; `undefined` when nothing is new. */
  changed: { readonly revision: bigint; readonly sinceMs: number } | undefined;
}

/** The inodes displaced in this run. What a mount wrote to one while no agent ran is in the trash alone. */
export class DisplacedInodes {
  readonly #clock: Clock;
  /** By inode; in the order in which they came. */
  readonly #inodes = new Map<bigint, Displaced>();
  /** Revision at which nothing was new about any of them. */
  #quietAt: bigint | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A transaction of ours at `revision` has taken a file from its path. */
  add(path: Path, { ino, digest }: FileEntry, revision: bigint): void {
    const untilMs = this.#clock.monotonicMs() + WATCHED_MS;
    this.#quietAt = undefined;
    this.#inodes.delete(ino);
    this.#inodes.set(ino, { path, untilMs, digest, seen: revision, changed: undefined });
    for (const oldest of this.#inodes.keys()) {
      if (this.#inodes.size <= WATCHED_LIMIT) break;
      this.#inodes.delete(oldest);
    }
  }

  /**
   * What was written since, once it has settled; each content once. The second is when to ask again (milliseconds).
   * Throws what the store throws.
   */
  async collect(
    remote: Remote,
    signal: AbortSignal,
  ): Promise<{ readonly late: readonly LateContent[]; readonly waitMs: number }> {
    const { head } = remote;
    if (this.#quietAt === head) return { late: [], waitMs: Infinity };
    // What is added while contents are read is news.
    this.#quietAt = head;
    let isQuiet = false;
    try {
      const found = await this.#collectAll(remote, signal);
      isQuiet = found.waitMs === Infinity;
      return found;
    } finally {
      if (!isQuiet) this.#quietAt = undefined;
    }
  }

  async #collectAll(
    remote: Remote,
    signal: AbortSignal,
  ): Promise<{ readonly late: readonly LateContent[]; readonly waitMs: number }> {
    const nowMs = this.#clock.monotonicMs();
    const late: LateContent[] = [];
    let waitMs = Infinity;
    for (const [ino, inode] of this.#inodes) {
      if (inode.untilMs < nowMs) {
        this.#inodes.delete(ino);
        continue;
      }
      // Our own transaction has not come back yet.
      if (remote.head < inode.seen) continue;
      const attr = remote.index.get(ino)?.attr;
      // Without trash it is gone, and a write to it fails.
      if (attr === undefined) this.#inodes.delete(ino);
      if (attr === undefined || attr.modRevision === inode.seen) continue;
      if (inode.changed?.revision !== attr.modRevision)
        inode.changed = { revision: attr.modRevision, sinceMs: nowMs };
      const leftMs = inode.changed.sinceMs + SETTLED_MS - nowMs;
      if (leftMs > 0) {
        waitMs = Math.min(waitMs, leftMs);
        continue;
      }
      const found = await this.#read(ino, inode, remote, signal);
      if (found === 'again') {
        waitMs = Math.min(waitMs, SETTLED_MS);
        continue;
      }
      inode.seen = attr.modRevision;
      inode.changed = undefined;
      if (found === undefined) continue;
      inode.digest = found.staged.digest;
      late.push(found);
    }
    return { late, waitMs };
  }

  /** The content of an inode if it is news; `again` when it cannot be read yet. */
  async #read(
    ino: bigint,
    { path, digest }: Displaced,
    remote: Remote,
    signal: AbortSignal,
  ): Promise<LateContent | 'again' | undefined> {
    const record = remote.index.get(ino);
    const attr = record?.attr?.value;
    if (record === undefined || attr === undefined || attr instanceof DecodeError || attr.type !== 'file')
      return undefined;
    // Whoever gave it a name again, by hand or from the trash, has it.
    if (remote.index.namesOf(ino).some(({ parent }) => parent < TRASH_INO)) return undefined;
    // Cut to nothing, or never written: nothing is lost with it.
    if (attr.length === 0n) return undefined;
    let key: string;
    try {
      key = contentKey(record.chunks, attr.length);
    } catch (error) {
      if (error instanceof DecodeError) return undefined;
      throw error;
    }
    const results = await remote.stage.stage([{ ino, key, size: attr.length }], remote.head, signal);
    const result = results.get(key);
    if (result !== undefined && 'missing' in result) return 'again';
    if (result === undefined || !('staged' in result) || result.staged.digest === digest) return undefined;
    const { mode, uid, gid, mtimeNs } = attr;
    const { staged } = result;
    const entry = { type: 'file', ino: 0n, mode, uid, gid, mtimeNs, nlink: 1 } as const;
    return { path, entry: { ...entry, size: staged.size, digest: staged.digest }, staged };
  }
}
