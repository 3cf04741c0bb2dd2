/** When the history of the store has to be verified, and what of it counts until it is (design 4.1.7). */

import type { Kv } from '../codec/kv.ts';
import type { Trip } from '../reconcile/safety.ts';
import { checkHistory, Newest, type Anchor, type Followed } from './history.ts';
import type { EtcdStore } from './ports.ts';

/** `isListed`: all was listed since, not only heard from a watch. */
type Unverified = Followed & { readonly isListed: boolean };

/** Keeps the newest key that was taken in, and asks for it again after each start, listing and reconnect. */
export class Verifier {
  readonly #store: EtcdStore;
  /** What came since may be of another history: list again, from what was followed before it. */
  readonly #onSuspect: (followed: Followed) => void;
  #newest = new Newest();
  /** What the store must still have before anything of it counts. */
  #unverified: Unverified | undefined;
  /** How often there was something to verify. */
  #demands = 0;
  #trip: Trip | undefined;
  /** What was taken in while it tripped may be of another history. */
  #isSuspect = false;

  constructor(store: EtcdStore, onSuspect: (followed: Followed) => void) {
    this.#store = store;
    this.#onSuspect = onSuspect;
  }

  /** Whether nothing is left to verify. */
  get isDone(): boolean {
    return this.#unverified === undefined;
  }

  /** The newest key that was taken in. */
  get anchor(): Anchor | undefined {
    return this.#newest.anchor;
  }

  note(kv: Kv): void {
    this.#newest.note(kv);
  }

  /** An earlier run followed this; what is listed next is compared with it. */
  remember(followed: Followed): void {
    this.#unverified = { ...followed, isListed: true };
  }

  /** All was listed anew: `newest` is of it, and `before` is the revision that was followed until then (0n: none). */
  listed(newest: Newest, before: bigint): void {
    if (before > 0n) this.demand(before, true);
    this.#trip = undefined;
    this.#newest = newest;
  }

  /** The store is heard again: it is asked anew, whatever tripped before. */
  heardAgain(): void {
    this.#trip = undefined;
  }

  /** What was followed up to `revision` must be found again before anything that the store says counts. */
  demand(revision: bigint, isListed: boolean): void {
    this.#demands += 1;
    const followed = this.#unverified ?? { anchor: this.#newest.anchor, revision };
    this.#unverified = { anchor: followed.anchor, revision: followed.revision, isListed };
  }

  /**
   * Whether the store has the history that was followed. `isUp`: it is heard of. Returns what trips; while it does, nothing
   * that came meanwhile counts. Throws what the store throws.
   */
  async verify(isUp: boolean, signal?: AbortSignal): Promise<Trip | undefined> {
    // While nothing is heard of the store nothing of it can count, and what is local goes on.
    if (!isUp && this.#unverified?.isListed === false) return this.#trip;
    while (this.#unverified !== undefined && this.#trip === undefined) {
      const followed = this.#unverified;
      const number = this.#demands;
      const verdict = await checkHistory(this.#store, followed, signal);
      // Another connection since then: who answered is not known.
      if (number !== this.#demands) continue;
      if (typeof verdict !== 'string') {
        this.#trip = verdict;
        this.#isSuspect = true;
        break;
      }
      this.#unverified = undefined;
      this.#settle(verdict, followed);
    }
    return this.#trip;
  }

  /** What a watch brought of a history that was another one, or cannot be told from this one, is compared as a whole. */
  #settle(verdict: 'same' | 'compacted', followed: Unverified): void {
    const isSuspect = this.#isSuspect;
    this.#isSuspect = false;
    if (followed.isListed || (verdict === 'same' && !isSuspect)) return;
    this.#newest = new Newest(followed.anchor);
    this.#onSuspect(followed);
  }
}
