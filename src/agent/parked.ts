/** Contents that lost: parked beside the trees first, then a conflict copy in the volume (design 3.3). */

import type { ByteString } from '../codec/kv.ts';
import { CONFLICT_DIRECTORY_MODE, conflictMode, conflictPath } from '../reconcile/conflict-path.ts';
import type { Entry, FileEntry, Path, SymlinkEntry } from '../reconcile/entry.ts';
import type { Owner } from '../reconcile/owners.ts';
import type { PushChange } from '../reconcile/push-change.ts';
import type { Layout } from './layout.ts';
import type { Ledger, ParkedRecord } from './ledger.ts';
import { log } from './log.ts';
import type { Clock, FsPort } from './ports.ts';

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly agentId: string;
  /** Path of the view from the volume's root. */
  readonly subdir: Path;
}

/** A conflict copy to push; `name` is that of the parked file. */
export interface ParkedPush {
  readonly name: string;
  readonly change: PushChange;
}

const SEEN_LIMIT = 1000;
/** How long a copy that the volume refused rests before it is tried again; milliseconds. */
const REFUSED_RETRY_MS = 60_000;

/** The parked contents of one directory. */
export class Parked {
  readonly #o: Options;
  /** Path and content of what was parked lately: an inode can be found in two places. */
  readonly #seen = new Set<string>();
  /** Copies that the volume refused: why, and until when they rest. */
  readonly #refused = new Map<string, { readonly reason: string; readonly untilMs: number }>();
  #counter = 0;

  constructor(options: Options) {
    this.#o = options;
  }

  get size(): number {
    return this.#o.ledger.state.parked.size;
  }

  /** Whether a content of a path is kept, here or in the volume. */
  has(path: Path, entry: FileEntry | SymlinkEntry): boolean {
    if (this.#seen.has(contentOf(path, entry))) return true;
    for (const record of this.#o.ledger.state.parked.values()) {
      if (record.path === path && sameBytes(record.entry, entry)) return true;
    }
    return false;
  }

  /**
   * Keeps a file or symlink that is about to be replaced. The same content of the same path is kept once. `source` is where
   * it is on disk, of a symlink of the volume (`side`) its target.
   */
  park(
    path: Path,
    entry: FileEntry | SymlinkEntry,
    source: ByteString,
    revision: bigint,
    reason: string,
    side?: 'remote',
  ): void {
    const { fs, layout, ledger, clock } = this.#o;
    if (this.has(path, entry)) return;
    if (this.#seen.size >= SEEN_LIMIT) this.#seen.clear();
    this.#seen.add(contentOf(path, entry));
    const name = `${clock.nowNs().toString(36)}-${(this.#counter += 1)}`;
    const at = `${layout.parked}/${name}`;
    if (side === 'remote' && entry.type === 'symlink') fs.symlink('park', source, at);
    else fs.link('park', source, at);
    const record = { path, entry, revision, reason, ...(side === undefined ? {} : { side }) };
    ledger.write([{ t: 'parked', name, record }], true);
    log('warn', 'conflict', { path, reason });
  }

  /** Paths whose local version must not replace the volume's, which is not kept there yet. */
  get withheld(): ReadonlySet<Path> {
    const records = [...this.#o.ledger.state.parked.values()];
    return new Set(records.flatMap(({ path, side }) => (side === 'remote' ? [path] : [])));
  }

  /** The copies that the volume refused, by the paths of what lost, and why. */
  *refusals(): Generator<readonly [Path, string]> {
    for (const [name, { reason }] of this.#refused) {
      const record = this.#o.ledger.state.parked.get(name);
      if (record !== undefined) yield [record.path, `the conflict copy waits here: ${reason}`];
    }
  }

  /** The volume does not take a copy: it stays here, and is tried again later. */
  refuse(name: string, reason: string): void {
    const path = this.#o.ledger.state.parked.get(name)?.path;
    if (path === undefined) return;
    if (this.#refused.get(name)?.reason !== reason)
      log('warn', 'problem', { path, reason: `the conflict copy waits here: ${reason}` });
    this.#refused.set(name, { reason, untilMs: this.#o.clock.monotonicMs() + REFUSED_RETRY_MS });
  }

  #isDue = ([name]: readonly [string, ParkedRecord]): boolean =>
    (this.#refused.get(name)?.untilMs ?? -Infinity) <= this.#o.clock.monotonicMs();

  /** Whether `pushes` gives something. */
  get isDue(): boolean {
    return [...this.#o.ledger.state.parked].some(this.#isDue);
  }

  /** The copies that are due, as changes from the volume's root; `owner` takes the place of the files' own. */
  pushes(owner: Owner | undefined): ParkedPush[] {
    const { ledger, agentId, subdir, clock } = this.#o;
    return [...ledger.state.parked].filter(this.#isDue).map(([name, record]) => {
      const lost = subdir === '' ? record.path : `${subdir}/${record.path}`;
      const path = conflictPath(lost, { timeNs: clock.nowNs(), revision: record.revision, agentId });
      return { name, change: copyOf(record, path, owner ?? record.entry) };
    });
  }

  /** The copy is in the volume. */
  release(name: string, path: Path): void {
    const { fs, layout, ledger } = this.#o;
    ledger.write([{ t: 'parked', name, record: null }], false);
    this.#refused.delete(name);
    fs.unlink('release parked', `${layout.parked}/${name}`);
    log('info', 'conflict copy', { path });
  }
}

function copyOf({ entry }: ParkedRecord, path: Path, { uid, gid }: Owner): PushChange {
  const owned = { ...entry, uid, gid };
  const copy: Entry =
    owned.type === 'file' ? { ...owned, ino: 0n, nlink: 1, mode: conflictMode(owned.mode) } : owned;
  return { path, old: undefined, new: copy, makeParents: { mode: CONFLICT_DIRECTORY_MODE, uid, gid } };
}

function contentOf(path: Path, entry: FileEntry | SymlinkEntry): string {
  return `${path} ${entry.type === 'file' ? entry.digest : entry.target}`;
}

function sameBytes(a: Entry, b: Entry): boolean {
  if (a.type === 'file') return b.type === 'file' && a.digest === b.digest;
  return a.type === 'symlink' && b.type === 'symlink' && a.target === b.target;
}
