/** Contents that lost: parked beside the trees first, then a conflict copy in the volume (design 3.3). */

import type { ByteString } from '../../codec/kv.ts';
import { countCopies, hasCopy, isInVolume } from '../../reconcile/conflict-copies.ts';
import {
  CONFLICT_DIRECTORY_MODE,
  CONFLICT_RECORD_MODE,
  conflictMode,
  conflictStamp,
  copyPath,
  recordPath,
} from '../../reconcile/conflict-path.ts';
import type { Conflict } from '../../reconcile/conflict.ts';
import {
  sameContent,
  type Entry,
  type FileEntry,
  type Path,
  type SymlinkEntry,
} from '../../reconcile/entry.ts';
import type { InodeIndex } from '../../reconcile/inode-index.ts';
import type { Owner } from '../../reconcile/owners.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import { conflictId, encodeRecord, recordedVersion, shownInRecord } from './conflict-record.ts';
import { digestOf } from '../base/digest.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from './ledger.ts';
import type { ParkedRecord } from './ledger-record.ts';
import { readAll } from '../base/read-all.ts';
import { log } from '../base/log.ts';
import type { Clock, FsPort } from '../base/ports.ts';
import { escapeBytes } from '../../codec/bytes.ts';

/** The volume as far as it is known: its index, which stands at this revision. */
interface KnownVolume {
  readonly index: InodeIndex;
  readonly head: bigint;
}

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly agentId: ByteString;
  /** Path of the view from the volume's root. */
  readonly subdir: Path;
  /** `undefined` before it is known. */
  readonly volume: () => KnownVolume | undefined;
}

/** A content that lost. */
export interface Loss {
  readonly path: Path;
  readonly entry: FileEntry | SymlinkEntry;
  /** Where it is on disk; of a symlink of the volume its target. */
  readonly source: ByteString;
  /** Of the volume, at which it lost. */
  readonly revision: bigint;
  readonly reason: string;
  /** `remote`: the volume's version, which a local one replaces. */
  readonly side?: 'remote';
  readonly versions?: Pick<Conflict, 'ancestor' | 'local' | 'remote'>;
}

/** A conflict copy to push, and the record beside it. `name` is that of the parked file. */
export interface ParkedPush {
  readonly name: string;
  readonly copy: PushChange;
  readonly record: PushChange;
  readonly recordBytes: Uint8Array;
}

/** How long a copy that the volume refused rests before it is tried again; milliseconds. */
const REFUSED_RETRY_MS = 60_000;
/** As many copies a volume may have: what loses then stays parked until somebody has dealt with some. */
const MAX_COPIES = 1000;
/** How often something else may stand where a copy is to be before that counts as a refusal. */
const STALE_TRIES = 3;
const NS_PER_SECOND = 1_000_000_000n;

/** The parked contents of one directory. */
export class Parked {
  readonly #o: Options;
  /** What was stored lately, and at which revision: the index may not be there yet. */
  readonly #released = new Map<string, bigint>();
  /** Where copies were made lately, and at which revision: the index may not show them yet. */
  readonly #made = new Map<Path, bigint>();
  /** Copies that the volume refused: why, and until when they rest. */
  readonly #refused = new Map<string, { readonly reason: string; readonly untilMs: number }>();
  /** How often something else stood where a copy was to be. */
  readonly #stale = new Map<string, number>();
  #counter = 0;

  constructor(options: Options) {
    this.#o = options;
  }

  get size(): number {
    return this.#o.ledger.state.parked.size;
  }

  /** Whether a content of a path is kept, here or in the volume. */
  has(path: Path, entry: FileEntry | SymlinkEntry): boolean {
    for (const record of this.#o.ledger.state.parked.values()) {
      if (record.path === path && sameContent(record.entry, entry)) return true;
    }
    return this.#isInVolume(path, entry);
  }

  #isInVolume(path: Path, entry: FileEntry | SymlinkEntry): boolean {
    const lost = this.#fromRoot(path);
    const id = conflictId(lost, entry);
    const volume = this.#o.volume();
    const revision = this.#released.get(id);
    if (revision !== undefined) {
      if (volume === undefined || volume.head < revision) return true;
      this.#released.delete(id);
    }
    return volume !== undefined && hasCopy(volume.index, lost, id);
  }

  /** Keeps a file or symlink that is about to be replaced. The same content of the same path is kept once. */
  park({ path, entry, source, revision, reason, side, versions }: Loss): void {
    const { fs, layout, ledger, clock } = this.#o;
    if (this.has(path, entry)) return;
    const timeNs = clock.nowNs();
    const name = `${timeNs.toString(36)}-${(this.#counter += 1)}`;
    const at = `${layout.parked}/${name}`;
    if (side === 'remote' && entry.type === 'symlink') fs.symlink('park', source, at);
    else fs.link('park', source, at);
    const record: ParkedRecord = {
      ...{ path, entry, revision, reason, timeNs, base: ledger.state.revision },
      ...(side === undefined ? {} : { side }),
      ...(versions === undefined
        ? {}
        : {
            versions: {
              ancestor: versions.ancestor ?? null,
              local: versions.local ?? null,
              remote: versions.remote ?? null,
            },
          }),
    };
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

  /** Something else stands where a copy was to be: that may pass, or not. */
  noteStale(name: string, reason: string): void {
    const times = (this.#stale.get(name) ?? 0) + 1;
    this.#stale.set(name, times);
    if (times < STALE_TRIES) return;
    this.#stale.delete(name);
    this.refuse(name, reason);
  }

  /** A program that still had the file open when it lost has written to it: what it has now is what lost. */
  readAgain(name: string): void {
    const { fs, layout, ledger } = this.#o;
    const record = ledger.state.parked.get(name);
    if (record?.entry.type !== 'file') return;
    const bytes = readAll(fs, `${layout.parked}/${name}`);
    const digest = digestOf(bytes);
    const entry = { ...record.entry, digest, size: BigInt(bytes.length) };
    ledger.write([{ t: 'parked', name, record: { ...record, entry } }], false);
  }

  #isDue(name: string): boolean {
    return (this.#refused.get(name)?.untilMs ?? -Infinity) <= this.#o.clock.monotonicMs();
  }

  /** Whether `pushes` has something to do. */
  get isDue(): boolean {
    return [...this.#o.ledger.state.parked.keys()].some((name) => this.#isDue(name));
  }

  /**
   * The copies that are due, as changes from the volume's root; `owner` takes the place of the files' own. What turns out to
   * be kept already is released, and what is too much for one volume is refused.
   */
  pushes(owner: Owner | undefined): ParkedPush[] {
    const volume = this.#o.volume();
    // Nearly every push: the volume's copies are not counted for that.
    if (volume === undefined || this.size === 0) return [];
    for (const [path, revision] of this.#made) if (volume.head >= revision) this.#made.delete(path);
    const { count, oldest } = countCopies(volume.index);
    const pushes: ParkedPush[] = [];
    const taken = new Set<Path>();
    for (const [name, record] of [...this.#o.ledger.state.parked]) {
      const { entry } = record;
      if (!this.#isDue(name) || (entry.type !== 'file' && entry.type !== 'symlink')) continue;
      if (this.#isInVolume(record.path, entry)) {
        this.#drop(name);
        continue;
      }
      if (count + pushes.length >= MAX_COPIES) {
        const reason = `the volume has ${count} conflict copies, the oldest in /.conflicts/${oldest}: take or drop some`;
        this.refuse(name, reason);
        continue;
      }
      pushes.push(this.#push(name, record, entry, owner ?? entry, volume.index, taken));
    }
    return pushes;
  }

  #push(
    name: string,
    record: ParkedRecord,
    entry: FileEntry | SymlinkEntry,
    owner: Owner,
    index: InodeIndex,
    taken: Set<Path>,
  ): ParkedPush {
    const { agentId, clock } = this.#o;
    const lost = this.#fromRoot(record.path);
    let timeNs = record.timeNs ?? clock.nowNs();
    const stampNow = (): ByteString => conflictStamp({ timeNs, revision: record.revision, agentId });
    // Another content of the path may have lost within the same second.
    const isTaken = (at: Path): boolean => taken.has(at) || this.#made.has(at) || isInVolume(index, at);
    while (isTaken(copyPath(stampNow(), lost))) timeNs += NS_PER_SECOND;
    const stamp = stampNow();
    const path = copyPath(stamp, lost);
    taken.add(path);
    const recordBytes = encodeRecord({
      version: 1,
      path: shownInRecord(lost),
      copy: shownInRecord(path),
      time: new Date(Number((record.timeNs ?? timeNs) / 1_000_000n)).toISOString(),
      agent: escapeBytes(agentId),
      why: record.reason,
      kept: record.side ?? 'local',
      revisions: { ancestor: String(record.base ?? 0n), volume: String(record.revision) },
      ...(record.versions === undefined
        ? {}
        : {
            ancestor: recordedVersion(record.versions.ancestor ?? undefined),
            local: recordedVersion(record.versions.local ?? undefined),
            remote: recordedVersion(record.versions.remote ?? undefined),
          }),
    });
    return {
      name,
      copy: added(path, copyOf(entry, owner), owner),
      // A record alone would say that the copy is there.
      record: {
        ...added(recordPath(stamp, conflictId(lost, entry)), recordEntry(recordBytes, timeNs, owner), owner),
        goesWith: path,
      },
      recordBytes,
    };
  }

  /** The copy is in the volume since a revision. */
  release(name: string, path: Path, revision: bigint): void {
    const record = this.#o.ledger.state.parked.get(name);
    if (record?.entry.type === 'file' || record?.entry.type === 'symlink')
      this.#released.set(conflictId(this.#fromRoot(record.path), record.entry), revision);
    this.#made.set(path, revision);
    this.#drop(name);
    log('info', 'conflict copy', { path });
  }

  #drop(name: string): void {
    const { fs, layout, ledger } = this.#o;
    ledger.write([{ t: 'parked', name, record: null }], false);
    this.#refused.delete(name);
    this.#stale.delete(name);
    fs.unlink('release parked', `${layout.parked}/${name}`);
  }

  #fromRoot(path: Path): Path {
    return this.#o.subdir === '' ? path : `${this.#o.subdir}/${path}`;
  }
}

function added(path: Path, entry: Entry, { uid, gid }: Owner): PushChange {
  return { path, old: undefined, new: entry, makeParents: { mode: CONFLICT_DIRECTORY_MODE, uid, gid } };
}

function copyOf(entry: FileEntry | SymlinkEntry, { uid, gid }: Owner): Entry {
  const owned = { ...entry, uid, gid };
  return owned.type === 'file' ? { ...owned, ino: 0n, nlink: 1, mode: conflictMode(owned.mode) } : owned;
}

function recordEntry(bytes: Uint8Array, mtimeNs: bigint, { uid, gid }: Owner): FileEntry {
  const digest = digestOf(bytes);
  const size = BigInt(bytes.length);
  return {
    ...{ type: 'file', ino: 0n, nlink: 1, mode: CONFLICT_RECORD_MODE },
    ...{ uid, gid, mtimeNs, size, digest },
  };
}
