/** Local contents that lost: parked beside the trees first, then a conflict copy in the volume (design 3.3). */

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

/** The parked contents of one directory. */
export class Parked {
  readonly #o: Options;
  /** Path and content of what was parked lately: an inode can be found in two places. */
  readonly #seen = new Set<string>();
  #counter = 0;

  constructor(options: Options) {
    this.#o = options;
  }

  get size(): number {
    return this.#o.ledger.state.parked.size;
  }

  /** Keeps a file or symlink that is about to be replaced. The same content of the same path is kept once. */
  park(
    path: Path,
    entry: FileEntry | SymlinkEntry,
    source: ByteString,
    revision: bigint,
    reason: string,
  ): void {
    const { fs, layout, ledger, clock } = this.#o;
    const content = `${path} ${entry.type === 'file' ? entry.digest : entry.target}`;
    if (this.#seen.has(content)) return;
    for (const record of ledger.state.parked.values()) {
      if (record.path === path && sameBytes(record.entry, entry)) return;
    }
    if (this.#seen.size >= SEEN_LIMIT) this.#seen.clear();
    this.#seen.add(content);
    const name = `${clock.nowNs().toString(36)}-${(this.#counter += 1)}`;
    fs.link('park', source, `${layout.parked}/${name}`);
    ledger.write([{ t: 'parked', name, record: { path, entry, revision, reason } }], true);
    log('warn', 'conflict', { path, reason });
  }

  /** The copies that are due, as changes from the volume's root; `owner` takes the place of the files' own. */
  pushes(owner: Owner | undefined): ParkedPush[] {
    const { ledger, agentId, subdir, clock } = this.#o;
    return [...ledger.state.parked].map(([name, record]) => {
      const lost = subdir === '' ? record.path : `${subdir}/${record.path}`;
      const path = conflictPath(lost, { timeNs: clock.nowNs(), revision: record.revision, agentId });
      return { name, change: copyOf(record, path, owner ?? record.entry) };
    });
  }

  /** The copy is in the volume. */
  release(name: string, path: Path): void {
    const { fs, layout, ledger } = this.#o;
    ledger.write([{ t: 'parked', name, record: null }], false);
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

function sameBytes(a: Entry, b: Entry): boolean {
  if (a.type === 'file') return b.type === 'file' && a.digest === b.digest;
  return a.type === 'symlink' && b.type === 'symlink' && a.target === b.target;
}
