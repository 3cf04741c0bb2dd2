/** The loop: observe both sides, reconcile, act, remember. */

import createDebug from 'debug';

import { escapeBytes } from '../codec/bytes.ts';
import type { ByteString } from '../codec/kv.ts';
import type { Change } from '../reconcile/change.ts';
import type { ConflictPolicy } from '../reconcile/conflict.ts';
import {
  findCrossMoves,
  isHeldByMoves,
  NO_MOVES,
  type CrossMoves,
  type Move,
} from '../reconcile/cross-moves.ts';
import { parentOf, type Entry, type Path, type SpecialEntry } from '../reconcile/entry.ts';
import { ancestorsOf, isAtOrBelow } from '../reconcile/push-change.ts';
import { reconcile, type Reconciled } from '../reconcile/reconcile.ts';
import type { Abilities } from './abilities.ts';
import { AncestorCache } from './ancestor-cache.ts';
import { DisplacedInodes } from './displaced.ts';
import { codeOf } from './error.ts';
import {
  contentsToStage,
  LinkSources,
  localItems,
  ownCopy,
  wantedFor,
  wantedForAdoption,
  type LocalItem,
} from './items.ts';
import type { Guards } from './guards.ts';
import type { Layout } from './layout.ts';
import { sameFields, type AncestorEntry, type Ledger } from './ledger.ts';
import { Local } from './local.ts';
import { log } from './log.ts';
import { Losers } from './losers.ts';
import { Merger } from './merger.ts';
import { type Extent, type Look, type Adoption } from './look.ts';
import { MassDelete } from './mass-delete.ts';
import { itemsOfMoves } from './move-items.ts';
import { Outbox, type Connection, type CutPush } from './outbox.ts';
import { Parked } from './parked.ts';
import type { Clock, FsPort } from './ports.ts';
import { catchUp, publish, type PublishResult } from './publish.ts';
import { recover } from './recover.ts';
import type { Remote } from './remote.ts';
import { Scanner } from './scan.ts';
import { entryOfSlot, sameButCtime } from './slot.ts';
import { mendTop } from './top.ts';
import { waitingAdoptions } from './waiting-adoptions.ts';
import type { Wanted } from './wanted.ts';

const debug = createDebug('etcd-etc-agent:agent');

/** How the two sides are joined. */
export interface AgentOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly guards: Guards;
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
  readonly conflict: ConflictPolicy;
  /** Bytes on disk for copies of the texts that both sides agreed on. */
  readonly ancestorCacheBytes: number;
  /** Local edits are carried and left to the sidecar (`--once`). */
  readonly carryOnly: boolean;
  readonly abilities: Abilities;
}

/** Least wait for something that cannot be published yet; milliseconds. */
const LATER_MS = 10;
/** Wait for a content that a merge needs and that could not be read just now; milliseconds. */
const UNREAD_MS = 500;

/** One directory and one volume. `cycle` is called by the runner, one at a time. */
export class Agent {
  readonly #o: AgentOptions;
  readonly #scanner: Scanner;
  readonly local: Local;
  readonly parked: Parked;
  readonly problems = new Map<Path, string>();
  /** Paths whose remote entry may differ from the ancestor's, and a revision at which it did not yet; 0n: unknown. */
  readonly #remoteDirty = new Map<Path, bigint>();
  readonly #outbox: Outbox;
  readonly #cache: AncestorCache;
  #remote: Remote | undefined;
  /** What comes before this turn's reconciliation. */
  #moves = NO_MOVES;
  readonly #merger: Merger;
  readonly #displaced: DisplacedInodes;
  readonly #massDelete: MassDelete;
  readonly #losers: Losers;
  readonly #firstStart: boolean;
  #mode: 'two-way' | 'pull';
  #epoch = 0;
  #isLate = true;
  #lastFlipMs = -Infinity;
  #damage: string | undefined;
  /** Called when something happened that makes another cycle worth while. */
  onWake: () => void = () => undefined;

  constructor(options: AgentOptions) {
    this.#o = options;
    this.#mode = options.mode;
    const { fs, layout, clock, excluded, settleMs, keepMs, ledger, agentId, subdir, abilities } = options;
    this.#scanner = new Scanner({ fs, layout, clock, excluded, settleMs, keepMs, abilities });
    this.local = new Local(ledger, excluded, abilities.held);
    this.parked = new Parked({ fs, layout, ledger, clock, agentId, subdir, volume: () => this.#remote });
    this.#cache = new AncestorCache({ fs, layout, ledger, limitBytes: options.ancestorCacheBytes });
    const localAt = (path: Path): ByteString | undefined => this.#localAt(path);
    this.#merger = new Merger({ fs, layout, cache: this.#cache, subdir, localAt });
    this.#losers = new Losers({ local: this.local, parked: this.parked, localAt });
    const onStale = (path: Path): void => this.#noteRemote(path, ledger.state.revision);
    const onEnd = (): void => this.onWake();
    const { local, parked } = this;
    this.#displaced = new DisplacedInodes(clock);
    this.#outbox = new Outbox({
      fs,
      layout,
      clock,
      ledger,
      local,
      parked,
      held: abilities.held,
      onStale,
      onEnd,
      onDisplaced: (path, file, revision) => this.#displaced.add(path, file, revision),
    });
    const { guards, maxDeletePercent: maxPercent } = options;
    this.#massDelete = new MassDelete({ fs, layout, clock, ledger, guards, maxPercent });
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

  /** Why the directory itself cannot be trusted; `undefined` when it can. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** Whether the last turn has left something unpublished that it could not publish yet. */
  get isLate(): boolean {
    return this.#isLate;
  }

  /** The last push that others saw happen in several steps. */
  get lastCut(): CutPush | undefined {
    return this.#outbox.lastCut;
  }

  /** Paths of local edits that are not in the volume; those of contents that lost come last, and may be there twice. */
  get unpushed(): Path[] {
    const { unadopted } = this.#o.ledger.state;
    const paths = new Set(this.local.busy);
    for (const path of this.local.dirty) if (!this.#o.excluded(path) && !unadopted.has(path)) paths.add(path);
    return [...paths, ...[...this.#o.ledger.state.parked.values()].map(({ path }) => path)];
  }

  get pendingEdits(): number {
    return this.unpushed.length;
  }

  /** Paths that could not be done, and why. */
  allProblems(): Map<Path, string> {
    const all = new Map([...this.problems, ...this.local.problems]);
    const { fs, layout, ledger } = this.#o;
    for (const [name, path] of ledger.state.quarantined) {
      if (fs.lstat('quarantined', `${layout.quarantine}/${name}`) !== undefined)
        all.set(path, `it was empty after a reboot, was set aside as quarantine/${name}, and is not pushed`);
    }
    for (const [path, reason] of this.#outbox.refusals()) all.set(path, reason);
    for (const [path, reason] of this.parked.refusals()) all.set(path, reason);
    return all;
  }

  /** Looks at the local side; `again` tells how long something needs to settle (milliseconds). */
  async look(extent: Extent): Promise<void> {
    const { ledger, fs, layout, clock } = this.#o;
    // A publish that a full disk cut off: what it left is its own, and no edit.
    const isRecovered = recover({ fs, layout, ledger, clock, seenAtTop: this.#scanner.seenAtTop });
    if (isRecovered) this.local.forgetAdopted();
    const look = await this.#scanner.look(ledger.state, extent);
    this.#damage = look.damage;
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
    const { seenAtTop } = this.#scanner;
    const { exchanges } = this.#o.abilities;
    mendTop({ fs, layout, ledger, clock, seenAtTop, exchanges }, [...missing, ...look.mend], (path) =>
      ledger.state.slots.get(path),
    );
  }

  /** Whether a look is wanted soon because something has not settled. */
  get settling(): boolean {
    return this.#scanner.waiting;
  }

  /**
   * One turn: takes in the remote side, reconciles, publishes, starts a push. Returns how long nothing needs to be
   * done (milliseconds), Infinity when only news can change that. Throws what the store and the disk throw.
   */
  async cycle(connection: Connection, signal: AbortSignal): Promise<number> {
    const { remote } = connection;
    this.#isLate = true;
    this.#remote = remote;
    const before = remote.revision === 0n ? this.#o.ledger.state.revision : remote.revision;
    const advanced = await remote.advance(signal);
    let waitMs = Infinity;
    if ('changed' in advanced) for (const path of advanced.changed) this.#noteRemote(path, before);
    else waitMs = advanced.waitMs;
    if (remote.revision === 0n || remote.gone !== undefined || this.#damage !== undefined) return waitMs;
    if (remote.epoch !== this.#epoch) this.#outbox.forgetRevision();
    this.#epoch = remote.epoch;
    // Nothing is reconciled before the remote tree has our own last transaction.
    if (remote.revision < this.#outbox.ownRevision) return waitMs;
    this.#outbox.finishInterrupted(remote);
    this.#losers.parkLate(remote.revision);
    waitMs = Math.min(waitMs, await this.#parkLate(remote, signal));
    const sinceFlipMs = this.#o.clock.monotonicMs() - this.#lastFlipMs;
    this.#moves = this.#findMoves(remote);
    if (this.#moves.toLocal.length > 0 && sinceFlipMs >= this.#o.minIntervalMs) {
      await this.#publishMoves(this.#moves.toLocal, remote);
      return LATER_MS;
    }
    if (this.#moves.toLocal.length > 0) waitMs = Math.min(waitMs, this.#o.minIntervalMs - sinceFlipMs);
    if (this.#moves.toRemote.length > 0)
      waitMs = Math.min(waitMs, this.#outbox.startMoves(this.#moves.toRemote, connection, signal));
    const plan = await this.#decide(connection, signal);
    if (plan.untried.length > 0) waitMs = Math.min(waitMs, UNREAD_MS);
    this.#agree(plan);
    const toPush = await this.#publish(plan, remote, sinceFlipMs, signal);
    this.#isLate = typeof toPush === 'string';
    if (toPush === 'later')
      waitMs = Math.min(waitMs, Math.max(LATER_MS, this.#o.minIntervalMs - sinceFlipMs));
    else if (toPush === 'again') waitMs = LATER_MS;
    else if (!this.#o.carryOnly && this.#mode !== 'pull')
      waitMs = Math.min(waitMs, this.#outbox.start(toPush, connection, signal));
    this.local.forgetMoves();
    if (!this.#isLate && !this.#o.carryOnly && this.#cache.hasWork) {
      this.#cache.fill();
      if (this.#cache.hasWork) waitMs = Math.min(waitMs, LATER_MS);
    }
    return Math.max(0, waitMs);
  }

  #noteRemote(path: Path, before: bigint): void {
    if (!this.#remoteDirty.has(path)) this.#remoteDirty.set(path, before);
  }

  /** Where the local version of a path is on disk. */
  #localAt(path: Path): ByteString | undefined {
    const { active } = this.#o.ledger.state;
    const found = this.local.adoptions.get(path)?.source;
    return found ?? (active === undefined ? undefined : this.#o.layout.inTree(active, path));
  }

  /** What mounts wrote to files that our pushes had replaced or removed. Returns when to look again (milliseconds). */
  async #parkLate(remote: Remote, signal: AbortSignal): Promise<number> {
    const { late, waitMs } = await this.#displaced.collect(remote, signal);
    const reason = 'written by a mount after it was replaced';
    for (const { path, entry, staged } of late)
      this.parked.park({ path, entry, source: staged.path, revision: remote.revision, reason });
    return waitMs;
  }

  #isBlocked(path: Path): boolean {
    if (this.local.busy.has(path) || this.#outbox.isPushing(path)) return true;
    return this.#outbox.isRefused(path, this.#remoteDirty.has(path));
  }

  /** Whether what was found somewhere stays there. In the idle tree it cannot, whatever goes on: the next flip needs that. */
  #hasToWait(path: Path): boolean {
    return this.local.tops.has(path) ? this.#isBlocked(path) : this.local.busy.has(path);
  }

  /** Resolves when no push is under way. */
  async idle(): Promise<void> {
    await this.#outbox.idle();
  }

  /** Whether a directory above is new, or not there any more, and has to wait: what is below it waits with it. */
  #isBelowBlocked(path: Path): boolean {
    const { ancestor } = this.#o.ledger.state;
    for (const dir of ancestorsOf(path)) {
      if (!this.#isBlocked(dir)) continue;
      if ([ancestor.get(dir), this.local.entryAt(dir)].some((entry) => entry?.type !== 'directory'))
        return true;
    }
    return false;
  }

  /** Moves of one side that changes of the other side cross; nothing is known of them in a directory without a past. */
  #findMoves(remote: Remote): CrossMoves {
    const { ancestor, revision, unadopted } = this.#o.ledger.state;
    const { dirty, adoptions, busy } = this.local;
    const isQuiet = dirty.size + adoptions.size + busy.size === 0;
    if (isQuiet || this.#remoteDirty.size === 0 || revision === 0n || this.#mode === 'pull') return NO_MOVES;
    const paths = [...new Set([...dirty, ...adoptions.keys()])].filter((path) => !unadopted.has(path));
    const local = new Map(paths.map((path) => [path, this.local.entryAt(path)]));
    const arriving = this.#arriving();
    for (const [path, { entry }] of arriving) local.set(path, entry);
    return findCrossMoves({
      ancestor,
      local,
      remote: new Map([...this.#remoteDirty.keys()].map((path) => [path, remote.tree.get(path)])),
      held: this.#o.abilities.held,
      cameFrom: (path) => arriving.get(path)?.from ?? this.local.cameFrom(path),
      // What was found beside the trees comes into them first.
      unsettled: new Set([...busy, ...adoptions.keys(), ...this.#outbox.pushing]),
      isRefused: (move) => this.#o.carryOnly || this.#outbox.isMoveRefused(move),
    });
  }

  /** What was moved to a path where it has not settled yet: its old path is not to be taken for removed. */
  #arriving(): Map<Path, { readonly from: Path; readonly entry: Entry }> {
    const { fs, ledger, layout } = this.#o;
    const { active, ancestor } = ledger.state;
    const found = new Map<Path, { readonly from: Path; readonly entry: Entry }>();
    for (const path of this.local.busy) {
      const at = active === undefined || ancestor.has(path) ? undefined : layout.inTree(active, path);
      const stat = at === undefined ? undefined : fs.lstat('look for moves', at);
      const from = stat?.type === 'file' ? this.local.leftBy(stat.ino, path) : undefined;
      const entry = from === undefined ? undefined : ancestor.get(from);
      if (from !== undefined && entry !== undefined) found.set(path, { from, entry });
    }
    return found;
  }

  /** Moves made in the volume, here: in a flip of their own, so that what crosses them is compared where it is then. */
  async #publishMoves(moves: readonly Move[], remote: Remote): Promise<void> {
    const { ledger, layout } = this.#o;
    const { items, ancestor } = itemsOfMoves(ledger.state, layout, moves);
    const result =
      items.size === 0
        ? undefined
        : await this.#flip(items, ancestor, ledger.state.revision, this.local.tops);
    if (result?.outcome === 'edited') return;
    if (result === undefined) ledger.write([{ t: 'ancestor', entries: ancestor }], false);
    const places = moves.flatMap(({ base, from, to }) => [base, from, to]);
    const isMoved = (path: Path): boolean => places.some((place) => isAtOrBelow(path, place));
    for (const path of [...items.keys(), ...ancestor.map(([moved]) => moved)]) {
      this.local.dirty.add(path);
      this.#noteRemote(path, remote.revision);
      this.#setProblem(path, result?.problems.get(path));
    }
    for (const path of remote.tree.keys()) if (isMoved(path)) this.#noteRemote(path, remote.revision);
    for (const { base, from, to } of moves) {
      const reason = 'moved here and in the volume: it has the name that the volume gave it';
      if (from !== base && from !== to) log('warn', 'conflict decided', { path: to, reason });
      log('info', 'moved', { path: to, from });
    }
  }

  /** What is to be done, once all that can be merged has been tried. */
  async #decide(connection: Connection, signal: AbortSignal): Promise<Reconciled> {
    const plan = this.#reconcile(connection.remote);
    if (plan.untried.length + plan.merged.length + plan.conflicts.length === 0) this.#merger.clear();
    if (plan.untried.length === 0) return plan;
    const revision = (path: Path): bigint => this.#remoteDirty.get(path) ?? this.#o.ledger.state.revision;
    await this.#merger.attempt(plan.untried, connection, revision, signal);
    return this.#reconcile(connection.remote);
  }

  #reconcile(remote: Remote): Reconciled {
    const local = new Map<Path, Entry | undefined>();
    const changed = new Map<Path, Entry | undefined>();
    const { ancestor, unadopted } = this.#o.ledger.state;
    this.#noteBelowUnadopted(remote);
    for (const path of [...this.local.dirty, ...this.local.adoptions.keys()]) {
      if (this.#isBlocked(path) || this.#isBelowBlocked(path) || unadopted.has(path)) continue;
      if (isHeldByMoves(this.#moves, path, ancestor) || this.local.arrivesEarly(path)) continue;
      local.set(path, this.local.entryAt(path));
    }
    for (const path of this.#remoteDirty.keys()) {
      if (this.local.busy.has(path) || this.#outbox.isPushing(path) || this.#isBelowBlocked(path)) continue;
      if (isHeldByMoves(this.#moves, path, ancestor)) continue;
      changed.set(path, remote.tree.get(path));
      // What is not known to differ is as the ancestor has it, but for paths that have none: there disk decides.
      if (!ancestor.has(path) && !local.has(path)) local.set(path, this.local.entryAt(path));
    }
    // A directory that nothing was published into knows of no edits: what it holds is not known to be newer.
    const decidesAlone = this.#mode === 'pull' || this.#o.ledger.state.revision === 0n;
    return reconcile({
      ancestor,
      local,
      remote: changed,
      held: this.#o.abilities.held,
      policy: decidesAlone ? 'remote' : this.#o.conflict,
      merged: (versions) => this.#merger.result(versions),
    });
  }

  /** What comes to light below a directory that the volume does not have belongs to it. */
  #noteBelowUnadopted(remote: Remote): void {
    const { ledger, excluded } = this.#o;
    const { ancestor, unadopted } = ledger.state;
    if (unadopted.size === 0) return;
    const paths = new Set([...this.local.dirty, ...this.local.adoptions.keys()]);
    const add = [...paths].filter((path) => {
      if (unadopted.has(path) || excluded(path) || ancestor.has(path) || remote.tree.has(path)) return false;
      return [...ancestorsOf(path)].some((dir) => unadopted.has(dir));
    });
    if (add.length === 0) return;
    ledger.write([{ t: 'unadopted', add, remove: [] }], false);
    for (const path of add) log('warn', 'unadopted', { path });
  }

  #agree({ agreed }: Reconciled): void {
    const { ledger } = this.#o;
    const { ancestor, replaced } = ledger.state;
    const news: [Path, AncestorEntry | null][] = [];
    for (const [path, entry] of agreed) {
      if (!sameFields(ancestor.get(path), entry) || replaced.has(path)) news.push([path, entry ?? null]);
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
    const isRootGone = remote.root === undefined;
    const verdict = this.#massDelete.judge({ toLocal: changes, toRemote, busy: this.local.busy, isRootGone });
    if (verdict === 'held') return [];
    if (verdict === 'later') toRemote = [];
    if (verdict === 'restore') {
      changes.push(...this.#restoreTop(toRemote).map(undo));
      toRemote = toRemote.filter(({ new: local }) => local !== undefined);
      if (changes.length === 0) return 'again';
    }
    toRemote = await this.#losers.parkRemote(plan, toRemote, remote, signal);
    // Nothing was published by this state; a tree of a state that was lost may be there.
    const first = state.revision === 0n;
    if (!first && changes.length === 0 && this.local.adoptions.size === 0) return toRemote;
    // What was there before the first publish is read first: its names are about to be replaced.
    if (sinceFlipMs < this.#o.minIntervalMs || (first && this.local.busy.size > 0)) return 'later';

    const items = localItems(changes, remote.tree);
    const links = new LinkSources(state, layout, items, (ino) => remote.pathsOf(ino));
    const wanted = contentsToStage(items, (item) => links.find(item) !== undefined);
    await remote.stage.stage(wanted, remote.head, signal);
    this.#losers.parkLocal(plan, undone, remote.revision);

    const request = new Map<Path, Wanted | undefined>();
    const ancestor: [Path, AncestorEntry | null][] = [];
    const unpublished = new Set<Path>();
    for (const item of items) {
      const isPublished = this.#request(item, links, remote, request, ancestor);
      const isLinked = item.entry?.type === 'file' && item.entry.nlink > 1;
      if (!isPublished && !isLinked) unpublished.add(item.path);
    }
    const waiting = waitingAdoptions(this.local, {
      slots: state.slots,
      pushing: this.#outbox.pushing,
      inActive: (path) => layout.inTree(state.active ?? 'a', path),
      isBlocked: (path) => this.#hasToWait(path),
      isTaken: (path) => request.has(path),
    });
    // Only what is taken over from there: what the volume brings to a name that was removed there is news, and gets its link.
    const fromTop = new Set<Path>();
    for (const [path, adoption] of this.local.adoptions) {
      if (request.has(path) || waiting.has(path)) continue;
      request.set(path, adoption === undefined ? undefined : wantedForAdoption(adoption));
      if (adoption !== undefined && this.local.tops.has(path)) fromTop.add(path);
    }
    // What waits here waits there as well.
    toRemote = toRemote.filter(({ path }) => !waiting.has(path));
    // All of it waits: a flip would change nothing.
    if (request.size === 0 && !first) return toRemote.filter(({ path }) => !unpublished.has(path));
    const result = await this.#flip(request, ancestor, remote.revision, fromTop);
    if (result.outcome === 'edited') return 'again';
    for (const { path } of plan.merged) if (request.has(path)) log('info', 'merged', { path });
    // All that is to be remembered comes before the calls with which a failing disk may end this turn.
    const { adoptions } = this.local;
    const taken = [...request.keys()].flatMap((path) => {
      const adoption = adoptions.get(path);
      return adoption === undefined ? [] : [{ path, adoption }];
    });
    for (const path of request.keys()) {
      if (adoptions.has(path)) this.local.adopted(path);
      else this.local.dirty.add(path);
      this.local.settle(path);
      if (!result.problems.has(path)) this.#remoteDirty.delete(path);
      this.#setProblem(path, result.problems.get(path));
    }
    for (const { path, adoption } of taken) this.#dropLoserAtTop(path, adoption);
    remote.stage.clear();
    this.#merger.clear();
    if (first) catchUp(this.#publishContext());
    // What did not come here must not be pushed as if it had.
    toRemote = toRemote.filter(({ path }) => !result.problems.has(path) && !unpublished.has(path));
    return toRemote;
  }

  #publishContext(): Parameters<typeof publish>[0] {
    const { fs, layout, ledger, clock, assertOwner, abilities } = this.#o;
    const { seenAtTop } = this.#scanner;
    const { held, exchanges } = abilities;
    return { fs, layout, ledger, clock, assertOwner, seenAtTop, held, exchanges };
  }

  /** Publishes, or looks where edits came in between. */
  async #flip(
    items: ReadonlyMap<Path, Wanted | undefined>,
    ancestor: readonly (readonly [Path, AncestorEntry | null])[],
    revision: bigint,
    fromTop: ReadonlySet<Path>,
  ): Promise<PublishResult> {
    const { ledger, clock } = this.#o;
    const startMs = clock.monotonicMs();
    let result: PublishResult;
    try {
      result = publish(this.#publishContext(), {
        items,
        ancestor,
        revision,
        unsettled: this.local.busy,
        touchedSince: (tree) => this.#scanner.touchedSince(tree, ledger.state),
        fromTop,
      });
    } catch (error) {
      // Who knows which of the staged contents are in a tree by now.
      this.#remote?.stage.clear();
      this.#merger.clear();
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
      return result;
    }
    this.#lastFlipMs = clock.monotonicMs();
    const ms = Math.round(this.#lastFlipMs - startMs);
    log('info', 'published', { revision, changes: items.size, ms });
    return result;
  }

  /**
   * What stands in a real directory at the top and lost against what was just published, and is kept: left there, the next
   * look would take it for an edit of the version that it lost against.
   */
  #dropLoserAtTop(path: Path, { slot, source }: Adoption): void {
    const { fs, layout, ledger } = this.#o;
    if (!path.includes('/') || source !== layout.top(path)) return;
    const isShown = ledger.state.slots.get(path)?.signature.ino === slot.signature.ino;
    const entry = entryOfSlot(slot);
    if (isShown || (entry?.type !== 'file' && entry?.type !== 'symlink')) return;
    const stat = fs.lstat('drop loser', source);
    if (!sameButCtime(slot, stat) || !this.parked.has(path, entry)) return;
    fs.unlink('drop loser', source);
    this.#scanner.forgetAtTop(path);
  }

  /** What the publish makes of an item, and what both sides agree on then; false when it cannot be made now. */
  #request(
    item: LocalItem,
    links: LinkSources,
    remote: Remote,
    request: Map<Path, Wanted | undefined>,
    ancestor: [Path, AncestorEntry | null][],
  ): boolean {
    const staged = (
      file: AncestorEntry & { readonly type: 'file' },
    ): ReturnType<typeof remote.stage.stagedFile> =>
      file.contentKey === undefined
        ? this.#merger.stagedFile(file.digest)
        : remote.stage.stagedFile({ ino: file.ino, key: file.contentKey });
    const { ledger, layout } = this.#o;
    const local = links.find(item) ?? ownCopy(ledger.state, layout, item);
    const want = wantedFor(item, local, staged, (entry) => this.#stageSpecial(item.path, entry));
    if (typeof want === 'string') {
      // The volume has moved on meanwhile: the next turn sees it.
      debug('not published: %s: %s', escapeBytes(item.path), want);
      return false;
    }
    request.set(item.path, want);
    ancestor.push([item.path, remote.tree.get(item.path) ?? null]);
    return true;
  }

  /** A special file in the stage; one that a publish left there because an edit came in between is taken again. */
  #stageSpecial(path: Path, { ino, kind, rdev }: SpecialEntry): ByteString | undefined {
    const { fs, layout } = this.#o;
    const at = `${layout.stage}/s-${ino}-${kind}-${rdev}`;
    try {
      if (fs.lstat('stage special', at) === undefined) fs.mknod('stage special', at, kind, rdev);
      return at;
    } catch (error) {
      this.#setProblem(path, `the ${kind} cannot be made (${codeOf(error) ?? String(error)})`);
      return undefined;
    }
  }

  /** Before the first publish the directory may hold files nobody has agreed on: they stay, and are not pushed. */
  #setAsideUnadopted(changes: readonly Change[], remote: Remote): readonly Change[] {
    const { ledger, adopt } = this.#o;
    const { entered, revision } = ledger.state;
    const isFirst = this.#firstStart && revision === 0n && remote.tree.size > 0;
    if (adopt || (!isFirst && entered.size === 0)) return changes;
    const isAside = ({ path, old }: Change): boolean => old === undefined && (isFirst || entered.has(path));
    const add = changes.filter(isAside).map(({ path }) => path);
    if (add.length === 0) return changes;
    ledger.write([{ t: 'unadopted', add, remove: [] }], false);
    for (const path of add) log('warn', 'unadopted', { path });
    const aside = new Set(add);
    return changes.filter(({ path }) => !aside.has(path));
  }

  /** Puts back names at the top that lost nothing but their link; the removals that this does not undo. */
  #restoreTop(changes: readonly Change[]): Change[] {
    const { fs, layout, ledger, clock } = this.#o;
    const { slots } = ledger.state;
    const mended = new Set<Path>();
    const left = changes.filter(({ path, new: local }) => {
      if (local !== undefined) return false;
      const lostItsLink = this.local.adoptions.has(path) && slots.has(path);
      if (!lostItsLink) return true;
      this.local.adoptions.delete(path);
      this.local.settle(path);
      mended.add(path.split('/', 1)[0] ?? path);
      return false;
    });
    mendTop({ fs, layout, ledger, clock }, mended, (path) => slots.get(path));
    return left;
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

/** A local change that this mode does not push, taken back: the path becomes what the volume has. */
function undo({ path, old, new: local }: Change): Change {
  return { path, old: local, new: old };
}
