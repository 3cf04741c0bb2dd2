/** Numbers that no other client will use: inodes and slice ids, claimed from a counter of the volume in batches. */

import { decodeCounter, encodeCounter } from '../../codec/counter.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { EtcdStore } from '../base/ports.ts';
import { assertSameStore, type IsSameStore } from '../base/same-store.ts';
import { withSignal } from '../base/signal.ts';

/** Enough for a usual push in one transaction; what is left at the end are gaps, which every client leaves. */
const BATCH = 32;

export interface ClaimOptions {
  readonly signal?: AbortSignal | undefined;
  /** Whether the store is still known to be the same: another one is not asked for numbers. */
  readonly isSameStore?: IsSameStore | undefined;
}

export class IdPool {
  readonly #store: EtcdStore;
  readonly #key: ByteString;
  readonly #first: bigint;
  #free: bigint[] = [];

  /** `first` is the least number there may be, for a counter that is missing. */
  constructor(store: EtcdStore, key: ByteString, first: bigint) {
    this.#store = store;
    this.#key = key;
    this.#first = first;
  }

  /** Sees to it that the next `n` numbers are taken without asking the store. */
  async reserve(n: number, options: ClaimOptions = {}): Promise<void> {
    const missing = n - this.#free.length;
    if (missing > BATCH) this.#free.push(...(await this.#claim(missing, options)));
  }

  /** `n` numbers, ascending where they were claimed together. */
  async take(n: number, options: ClaimOptions = {}): Promise<bigint[]> {
    // Again after each claim: somebody else may have taken from the pool meanwhile.
    for (let missing = n - this.#free.length; missing > 0; missing = n - this.#free.length) {
      this.#free.push(...(await this.#claim(Math.max(missing, BATCH), options)));
    }
    return this.#free.splice(0, n);
  }

  /** The store may be another one: numbers that were claimed until now may be somebody's there, or have been claimed elsewhere. */
  forget(): void {
    this.#free = [];
  }

  /** Takes back numbers that nothing was stored under and no transaction in flight names. */
  giveBack(ids: readonly bigint[]): void {
    this.#free.unshift(...ids);
  }

  /**
   * Adds to the counter (layout 8.2). A claim whose outcome is unknown costs a gap at worst. Throws UnavailableError when the store
   * may have become another one.
   */
  async #claim(n: number, { signal, isSameStore }: ClaimOptions): Promise<bigint[]> {
    const { kvs } = await this.#store.get([this.#key], withSignal(signal));
    let counter = kvs[0];
    for (;;) {
      assertSameStore(isSameStore);
      const stored = counter === undefined ? 0n : decodeCounter(counter.value);
      const start = stored < this.#first ? this.#first : stored;
      const result = await this.#store.commit(
        {
          compares: [{ key: this.#key, modRevision: counter?.modRevision ?? 0n }],
          ops: [{ type: 'put', key: this.#key, value: encodeCounter(start + BigInt(n)) }],
        },
        signal,
      );
      if (result.outcome === 'committed') return Array.from({ length: n }, (_, i) => start + BigInt(i));
      counter = result.current.get(this.#key);
    }
  }
}
