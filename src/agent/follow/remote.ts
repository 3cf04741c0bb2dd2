/** The volume's side: lists at a revision, follows from the next one, and moves the remote tree from one whole revision to another. */

import { blockRange } from '../../codec/block.ts';
import type { ByteString, KeyRange, Kv, StoreEvent } from '../../codec/kv.ts';
import { prefixRange } from '../../codec/bytes.ts';
import { DecodeError } from '../../codec/error.ts';
import { encodeKey } from '../../codec/key.ts';
import { RemoteView } from '../../reconcile/assemble.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import type { Owner } from '../../reconcile/owners.ts';
import { HoldTracker } from '../../reconcile/hold.ts';
import type { Trip } from '../../reconcile/safety.ts';
import { InodeIndex, mergeTouched, type DentryName, type Touched } from '../../reconcile/inode-index.ts';
import type { Abilities } from '../disk/abilities.ts';
import { AclRules } from '../volume/acl-rules.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import { DiskRoom } from '../disk/disk-room.ts';
import { isReservedTop } from '../disk/filter.ts';
import { CompactedError } from '../base/error.ts';
import { Newest, type Anchor, type Followed } from './history.ts';
import type { Layout } from '../disk/layout.ts';
import { log } from '../base/log.ts';
import type { Clock, EtcdStore, FsPort } from '../base/ports.ts';
import { ShownTree, type KnownContent, type Taken } from './shown-tree.ts';
import { untilAborted, withSignal } from '../base/signal.ts';
import { Stage, type StageResult } from './stage.ts';
import { Verifier } from './verifier.ts';
import { VolumeIdentity } from '../volume/volume-identity.ts';
import type { Volume } from '../volume/volume.ts';

/** How often a missing block is asked for again; milliseconds. */
const MISSING_RETRY_MS = 500;
const RELIST_PAUSE_MS = 1000;

export interface RemoteOptions {
  readonly store: EtcdStore;
  readonly volume: Volume;
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  readonly subdir: readonly ByteString[];
  readonly hidden: (path: Path, isDirectory: boolean) => boolean;
  readonly holdMaxMs: number;
  readonly abilities: Abilities;
  /** Something came in. */
  readonly onChange: () => void;
}

/** Follows one volume. `tree` changes only in `advance`, from one whole revision to another. */
export class Remote {
  readonly #o: RemoteOptions;
  readonly stage: Stage;
  readonly #shown: ShownTree;
  readonly #identity: VolumeIdentity;
  readonly #verifier: Verifier;
  /** Revisions of this agent's own transactions. */
  readonly #own = new Set<bigint>();
  readonly #rules: AclRules;
  #index = new InodeIndex();
  #view: RemoteView;
  #holds: HoldTracker;
  /** What was applied since the view was last refreshed. */
  #touched: Touched[] = [];
  #pendingSinceMs = 0;
  #head = 0n;
  #revision = 0n;
  #epoch = 0;
  #up = false;
  /** All was listed once. */
  #isListed = false;
  /** Something came from the store since the watch was lost, be it up again or not. */
  #isHeard = false;
  /** Ends the watch, so that all is listed again. */
  #listAgain = new AbortController();
  #restarts = 0;
  readonly #room: DiskRoom;

  constructor(options: RemoteOptions) {
    this.#o = options;
    const { fs, layout, volume, clock } = options;
    this.#room = new DiskRoom(clock);
    const index = (): InodeIndex => this.#index;
    this.#rules = new AclRules(options.store, volume);
    this.#shown = new ShownTree(options.abilities, this.#rules);
    this.#identity = new VolumeIdentity(volume.setting.uuid);
    this.#verifier = new Verifier(options.store, ({ revision }) => {
      this.#head = revision;
      this.#listAgain.abort();
    });
    this.stage = new Stage({ fs, layout, index, volume });
    this.#view = this.#newView();
    this.#holds = new HoldTracker(this.#index, (dentry) => this.#inView(dentry));
  }

  #newView(): RemoteView {
    const { subdir, hidden } = this.#o;
    return new RemoteView(this.#index, { subdir, hidden, reserved: isReservedTop });
  }

  /** The remote tree at `revision`, whole. Special files that cannot be made here are left out and are problems. */
  get tree(): ReadonlyMap<Path, AncestorEntry> {
    return this.#shown.entries;
  }
  /** Revision of `tree`; 0n before the first listing. */
  get revision(): bigint {
    return this.#revision;
  }
  /** Newest revision taken in; the index stands there. */
  get head(): bigint {
    return this.#head;
  }
  /** Another number after the store went back to an older revision. */
  get epoch(): number {
    return this.#epoch;
  }
  get index(): InodeIndex {
    return this.#index;
  }
  /** Inode of the view's root; `undefined` while the subdirectory does not exist. */
  get root(): bigint | undefined {
    return this.#view.root;
  }
  /** Owner of the view's root; root's while there is none. */
  get rootOwner(): Owner {
    const attr = this.root === undefined ? undefined : this.#index.get(this.root)?.attr?.value;
    return attr === undefined || attr instanceof DecodeError ? { uid: 0, gid: 0 } : attr;
  }
  /** The paths at which an inode is shown. */
  pathsOf(ino: bigint): Path[] {
    return this.#view.pathsOf(ino);
  }
  /** Whether the watch stands. */
  get isUp(): boolean {
    return this.#up;
  }
  /** Why the volume is not the one we opened any more; the published tree stays. */
  get gone(): string | undefined {
    return this.#identity.gone;
  }
  /** UUID of the volume that is in its place. */
  get replacedBy(): string | undefined {
    return this.#identity.replacedBy;
  }
  get restarts(): number {
    return this.#restarts;
  }
  get problems(): ReadonlyMap<Path, string> {
    return this.#shown.problems;
  }
  /** Why what the volume has cannot be brought here now; `undefined` when it can. */
  get lack(): string | undefined {
    return this.#room.problem;
  }
  /** Whether something waits to be shown. */
  get pending(): boolean {
    return this.#touched.length > 0;
  }

  /**
   * Starts from the tree that an earlier run served, and the history that it followed: no content of it is fetched again, what left the volume meanwhile is
   * seen to be gone, and what broke meanwhile stays as it was.
   */
  remember(tree: ReadonlyMap<Path, AncestorEntry>, followed: Followed): void {
    this.#verifier.remember(followed);
    for (const [path, entry] of tree) {
      // A path that left the view is removed on neither side.
      if (!this.#o.hidden(path, entry.type === 'directory')) this.#shown.remember(path, entry);
    }
  }

  /** This agent's own transaction: whole by construction, with contents it knows. */
  noteOwn(revision: bigint, contents: ReadonlyMap<bigint, KnownContent>): void {
    this.#own.add(revision);
    this.#shown.noteOwn(contents);
  }

  /** Lists the volume at one revision. Throws what the store throws. */
  async list(signal?: AbortSignal): Promise<void> {
    const { store, volume } = this.#o;
    const index = new InodeIndex();
    const strip = volume.prefix.length;
    let setting: Kv | undefined;
    const load = (kv: Kv, range: number): void => {
      if (range === 0) {
        index.load({ ...kv, key: kv.key.slice(strip) });
        newest.note(kv);
      } else setting = kv;
    };
    const newest = new Newest();
    const ranges = [this.#metaRange(), this.#settingRange()];
    const revision = await store.snapshot(ranges, load, withSignal(signal));
    this.#identity.note(setting?.value);
    if (this.gone !== undefined) return;
    this.#isListed = true;
    this.#verifier.listed(newest, revision, this.#head);
    this.#index = index;
    this.#view = this.#newView();
    this.#holds = new HoldTracker(index, (dentry) => this.#inView(dentry));
    this.#view.refresh();
    for (const entry of this.#view.entries.values())
      if (entry.type === 'file') this.#holds.noteListed(entry.ino);
    // The store was put back to an older state: its revisions say nothing about what we did before.
    if (revision < this.#head) this.#epoch += 1;
    this.#head = revision;
    this.#touched = [];
    for (const paths of [this.#view.entries, this.tree, this.problems]) this.#touchedAgain(paths.keys());
    this.#pendingSinceMs = this.#o.clock.monotonicMs();
    log('info', 'listed', { revision, entries: this.#view.entries.size });
  }

  /** The newest key that was taken in. */
  get anchor(): Anchor | undefined {
    return this.#verifier.anchor;
  }

  /** Counts up each time the store may have become another one: what it said before is of no use then. */
  get doubts(): number {
    return this.#verifier.demands;
  }

  /** Asked later: whether nothing has made the store doubtful since this call. */
  sameStore(): () => boolean {
    const { doubts } = this;
    return () => this.doubts === doubts;
  }

  /** Whether the store is known to be the one that was followed: not while nothing is heard of it. */
  get isVerified(): boolean {
    return this.#verifier.isDone;
  }

  /**
   * Whether the store has the history that was followed: asked once after each start, listing and reconnect. Returns what
   * trips; while it does, nothing that came meanwhile counts. Throws what the store throws.
   */
  async verify(signal?: AbortSignal): Promise<Trip | undefined> {
    return this.#verifier.verify(this.#isHeard, signal);
  }

  /** Follows for ever; lists again when the store has compacted what was missed. Ends by rejecting. */
  async follow(signal: AbortSignal): Promise<never> {
    const { store, volume, clock } = this.#o;
    const setting = volume.prefix + encodeKey({ kind: 'setting' });
    const { besideMetadata } = volume.data;
    const ranges = [
      this.#metaRange(),
      { start: setting, end: `${setting}\0` },
      ...(besideMetadata ? [blockRange(volume.setting.name)] : []),
    ];
    const ended = new AbortController();
    // Blocks of another etcd have revisions of their own, which say nothing about those of the metadata.
    const blocks = besideMetadata
      ? undefined
      : volume.data.follow(
          (key, stored) => this.#onBlock(key, stored),
          AbortSignal.any([signal, ended.signal]),
        );
    try {
      for (;;) {
        this.#listAgain = new AbortController();
        this.#noteSilence();
        try {
          return await store.watch(
            ranges,
            this.#head + 1n,
            {
              onRevision: (range, revision, events) => this.#onRevision(range, revision, events),
              onProgress: (range, revision) => {
                this.#isHeard = true;
                // Of a store that is not known to be the same a revision says nothing: what follows it elsewhere is not missed.
                if (range === 0 && revision > this.#head && this.isVerified) this.#head = revision;
              },
              onState: (up, reason) => this.#onState(up, reason),
            },
            AbortSignal.any([signal, this.#listAgain.signal]),
          );
        } catch (error) {
          const isWanted = this.#listAgain.signal.aborted && !signal.aborted;
          if (!(error instanceof CompactedError) && !isWanted) throw error;
          log('info', 'list again', { reason: isWanted ? 'history' : 'compacted' });
          await this.#relist(signal, clock);
        }
      }
    } finally {
      ended.abort();
      await blocks;
    }
  }

  /** Without a watch: lists again whenever what was listed turns out to be another store's. Ends by rejecting. */
  async listWhenTainted(signal: AbortSignal): Promise<never> {
    for (;;) {
      await untilAborted(AbortSignal.any([signal, this.#listAgain.signal]));
      signal.throwIfAborted();
      this.#listAgain = new AbortController();
      await this.#relist(signal, this.#o.clock);
    }
  }

  async #relist(signal: AbortSignal, clock: Clock): Promise<void> {
    for (;;) {
      try {
        await this.list(signal);
        this.#o.onChange();
        if (this.gone === undefined) return;
      } catch (error) {
        if (signal.aborted) throw error;
        log('warn', 'listing failed', { reason: error instanceof Error ? error.message : String(error) });
      }
      await clock.sleep(RELIST_PAUSE_MS * (0.5 + clock.random()), signal);
    }
  }

  #settingRange(): KeyRange {
    const start = this.#o.volume.prefix + encodeKey({ kind: 'setting' });
    return { start, end: `${start}\0` };
  }

  #metaRange(): KeyRange {
    return prefixRange(`${this.#o.volume.prefix}A`);
  }

  #onState(up: boolean, reason?: string): void {
    if (up) this.#isHeard = true;
    else {
      // The next store may go on from a revision of that listing, and mean another one by it.
      if (this.#verifier.isListingUnproven) this.#listAgain.abort();
      this.#noteSilence();
    }
    if (up === this.#up) return;
    this.#up = up;
    if (up) {
      log('info', 'watching', { revision: this.#head });
      this.#verifier.heardAgain();
    } else {
      this.#restarts += 1;
      log('warn', 'watch lost', { reason: reason ?? 'unknown' });
    }
    this.#o.onChange();
  }

  /** Whatever is heard next may come from another store, and before the watch is said to be up. */
  #noteSilence(): void {
    this.#isHeard = false;
    this.#verifier.demand(this.#head, false);
  }

  #onRevision(range: number, revision: bigint, events: readonly StoreEvent[]): void {
    this.#isHeard = true;
    if (range === 0) this.#onMetadata(revision, events);
    else if (range === 1) this.#onSetting(events);
    else for (const event of events) if (event.type === 'put') this.#onBlock(event.kv.key, event.kv.value);
  }

  #onBlock(key: ByteString, stored: Uint8Array): void {
    this.stage.offer(key, stored);
    // Somebody may have waited for it: with --writeback blocks come after the metadata.
    if (this.#shown.isUnfinished || this.#retry.size > 0) this.#o.onChange();
  }

  #onMetadata(revision: bigint, prefixed: readonly StoreEvent[]): void {
    const strip = this.#o.volume.prefix.length;
    const events = prefixed.map((event): StoreEvent =>
      event.type === 'put'
        ? { type: 'put', kv: { ...event.kv, key: event.kv.key.slice(strip) } }
        : { ...event, key: event.key.slice(strip) },
    );
    const nowMs = this.#o.clock.monotonicMs();
    if (!this.pending) this.#pendingSinceMs = nowMs;
    this.#holds.note(events, this.#own.delete(revision), nowMs);
    const touched = this.#index.apply(events);
    for (const event of prefixed) if (event.type === 'put') this.#verifier.note(event.kv);
    this.#touched.push(touched);
    this.#head = revision;
    this.#o.onChange();
  }

  #onSetting(events: readonly StoreEvent[]): void {
    const last = events.at(-1);
    if (last !== undefined) this.#identity.note(last.type === 'put' ? last.kv.value : undefined);
    // The volume was gone when it was to be listed.
    if (!this.#isListed && this.gone === undefined) this.#listAgain.abort();
    this.#o.onChange();
  }

  /** Whether a dentry is shown: some directory of the view leads to it and no part of its path is hidden. */
  #inView({ parent, name }: DentryName): boolean {
    const dir = this.#pathOf(parent, 0);
    return dir !== undefined && !this.#o.hidden(join(dir, name), false);
  }

  #pathOf(ino: bigint, depth: number): Path | undefined {
    if (ino === this.#view.root) return '';
    const [dentry] = this.#index.namesOf(ino);
    if (dentry === undefined || depth > 256) return undefined;
    const above = this.#pathOf(dentry.parent, depth + 1);
    if (above === undefined) return undefined;
    const path = join(above, dentry.name);
    return this.#o.hidden(path, true) ? undefined : path;
  }

  /**
   * Moves `tree` to the newest whole revision and returns the paths that changed, or how long to wait (milliseconds)
   * while something is held. Contents nobody has read yet are staged on the way.
   */
  async advance(
    signal?: AbortSignal,
  ): Promise<{ readonly changed: ReadonlySet<Path> } | { readonly waitMs: number }> {
    if (!this.#isListed || this.#verifier.isDoubtful) return { waitMs: Infinity };
    const nowMs = this.#o.clock.monotonicMs();
    const revived = this.#shown.revive(this.#taken, nowMs);
    if (revived.length > 0) this.#touchedAgain(revived);
    if (this.#touched.length === 0) {
      if (this.#shown.isUnfinished) return { waitMs: MISSING_RETRY_MS };
      this.#revision = this.#head;
      return { changed: new Set() };
    }
    if (this.#room.waitMs > 0) return { waitMs: this.#room.waitMs };
    const heldMs = this.#holds.remainingMs(nowMs, this.#shown.givenUp);
    const leftMs = this.#pendingSinceMs + this.#o.holdMaxMs - nowMs;
    if (heldMs > 0 && leftMs > 0) return { waitMs: Math.min(heldMs, leftMs) };
    const head = this.#head;
    const paths = this.#changedPaths();
    let results: ReadonlyMap<string, StageResult>;
    try {
      results = await this.stage.stage(this.#shown.unread(this.#taken, paths), head, signal);
      await this.#rules.learn(this.#aclIds(paths), head, signal);
    } catch (error) {
      // The data may be away while the metadata are not, or all of the store: nothing of what changed is forgotten.
      this.#touchedAgain(paths);
      if (!this.#room.isLacking(error)) throw error;
      // The tree stays as it is, and what was staged gives its place to what is pushed meanwhile.
      this.stage.clear();
      return { waitMs: this.#room.waitMs };
    }
    this.#room.isThere();
    if (leftMs > 0 && this.#shown.awaitsBlocks(this.#taken, paths, results)) {
      this.#touchedAgain(paths);
      return { waitMs: Math.min(MISSING_RETRY_MS, leftMs) };
    }
    const changed = new Set<Path>();
    for (const path of paths) if (this.#shown.take(this.#taken, path, results, nowMs)) changed.add(path);
    this.#revision = head;
    return { changed };
  }

  get #taken(): Taken {
    return { index: this.#index, view: this.#view, holds: this.#holds };
  }

  /** Paths to look at again although the index did not change. */
  #retry = new Set<Path>();

  #touchedAgain(paths: Iterable<Path>): void {
    for (const path of paths) this.#retry.add(path);
    if (this.#touched.length === 0) {
      this.#touched.push({ inodes: new Set(), dentries: [], relinked: new Set() });
    }
  }

  #changedPaths(): Set<Path> {
    const touched = this.#touched;
    this.#touched = [];
    const paths = new Set(this.#retry);
    this.#retry.clear();
    for (const path of this.#view.refresh(mergeTouched(touched))) paths.add(path);
    for (const path of this.#shown.unsettledPaths(this.#view)) paths.add(path);
    return paths;
  }

  *#aclIds(paths: Iterable<Path>): Iterable<string> {
    for (const path of paths) {
      const ids = this.#view.entries.get(path)?.aclIds;
      if (ids !== undefined) yield ids;
    }
  }
}
