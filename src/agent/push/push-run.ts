/** One push: claims numbers, stores blocks, commits what the planner says, cleans up after. */

import { decodeKey, encodeKey, ROOT_INO } from '../../codec/key.ts';
import type { ByteString, Compare, StoreTransaction } from '../../codec/kv.ts';
import type { Setting } from '../../codec/setting.ts';
import type { Path } from '../../reconcile/entry.ts';
import { detachedTree, holdOf, type Hold } from '../../reconcile/detached.ts';
import { LIMITS } from '../../reconcile/limits.ts';
import {
  planPush,
  type GivenUp,
  type Plan,
  type Planned,
  type PlanRequest,
} from '../../reconcile/plan-remote.ts';
import { ancestorsOf, type PushChange } from '../../reconcile/push-change.ts';
import { orderPush } from '../../reconcile/push-order.ts';
import { deleteFileData } from '../volume/deleted-file.ts';
import { AgentError, codeOf, DecodeError, VolumeError } from '../base/error.ts';
import type { IdPool } from '../volume/id-pool.ts';
import type { Clock, CommitResult, EtcdStore } from '../base/ports.ts';
import { Preparation } from './preparation.ts';
import { buildHold, removeHold, type HoldContext } from './push-hold.ts';
import type { ChangeOutcome, PushOptions, PushOutcome } from './push-outcome.ts';
import { committedAfterAll } from './push-readback.ts';
import { lostOnAccounts } from './push-verdict.ts';
import { PushView } from './push-view.ts';
import { assertSameStore } from '../base/same-store.ts';
import { settingOf, type Volume } from '../volume/volume.ts';

/** Groups that are planned for one transaction as they are; more would not fit. */
const WINDOW = 128;

/** Groups that are planned for one naming of what stands ready: what a big directory holds. */
const DETACHED_WINDOW = 20_000;
/** Key of the volume's format record. */
const SETTING = encodeKey({ kind: 'setting' });

/** Times that what stood ready could not be named as planned, before the rest is pushed as it fits. */
const MAX_UNREADY = 3;

/** First and longest wait before a transaction that lost on accounts alone is built again, in milliseconds. */
const JITTER_MS = 4;
const MAX_JITTER_MS = 250;

/** The fence takes one. */
const FENCE_COMPARES = 1;

type Groups = readonly (readonly PushChange[])[];
type ReadyPlan = Extract<Plan, { status: 'plan' }>;

/** What stands ready without names, and the reading of the clock it was made by. */
interface Ready {
  readonly hold: Hold;
  readonly nowNs: bigint;
}

/** What one push leaves to the next. */
export interface Shared {
  readonly inodes: IdPool;
  readonly slices: IdPool;
  /** Keys of blocks that nothing names and that could not be deleted yet. */
  readonly orphans: Set<ByteString>;
  /** Directories without names that could not be taken away yet. */
  readonly holds: Set<bigint>;
  /** Something of an earlier push may or may not be in the volume: it stays until the next start. */
  isInDoubt: boolean;
  /** What the last push wrote: an index may not have it yet. */
  view: PushView | undefined;
}

/** One call of `push`. */
export class PushRun {
  readonly #store: EtcdStore;
  readonly #volume: Volume;
  readonly #clock: Clock;
  readonly #shared: Shared;
  readonly #options: PushOptions;
  readonly #changes: readonly PushChange[];
  readonly #view: PushView;
  readonly #preparation: Preparation;
  /** By path: ordering may have made one change of two. */
  readonly #outcomes = new Map<Path, ChangeOutcome>();
  readonly #revisions: bigint[] = [];
  /** By key: the revision at which this push put it last. */
  readonly #writtenAt = new Map<ByteString, bigint>();
  /** The directory without a name whose entries wait for theirs. */
  #open: bigint | undefined;
  #unready = 0;
  /** A transaction was sent and its outcome is not known: what it names must stay. */
  #inDoubt = false;
  /** Files that lost their last name for good. */
  readonly #deleted: { readonly ino: bigint; readonly length: bigint }[] = [];

  constructor(
    store: EtcdStore,
    volume: Volume,
    clock: Clock,
    shared: Shared,
    options: PushOptions,
    changes: readonly PushChange[],
  ) {
    this.#store = store;
    this.#volume = volume;
    this.#clock = clock;
    this.#shared = shared;
    this.#options = options;
    this.#changes = changes;
    this.#view = new PushView(store, volume.prefix, options.live, shared.view);
    shared.view = this.#view;
    this.#preparation = new Preparation(store, volume, shared, options, changes);
  }

  async run(): Promise<PushOutcome> {
    try {
      await this.#pushAll(orderPush(this.#changes));
    } catch (error) {
      if (this.#inDoubt || this.#revisions.length > 0) this.#options.onUnanswered?.();
      if (this.#inDoubt) this.#shared.isInDoubt = true;
      else await this.#abandon();
      throw error;
    }
    await this.#deleteData();
    return {
      changes: this.#changes.map((change) => {
        const outcome = this.#outcomes.get(change.path) ?? { outcome: 'lost' as const };
        return { ...outcome, change };
      }),
      revisions: this.#revisions,
    };
  }

  async #pushAll(ordered: Groups): Promise<void> {
    let waiting = ordered;
    while (waiting.length > 0) {
      const rest = await this.#pushSome(waiting.slice(0, DETACHED_WINDOW));
      if (rest === 'lost') return this.#abandon();
      waiting = [...rest, ...waiting.slice(DETACHED_WINDOW)];
      this.#options.onProgress?.(this.#outcomes.size, this.#changes.length);
    }
  }

  /** Brings some groups into the volume by one transaction; what did not fit comes back. */
  async #pushSome(waiting: Groups): Promise<Groups | 'lost'> {
    const groups = await this.#prepare(waiting);
    if (groups === 'changed') return 'lost';
    const few = groups.slice(0, WINDOW);
    const many = groups.slice(WINDOW);
    const plan = await this.#plan(few);
    if ((plan.rest.length > 0 || many.length > 0) && this.#unready < MAX_UNREADY) {
      const rest = await this.#pushDetached(groups, plan.planned.length);
      if (rest !== 'no gain') return rest;
    }
    const rest = await this.#commit(few);
    return typeof rest === 'string' ? 'lost' : [...rest, ...many];
  }

  /**
   * Makes all new inodes first, where nobody sees them, and then sets the names, of as many changes as one transaction
   * takes. `no gain`: that would be no more than the `plain` changes which fit as they are.
   */
  async #pushDetached(groups: Groups, plain: number): Promise<Groups | 'lost' | 'no gain'> {
    await this.#preparation.storeKept(groups.flat());
    const nowNs = this.#clock.nowNs();
    const survey = await this.#plan(groups, { hold: 'survey', nowNs });
    if (survey.fresh.length === 0 || survey.planned.length <= plain) return 'no gain';
    await this.#giveUp(survey.givenUp);
    const planned = new Set(survey.planned.map(({ change }) => change));
    const named = groups.filter((group) => group.every((change) => planned.has(change)));
    const hold = await this.#build(survey.fresh, nowNs);
    const outcome = hold === 'lost' ? 'unready' : await this.#commit(named, { hold, nowNs });
    if (outcome === 'lost') return 'lost';
    if (outcome !== 'unready') return survey.rest;
    // The volume changed so that what stands ready is not what is wanted, or too much to be named at once.
    this.#unready += 1;
    if (this.#open !== undefined) await removeHold(this.#context, this.#open);
    // It knows of entries that are not there any more.
    this.#view.forget();
    this.#open = undefined;
    return [...named, ...survey.rest];
  }

  async #build(fresh: ReadyPlan['fresh'], nowNs: bigint): Promise<Hold | 'lost'> {
    const { signal } = this.#options;
    const [ino] = await this.#shared.inodes.take(1, this.#options);
    if (ino === undefined) throw new RangeError('no inode was claimed');
    const tree = detachedTree(fresh, ino, nowNs);
    this.#preparation.claim({ kind: 'hold', ino });
    this.#open = ino;
    const outcome = await buildHold(this.#context, tree, {
      view: this.#view,
      setting: this.#setting()?.value ?? this.#volume.setting,
      nowNs,
      signal,
      send: (transaction) => this.#send(transaction),
      onCommitted: (transaction, revision) => this.#wrote(transaction, revision),
      onKnown: () => (this.#inDoubt = false),
    });
    return outcome === 'lost' ? 'lost' : holdOf(tree);
  }

  /**
   * Plans and commits one transaction; the groups that did not fit into it come back. `unready`: not everything that
   * stands ready can be named.
   */
  async #commit(groups: Groups, ready?: Ready): Promise<Groups | 'lost' | 'unready'> {
    for (let failures = 0; ; failures += 1) {
      const plan = await this.#plan(groups, ready);
      const { transaction, planned, givenUp, rest } = plan;
      if (ready !== undefined && planned.length < groups.flat().length) return 'unready';
      const result = planned.length === 0 ? undefined : await this.#send(transaction, ready);
      if (result?.outcome === 'lost') {
        const revision = await committedAfterAll(this.#context, {
          result,
          plan,
          prepared: this.#preparation.claimants,
          hold: ready?.hold.ino,
          signal: this.#options.signal,
          onTakenOver: (change) => this.#preparation.forget(change),
        });
        // Another store may have something else under the numbers that were claimed here.
        assertSameStore(this.#options.isSameStore);
        this.#inDoubt = false;
        if (revision === undefined) {
          if (!lostOnAccounts(this.#view, this.#volume.prefix, transaction, result.current)) return 'lost';
          this.#view.learn(result.current, result.revision);
          const waitMs = Math.min(MAX_JITTER_MS, JITTER_MS * 2 ** failures) * this.#clock.random();
          await this.#clock.sleep(waitMs, this.#options.signal);
          continue;
        }
        this.#committed(transaction, planned, revision, ready);
      } else if (result !== undefined) {
        this.#committed(transaction, planned, result.revision, ready);
      }
      await this.#giveUp(givenUp);
      return rest;
    }
  }

  /** Sends a transaction that names what was stored before, or stores what nothing names. */
  async #send(transaction: StoreTransaction, ready?: Ready): Promise<CommitResult> {
    assertSameStore(this.#options.isSameStore);
    const relied = transaction.compares.find((compare) => 'key' in compare && compare.modRevision > 0n);
    // The directory without a name tells by itself whether its entries were named.
    if (this.#preparation.isClaimed && ready === undefined && relied !== undefined && 'key' in relied)
      this.#preparation.claim({ kind: 'relied', ...relied });
    try {
      const result = await this.#store.commit(this.#preparation.fenced(transaction), this.#options.signal);
      this.#inDoubt = result.outcome === 'lost' && result.ambiguous;
      if (this.#inDoubt) this.#preparation.noteDoubt();
      return result;
    } catch (error) {
      this.#inDoubt = codeOf(error) === 'ERR_UNKNOWN_OUTCOME';
      throw error;
    }
  }

  async #giveUp(givenUp: readonly GivenUp[]): Promise<void> {
    for (const { change, outcome, reason } of givenUp)
      this.#outcomes.set(change.path, { outcome, change, reason });
    await this.#release(givenUp.map(({ change }) => change));
  }

  async #plan(
    groups: Groups,
    how: Pick<PlanRequest, 'hold'> & { readonly nowNs?: bigint } = {},
  ): Promise<ReadyPlan> {
    const refused = [...this.#outcomes.values()]
      .filter(({ outcome }) => outcome === 'refused' || outcome === 'changed')
      .map(({ change }) => change.path);
    for (;;) {
      const setting = this.#setting();
      const plan = planPush({
        view: this.#view,
        prefix: this.#volume.prefix,
        root: this.#options.root ?? ROOT_INO,
        groups,
        prepared: this.#preparation.claimants,
        refused,
        setting: setting?.value ?? this.#volume.setting,
        owners: this.#options.owners ?? false,
        times: this.#options.times ?? false,
        xattrs: this.#options.xattrs ?? false,
        nowNs: this.#clock.nowNs(),
        // Room for the fence and the setting.
        limits: { ...LIMITS, compares: LIMITS.compares - FENCE_COMPARES - 1 },
        ...how,
      });
      if (plan.status === 'plan' && setting !== undefined) return withCompare(plan, setting.compare);
      const { keys, ranges } = plan.status === 'plan' ? { keys: [], ranges: [] } : plan;
      const wanted = setting === undefined ? [...keys, SETTING] : keys;
      await this.#view.fetch({ keys: wanted, ranges }, this.#options.signal);
    }
  }

  /**
   * The setting as it is now, whose limits and accounts may have changed since the volume was opened; `undefined` if it
   * has not been read yet. Throws `VolumeError` if there is another volume or none.
   */
  #setting(): { readonly value: Setting; readonly compare: Compare } | undefined {
    const kv = this.#view.get(SETTING);
    if (kv === 'unknown') return undefined;
    const { name, uuid } = this.#volume.setting;
    if (kv === 'absent') throw new VolumeError(`The volume ${name} is gone: its setting was deleted.`);
    const value = settingOf(kv.value);
    if (value.uuid !== uuid) throw new VolumeError(`Another volume is in the place of ${name}.`);
    return { value, compare: { key: this.#volume.prefix + SETTING, modRevision: kv.modRevision } };
  }

  /**
   * Claims numbers and stores contents; groups whose contents were not what the digest says are left out, with all that depends
   * on them. `changed`: nothing goes without them.
   */
  async #prepare(groups: Groups): Promise<Groups | 'changed'> {
    const changed = await this.#preparation.prepare(groups.flat());
    if (changed.size === 0) return groups;
    if (this.#options.isTogether === true && this.#revisions.length === 0) {
      for (const change of this.#changes) this.#outcomes.set(change.path, { outcome: 'changed', change });
      return 'changed';
    }
    // What goes with a directory that the file takes the place of goes with the file: all of it is looked at again.
    const places = new Set([...changed].map(({ path }) => path));
    const waits = (change: PushChange): boolean =>
      changed.has(change) || [...ancestorsOf(change.path)].some((above) => places.has(above));
    const dropped = new Set(groups.filter((group) => group.some(waits)));
    const set = [...dropped].flat();
    for (const change of set) this.#outcomes.set(change.path, { outcome: 'changed', change });
    await this.#release(set);
    return groups.filter((group) => !dropped.has(group));
  }

  #committed(
    transaction: StoreTransaction,
    planned: readonly Planned[],
    revision: bigint,
    ready: Ready | undefined,
  ): void {
    this.#open = undefined;
    this.#revisions.push(revision);
    this.#wrote(transaction, revision);
    for (const op of transaction.ops) {
      if (op.type !== 'put' || !op.key.startsWith(this.#volume.prefix)) continue;
      const key = decodeKey(op.key.slice(this.#volume.prefix.length));
      if (key.kind === 'deletedFile') this.#deleted.push({ ino: key.ino, length: key.length });
    }
    for (const { change, entry } of planned) {
      const writtenAt =
        (entry && this.#writtenAt.get(this.#volume.keyOf({ kind: 'attr', ino: entry.ino }))) ?? revision;
      this.#outcomes.set(change.path, { outcome: 'committed', change, revision, writtenAt, entry });
      this.#preparation.committed(change, (ino) => this.#isUnused(transaction, ino, ready));
    }
  }

  /** Takes in a transaction of ours that committed. */
  #wrote(transaction: StoreTransaction, revision: bigint): void {
    this.#view.applyOwn(transaction, revision);
    for (const op of transaction.ops) if (op.type === 'put') this.#writtenAt.set(op.key, revision);
  }

  #isUnused(transaction: StoreTransaction, ino: bigint, ready: Ready | undefined): boolean {
    if (ready?.hold.built.has(encodeKey({ kind: 'attr', ino })) === true) return false;
    const key = this.#volume.keyOf({ kind: 'attr', ino });
    return !transaction.ops.some((op) => op.type === 'put' && op.key === key);
  }

  /** Nothing that has no outcome yet gets into the volume. */
  async #abandon(): Promise<void> {
    if (this.#open !== undefined) this.#shared.holds.add(this.#open);
    this.#open = undefined;
    await this.#release([...this.#preparation.claimants.keys()]);
  }

  /** Gives back what was claimed for changes that are not in the volume, and deletes their blocks. */
  async #release(changes: readonly PushChange[]): Promise<void> {
    const { orphans, holds } = this.#shared;
    this.#preparation.drop(changes);
    if (this.#options.isSameStore?.() === false) return;
    try {
      // What names the blocks goes first.
      for (const ino of holds) {
        await removeHold(this.#context, ino);
        holds.delete(ino);
      }
      if (orphans.size === 0) return;
      // Not with the push's signal: what was begun before it fired has to go as well.
      await this.#volume.data.delete([...orphans]);
      orphans.clear();
    } catch (error) {
      // The store is away: the next push tries again.
      if (!(error instanceof AgentError)) throw error;
    }
  }

  get #context(): HoldContext {
    return { store: this.#store, volume: this.#volume, clock: this.#clock };
  }

  /** Best effort: mounts do the same an hour later from the keys that the transaction left (layout 11.3). */
  async #deleteData(): Promise<void> {
    for (const file of this.#deleted) {
      try {
        await deleteFileData(this.#store, this.#volume, file, this.#options);
      } catch (error) {
        if (this.#options.signal?.aborted === true) return;
        if (!(error instanceof AgentError || error instanceof DecodeError)) throw error;
      }
    }
  }
}

/** A plan that only holds while the compare does. Behind the others: what a plan relied on first says whether it ran. */
function withCompare(plan: ReadyPlan, compare: Compare): ReadyPlan {
  const { compares, ops } = plan.transaction;
  return { ...plan, transaction: { compares: [...compares, compare], ops } };
}
