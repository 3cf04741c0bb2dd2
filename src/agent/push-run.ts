/** One push: claims numbers, stores blocks, commits what the planner says, cleans up after. */

import { decodeKey, ROOT_INO } from '../codec/key.ts';
import type { ByteString, StoreTransaction } from '../codec/kv.ts';
import type { Path } from '../reconcile/entry.ts';
import { LIMITS, planPush, type Plan, type Planned, type Prepared } from '../reconcile/plan-remote.ts';
import { needsContent, needsInode, type PushChange } from '../reconcile/push-change.ts';
import { orderPush } from '../reconcile/push-order.ts';
import { BlockWriter, deleteKeys } from './blocks.ts';
import { storeContent, type StoredContent } from './content.ts';
import { deleteFileData } from './deleted-file.ts';
import { AgentError, codeOf, DecodeError } from './error.ts';
import type { IdPool } from './id-pool.ts';
import type { Clock, CommitResult, EtcdStore } from './ports.ts';
import type { ChangeOutcome, PushOptions, PushOutcome } from './push-outcome.ts';
import { lostOnAccounts, writtenAt } from './push-verdict.ts';
import { PushView } from './push-view.ts';
import type { Volume } from './volume.ts';

/** Contents up to this many bytes in all go into the transaction itself: nothing to leak, one revision for followers. */
const INLINE_BYTES = 192 * 1024;

/** Groups that are prepared for one transaction; more would not fit. */
const WINDOW = 128;

/** First and longest wait before a transaction that lost on accounts alone is built again, in milliseconds. */
const JITTER_MS = 4;
const MAX_JITTER_MS = 250;
/** What one push leaves to the next. */
export interface Shared {
  readonly inodes: IdPool;
  readonly slices: IdPool;
  /** Keys of blocks that nothing names and that could not be deleted yet. */
  readonly orphans: Set<ByteString>;
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
  readonly #inline: boolean;
  /** What was claimed and stored for changes that have no outcome yet. */
  readonly #prepared = new Map<PushChange, Prepared & { readonly content?: StoredContent }>();
  /** By path: ordering may have made one change of two. */
  readonly #outcomes = new Map<Path, ChangeOutcome>();
  readonly #revisions: bigint[] = [];
  /** A transaction was sent and its outcome is not known: what it names must stay. */
  #inDoubt = false;
  /** The outcome of an attempt was not known for a while: its inodes are not used again, whatever came of it. */
  #wasInDoubt = false;
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
    const bytes = changes.filter(needsContent).reduce((sum, change) => sum + change.new.size, 0n);
    this.#inline = bytes <= INLINE_BYTES;
  }

  async run(): Promise<PushOutcome> {
    try {
      await this.#pushAll(orderPush(this.#changes));
    } catch (error) {
      if (!(this.#inDoubt && codeOf(error) === 'ERR_UNKNOWN_OUTCOME'))
        await this.#release([...this.#prepared.keys()]);
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

  async #pushAll(ordered: readonly (readonly PushChange[])[]): Promise<void> {
    let waiting = ordered;
    while (waiting.length > 0) {
      const window = await this.#prepare(waiting.slice(0, WINDOW));
      const later = waiting.slice(WINDOW);
      const rest = await this.#commitSome(window);
      if (rest === 'lost') {
        await this.#release([...this.#prepared.keys()]);
        return;
      }
      waiting = [...rest, ...later];
      this.#options.onProgress?.(this.#outcomes.size, this.#changes.length);
    }
  }

  /** Plans and commits one transaction; the groups that did not fit into it come back. */
  async #commitSome(
    groups: readonly (readonly PushChange[])[],
  ): Promise<readonly (readonly PushChange[])[] | 'lost'> {
    for (let failures = 0; ; failures += 1) {
      const plan = await this.#plan(groups);
      const { transaction, planned, givenUp, rest } = plan;
      const result =
        planned.length === 0 ? undefined : await this.#store.commit(transaction, this.#options.signal);
      if (result?.outcome === 'lost') {
        const revision = await this.#committedAfterAll(result, plan);
        if (revision === undefined) {
          if (!lostOnAccounts(this.#view, this.#volume.prefix, transaction, result.current)) return 'lost';
          this.#view.learn(result.current, result.revision);
          const waitMs = Math.min(MAX_JITTER_MS, JITTER_MS * 2 ** failures) * this.#clock.random();
          this.#inDoubt = false;
          await this.#clock.sleep(waitMs, this.#options.signal);
          continue;
        }
        this.#committed(transaction, planned, revision);
      } else if (result !== undefined) {
        this.#committed(transaction, planned, result.revision);
      }
      for (const { change, outcome, reason } of givenUp)
        this.#outcomes.set(change.path, { outcome, change, reason });
      await this.#release(givenUp.map(({ change }) => change));
      return rest;
    }
  }

  async #plan(groups: readonly (readonly PushChange[])[]): Promise<Extract<Plan, { status: 'plan' }>> {
    const refused = [...this.#outcomes.values()]
      .filter(({ outcome }) => outcome === 'refused' || outcome === 'changed')
      .map(({ change }) => change.path);
    for (;;) {
      const plan = planPush({
        view: this.#view,
        prefix: this.#volume.prefix,
        root: this.#options.root ?? ROOT_INO,
        groups,
        prepared: this.#prepared,
        refused,
        setting: this.#volume.setting,
        nowNs: this.#clock.nowNs(),
        limits: LIMITS,
      });
      if (plan.status === 'plan') return plan;
      await this.#view.fetch(plan, this.#options.signal);
    }
  }

  /** Claims numbers and stores contents; groups whose contents were not what the digest says are left out. */
  async #prepare(groups: readonly (readonly PushChange[])[]): Promise<(readonly PushChange[])[]> {
    const { signal } = this.#options;
    const fresh = groups.flat().filter((change) => !this.#prepared.has(change));
    const parents = (change: PushChange): number =>
      change.makeParents === undefined ? 0 : change.path.split('/').length - 1;
    const needed = fresh.reduce((n, change) => n + (needsInode(change) ? 1 : 0) + parents(change), 0);
    const inos = await this.#shared.inodes.take(needed, signal);
    for (const change of fresh) {
      const ino = needsInode(change) ? inos.shift() : undefined;
      const parentInos = inos.splice(0, parents(change));
      this.#prepared.set(change, { ...(ino === undefined ? {} : { ino }), parentInos });
    }
    const changed = await this.#storeContents(fresh);
    if (changed.size === 0) return [...groups];
    const dropped = groups.filter((group) => group.some((change) => changed.has(change))).flat();
    for (const change of dropped) {
      const outcome: ChangeOutcome = changed.has(change)
        ? { outcome: 'changed', change }
        : { outcome: 'refused', change, reason: 'it depends on a file that was being written' };
      this.#outcomes.set(change.path, outcome);
    }
    await this.#release(dropped);
    return groups.filter((group) => !group.some((change) => changed.has(change)));
  }

  /** Stores the contents of changes, and returns those whose contents were not what the digest says. */
  async #storeContents(changes: readonly PushChange[]): Promise<Set<PushChange>> {
    const { signal } = this.#options;
    const changed = new Set<PushChange>();
    const writer = new BlockWriter(this.#store, signal);
    try {
      for (const change of changes) {
        if (!needsContent(change)) continue;
        const content = await storeContent(change, {
          volume: this.#volume,
          writer,
          slices: this.#shared.slices,
          inline: this.#inline,
          read: this.#options.read,
          signal,
          // Known before the first block is stored, so that a failure half way leaves nothing behind.
          onStart: (started) =>
            this.#prepared.set(change, { ...this.#prepared.get(change), content: started }),
        });
        if (content === 'changed') changed.add(change);
        else this.#prepared.set(change, { ...this.#prepared.get(change), content, blocks: content.blocks });
      }
      await writer.finish();
    } finally {
      // Blocks may be deleted now; none may come after that.
      await writer.settle();
    }
    return changed;
  }

  #committed(transaction: StoreTransaction, planned: readonly Planned[], revision: bigint): void {
    this.#revisions.push(revision);
    this.#view.applyOwn(transaction, revision);
    for (const op of transaction.ops) {
      if (op.type !== 'put' || !op.key.startsWith(this.#volume.prefix)) continue;
      const key = decodeKey(op.key.slice(this.#volume.prefix.length));
      if (key.kind === 'deletedFile') this.#deleted.push({ ino: key.ino, length: key.length });
    }
    for (const { change, entry } of planned) {
      this.#outcomes.set(change.path, { outcome: 'committed', change, revision, entry });
      const unused =
        this.#prepared.get(change)?.parentInos?.filter((ino) => this.#isUnused(transaction, ino)) ?? [];
      this.#shared.inodes.giveBack(unused);
      this.#prepared.delete(change);
    }
  }

  #isUnused(transaction: StoreTransaction, ino: bigint): boolean {
    const key = this.#volume.keyOf({ kind: 'attr', ino });
    return !transaction.ops.some((op) => op.type === 'put' && op.key === key);
  }

  /**
   * Whether an earlier attempt of a lost transaction had committed, and at which revision (design 4.4). `undefined` is
   * only returned once it is certain that none did or that nothing of it is left.
   */
  async #committedAfterAll(
    result: Extract<CommitResult, { outcome: 'lost' }>,
    { transaction, planned }: Extract<Plan, { status: 'plan' }>,
  ): Promise<bigint | undefined> {
    if (!result.ambiguous) return undefined;
    this.#wasInDoubt = true;
    const inos = planned.flatMap(({ change }) => this.#prepared.get(change)?.ino ?? []);
    const ino = inos[0];
    if (ino === undefined) return writtenAt(transaction, result.current);
    const { kvs } = await this.#store.get([this.#volume.keyOf({ kind: 'attr', ino })], {
      ...(this.#options.signal === undefined ? {} : { signal: this.#options.signal }),
    });
    // Nobody else writes the attr of an inode that we claimed before it has a name.
    const created = kvs[0]?.createRevision;
    if (created !== undefined) return created;
    // It may have come and gone: then its blocks belong to whoever deletes the file's data.
    await this.#keepBlocksOfDeleted(planned);
    return undefined;
  }

  /** Forgets the blocks of contents that another client has already taken over for deletion. */
  async #keepBlocksOfDeleted(planned: readonly Planned[]): Promise<void> {
    for (const { change } of planned) {
      const prepared = this.#prepared.get(change);
      const content = prepared?.content;
      if (prepared?.ino === undefined || content === undefined) continue;
      const key = this.#volume.keyOf({ kind: 'deletedFile', ino: prepared.ino, length: content.length });
      const { kvs } = await this.#store.get([key]);
      if (kvs[0] !== undefined) this.#prepared.delete(change);
    }
  }

  /** Gives back what was claimed for changes that are not in the volume, and deletes their blocks. */
  async #release(changes: readonly PushChange[]): Promise<void> {
    const { inodes, orphans } = this.#shared;
    for (const change of changes) {
      const prepared = this.#prepared.get(change);
      if (prepared === undefined) continue;
      if (!this.#wasInDoubt) {
        inodes.giveBack([
          ...(prepared.ino === undefined ? [] : [prepared.ino]),
          ...(prepared.parentInos ?? []),
        ]);
      }
      for (const key of prepared.content?.storedKeys ?? []) orphans.add(key);
      this.#prepared.delete(change);
    }
    if (orphans.size === 0) return;
    try {
      // Not with the push's signal: what was begun before it fired has to go as well.
      await deleteKeys(this.#store, [...orphans]);
      orphans.clear();
    } catch (error) {
      // The store is away: the next push tries again.
      if (!(error instanceof AgentError)) throw error;
    }
  }

  /** Best effort: mounts do the same an hour later from the keys that the transaction left (layout 11.3). */
  async #deleteData(): Promise<void> {
    for (const file of this.#deleted) {
      try {
        await deleteFileData(this.#store, this.#volume, file, this.#options.signal);
      } catch (error) {
        if (this.#options.signal?.aborted === true) return;
        if (!(error instanceof AgentError || error instanceof DecodeError)) throw error;
      }
    }
  }
}
