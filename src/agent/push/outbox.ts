/** The way into the volume: which local changes are pushed now, which wait, and what came of those that were sent. */

import createDebug from 'debug';

import { escapeBytes } from '../../codec/bytes.ts';
import type { Held } from '../../reconcile/attributes.ts';
import type { FileEntry, Path } from '../../reconcile/entry.ts';
import type { Change } from '../../reconcile/change.ts';
import type { Move } from '../../reconcile/cross-moves.ts';
import { findLinks } from '../../reconcile/links.ts';
import { findMoves } from '../../reconcile/moves.ts';
import { inheritOwners } from '../../reconcile/owners.ts';
import { ancestorsOf, isAtOrBelow, needsContent, type PushChange } from '../../reconcile/push-change.ts';
import { Agreement } from './agreement.ts';
import { DecodeError } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import { inodePairs } from '../state/replaced-inodes.ts';
import type { Local } from '../look/local.ts';
import { log } from '../base/log.ts';
import type { Parked } from '../state/parked.ts';
import type { Clock, EtcdStore, FsPort } from '../base/ports.ts';
import { Pusher, type ChangeOutcome, type Claim } from './push.ts';
import { pushCopies, readPart } from './push-copies.ts';
import { removeDebris } from './push-debris.ts';
import { PushPace } from './push-pace.ts';
import { Refusals } from './refusals.ts';
import type { IsSameStore } from '../base/same-store.ts';
import { Unanswered } from './unanswered.ts';
import type { Remote } from '../follow/remote.ts';
import type { Volume } from '../volume/volume.ts';

const debug = createDebug('etcd-etc-agent:outbox');

/** The volume's side, once it could be opened. */
export interface Connection {
  readonly store: EtcdStore;
  readonly volume: Volume;
  readonly remote: Remote;
}

/** What one push works with, from its beginning to its end. */
interface Push extends Connection {
  readonly pusher: Pusher;
  /** Whether the store is still known to be the one that the push began with. */
  readonly isSameStore: IsSameStore;
  readonly signal: AbortSignal;
}

interface OutboxOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly local: Local;
  readonly parked: Parked;
  readonly held: Held;
  /** The volume's entry at a path is not what a change was made for: it is to be looked at again. */
  readonly onStale: (path: Path) => void;
  /** Something has changed here that no look has seen yet. */
  readonly onMissed: () => void;
  /** A push has ended. */
  readonly onEnd: () => void;
  /** A transaction of ours has taken a file of the volume from a path. */
  readonly onDisplaced: (path: Path, file: FileEntry, revision: bigint) => void;
}

/**
 * Where one file changes while it is read for a push, the others of that push wait for the next look as well: they may have been
 * saved together. A file that changes all the time holds them up no longer than this many pushes.
 */
const TOGETHER_TRIES = 3;

/** A push that did not fit into one transaction. */
export interface CutPush {
  /** Of its last step. */
  readonly revision: bigint;
  readonly steps: number;
}

/** One push at a time. The paths that it is about are left alone until it ends. */
export class Outbox {
  readonly #o: OutboxOptions;
  readonly #agreement: Agreement;
  readonly #unanswered: Unanswered;
  readonly #refused: Refusals;
  readonly #pace: PushPace;
  readonly #refusedMoves = new Set<string>();
  readonly #pushing = new Set<Path>();
  /** How often the store may have become another one, when something was pushed last. */
  #doubts = 0;
  /** Pushes since one got in that met a file which had changed. */
  #changedInARow = 0;
  #pusher: Pusher | undefined;
  #push: Promise<void> | undefined;
  #ownRevision = 0n;
  /** What an earlier run claimed may still be there. */
  #hasDebris: boolean;
  #lastCut: CutPush | undefined;

  constructor(options: OutboxOptions) {
    this.#o = options;
    this.#agreement = new Agreement(options.ledger, options.local);
    this.#unanswered = new Unanswered(options.clock, options.ledger, this.#agreement);
    this.#refused = new Refusals(options.clock);
    this.#pace = new PushPace(options.clock);
    const { slices, holds } = options.ledger.state.claimed;
    this.#hasDebris = slices.size + holds.size > 0;
  }

  /** The last push that others saw happen in several steps. */
  get lastCut(): CutPush | undefined {
    return this.#lastCut;
  }

  /** Revision of our own last transaction; 0n after `forgetRevision`. */
  get ownRevision(): bigint {
    return this.#ownRevision;
  }

  /** The store went back to an older state. */
  forgetRevision(): void {
    this.#ownRevision = 0n;
  }

  /** Paths that the volume refused, and why. */
  refusals(): Iterable<readonly [Path, string]> {
    return this.#refused.reasons();
  }

  /** Whether the volume has refused a move, so that it is a removal and an addition. */
  isMoveRefused({ from, to }: Move): boolean {
    return this.#refusedMoves.has(`${from} -> ${to}`);
  }

  /** Whether a path is on its way now. */
  isPushing(path: Path): boolean {
    return this.#pushing.has(path);
  }

  /** All that is on its way now. */
  get pushing(): ReadonlySet<Path> {
    return this.#pushing;
  }

  /** Takes for this side's own what the volume shows of pushes without a known outcome. */
  agreeOnUnanswered(remote: Remote): void {
    this.#unanswered.judge(remote, this.#push === undefined ? undefined : this.#pushing);
  }

  /** Whether the local change of a path was refused and nothing has changed since; `isNew`: the volume has news there. */
  isRefused(path: Path, isNew: boolean): boolean {
    return this.#refused.stands(path, this.#o.local.entryAt(path), isNew);
  }

  /** Starts a push when something is due; returns when to try again otherwise (milliseconds). */
  start(changes: readonly Change[], connection: Connection, signal: AbortSignal): number {
    // What answers while the watch is down may be a backup, in which a push would be lost: news of the store wakes the loop.
    if (this.#push !== undefined || !connection.remote.isVerified) return Infinity;
    const { leftMs } = this.#pace;
    const due = this.#withOwners(this.#withoutHalfWritten(this.#withKept(changes)), connection.remote);
    const tidies = this.#hasDebris && connection.volume.writeRefusal === undefined;
    if (due.length === 0 && !this.#o.parked.isDue && !tidies) return Infinity;
    if (leftMs > 0) return leftMs;
    this.#run(this.#runPush(due, this.#begin(connection, signal)));
    return Infinity;
  }

  /**
   * Numbers that were claimed before the watch was lost may be another store's, and so may those that are claimed from now on
   * once it is lost again: that is asked for all of a push, from here on.
   */
  #begin({ store, volume, remote }: Connection, signal: AbortSignal): Push {
    const { doubts } = remote;
    this.#pusher ??= new Pusher(store, volume, this.#o.clock);
    if (doubts !== this.#doubts) this.#pusher.forgetIds();
    this.#doubts = doubts;
    const isSameStore = remote.sameStore();
    return { store, volume, remote, pusher: this.#pusher, isSameStore, signal };
  }

  /**
   * Makes moves of this side in the volume, whatever that has at the paths now: nothing else of them is pushed. Returns when
   * to try again if it is too early (milliseconds).
   */
  startMoves(moves: readonly Move[], connection: Connection, signal: AbortSignal): number {
    if (this.#push !== undefined || !connection.remote.isVerified) return Infinity;
    const { leftMs } = this.#pace;
    if (leftMs > 0) return leftMs;
    this.#run(this.#pushMoves(moves, this.#begin(connection, signal)));
    return Infinity;
  }

  #run(push: Promise<void>): void {
    this.#push = push
      .then(
        () => this.#pace.onEnded(),
        (error: unknown) => this.#pace.onFailed(error),
      )
      .finally(() => {
        this.#pushing.clear();
        this.#push = undefined;
        this.#o.onEnd();
      });
  }

  /** A crash in between is no harm: then both sides have made the same move. */
  async #pushMoves(moves: readonly Move[], { remote, pusher, isSameStore, signal }: Push): Promise<void> {
    const { ancestor } = this.#o.ledger.state;
    const places = moves.flatMap(({ from, to }) => [from, to]);
    for (const path of [...ancestor.keys(), ...remote.tree.keys(), ...places])
      if (places.some((place) => isAtOrBelow(path, place))) this.#pushing.add(path);
    const changes = moves.flatMap(({ from, to }): PushChange[] => {
      const entry = remote.tree.get(from);
      return entry === undefined ? [] : [{ path: to, old: entry, new: entry, movedFrom: from }];
    });
    const { changes: outcomes, revisions } = await pusher.push(changes, {
      ...(remote.root === undefined ? {} : { root: remote.root }),
      live: { index: remote.index, revision: () => remote.head },
      read: () => Promise.resolve(new Uint8Array(0)),
      isSameStore,
      ...this.#o.held,
      signal,
      onClaim: (claim) => this.#claim(claim),
    });
    for (const path of this.#agreement.onMoves(outcomes)) this.#o.onStale(path);
    for (const outcome of outcomes) {
      const { path, movedFrom: from = '' } = outcome.change;
      if (outcome.outcome === 'committed') {
        remote.noteOwn(outcome.revision, new Map());
        log('info', 'moved', { path, from });
      } else if (outcome.outcome === 'refused') {
        log('warn', 'not moved', { path, from, reason: outcome.reason });
        this.#refusedMoves.add(`${from} -> ${path}`);
      } else {
        debug('move set aside: %s: %s', escapeBytes(path), outcome.outcome);
        this.#pace.onMoveLost();
      }
    }
    this.#ownRevision = revisions.at(-1) ?? this.#ownRevision;
  }

  /** The changes without those that replace what is to be kept in the volume first, and is refused there. */
  #withKept(changes: readonly Change[]): readonly Change[] {
    const { parked } = this.#o;
    const withheld = parked.isDue ? new Set<Path>() : parked.withheld;
    return withheld.size === 0 ? changes : changes.filter(({ path }) => !withheld.has(path));
  }

  /** Resolves when no push is under way. */
  async idle(): Promise<void> {
    await this.#push;
  }

  /**
   * A new directory waits for what is still being written below it, and with it all that belongs there: it reaches others
   * in one step. What never settles counts as it is after a while, so this ends.
   */
  #withoutHalfWritten(changes: readonly Change[]): readonly Change[] {
    const { local } = this.#o;
    const unsettled = new Set([...local.busy].flatMap((path) => [...ancestorsOf(path)]));
    if (unsettled.size === 0) return changes;
    const waiting = new Set<Path>();
    for (const { path, old, new: entry } of changes) {
      const isNew = old === undefined && entry?.type === 'directory' && local.cameFrom(path) === undefined;
      if (isNew && unsettled.has(path)) waiting.add(path);
    }
    const isIn = (directories: ReadonlySet<Path>, path: Path): boolean =>
      directories.has(path) || [...ancestorsOf(path)].some((above) => directories.has(above));
    // What moves there stays where it was until then.
    const sources = new Set(
      changes.flatMap(({ path }) => (isIn(waiting, path) ? (local.cameFrom(path) ?? []) : [])),
    );
    return changes.filter(({ path }) => !isIn(waiting, path) && !isIn(sources, path));
  }

  #withOwners(changes: readonly Change[], remote: Remote): readonly Change[] {
    return this.#o.held.owners
      ? changes
      : inheritOwners(changes, (path) => remote.tree.get(path), remote.rootOwner);
  }

  /** A path and the other names of its file: they show in the volume what the push does before it has its answer. */
  #names(path: Path): Iterable<Path> {
    const { ledger, local } = this.#o;
    const disk = local.diskInode(path);
    return disk === undefined ? [path] : new Set([path, ...ledger.state.pathsAgreedOn(disk)]);
  }

  #withInode(change: Change): Change {
    const { path, new: entry } = change;
    return entry?.type === 'file' ? { ...change, new: { ...entry, ...this.#o.local.inodeAt(path) } } : change;
  }

  async #runPush(changes: readonly Change[], push: Push): Promise<void> {
    await this.#removeDebris(push);
    try {
      await this.#pushCopies(push);
      const { withheld } = this.#o.parked;
      const due = changes.filter(({ path }) => !withheld.has(path));
      if (due.length > 0) await this.#pushChanges(due, push);
    } finally {
      const { slices, holds } = this.#o.ledger.state.claimed;
      if (slices.size + holds.size > 0 && push.pusher.isClean)
        this.#o.ledger.write([{ t: 'unclaimed' }], false);
    }
  }

  /** Before anything else is claimed: what an earlier run left. */
  async #removeDebris({ store, volume, isSameStore, signal }: Push): Promise<void> {
    if (!this.#hasDebris || volume.writeRefusal !== undefined) return;
    const { ledger, clock } = this.#o;
    const { slices, holds } = ledger.state.claimed;
    try {
      await removeDebris({ store, volume, clock }, ledger.state.claimed, {
        isSameStore,
        signal,
      });
      log('info', 'cleaned up', { directories: holds.size, slices: slices.size });
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      log('warn', 'not cleaned up', { reason: error.message });
    }
    ledger.write([{ t: 'unclaimed' }], false);
    this.#hasDebris = false;
  }

  #claim(claim: Claim): void {
    const { ledger } = this.#o;
    switch (claim.kind) {
      case 'slices':
        ledger.write([{ t: 'claimed', slices: claim.ids }], false);
        return;
      case 'hold':
        ledger.write([{ t: 'claimed', hold: claim.ino }], false);
        return;
      case 'relied':
        ledger.write([{ t: 'claimed', relied: claim }], false);
        return;
    }
  }

  async #pushChanges(
    changes: readonly Change[],
    { remote, pusher, isSameStore, signal }: Push,
  ): Promise<void> {
    const { ledger } = this.#o;
    const { ancestor } = ledger.state;
    const moves = findMoves({
      // What was found beside the trees has been brought into them since: only now it shows which names share an inode.
      changes: changes.map((change) => this.#withInode(change)),
      cameFrom: (path) => this.#o.local.cameFrom(path),
      paths: () => ancestor.keys(),
    });
    const linked = findLinks({
      changes: moves,
      diskInode: (path) => this.#o.local.diskInode(path),
      agreedFile: (path) => this.#o.local.agreedFile(path),
      volumeFile: (ino) => volumeFile(remote, ino),
    });
    for (const { path } of changes) for (const name of this.#names(path)) this.#pushing.add(name);
    const intents = changes.map(({ path, new: entry }) => [path, entry ?? null] as const);
    const inodes = inodePairs(
      changes.flatMap(({ path, new: entry }) => {
        const inode = entry?.type === 'file' ? ledger.state.inodeSeen(path) : undefined;
        return inode === undefined ? [] : [[path, inode] as const];
      }),
    );
    ledger.write([{ t: 'pushing', entries: intents, ...inodes }], false);
    const { changes: outcomes, revisions } = await this.#unanswered.attend((onUnanswered) =>
      pusher.push(linked.map(expectUntouched), {
        ...(remote.root === undefined ? {} : { root: remote.root }),
        live: { index: remote.index, revision: () => remote.head },
        read: (change, offset, length) => Promise.resolve(this.#read(change.path, offset, length)),
        ...this.#o.held,
        isTogether: this.#changedInARow < TOGETHER_TRIES,
        isSameStore,
        signal,
        onClaim: (claim) => this.#claim(claim),
        onUnanswered,
      }),
    );
    for (const path of this.#agreement.onMoves(outcomes)) this.#o.onStale(path);
    for (const outcome of outcomes) this.#outcome(outcome, changes, remote);
    if (outcomes.some(({ outcome }) => outcome === 'changed')) {
      this.#changedInARow += 1;
      this.#pace.onLost();
      this.#o.onMissed();
    }
    ledger.write([{ t: 'pushed' }], false);
    const last = revisions.at(-1);
    if (last === undefined) return;
    this.#changedInARow = 0;
    this.#ownRevision = last;
    if (revisions.length > 1) {
      this.#lastCut = { revision: last, steps: revisions.length };
      log('warn', 'push cut', {
        steps: revisions.length,
        reason: 'it is more than one transaction can name',
      });
    }
    log('info', 'pushed', {
      revision: last,
      changes: outcomes.filter(({ outcome }) => outcome === 'committed').length,
    });
  }

  async #pushCopies({ remote, pusher, isSameStore, signal }: Push): Promise<void> {
    const { fs, layout, parked, held } = this.#o;
    const isDone = await pushCopies(pusher, {
      fs,
      layout,
      parked,
      remote,
      isSameStore,
      owner: held.owners ? undefined : remote.rootOwner,
      signal,
      onClaim: (claim) => this.#claim(claim),
    });
    if (!isDone) this.#pace.onCopiesLeft();
  }

  #read(path: Path, offset: bigint, length: number): Uint8Array {
    const { fs, layout, ledger, local } = this.#o;
    const source = local.adoptions.get(path)?.source;
    return readPart(fs, source ?? layout.inTree(ledger.state.active ?? 'a', path), offset, length);
  }

  #outcome(outcome: ChangeOutcome, changes: readonly Change[], remote: Remote): void {
    const { path, new: pushed, movedFrom } = outcome.change;
    if (outcome.outcome === 'refused') {
      const affected = movedFrom === undefined ? [path] : [path, movedFrom];
      for (const one of affected)
        this.#refused.add(one, changes.find((change) => change.path === one)?.new, outcome.reason);
      return;
    }
    if (outcome.outcome !== 'committed') {
      debug('push set aside: %s: %s', escapeBytes(path), outcome.outcome);
      if (outcome.outcome === 'changed') return;
      this.#pace.onLost();
      this.#o.onStale(path);
      return;
    }
    this.#pace.onCommitted();
    this.#agreement.onCommitted(outcome);
    const { revision, writtenAt, entry } = outcome;
    const { old, over } = outcome.change;
    const displaced = movedFrom === undefined ? old : over;
    if (displaced?.type === 'file' && displaced.ino !== entry?.ino)
      this.#o.onDisplaced(path, displaced, revision);
    const isRead = entry?.type === 'file' && pushed?.type === 'file' && needsContent(outcome.change);
    remote.noteOwn(
      revision,
      new Map(isRead ? [[entry.ino, { digest: pushed.digest, size: pushed.size, writtenAt }]] : []),
    );
  }
}

/** A file of the volume as the view shows it. */
function volumeFile(remote: Remote, ino: bigint): FileEntry | undefined {
  for (const path of remote.pathsOf(ino)) {
    const entry = remote.tree.get(path);
    if (entry?.type === 'file' && entry.ino === ino) return entry;
  }
  return undefined;
}

/** What was judged is what a program read some time ago: what a mount wrote into the file since then counts. */
function expectUntouched(change: PushChange): PushChange {
  return { ...change, expect: { ...change.expect, isUntouched: true } };
}
