/** `BlockStore` over the metadata's own etcd, another one, or several (shards). */

import createDebug from 'debug';

import { blockRange } from '../../codec/block.ts';
import type { ByteString } from '../../codec/kv.ts';
import { shardOf } from '../../codec/shard.ts';
import { deleteKeys, PutBatches } from './blocks.ts';
import { CompactedError } from '../base/error.ts';
import type { Packing } from './packing.ts';
import type { BlockStore, BlockWriter, Clock, EtcdStore, LeaseStore, WatchHandlers } from '../base/ports.ts';
import { withSignal } from '../base/signal.ts';

const debug = createDebug('etcd-etc-agent:blocks');

/** Pause before a watch of blocks that ended is begun again; milliseconds. */
const FOLLOW_PAUSE_MS = 1_000;

export interface BlockStoreOptions {
  /** The volume's name. */
  readonly name: string;
  /** By shard; one without shards. */
  readonly stores: readonly EtcdStore[];
  /** The same, where they are not the metadata's own. */
  readonly elsewhere?: readonly LeaseStore[];
  readonly packing: Packing;
  readonly clock: Clock;
}

export class EtcdBlockStore implements BlockStore {
  readonly #o: BlockStoreOptions;

  constructor(options: BlockStoreOptions) {
    this.#o = options;
  }

  get stores(): readonly EtcdStore[] {
    return this.#o.stores;
  }

  get elsewhere(): readonly LeaseStore[] {
    return this.#o.elsewhere ?? [];
  }

  get besideMetadata(): boolean {
    return this.elsewhere.length === 0;
  }

  async get(
    keys: readonly ByteString[],
    options: { readonly revision?: bigint; readonly signal?: AbortSignal } = {},
  ): Promise<readonly (Uint8Array | undefined)[]> {
    const found = new Map<ByteString, Uint8Array>();
    const { revision, signal } = options;
    if (revision !== undefined && this.besideMetadata) {
      try {
        await this.#read(keys, found, { revision, ...withSignal(signal) });
      } catch (error) {
        if (!(error instanceof CompactedError)) throw error;
      }
    }
    // Mounts with --writeback store blocks after the metadata that name them.
    const missing = keys.filter((key) => !found.has(key));
    await this.#read(missing, found, withSignal(signal));
    return keys.map((key) => found.get(key));
  }

  async #read(
    keys: readonly ByteString[],
    into: Map<ByteString, Uint8Array>,
    options: { readonly revision?: bigint; readonly signal?: AbortSignal },
  ): Promise<void> {
    await Promise.all(
      [...this.#byStore(keys)].map(async ([store, part]) => {
        const { kvs } = await store.get(part, options);
        for (const kv of kvs) if (kv !== undefined) into.set(kv.key, kv.value);
      }),
    );
  }

  pack(block: Uint8Array): Promise<Uint8Array> {
    return this.#o.packing.pack(block);
  }

  unpack(stored: Uint8Array, length: number): Promise<Uint8Array> {
    return this.#o.packing.unpack(stored, length);
  }

  writer(signal?: AbortSignal): BlockWriter {
    const batches = this.stores.map((store) => new PutBatches(store, signal));
    const putPacked = async (key: ByteString, value: Uint8Array): Promise<void> => {
      await batches[this.#shard(key)]?.put(key, value);
    };
    return {
      put: async (key, block) => putPacked(key, await this.pack(block)),
      putPacked,
      finish: async () => {
        await Promise.all(batches.map((batch) => batch.finish()));
      },
      settle: async () => {
        await Promise.all(batches.map((batch) => batch.settle()));
      },
    };
  }

  async delete(keys: readonly ByteString[], signal?: AbortSignal): Promise<void> {
    for (const [store, part] of this.#byStore(keys)) await deleteKeys(store, part, signal);
  }

  async follow(onBlock: (key: ByteString, stored: Uint8Array) => void, signal: AbortSignal): Promise<void> {
    await Promise.all([...new Set(this.stores)].map((store) => this.#followOne(store, onBlock, signal)));
  }

  async #followOne(
    store: EtcdStore,
    onBlock: (key: ByteString, stored: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, name } = this.#o;
    while (!signal.aborted) {
      try {
        const { revision } = await store.status(signal);
        const handlers: WatchHandlers = {
          onRevision: (_range, _revision, events) => {
            for (const event of events) if (event.type === 'put') onBlock(event.kv.key, event.kv.value);
          },
          onProgress: () => {},
          onState: () => {},
        };
        await store.watch([blockRange(name)], revision + 1n, handlers, signal);
      } catch (error) {
        if (signal.aborted) return;
        debug('not followed: %s', error);
        await clock.sleep(FOLLOW_PAUSE_MS * (0.5 + clock.random()), signal).catch(() => undefined);
      }
    }
  }

  async close(): Promise<void> {
    if (this.besideMetadata) return;
    await Promise.all([...new Set(this.stores)].map((store) => store.close()));
  }

  #shard(key: ByteString): number {
    return this.stores.length === 1 ? 0 : shardOf(key, this.stores.length);
  }

  #byStore(keys: readonly ByteString[]): Map<EtcdStore, ByteString[]> {
    const parts = new Map<EtcdStore, ByteString[]>();
    for (const key of keys) {
      const store = this.stores[this.#shard(key)];
      if (store === undefined) throw new RangeError('a volume without a store for its blocks');
      const part = parts.get(store);
      if (part === undefined) parts.set(store, [key]);
      else part.push(key);
    }
    return parts;
  }
}
