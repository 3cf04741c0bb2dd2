/** The loop: observe both sides, reconcile, act, remember. */

import createDebug from 'debug';

import { escapeBytes } from '../codec/bytes.ts';
import type { ByteString } from '../codec/kv.ts';
import type { Change } from '../reconcile/change.ts';
import type { ConflictPolicy } from '../reconcile/conflict.ts';
import type { Path } from '../reconcile/entry.ts';
import type { Reconciled } from '../reconcile/reconcile.ts';
import type { Abilities } from './disk/abilities.ts';
import { AncestorCache } from './state/ancestor-cache.ts';
import { Crossing } from './conflict/crossing.ts';
import { DisplacedInodes } from './follow/displaced.ts';
import { contentsToStage, LinkSources, localItems, wantedForAdoption } from './publish/items.ts';
import type { Guards } from './guard/guards.ts';
import type { Layout } from './disk/layout.ts';
import type { Ledger } from './state/ledger.ts';
import { Local } from './look/local.ts';
import { log } from './base/log.ts';
import { Losers } from './conflict/losers.ts';
import { Merger } from './conflict/merger.ts';
import type { Extent, Look } from './look/look.ts';
import { MassDelete } from './guard/mass-delete.ts';
import { Outbox, type Connection, type CutPush } from './push/outbox.ts';
import { Parked } from './state/parked.ts';
import { PathProblems } from './disk/path-problems.ts';
import type { Clock, FsPort } from './base/ports.ts';
import { Publisher } from './publish/publisher.ts';
import { recover } from './start/recover.ts';
import { RemoteNews } from './follow/remote-news.ts';
import type { Remote } from './follow/remote.ts';
import { Judge } from './judge.ts';
import { Scanner } from './look/scan.ts';
import { mendTop } from './publish/top.ts';
import { Unadopted } from './unadopted.ts';
import { waitingAdoptions } from './look/waiting-adoptions.ts';

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
  readonly #problems = new PathProblems();
  readonly #news = new RemoteNews();
  readonly #outbox: Outbox;
  readonly #cache: AncestorCache;
  #remote: Remote | undefined;
  readonly #merger: Merger;
  readonly #displaced: DisplacedInodes;
  readonly #massDelete: MassDelete;
  readonly #losers: Losers;
  readonly #publisher: Publisher;
  readonly #crossing: Crossing;
  readonly #unadopted: Unadopted;
  readonly #judge: Judge;
  #mode: 'two-way' | 'pull';
  #epoch = 0;
  #isLate = true;
  #damage: string | undefined;
  /** Called when something happened that makes another cycle worth while. */
  onWake: () => void = () => undefined;
  /** Called when something has changed here that no look has seen yet. */
  onMissed: () => void = () => undefined;

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
    const inodeAt = (at: ByteString): bigint | undefined => fs.lstat('look at loser', at)?.ino;
    this.#losers = new Losers({ local: this.local, parked: this.parked, localAt, inodeAt });
    const onStale = (path: Path): void => this.#news.note(path, ledger.state.revision);
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
      onMissed: () => this.onMissed(),
      onEnd,
      onDisplaced: (path, file, revision) => this.#displaced.add(path, file, revision),
    });
    const { guards, maxDeletePercent: maxPercent } = options;
    this.#massDelete = new MassDelete({ fs, layout, clock, ledger, guards, maxPercent });
    const { assertOwner, adopt, carryOnly } = options;
    const problems = this.#problems;
    this.#publisher = new Publisher({
      fs,
      layout,
      clock,
      ledger,
      assertOwner,
      abilities,
      local,
      parked,
      problems,
      scanner: this.#scanner,
      merger: this.#merger,
      look: async (directories) => this.look(directories),
    });
    const isTwoWay = (): boolean => this.#mode === 'two-way';
    const news = this.#news;
    this.#crossing = new Crossing({
      fs,
      layout,
      ledger,
      local,
      abilities,
      problems,
      carryOnly,
      outbox: this.#outbox,
      publisher: this.#publisher,
      isTwoWay,
      news,
    });
    this.#unadopted = new Unadopted({ ledger, adopt, excluded });
    this.#judge = new Judge({
      ledger,
      local,
      news,
      outbox: this.#outbox,
      merger: this.#merger,
      unadopted: this.#unadopted,
      held: abilities.held,
      conflict: options.conflict,
      isTwoWay,
    });
    for (const path of this.#unadopted.release()) local.dirty.add(path);
  }

  /** The volume is one that this program does not write: local edits are parked and undone, with a problem that says why. */
  pullOnly(reason: string): void {
    this.#mode = 'pull';
    this.#problems.set('', reason);
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
    const all = new Map([...this.#problems.all, ...this.local.problems]);
    const { fs, layout, ledger } = this.#o;
    for (const [name, path] of ledger.state.quarantined) {
      if (fs.lstat('quarantined', `${layout.quarantine}/${name}`) !== undefined)
        all.set(
          path,
          `it was empty or damaged after a reboot, was set aside as quarantine/${name}, and is not pushed`,
        );
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
    if ('changed' in advanced) for (const path of advanced.changed) this.#news.note(path, before);
    else waitMs = advanced.waitMs;
    if (remote.revision === 0n || remote.gone !== undefined || this.#damage !== undefined) return waitMs;
    if (remote.epoch !== this.#epoch) this.#outbox.forgetRevision();
    this.#epoch = remote.epoch;
    // Nothing is reconciled before the remote tree has our own last transaction.
    if (remote.revision < this.#outbox.ownRevision) return waitMs;
    this.#outbox.agreeOnUnanswered(remote);
    this.#losers.parkLate(remote.revision);
    waitMs = Math.min(waitMs, await this.#parkLate(remote, signal));
    const { sinceFlipMs } = this.#publisher;
    const moves = this.#crossing.find(remote);
    if (moves.toLocal.length > 0 && sinceFlipMs >= this.#o.minIntervalMs) {
      await this.#crossing.publish(moves.toLocal, remote);
      return LATER_MS;
    }
    if (moves.toLocal.length > 0) waitMs = Math.min(waitMs, this.#o.minIntervalMs - sinceFlipMs);
    if (moves.toRemote.length > 0)
      waitMs = Math.min(waitMs, this.#outbox.startMoves(moves.toRemote, connection, signal));
    const plan = await this.#judge.decide(connection, moves, signal);
    if (plan.untried.length > 0) waitMs = Math.min(waitMs, UNREAD_MS);
    this.#judge.agree(plan, remote.revision);
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

  /** Resolves when no push is under way. */
  async idle(): Promise<void> {
    await this.#outbox.idle();
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
    let toRemote = pullOnly ? [] : this.#unadopted.setAside(plan.toRemote, remote);
    const changes = [...plan.toLocal, ...undone];
    const isRootGone = remote.root === undefined;
    const verdict = this.#massDelete.judge({ toLocal: changes, toRemote, busy: this.local.busy, isRootGone });
    if (verdict === 'held') return [];
    if (verdict === 'later') toRemote = [];
    if (verdict === 'restore') {
      changes.push(...this.#publisher.restoreTop(toRemote).map(undo));
      toRemote = toRemote.filter(({ new: local }) => local !== undefined);
      if (changes.length === 0) return 'again';
    }
    toRemote = await this.#losers.parkRemote(plan, toRemote, remote, signal);
    // Nothing was published by this state; a tree of a state that was lost may be there.
    const first = state.revision === 0n;
    if (!first && changes.length === 0 && this.local.adoptions.size === 0) {
      // A publish that an edit crossed may have left what nobody wants any more, under a second name in the idle tree.
      remote.stage.clear();
      return toRemote;
    }
    // What was there before the first publish is read first: its names are about to be replaced.
    if (sinceFlipMs < this.#o.minIntervalMs || (first && this.local.busy.size > 0)) return 'later';

    const items = localItems(changes, remote.tree);
    const links = new LinkSources(this.#o, state, items, (ino) => remote.pathsOf(ino));
    const wanted = contentsToStage(items, (item) => links.find(item) !== undefined);
    await remote.stage.stage(wanted, remote.head, signal);
    this.#losers.parkLocal(plan, undone, remote.revision);

    const { request, ancestor, unpublished } = this.#publisher.prepare(items, links, remote);
    const waiting = waitingAdoptions(this.local, {
      slots: state.slots,
      pushing: this.#outbox.pushing,
      inActive: (path) => layout.inTree(state.active ?? 'a', path),
      isBlocked: (path) => this.#judge.hasToWait(path),
      isTaken: (path) => request.has(path),
    });
    // Only what is taken over from there: what the volume brings to a name that was removed there is news, and gets its link.
    const fromTop = new Set<Path>();
    for (const [path, adoption] of this.local.adoptions) {
      if (request.has(path) || waiting.has(path)) continue;
      request.set(path, adoption === undefined ? undefined : wantedForAdoption(adoption));
      if (this.local.tops.has(path)) fromTop.add(path);
    }
    // What waits here waits there as well.
    toRemote = toRemote.filter(({ path }) => !waiting.has(path));
    // All of it waits: a flip would change nothing.
    if (request.size === 0 && !first) return toRemote.filter(({ path }) => !unpublished.has(path));
    const result = await this.#publisher.flip(request, ancestor, remote.revision, fromTop, remote);
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
      if (!result.problems.has(path)) this.#news.settle(path);
      this.#problems.set(path, result.problems.get(path));
    }
    // A directory that could not go with what the tree missed is there again, for what somebody had made in it.
    for (const path of result.problems.keys()) this.local.dirty.add(path);
    for (const { path, adoption } of taken) this.#publisher.dropLoserAtTop(path, adoption);
    remote.stage.clear();
    this.#merger.clear();
    if (first) this.#publisher.catchUp();
    // What did not come here must not be pushed as if it had.
    toRemote = toRemote.filter(({ path }) => !result.problems.has(path) && !unpublished.has(path));
    return toRemote;
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
