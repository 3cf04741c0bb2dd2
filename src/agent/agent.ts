/** The loop: observe both sides, reconcile, act, remember. */

import createDebug from 'debug';

import { escapeBytes, prefixRange } from '../codec/bytes.ts';
import type { ByteString } from '../codec/kv.ts';
import type { Change } from '../reconcile/change.ts';
import { parentOf, type Entry, type Path } from '../reconcile/entry.ts';
import { findMoves } from '../reconcile/moves.ts';
import { ancestorsOf } from '../reconcile/push-change.ts';
import { inheritOwners } from '../reconcile/owners.ts';
import { reconcile, type Reconciled } from '../reconcile/reconcile.ts';
import { guardAgainstMassDelete } from '../reconcile/safety.ts';
import { LimitError } from './error.ts';
import {
  contentsToStage,
  LinkSources,
  localItems,
  wantedFor,
  wantedForAdoption,
  type LocalItem,
} from './items.ts';
import type { Layout } from './layout.ts';
import { sameFields, type AncestorEntry, type Ledger } from './ledger.ts';
import { Local } from './local.ts';
import { log } from './log.ts';
import { Parked } from './parked.ts';
import type { Clock, EtcdStore, FsPort } from './ports.ts';
import { catchUp, publish, type PublishResult, type Wanted } from './publish.ts';
import { Pusher, type ChangeOutcome } from './push.ts';
import { recover } from './recover.ts';
import type { Remote } from './remote.ts';
import { Scanner, type Extent, type Look } from './scan.ts';
import { mendTop } from './top.ts';
import type { Volume } from './volume.ts';

const debug = createDebug('etcd-etc-agent:agent');

/** How the two sides are joined. */
export interface AgentOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly assertOwner: () => void;
  readonly mode: 'two-way' | 'pull';
  readonly adopt: boolean;
  readonly agentId: string;
  /** Path of the view from the volume's root. */
  readonly subdir: Path;
  readonly excluded: (path: Path) => boolean;
  readonly minIntervalMs: number;
  readonly settleMs: number;
  readonly keepMs: number;
  readonly maxDeletePercent: number;
  /** Local edits are carried and left to the sidecar (`--once`). */
  readonly carryOnly: boolean;
}

/** The volume's side, once it could be opened. */
export interface Connection {
  readonly store: EtcdStore;
  readonly volume: Volume;
  readonly remote: Remote;
}

/** How long a change that the volume refused rests before it is tried again; milliseconds. */
const REFUSED_RETRY_MS = 60_000;
/** Pause after a push that failed for lack of a store, doubled up to the longest; milliseconds. */
const PUSH_PAUSE_MS = 200;
const PUSH_PAUSE_MAX_MS = 5_000;

/** Pause before what another writer came first with is tried again; milliseconds. */
const LOST_PAUSE_MS = 50;
/** Least wait for something that cannot be published yet; milliseconds. */
const LATER_MS = 10;

interface Refusal {
  readonly reason: string;
  readonly fingerprint: string;
  readonly untilMs: number;
}

/** One directory and one volume. `cycle` is called by the runner, one at a time. */
export class Agent {
  readonly #o: AgentOptions;
  readonly #scanner: Scanner;
  readonly local: Local;
  readonly parked: Parked;
  readonly problems = new Map<Path, string>();
  readonly #remoteDirty = new Set<Path>();
  readonly #refused = new Map<Path, Refusal>();
  readonly #pushing = new Set<Path>();
  readonly #firstStart: boolean;
  #mode: 'two-way' | 'pull';
  #pusher: Pusher | undefined;
  #push: Promise<void> | undefined;
  #pushFailures = 0;
  /** Changes that did not get in since one did. */
  #lostInARow = 0;
  #pushAfterMs = 0;
  /** Nothing is reconciled before the remote tree has our own last transaction. */
  #ownRevision = 0n;
  #epoch = 0;
  #isLate = true;
  #lastFlipMs = -Infinity;
  #guard: string | undefined;
  #damage: string | undefined;
  /** Called when something happened that makes another cycle worth while. */
  onWake: () => void = () => undefined;

  constructor(options: AgentOptions) {
    this.#o = options;
    this.#mode = options.mode;
    const { fs, layout, clock, excluded, settleMs, keepMs, ledger, agentId, subdir } = options;
    this.#scanner = new Scanner({ fs, layout, clock, excluded, settleMs, keepMs });
    this.local = new Local(ledger, excluded);
    this.parked = new Parked({ fs, layout, ledger, clock, agentId, subdir });
    this.#firstStart = ledger.state.revision === 0n;
    if (options.adopt && ledger.state.unadopted.size > 0) {
      const paths = [...ledger.state.unadopted];
      ledger.write([{ t: 'unadopted', add: [], remove: paths }], false);
      for (const path of paths) this.local.dirty.add(path);
    }
  }

  /** The volume is one that this program does not write: local edits are parked and undone, with a problem that says why. */
  pullOnly(reason: string): void {
    this.#mode = 'pull';
    this.problems.set('', reason);
  }

  /** Why nothing is published or pushed until a person looks; `undefined` when all is well. */
  get guard(): string | undefined {
    return this.#damage ?? this.#guard;
  }

  /** Why the directory itself cannot be trusted; `undefined` when it can. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** Whether the last turn has left something unpublished that it could not publish yet. */
  get isLate(): boolean {
    return this.#isLate;
  }

  /** Local edits that are not in the volume. */
  get pendingEdits(): number {
    let pending = this.local.busy.size;
    for (const path of this.local.dirty) if (!this.#o.excluded(path)) pending += 1;
    return pending + this.parked.size;
  }

  /** Paths that could not be done, and why. */
  allProblems(): Map<Path, string> {
    const all = new Map([...this.problems, ...this.local.problems]);
    for (const [path, { reason }] of this.#refused) all.set(path, reason);
    return all;
  }

  /** Looks at the local side; `again` tells how long something needs to settle (milliseconds). */
  async look(extent: Extent): Promise<void> {
    const { ledger, fs, layout, clock } = this.#o;
    // A publish that a full disk cut off: what it left is its own, and no edit.
    recover({ fs, layout, ledger, clock });
    const look = await this.#scanner.look(ledger.state, extent);
    this.#noteDamage(look.damage);
    if (look.damage !== undefined) return;
    for (const [name, record] of look.kept) {
      ledger.write([{ t: 'kept', name, record }], false);
      const at = `${layout.kept}/${name}`;
      if (record === null && fs.lstat('release kept', at) !== undefined) fs.unlink('release kept', at);
    }
    // Only names that came or went: one that stays may be on its way out at the top.
    const tops = [...look.edits].flatMap(([path, slot]) =>
      path.includes('/') || this.#o.excluded(path) || ledger.state.slots.has(path) === (slot !== undefined)
        ? []
        : [path],
    );
    if (this.local.absorb(look)) debug('look: %s', describeLook(look));
    // A name that somebody made in the tree itself gets its link at the top, and a link that leads nowhere goes. What
    // else stands at the top has its own look, once it has settled.
    const missing = tops.filter((name) => {
      const stat = fs.lstat('look top', layout.top(name));
      return stat === undefined || stat.type === 'symlink';
    });
    mendTop({ fs, layout, ledger, clock }, [...missing, ...look.mend], (path) =>
      ledger.state.slots.get(path),
    );
  }

  #noteDamage(damage: string | undefined): void {
    if (damage === this.#damage) return;
    this.#damage = damage;
    if (damage !== undefined) log('error', 'directory damaged', { reason: damage });
  }

  /** Whether a look is wanted soon because something has not settled. */
  get settling(): boolean {
    return this.#scanner.waiting;
  }

  /**
   * One turn: takes in the remote side, reconciles, publishes, starts a push. Returns how long nothing needs to be
   * done (milliseconds), Infinity when only news can change that. Throws what the store and the disk throw.
   */
  async cycle({ store, volume, remote }: Connection, signal: AbortSignal): Promise<number> {
    this.#isLate = true;
    const advanced = await remote.advance(signal);
    let waitMs = Infinity;
    if ('changed' in advanced) for (const path of advanced.changed) this.#remoteDirty.add(path);
    else waitMs = advanced.waitMs;
    if (remote.revision === 0n || remote.gone !== undefined || this.#damage !== undefined) return waitMs;
    if (remote.epoch !== this.#epoch) this.#ownRevision = 0n;
    this.#epoch = remote.epoch;
    if (remote.revision < this.#ownRevision) return waitMs;
    this.#finishInterruptedPush(remote);
    this.#parkLosers(remote.revision);
    const sinceFlipMs = this.#o.clock.monotonicMs() - this.#lastFlipMs;
    const plan = this.#reconcile(remote);
    this.#agree(plan);
    const toPush = await this.#publish(plan, remote, sinceFlipMs, signal);
    this.#isLate = typeof toPush === 'string';
    if (toPush === 'later')
      waitMs = Math.min(waitMs, Math.max(LATER_MS, this.#o.minIntervalMs - sinceFlipMs));
    else if (toPush === 'again') waitMs = LATER_MS;
    else waitMs = Math.min(waitMs, this.#startPush(toPush, { store, volume, remote }, signal));
    this.local.forgetMoves();
    return Math.max(0, waitMs);
  }

  /** A push whose answer an earlier run did not live to see: what the volume has now was ours. */
  #finishInterruptedPush(remote: Remote): void {
    const { ledger } = this.#o;
    const { pushing } = ledger.state;
    if (pushing.size === 0 || this.#push !== undefined) return;
    const agreed: [Path, AncestorEntry | null][] = [];
    for (const [path, intended] of pushing) {
      const now = remote.tree.get(path);
      const ours = intended === undefined ? now === undefined : now !== undefined && isOurs(intended, now);
      if (ours) agreed.push([path, now ?? null]);
    }
    ledger.write([{ t: 'ancestor', entries: agreed }, { t: 'pushed' }], false);
  }

  #parkLosers(revision: bigint): void {
    const losers = this.local.losers;
    this.local.losers = [];
    for (const { path, slot, source } of losers) {
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
      this.parked.park(path, entry, source, revision, 'written over a version that had been replaced');
    }
  }

  #isBlocked(path: Path): boolean {
    if (this.local.busy.has(path) || this.#pushing.has(path)) return true;
    const refusal = this.#refused.get(path);
    if (refusal === undefined) return false;
    const stands =
      refusal.fingerprint === fingerprint(this.local.entryAt(path)) &&
      !this.#remoteDirty.has(path) &&
      this.#o.clock.monotonicMs() < refusal.untilMs;
    if (!stands) this.#refused.delete(path);
    return stands;
  }

  /** Whether a directory above is new and has to wait: what is below it waits with it. */
  #isBelowBlocked(path: Path): boolean {
    const { ancestor } = this.#o.ledger.state;
    for (const dir of ancestorsOf(path)) {
      if (ancestor.get(dir)?.type !== 'directory' && this.#isBlocked(dir)) return true;
    }
    return false;
  }

  #reconcile(remote: Remote): Reconciled {
    const local = new Map<Path, Entry | undefined>();
    const changed = new Map<Path, Entry | undefined>();
    const { ancestor, unadopted } = this.#o.ledger.state;
    for (const path of [...this.local.dirty, ...this.local.adoptions.keys()]) {
      if (this.#isBlocked(path) || this.#isBelowBlocked(path) || unadopted.has(path)) continue;
      local.set(path, this.local.entryAt(path));
    }
    for (const path of this.#remoteDirty) {
      if (this.local.busy.has(path) || this.#pushing.has(path) || this.#isBelowBlocked(path)) continue;
      changed.set(path, remote.tree.get(path));
      // What is not known to differ is as the ancestor has it, but for paths that have none: there disk decides.
      if (!ancestor.has(path) && !local.has(path)) local.set(path, this.local.entryAt(path));
    }
    return reconcile({ ancestor, local, remote: changed, owners: isRoot() });
  }

  #agree({ agreed }: Reconciled): void {
    const { ledger } = this.#o;
    const { ancestor } = ledger.state;
    const news: [Path, AncestorEntry | null][] = [];
    for (const [path, entry] of agreed) {
      if (!sameFields(ancestor.get(path), entry)) news.push([path, entry ?? null]);
      this.#remoteDirty.delete(path);
    }
    if (news.length > 0) ledger.write([{ t: 'ancestor', entries: news }], false);
    for (const path of agreed.keys()) this.local.settle(path);
  }

  /**
   * Publishes what the local side must become together with what was found outside the trees. Returns the changes to
   * push, or that it is too early for a flip, or that the local side moved and must be looked at again.
   */
  async #publish(
    plan: Reconciled,
    remote: Remote,
    sinceFlipMs: number,
    signal: AbortSignal,
  ): Promise<readonly Change[] | 'later' | 'again'> {
    const { ledger, layout } = this.#o;
    const { state } = ledger;
    const pullOnly = this.#mode === 'pull';
    const undone = pullOnly && !this.#o.carryOnly ? plan.toRemote.map(undo) : [];
    let toRemote = pullOnly ? [] : this.#setAsideUnadopted(plan.toRemote, remote);
    const changes = [...plan.toLocal, ...undone];
    if (!this.#passGuard(changes, toRemote)) return [];
    // Nothing was published by this state; a tree of a state that was lost may be there.
    const first = state.revision === 0n;
    if (!first && changes.length === 0 && this.local.adoptions.size === 0) return toRemote;
    // What was there before the first publish is read first: its names are about to be replaced.
    if (sinceFlipMs < this.#o.minIntervalMs || (first && this.local.busy.size > 0)) return 'later';

    const items = localItems(changes, remote.tree);
    const links = new LinkSources(state, layout, items, (ino) => remote.pathsOf(ino));
    const wanted = contentsToStage(items, (item) => links.find(item) !== undefined);
    await remote.stage.stage(wanted, remote.head, signal);
    this.#parkConflicts(plan, undone, remote.revision);

    const request = new Map<Path, Wanted | undefined>();
    const ancestor: [Path, AncestorEntry | null][] = [];
    for (const item of items) this.#request(item, links, remote, request, ancestor);
    for (const [path, adoption] of this.local.adoptions) {
      if (!request.has(path) && !this.#isBlocked(path)) {
        request.set(path, adoption === undefined ? undefined : wantedForAdoption(adoption));
      }
    }
    const { fs, clock, assertOwner } = this.#o;
    const context = { fs, layout, ledger, clock, assertOwner, owners: isRoot() };
    const startMs = clock.monotonicMs();
    let result: PublishResult;
    try {
      result = publish(context, {
        items: request,
        ancestor,
        revision: remote.revision,
        unsettled: this.local.busy,
        touchedSince: (tree) => this.#scanner.touchedSince(tree),
      });
    } catch (error) {
      // Who knows which of the staged contents are in a tree by now.
      remote.stage.clear();
      throw error;
    }
    this.#scanner.forgetListed(result.touched);
    if (result.outcome === 'edited') {
      const directories = [...result.directories, ...result.paths.map((path) => parentOf(path) ?? '')];
      debug(
        'edited meanwhile: %s in %s',
        escapeBytes(result.paths.join(' ')),
        escapeBytes(directories.join(' ')),
      );
      await this.look(new Set(directories));
      return 'again';
    }
    this.#lastFlipMs = clock.monotonicMs();
    const ms = Math.round(this.#lastFlipMs - startMs);
    remote.stage.clear();
    for (const path of request.keys()) {
      if (this.local.adoptions.has(path)) this.local.adopted(path);
      else this.local.dirty.add(path);
      this.local.settle(path);
      if (!result.problems.has(path)) this.#remoteDirty.delete(path);
      this.#setProblem(path, result.problems.get(path));
    }
    if (first) catchUp(context);
    log('info', 'published', { revision: remote.revision, changes: request.size, ms });
    toRemote = toRemote.filter(({ path }) => !result.problems.has(path));
    return toRemote;
  }

  #request(
    item: LocalItem,
    links: LinkSources,
    remote: Remote,
    request: Map<Path, Wanted | undefined>,
    ancestor: [Path, AncestorEntry | null][],
  ): void {
    const staged = (
      file: AncestorEntry & { readonly type: 'file' },
    ): ReturnType<typeof remote.stage.stagedFile> =>
      file.contentKey === undefined
        ? undefined
        : remote.stage.stagedFile({ ino: file.ino, key: file.contentKey });
    const want = wantedFor(item, links.find(item), staged);
    if (typeof want === 'string') {
      // The volume has moved on meanwhile: the next turn sees it.
      debug('not published: %s: %s', escapeBytes(item.path), want);
      return;
    }
    request.set(item.path, want);
    ancestor.push([item.path, remote.tree.get(item.path) ?? null]);
  }

  /** Before the first publish the directory may hold files nobody has agreed on: they stay, and are not pushed. */
  #setAsideUnadopted(changes: readonly Change[], remote: Remote): readonly Change[] {
    const { ledger, adopt } = this.#o;
    if (!this.#firstStart || ledger.state.revision !== 0n || adopt || remote.tree.size === 0) return changes;
    const add = changes.filter(({ old }) => old === undefined).map(({ path }) => path);
    if (add.length === 0) return changes;
    ledger.write([{ t: 'unadopted', add, remove: [] }], false);
    for (const path of add) log('warn', 'unadopted', { path });
    return changes.filter(({ old }) => old !== undefined);
  }

  #passGuard(toLocal: readonly Change[], toRemote: readonly Change[]): boolean {
    const removes = ({ new: next }: Change): boolean => next === undefined;
    const isSafe = !toLocal.some(removes) && !toRemote.some(removes);
    const isFile = ({ type }: AncestorEntry): boolean => type === 'file';
    const files = isSafe ? 0 : [...this.#o.ledger.state.ancestor.values()].filter(isFile).length;
    const guard = isSafe
      ? undefined
      : guardAgainstMassDelete({ files, toLocal, toRemote, maxPercent: this.#o.maxDeletePercent });
    if (guard !== this.#guard && guard !== undefined) log('error', 'guard tripped', { reason: guard });
    if (guard === undefined && this.#guard !== undefined) log('info', 'guard released');
    this.#guard = guard;
    return guard === undefined;
  }

  #parkConflicts(plan: Reconciled, undone: readonly Change[], revision: bigint): void {
    for (const { path, local, winner } of plan.conflicts) {
      if (winner === 'remote') this.#park(path, local, revision, 'changed here and in the volume');
      else
        log('warn', 'conflict decided', {
          path,
          reason: 'changed here, removed in the volume: the change stays',
        });
    }
    for (const { path, old } of undone)
      this.#park(path, old, revision, 'local edits are not pushed in this mode');
  }

  #park(path: Path, entry: Entry | undefined, revision: bigint, reason: string): void {
    const { ledger, layout } = this.#o;
    if (entry?.type !== 'file' && entry?.type !== 'symlink') return;
    const { active } = ledger.state;
    const source =
      this.local.adoptions.get(path)?.source ??
      (active === undefined ? undefined : layout.inTree(active, path));
    if (source !== undefined) this.parked.park(path, entry, source, revision, reason);
  }

  /** Starts a push when something is due; returns when to try again otherwise (milliseconds). */
  #startPush(changes: readonly Change[], connection: Connection, signal: AbortSignal): number {
    if (this.#push !== undefined || this.#o.carryOnly || this.#mode === 'pull') return Infinity;
    const leftMs = this.#pushAfterMs - this.#o.clock.monotonicMs();
    const due = this.#withoutUnwritable(this.#withOwners(changes, connection.remote));
    if (due.length === 0 && this.parked.size === 0) return Infinity;
    if (leftMs > 0) return leftMs;
    this.#push = this.#runPush(due, connection, signal)
      .then(
        () => {
          this.#pushFailures = 0;
        },
        (error: unknown) => this.#pushFailed(error),
      )
      .finally(() => {
        this.#pushing.clear();
        this.#push = undefined;
        this.onWake();
      });
    return Infinity;
  }

  /** Resolves when no push is under way. */
  async idle(): Promise<void> {
    await this.#push;
  }

  #pushFailed(error: unknown): void {
    const { clock } = this.#o;
    const pauseMs =
      Math.min(PUSH_PAUSE_MAX_MS, PUSH_PAUSE_MS * 2 ** this.#pushFailures) * (0.5 + clock.random());
    this.#pushFailures += 1;
    this.#pushAfterMs = clock.monotonicMs() + (error instanceof LimitError ? REFUSED_RETRY_MS : pauseMs);
    log('warn', 'push failed', { reason: error instanceof Error ? error.message : String(error) });
  }

  #withOwners(changes: readonly Change[], remote: Remote): readonly Change[] {
    return isRoot() ? changes : inheritOwners(changes, (path) => remote.tree.get(path), remote.rootOwner);
  }

  /** What this program does not push yet stays local, as a problem. */
  #withoutUnwritable(changes: readonly Change[]): Change[] {
    return changes.filter((change) => {
      const { path, old, new: next } = change;
      const linked = old?.type === 'file' && old.nlink > 1 && next !== undefined;
      if (linked)
        this.#refuse(path, next, 'the file is hard linked in the volume; edits of such files stay local');
      return !linked;
    });
  }

  #refuse(path: Path, entry: Entry | undefined, reason: string): void {
    const untilMs = this.#o.clock.monotonicMs() + REFUSED_RETRY_MS;
    if (this.#refused.get(path)?.reason !== reason) log('warn', 'problem', { path, reason });
    this.#refused.set(path, { reason, fingerprint: fingerprint(entry), untilMs });
  }

  async #runPush(changes: readonly Change[], connection: Connection, signal: AbortSignal): Promise<void> {
    await this.#pushCopies(connection, signal);
    if (changes.length === 0) return;
    const { remote } = connection;
    const { ledger } = this.#o;
    const { ancestor } = ledger.state;
    const moves = findMoves({
      changes,
      cameFrom: (path) => this.local.cameFrom(path),
      paths: () => ancestor.keys(),
    });
    for (const { path } of changes) this.#pushing.add(path);
    const intents = changes.map(({ path, new: entry }) => [path, entry ?? null] as const);
    ledger.write([{ t: 'pushing', entries: intents }], false);
    const { changes: outcomes, revisions } = await this.#pusherFor(connection).push(moves, {
      ...(remote.root === undefined ? {} : { root: remote.root }),
      live: { index: remote.index, revision: () => remote.head },
      read: (change, offset, length) => Promise.resolve(this.#read(change.path, offset, length)),
      signal,
    });
    for (const outcome of outcomes) this.#outcome(outcome, changes, remote);
    ledger.write([{ t: 'pushed' }], false);
    const last = revisions.at(-1);
    if (last === undefined) return;
    this.#ownRevision = last;
    log('info', 'pushed', {
      revision: last,
      changes: outcomes.filter(({ outcome }) => outcome === 'committed').length,
    });
  }

  async #pushCopies(connection: Connection, signal: AbortSignal): Promise<void> {
    const copies = this.parked.pushes(isRoot() ? undefined : connection.remote.rootOwner);
    if (copies.length === 0) return;
    const names = new Map(copies.map(({ name, change }) => [change.path, name]));
    const { changes } = await this.#pusherFor(connection).push(
      copies.map(({ change }) => change),
      {
        live: { index: connection.remote.index, revision: () => connection.remote.head },
        read: (change, offset, length) => {
          const name = names.get(change.path);
          return Promise.resolve(this.#readAt(`${this.#o.layout.parked}/${name}`, offset, length));
        },
        signal,
      },
    );
    for (const { outcome, change } of changes) {
      const name = names.get(change.path);
      if (outcome === 'committed' && name !== undefined) this.parked.release(name, change.path);
      else this.#pausePush(PUSH_PAUSE_MAX_MS);
    }
  }

  #pausePush(ms: number): void {
    const { clock } = this.#o;
    this.#pushAfterMs = Math.max(this.#pushAfterMs, clock.monotonicMs() + ms * (0.5 + clock.random()));
  }

  #pusherFor({ store, volume }: Connection): Pusher {
    this.#pusher ??= new Pusher(store, volume, this.#o.clock);
    return this.#pusher;
  }

  #read(path: Path, offset: bigint, length: number): Uint8Array {
    const { active } = this.#o.ledger.state;
    const source = this.local.adoptions.get(path)?.source;
    return this.#readAt(source ?? this.#o.layout.inTree(active ?? 'a', path), offset, length);
  }

  #readAt(at: ByteString, offset: bigint, length: number): Uint8Array {
    const { fs } = this.#o;
    let fd: number;
    try {
      fd = fs.openRead('read for push', at);
    } catch {
      // Gone since the look: fewer bytes than the entry says make the pusher set the change aside.
      return new Uint8Array(0);
    }
    try {
      const bytes = new Uint8Array(length);
      const n = fs.read('read for push', fd, bytes, Number(offset));
      return bytes.subarray(0, n);
    } finally {
      fs.close('read for push', fd);
    }
  }

  #outcome(outcome: ChangeOutcome, changes: readonly Change[], remote: Remote): void {
    const { path, new: pushed, movedFrom } = outcome.change;
    if (outcome.outcome === 'refused') {
      const affected = movedFrom === undefined ? [path] : [path, movedFrom];
      for (const one of affected)
        this.#refuse(one, changes.find((change) => change.path === one)?.new, outcome.reason);
      return;
    }
    if (outcome.outcome !== 'committed') {
      debug('push set aside: %s: %s', escapeBytes(path), outcome.outcome);
      this.#lostInARow += 1;
      this.#pausePush(Math.min(PUSH_PAUSE_MAX_MS, LOST_PAUSE_MS * 2 ** this.#lostInARow));
      if (outcome.outcome !== 'changed') this.#remoteDirty.add(path);
      return;
    }
    this.#lostInARow = 0;
    const { entry, revision } = outcome;
    const entries: [Path, AncestorEntry | null][] = [[path, entry ?? null]];
    if (movedFrom !== undefined) entries.push(...this.#movedAncestors(movedFrom, path));
    this.#o.ledger.write([{ t: 'ancestor', entries }], false);
    if (entry?.type === 'file' && pushed?.type === 'file') {
      remote.noteOwn(revision, new Map([[entry.ino, { digest: pushed.digest, size: pushed.size }]]));
    } else {
      remote.noteOwn(revision, new Map());
    }
    for (const [one] of entries) this.local.settle(one);
  }

  /** What was agreed on below a moved path is agreed on below its new one. */
  #movedAncestors(from: Path, to: Path): [Path, AncestorEntry | null][] {
    const entries: [Path, AncestorEntry | null][] = [[from, null]];
    const { start, end } = prefixRange(`${from}/`);
    for (const [path, entry] of this.#o.ledger.state.ancestor) {
      if (path < start || path >= end) continue;
      entries.push([path, null], [to + path.slice(from.length), entry]);
    }
    return entries;
  }

  #setProblem(path: Path, reason: string | undefined): void {
    if (this.problems.get(path) === reason) return;
    if (reason === undefined) this.problems.delete(path);
    else {
      this.problems.set(path, reason);
      log('warn', 'problem', { path, reason });
    }
  }
}

function describeLook(look: Look): string {
  const paths = (label: string, names: Iterable<Path>): string => {
    const list = [...names].map(escapeBytes);
    return list.length === 0 ? '' : `${label} ${list.join(' ')}; `;
  };
  const { edits, adoptions, tops, losers } = look;
  return (
    paths('edited', edits.keys()) +
    paths('found', adoptions.keys()) +
    paths('at the top', tops?.keys() ?? []) +
    paths(
      'late',
      losers.map(({ path }) => path),
    )
  );
}

/** Whether owners can be given away. */
function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** A local change that this mode does not push, taken back: the path becomes what the volume has. */
function undo({ path, old, new: local }: Change): Change {
  return { path, old: local, new: old };
}

function isOurs(intended: Entry, now: AncestorEntry): boolean {
  if (intended.type === 'file')
    return now.type === 'file' && now.digest === intended.digest && now.size === intended.size;
  if (intended.type === 'symlink') return now.type === 'symlink' && now.target === intended.target;
  return intended.type === now.type;
}

function fingerprint(entry: Entry | undefined): string {
  if (entry === undefined) return '-';
  const content = entry.type === 'file' ? entry.digest : entry.type === 'symlink' ? entry.target : '';
  return `${entry.type} ${entry.mode & 0o777} ${content}`;
}
