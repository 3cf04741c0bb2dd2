/** What loses to another version is parked before that takes its place, whichever side it is on. */

import createDebug from 'debug';

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Change } from '../../reconcile/change.ts';
import type { Conflict } from '../../reconcile/conflict.ts';
import type { Entry, FileEntry, Path, SymlinkEntry } from '../../reconcile/entry.ts';
import type { Reconciled } from '../../reconcile/reconcile.ts';
import { contentsToStage } from '../publish/items.ts';
import type { Local } from '../look/local.ts';
import { log } from '../base/log.ts';
import type { Parked } from '../state/parked.ts';
import type { Remote } from '../follow/remote.ts';

const debug = createDebug('etcd-etc-agent:losers');

interface Options {
  readonly local: Local;
  readonly parked: Parked;
  /** Where the local version of a path is on disk. */
  readonly localAt: (path: Path) => ByteString | undefined;
  /** The inode at a place on disk. */
  readonly inodeAt: (at: ByteString) => bigint | undefined;
}

export class Losers {
  readonly #o: Options;

  constructor(options: Options) {
    this.#o = options;
  }

  /** What looks have found written over versions that had been replaced; `revision` is the volume's. */
  parkLate(revision: bigint): void {
    const { local, parked } = this.#o;
    for (const loser of [...local.losers]) {
      const { path, slot, source } = loser;
      debug('late edit of %s at %s', escapeBytes(path), escapeBytes(source));
      const { mode, uid, gid, mtimeNs, size } = slot.signature;
      const entry = {
        type: 'file',
        ino: 0n,
        mode,
        uid,
        gid,
        mtimeNs,
        size,
        digest: slot.digest,
        nlink: 1,
      } as const;
      const reason = 'written over a version that had been replaced';
      const isThere = this.#o.inodeAt(source) === slot.signature.ino;
      if (isThere) parked.park({ path, entry, source, revision, reason });
      local.dropLoser(loser, isThere);
    }
  }

  /** Local versions that are about to be replaced; `undone`: local changes that are taken back. */
  parkLocal(plan: Reconciled, undone: readonly Change[], revision: bigint): void {
    const { local: side, parked, localAt } = this.#o;
    const lost = new Set<bigint>();
    const park = (path: Path, entry: Entry | undefined, reason: string, versions?: Conflict): void => {
      const disk = side.diskInode(path);
      // A file with several names has lost once, not once a name.
      if (disk !== undefined && lost.has(disk)) return;
      if (disk !== undefined) lost.add(disk);
      const source = localAt(path);
      if (!isKept(entry) || source === undefined) return;
      parked.park({
        ...{ path, entry, source, revision, reason },
        ...(versions === undefined ? {} : { versions }),
      });
    };
    for (const conflict of plan.conflicts) {
      const { path, local, remote, winner } = conflict;
      if (winner === 'remote') park(path, local, 'changed here and in the volume', conflict);
      else if (remote === undefined)
        log('warn', 'conflict decided', {
          path,
          reason: 'changed here, removed in the volume: the change stays',
        });
    }
    for (const { path, old } of undone) park(path, old, 'local edits are not pushed in this mode');
  }

  /**
   * The volume's versions that lose to local ones are parked before those are pushed. Returns the changes without those
   * whose loser could not be read.
   */
  async parkRemote(
    plan: Reconciled,
    toRemote: readonly Change[],
    remote: Remote,
    signal: AbortSignal,
  ): Promise<readonly Change[]> {
    const lost = plan.conflicts.flatMap((conflict) => {
      const { path, remote: loser, winner } = conflict;
      return winner === 'local' && isKept(loser) && !this.#o.parked.has(path, loser)
        ? [{ path, loser, conflict }]
        : [];
    });
    if (lost.length === 0) return toRemote;
    const items = lost.map(({ path }) => ({ path, entry: remote.tree.get(path) }));
    await remote.stage.stage(
      contentsToStage(items, () => false),
      remote.head,
      signal,
    );
    const unread = new Set<Path>();
    for (const { path, loser, conflict } of lost) {
      const entry = remote.tree.get(path);
      const key = entry?.type === 'file' ? (entry.contentKey ?? '') : '';
      const staged =
        loser.type === 'file' ? remote.stage.stagedFile({ ino: loser.ino, key })?.path : loser.target;
      if (staged === undefined) unread.add(path);
      else
        this.#o.parked.park({
          ...{ path, entry: loser, source: staged, revision: remote.revision, side: 'remote' },
          reason: 'changed here and in the volume: the version of this directory stays',
          versions: conflict,
        });
    }
    return toRemote.filter(({ path }) => !unread.has(path));
  }
}

/** Whether there is a content to keep. */
function isKept(entry: Entry | undefined): entry is FileEntry | SymlinkEntry {
  return entry?.type === 'file' || entry?.type === 'symlink';
}
