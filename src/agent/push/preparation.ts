/** What a push claims and stores before its transactions name it: numbers, contents, and the fence that `gc` moves. */

import type { ByteString, StoreTransaction } from '../../codec/kv.ts';
import { sliceIds } from '../../reconcile/operations.ts';
import { needsContent, needsInode, type PushChange } from '../../reconcile/push-change.ts';
import { mayAppend } from './appending.ts';
import { storeContent, type StoredContent } from './content.ts';
import { AuthError } from '../base/error.ts';
import type { IdPool } from '../volume/id-pool.ts';
import { fenceKey } from '../volume/own-keys.ts';
import type { EtcdStore } from '../base/ports.ts';
import type { Claim, PushOptions } from './push-outcome.ts';
import type { Claimant } from './push-readback.ts';
import { withSignal } from '../base/signal.ts';
import type { Volume } from '../volume/volume.ts';

/** Contents up to this many bytes in all go into the transaction itself: nothing to leak, one revision for followers. */
const INLINE_BYTES = 192 * 1024;

/** The pools that one push leaves to the next. */
interface Pools {
  readonly inodes: IdPool;
  readonly slices: IdPool;
  /** Keys of blocks that nothing names and that could not be deleted yet. */
  readonly orphans: Set<ByteString>;
}

/** Of one push. */
export class Preparation {
  readonly #store: EtcdStore;
  readonly #volume: Volume;
  readonly #pools: Pools;
  readonly #options: PushOptions;
  readonly #inline: boolean;
  /** What was claimed and stored for changes that have no outcome yet. */
  readonly #claimants = new Map<PushChange, Claimant>();
  #isClaimed = false;
  #wasInDoubt = false;
  /** Mod revision of the fence before the first block was stored (ADR 7). */
  #fence: bigint | undefined;

  constructor(
    store: EtcdStore,
    volume: Volume,
    pools: Pools,
    options: PushOptions,
    changes: readonly PushChange[],
  ) {
    this.#store = store;
    this.#volume = volume;
    this.#pools = pools;
    this.#options = options;
    const bytes = changes.filter(needsContent).reduce((sum, change) => sum + change.new.size, 0n);
    this.#inline = volume.data.besideMetadata && bytes <= INLINE_BYTES;
  }

  /** By change, of those that have no outcome yet. */
  get claimants(): ReadonlyMap<PushChange, Claimant> {
    return this.#claimants;
  }

  /** Whether something was stored before anything names it. */
  get isClaimed(): boolean {
    return this.#isClaimed;
  }

  /** The outcome of an attempt is not known for a while: its inodes are not used again, whatever comes of it. */
  noteDoubt(): void {
    this.#wasInDoubt = true;
  }

  claim(claim: Claim): void {
    this.#isClaimed = true;
    this.#options.onClaim?.(claim);
  }

  /** With the compare that no block without a name was deleted since ours were stored. */
  fenced(transaction: StoreTransaction): StoreTransaction {
    if (this.#fence === undefined) return transaction;
    const compare = { key: fenceKey(this.#volume.setting.uuid), modRevision: this.#fence };
    return { ...transaction, compares: [...transaction.compares, compare] };
  }

  /** Claims numbers and stores contents; returns the changes whose contents were not what the digest says. */
  async prepare(changes: readonly PushChange[]): Promise<ReadonlySet<PushChange>> {
    const fresh = changes.filter((change) => !this.#claimants.has(change));
    const parents = (change: PushChange): number =>
      change.makeParents === undefined ? 0 : change.path.split('/').length - 1;
    const needed = fresh.reduce((n, change) => n + (needsInode(change) ? 1 : 0) + parents(change), 0);
    const inos = await this.#pools.inodes.take(needed, this.#options);
    for (const change of fresh) {
      const ino = needsInode(change) ? inos.shift() : undefined;
      const parentInos = inos.splice(0, parents(change));
      this.#claimants.set(change, { ...(ino === undefined ? {} : { ino }), parentInos });
    }
    return this.#storeContents(fresh);
  }

  async #storeContents(changes: readonly PushChange[]): Promise<Set<PushChange>> {
    const { signal } = this.#options;
    const changed = new Set<PushChange>();
    // Most files take one slice; those that take more ask for them.
    await this.#pools.slices.reserve(changes.filter(needsContent).length, this.#options);
    if (!this.#inline && changes.some(needsContent)) await this.#readFence();
    const writer = this.#volume.data.writer(signal);
    try {
      for (const change of changes) {
        if (!needsContent(change)) continue;
        const content = await storeContent(change, {
          volume: this.#volume,
          writer,
          slices: this.#pools.slices,
          inline: this.#inline,
          mayAppend: mayAppend(change, this.#options.live?.index),
          read: this.#options.read,
          claim: this.#options,
          // Known before the first block is stored, so that a failure half way leaves nothing behind.
          onStart: (started) => this.#noteContent(change, started),
          onSlices: (ids) => this.claim({ kind: 'slices', ids }),
        });
        if (content === 'changed') changed.add(change);
        else this.#noteContent(change, content);
      }
      await writer.finish();
    } finally {
      // Blocks may be deleted now; none may come after that.
      await writer.settle();
    }
    return changed;
  }

  /** Stores the blocks that were kept for a transaction which has no room for them. */
  async storeKept(changes: readonly PushChange[]): Promise<void> {
    await this.#readFence();
    const writer = this.#volume.data.writer(this.#options.signal);
    try {
      for (const change of changes) {
        const { content, blocks = [] } = this.#claimants.get(change) ?? {};
        if (content === undefined || blocks.length === 0) continue;
        const storedKeys = blocks.map(({ key }) => key);
        this.claim({ kind: 'slices', ids: sliceIds(content) });
        this.#noteContent(change, { ...content, blocks: [], storedKeys });
        for (const { key, value } of blocks) await writer.putPacked(key, value);
      }
      await writer.finish();
    } finally {
      await writer.settle();
    }
  }

  #noteContent(change: PushChange, content: StoredContent): void {
    const { ino, ...prepared } = this.#claimants.get(change) ?? {};
    // What is appended goes to the inode that is there.
    const isAppended = content.appendTo !== undefined;
    if (isAppended && ino !== undefined) this.#pools.inodes.giveBack([ino]);
    const own = isAppended || ino === undefined ? {} : { ino };
    this.#claimants.set(change, { ...prepared, ...own, content, blocks: content.blocks });
  }

  async #readFence(): Promise<void> {
    if (this.#fence !== undefined) return;
    const { signal } = this.#options;
    const key = fenceKey(this.#volume.setting.uuid);
    try {
      const { kvs } = await this.#store.get([key], withSignal(signal));
      this.#fence = kvs[0]?.modRevision ?? 0n;
    } catch (error) {
      // A role that reaches the volume alone: then the age of what gc deletes is all there is.
      if (!(error instanceof AuthError)) throw error;
    }
  }

  /** A change is in the volume; numbers of directories that it did not have to make are there for the next. */
  committed(change: PushChange, isUnused: (ino: bigint) => boolean): void {
    this.#pools.inodes.giveBack(this.#claimants.get(change)?.parentInos?.filter(isUnused) ?? []);
    this.#claimants.delete(change);
  }

  /** What was stored for a change is not this push's any more. */
  forget(change: PushChange): void {
    this.#claimants.delete(change);
  }

  /** Changes that will not be in the volume: gives their numbers back; their blocks are orphans. */
  drop(changes: readonly PushChange[]): void {
    const { inodes, orphans } = this.#pools;
    for (const change of changes) {
      const claimant = this.#claimants.get(change);
      if (claimant === undefined) continue;
      const { ino, parentInos = [], content } = claimant;
      if (!this.#wasInDoubt) inodes.giveBack([...(ino === undefined ? [] : [ino]), ...parentInos]);
      for (const key of content?.storedKeys ?? []) orphans.add(key);
      this.#claimants.delete(change);
    }
  }
}
