/** Storing and deleting many keys of one etcd, in requests that it takes. */

import { blockKey, blocksOfSlice, type BlockLayout } from '../../codec/block.ts';
import type { ByteString, StoreOp } from '../../codec/kv.ts';
import type { EtcdStore } from '../base/ports.ts';

/** Bytes of values put together; one of its own may be larger. */
const PUT_BYTES = 512 * 1024;
const PUT_OPS = 64;
/** Requests under way at once. */
const PARALLEL = 4;
const DELETE_OPS = 100;

/** Puts values, small ones together, a few requests at a time. */
export class PutBatches {
  readonly #store: EtcdStore;
  readonly #signal: AbortSignal | undefined;
  #ops: StoreOp[] = [];
  #bytes = 0;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(store: EtcdStore, signal: AbortSignal | undefined) {
    this.#store = store;
    this.#signal = signal;
  }

  /** Takes a value; waits while enough others are under way. Rejects with the first error of any put. */
  async put(key: ByteString, value: Uint8Array): Promise<void> {
    if (this.#bytes + value.length > PUT_BYTES || this.#ops.length >= PUT_OPS) this.#send();
    this.#ops.push({ type: 'put', key, value });
    this.#bytes += value.length;
    while (this.#running.size >= PARALLEL) await Promise.race(this.#running);
    this.#throwFailure();
  }

  /** Resolves once all are stored. */
  async finish(): Promise<void> {
    this.#send();
    await this.settle();
    this.#throwFailure();
  }

  /** Resolves once no request is under way, however they ended. */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
  }

  #send(): void {
    if (this.#ops.length === 0) return;
    const ops = this.#ops;
    this.#ops = [];
    this.#bytes = 0;
    const put = this.#store
      .commit({ compares: [], ops }, this.#signal)
      .then(
        () => {},
        (error: unknown) => {
          this.#failure ??= { error };
        },
      )
      .finally(() => this.#running.delete(put));
    this.#running.add(put);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** The keys of all blocks of a slice. */
export function keysOfSlice(layout: BlockLayout, id: bigint, size: number, blockSize: number): ByteString[] {
  return blocksOfSlice(size, blockSize).map(({ index, length }) => blockKey(layout, id, index, length));
}

/** Deletes keys in requests that the server takes. */
export async function deleteKeys(
  store: EtcdStore,
  keys: readonly ByteString[],
  signal?: AbortSignal,
): Promise<void> {
  for (let at = 0; at < keys.length; at += DELETE_OPS) {
    const ops = keys.slice(at, at + DELETE_OPS).map((key): StoreOp => ({ type: 'delete', key }));
    await store.commit({ compares: [], ops }, signal);
  }
}
