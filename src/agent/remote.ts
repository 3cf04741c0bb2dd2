/** The volume's side: lists at a revision, follows from the next one, and moves the remote tree from one whole revision to another. */

import { blockRange } from '../codec/block.ts';
import type { ByteString, KeyRange, Kv, StoreEvent } from '../codec/kv.ts';
import { prefixRange } from '../codec/bytes.ts';
import { DecodeError } from '../codec/error.ts';
import { encodeKey } from '../codec/key.ts';
import { decodeSetting } from '../codec/setting.ts';
import { RemoteView, type RemoteEntry, type RemoteFile } from '../reconcile/assemble.ts';
import { join, parentOf, type Path } from '../reconcile/entry.ts';
import type { Owner } from '../reconcile/owners.ts';
import { HoldTracker } from '../reconcile/hold.ts';
import type { Trip } from '../reconcile/safety.ts';
import { InodeIndex, mergeTouched, type DentryName, type Touched } from '../reconcile/inode-index.ts';
import type { Abilities } from './abilities.ts';
import { AclRules } from './acl-rules.ts';
import { DiskRoom } from './disk-room.ts';
import { isReservedTop } from './filter.ts';
import { Stage, type StageResult, type WantedContent } from './stage.ts';
import { digestOf } from './digest.ts';
import { CompactedError } from './error.ts';
import { checkHistory, Newest, type Anchor, type Followed } from './history.ts';
import type { Layout } from './layout.ts';
import { sameFields, type AncestorEntry } from './ancestor-entry.ts';
import { log } from './log.ts';
import type { Clock, EtcdStore, FsPort } from './ports.ts';
import type { Volume } from './volume.ts';
import { withSignal } from './signal.ts';

/** A file that stays unfinished this long after it was shown so is taken as it is; milliseconds (design 4.1.5). */
const UNFINISHED_MS = 10_000;
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

/** An inode whose content the agent wrote itself: its digest needs no reading. */
export interface KnownContent {
  readonly digest: string;
  readonly size: bigint;
}

interface Unfinished {
  readonly dueMs: number;
  readonly ino: bigint;
  readonly missing: boolean;
}

/** Follows one volume. `tree` changes only in `advance`, from one whole revision to another. */
export class Remote {
  readonly #o: RemoteOptions;
  readonly stage: Stage;
  readonly #tree = new Map<Path, AncestorEntry>();
  readonly #problems = new Map<Path, string>();
  readonly #digests = new Map<string, string>();
  /** By inode; each is what the inode had at the revision of our own transaction, and says nothing of a later one. */
  readonly #known = new Map<bigint, KnownContent & { readonly revision: bigint }>();
  readonly #own = new Set<bigint>();
  readonly #rules: AclRules;
  readonly #unfinished = new Map<Path, Unfinished>();
  /** Paths that show what was there before, because the volume's entry or a directory above it is broken. */
  readonly #lastGood = new Set<Path>();
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
  #gone: string | undefined;
  #replacedBy: string | undefined;
  #newest = new Newest();
  /** What the store must still have before anything of it counts. */
  #unverified: (Followed & { readonly isListed: boolean }) | undefined;
  /** How often there was something to verify. */
  #verifications = 0;
  #trip: Trip | undefined;
  /** What was taken in while it tripped may be of another history. */
  #isSuspect = false;
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
    return this.#tree;
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
    return this.#gone;
  }
  /** UUID of the volume that is in its place. */
  get replacedBy(): string | undefined {
    return this.#replacedBy;
  }
  get restarts(): number {
    return this.#restarts;
  }
  get problems(): ReadonlyMap<Path, string> {
    return this.#problems;
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
    this.#unverified = { ...followed, isListed: true };
    for (const [path, entry] of tree) {
      // A path that left the view is removed on neither side.
      if (this.#o.hidden(path, entry.type === 'directory')) continue;
      this.#tree.set(path, entry);
      if (entry.type === 'file' && entry.contentKey !== undefined)
        this.#digests.set(entry.contentKey, entry.digest);
    }
  }

  /** This agent's own transaction: whole by construction, with contents it knows. */
  noteOwn(revision: bigint, contents: ReadonlyMap<bigint, KnownContent>): void {
    this.#own.add(revision);
    for (const [ino, content] of contents) this.#known.set(ino, { ...content, revision });
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
    this.#noteSetting(setting?.value);
    if (this.#gone !== undefined) return;
    if (this.#head > 0n) this.#mustVerify(true);
    this.#trip = undefined;
    this.#index = index;
    this.#newest = newest;
    this.#view = this.#newView();
    this.#holds = new HoldTracker(index, (dentry) => this.#inView(dentry));
    this.#view.refresh();
    for (const entry of this.#view.entries.values())
      if (entry.type === 'file') this.#holds.noteListed(entry.ino);
    // The store was put back to an older state: its revisions say nothing about what we did before.
    if (revision < this.#head) this.#epoch += 1;
    this.#head = revision;
    this.#touched = [];
    for (const paths of [this.#view.entries, this.#tree, this.#problems]) this.#touchedAgain(paths.keys());
    this.#pendingSinceMs = this.#o.clock.monotonicMs();
    log('info', 'listed', { revision, entries: this.#view.entries.size });
  }

  /** The newest key that was taken in. */
  get anchor(): Anchor | undefined {
    return this.#newest.anchor;
  }

  /** What was followed so far must be found again before anything that the store says counts. */
  #mustVerify(isListed: boolean): void {
    this.#verifications += 1;
    const { anchor, revision } = this.#unverified ?? { anchor: this.#newest.anchor, revision: this.#head };
    this.#unverified = { anchor, revision, isListed };
  }

  /**
   * Whether the store has the history that was followed: asked once after each start, listing and reconnect. Returns what
   * trips; while it does, nothing that came meanwhile counts. Throws what the store throws.
   */
  async verify(signal?: AbortSignal): Promise<Trip | undefined> {
    // While nothing is heard of the store nothing of it can count, and what is local goes on.
    if (!this.#up && this.#unverified?.isListed === false) return this.#trip;
    while (this.#unverified !== undefined && this.#trip === undefined) {
      const followed = this.#unverified;
      const number = this.#verifications;
      const verdict = await checkHistory(this.#o.store, followed, signal);
      // Another connection since then: who answered is not known.
      if (number !== this.#verifications) continue;
      if (typeof verdict !== 'string') {
        this.#trip = verdict;
        this.#isSuspect = true;
        break;
      }
      this.#unverified = undefined;
      this.#relistAfter(verdict, followed);
    }
    return this.#trip;
  }

  /** What a watch brought of a history that was another one, or cannot be told from this one, is compared as a whole. */
  #relistAfter(
    verdict: 'same' | 'compacted',
    { anchor, revision, isListed }: Followed & { isListed: boolean },
  ): void {
    const isSuspect = this.#isSuspect;
    this.#isSuspect = false;
    if (isListed || (verdict === 'same' && !isSuspect)) return;
    this.#newest = new Newest(anchor);
    this.#head = revision;
    this.#listAgain.abort();
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
        try {
          return await store.watch(
            ranges,
            this.#head + 1n,
            {
              onRevision: (range, revision, events) => this.#onRevision(range, revision, events),
              onProgress: (range, revision) => {
                if (range === 0 && revision > this.#head) this.#head = revision;
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

  async #relist(signal: AbortSignal, clock: Clock): Promise<void> {
    for (;;) {
      try {
        await this.list(signal);
        this.#o.onChange();
        if (this.#gone === undefined) return;
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
    if (up === this.#up) return;
    this.#up = up;
    if (up) {
      log('info', 'watching', { revision: this.#head });
      this.#trip = undefined;
    } else {
      this.#restarts += 1;
      // Now, because the next stream may bring something before it is said to be up.
      this.#mustVerify(false);
      log('warn', 'watch lost', { reason: reason ?? 'unknown' });
    }
    this.#o.onChange();
  }

  #onRevision(range: number, revision: bigint, events: readonly StoreEvent[]): void {
    if (range === 0) this.#onMetadata(revision, events);
    else if (range === 1) this.#onSetting(events);
    else for (const event of events) if (event.type === 'put') this.#onBlock(event.kv.key, event.kv.value);
  }

  #onBlock(key: ByteString, stored: Uint8Array): void {
    this.stage.offer(key, stored);
    // Somebody may have waited for it: with --writeback blocks come after the metadata.
    if (this.#unfinished.size > 0 || this.#retry.size > 0) this.#o.onChange();
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
    for (const event of prefixed) if (event.type === 'put') this.#newest.note(event.kv);
    this.#touched.push(touched);
    this.#head = revision;
    this.#o.onChange();
  }

  #onSetting(events: readonly StoreEvent[]): void {
    const last = events.at(-1);
    if (last !== undefined) this.#noteSetting(last.type === 'put' ? last.kv.value : undefined);
    this.#o.onChange();
  }

  #noteSetting(value: Uint8Array | undefined): void {
    const gone = this.#whyGone(value);
    if (gone !== undefined && gone !== this.#gone) log('error', 'the volume is gone', { reason: gone });
    if (gone === undefined && this.#gone !== undefined) log('info', 'the volume is back');
    this.#gone = gone;
  }

  #whyGone(value: Uint8Array | undefined): string | undefined {
    this.#replacedBy = undefined;
    if (value === undefined) return 'its setting was deleted';
    try {
      const { uuid } = decodeSetting(value);
      if (uuid === this.#o.volume.setting.uuid) return undefined;
      this.#replacedBy = uuid;
      return `another one, ${uuid}, is in its place`;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
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
    const nowMs = this.#o.clock.monotonicMs();
    this.#reviveUnfinished(nowMs);
    if (this.#touched.length === 0) {
      if (this.#unfinished.size > 0) return { waitMs: MISSING_RETRY_MS };
      this.#revision = this.#head;
      return { changed: new Set() };
    }
    if (this.#room.waitMs > 0) return { waitMs: this.#room.waitMs };
    const heldMs = this.#holds.remainingMs(nowMs, this.#givenUp());
    const leftMs = this.#pendingSinceMs + this.#o.holdMaxMs - nowMs;
    if (heldMs > 0 && leftMs > 0) return { waitMs: Math.min(heldMs, leftMs) };
    const head = this.#head;
    const paths = this.#changedPaths();
    let results: ReadonlyMap<string, StageResult>;
    try {
      results = await this.stage.stage(this.#unread(paths), head, signal);
    } catch (error) {
      // The data may be away while the metadata are not: nothing of what changed is forgotten.
      this.#touchedAgain(paths);
      if (!this.#room.isLacking(error)) throw error;
      // The tree stays as it is, and what was staged gives its place to what is pushed meanwhile.
      this.stage.clear();
      return { waitMs: this.#room.waitMs };
    }
    this.#room.isThere();
    if (leftMs > 0 && this.#awaitsBlocks(paths, results)) {
      this.#touchedAgain(paths);
      return { waitMs: Math.min(MISSING_RETRY_MS, leftMs) };
    }
    await this.#rules.learn(this.#aclIds(paths), head, signal);
    const changed = new Set<Path>();
    for (const path of paths) if (this.#take(path, results, nowMs)) changed.add(path);
    this.#revision = head;
    return { changed };
  }

  /** Files that have held back a publish for as long as one may. */
  #givenUp(): Set<bigint> {
    return new Set([...this.#unfinished.values()].map(({ ino }) => ino));
  }

  /** Whether a block is missing that nobody has waited for yet. */
  #awaitsBlocks(paths: Iterable<Path>, results: ReadonlyMap<string, StageResult>): boolean {
    for (const path of paths) {
      const entry = this.#view.entries.get(path);
      const result = entry?.type === 'file' ? results.get(entry.contentKey) : undefined;
      if (result !== undefined && 'missing' in result && !this.#unfinished.has(path)) return true;
    }
    return false;
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
    for (const path of [...this.#view.problems.keys(), ...this.#lastGood]) paths.add(path);
    for (const path of this.#problems.keys()) if (!this.#view.entries.has(path)) paths.add(path);
    return paths;
  }

  #reviveUnfinished(nowMs: number): void {
    for (const [path, { dueMs, ino, missing }] of this.#unfinished) {
      if (nowMs >= dueMs) this.#holds.accept(ino);
      if (missing || nowMs >= dueMs || !this.#holds.isEmptied(ino)) {
        if (!missing) this.#unfinished.delete(path);
        this.#touchedAgain([path]);
      }
    }
  }

  #unread(paths: Iterable<Path>): WantedContent[] {
    const wanted = new Map<string, WantedContent>();
    for (const path of paths) {
      const entry = this.#view.entries.get(path);
      if (entry?.type !== 'file' || this.#digestOf(entry) !== undefined) continue;
      wanted.set(entry.contentKey, { ino: entry.ino, key: entry.contentKey, size: entry.size });
    }
    return [...wanted.values()];
  }

  #digestOf(file: RemoteFile): string | undefined {
    const read = this.#digests.get(file.contentKey);
    if (read !== undefined) return read;
    if (file.size === 0n) return EMPTY_DIGEST;
    const own = this.#known.get(file.ino);
    // Every change of contents writes the attr (layout 10.2, 10.3).
    const revision = this.#index.get(file.ino)?.attr?.modRevision ?? 0n;
    if (own !== undefined && revision >= own.revision) this.#known.delete(file.ino);
    if (own === undefined || own.revision !== revision || own.size !== file.size) return undefined;
    this.#digests.set(file.contentKey, own.digest);
    return own.digest;
  }

  *#aclIds(paths: Iterable<Path>): Iterable<string> {
    for (const path of paths) {
      const ids = this.#view.entries.get(path)?.aclIds;
      if (ids !== undefined) yield ids;
    }
  }

  /** An entry of the view as the tree has it: with ACLs in place of their ids. */
  #withAcl<T extends RemoteEntry>(entry: T): T {
    if (entry.aclIds === undefined) return entry;
    const { aclIds, ...rest } = entry;
    const acl = this.#rules.textOf(aclIds);
    return (acl === undefined ? rest : { ...rest, acl }) as T;
  }

  /** Takes one path over into the tree; true when its entry is another now. */
  #take(path: Path, results: ReadonlyMap<string, StageResult>, nowMs: number): boolean {
    const before = this.#tree.get(path);
    const shown = this.#view.entries.get(path);
    const entry = shown === undefined ? undefined : this.#withAcl(shown);
    const problem = this.#view.problems.get(path)?.message;
    if (entry?.type !== 'file') this.#unfinished.delete(path);
    const refusal = entry?.type === 'special' ? this.#o.abilities.specialRefusal(entry.kind) : undefined;
    if (entry === undefined || refusal !== undefined) {
      this.#setProblem(path, refusal ?? problem);
      // What is broken keeps its last good content; what is gone goes.
      if (before !== undefined && entry === undefined && this.#isBroken(path)) {
        this.#lastGood.add(path);
        return false;
      }
      this.#lastGood.delete(path);
      return this.#tree.delete(path);
    }
    this.#lastGood.delete(path);
    if (entry.type !== 'file') {
      this.#setProblem(path, undefined);
      this.#tree.set(path, entry);
      return before === undefined || !sameFields(before, entry);
    }
    return this.#takeFile(path, entry, before, results.get(entry.contentKey), nowMs);
  }

  /** Whether the volume's entry at a path, or one above it, cannot be shown. */
  #isBroken(path: Path): boolean {
    for (let at: Path | undefined = path; at !== undefined; at = parentOf(at))
      if (this.#view.problems.has(at)) return true;
    return false;
  }

  #takeFile(
    path: Path,
    entry: RemoteFile,
    before: AncestorEntry | undefined,
    result: StageResult | undefined,
    nowMs: number,
  ): boolean {
    if (result !== undefined && 'staged' in result) this.#digests.set(entry.contentKey, result.staged.digest);
    const digest = this.#digestOf(entry);
    const emptied = this.#holds.isEmptied(entry.ino);
    if (emptied || digest === undefined) {
      const missing = result !== undefined && 'missing' in result;
      const dueMs = this.#unfinished.get(path)?.dueMs ?? nowMs + UNFINISHED_MS;
      if (emptied || missing) this.#unfinished.set(path, { dueMs, ino: entry.ino, missing });
      const bad = result !== undefined && 'bad' in result ? result.bad : undefined;
      this.#setProblem(
        path,
        bad ?? (missing ? 'unfinished: a block is missing in the store' : 'unfinished: being written'),
      );
      if (digest === undefined || before !== undefined) return false;
    } else {
      this.#unfinished.delete(path);
      this.#setProblem(path, undefined);
    }
    // The spread comes last: with it first V8 gives each object a hidden class of its own.
    const next: AncestorEntry = { digest, ...entry };
    this.#tree.set(path, next);
    return before === undefined || !sameFields(before, next);
  }

  #setProblem(path: Path, message: string | undefined): void {
    if (this.#problems.get(path) === message) return;
    if (message === undefined) {
      this.#problems.delete(path);
      log('info', 'problem solved', { path });
    } else {
      this.#problems.set(path, message);
      log('warn', 'problem', { path, reason: message });
    }
  }
}

const EMPTY_DIGEST = digestOf(new Uint8Array(0));
