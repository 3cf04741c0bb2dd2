/** When the history of the store has to be verified, and what of it counts until it is (design 4.1.7). */

import type { Kv } from '../../codec/kv.ts';
import type { Trip } from '../../reconcile/safety.ts';
import { checkHistory, Newest, type Anchor, type Followed } from './history.ts';
import type { EtcdStore } from '../base/ports.ts';

type Unverified = Followed & {
  /** All was listed since, not only heard from a watch. */
  readonly isListed: boolean;
  /** What was listed is of an older revision than what was followed: of a backup, or of another store. */
  readonly isOld?: boolean;
};

/** Keeps the newest key that was taken in, and asks for it again after each start, listing and reconnect. */
export class Verifier {
  readonly #store: EtcdStore;
  /** What came since may be of another history: list again, from what was followed before it. */
  readonly #onTainted: (followed: Followed) => void;
  #newest = new Newest();
  /** What the store must still have before anything of it counts. */
  #unverified: Unverified | undefined;
  /** How often there was something to verify. */
  #demands = 0;
  /** How often a store was heard again. */
  #timesHeard = 0;
  #trip: Trip | undefined;
  /** Revision that an earlier run followed; 0n: none. */
  #remembered = 0n;
  #isTainted = false;
  /** The newest keys of what was taken in by streams and listings since, each perhaps of another store. */
  #unproven: Anchor[] = [];

  constructor(store: EtcdStore, onTainted: (followed: Followed) => void) {
    this.#store = store;
    this.#onTainted = onTainted;
  }

  /** Whether all was listed, and nobody knows yet of which store. */
  get isListingUnproven(): boolean {
    return this.#unverified?.isListed === true;
  }

  /** How often the store may have become another one. */
  get demands(): number {
    return this.#demands;
  }

  /** Whether nothing is left to verify, nor to list. */
  get isDone(): boolean {
    return this.#unverified === undefined && !this.#isTainted;
  }

  /**
   * Whether what was taken in may be of another history than the store's: nobody has asked since, or it counts no more until all
   * is listed again.
   */
  get isDoubtful(): boolean {
    if (this.#isTainted) return true;
    const followed = this.#unverified;
    return followed !== undefined && this.#taken().some((one) => !isSame(one, followed.anchor));
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
    this.#newest = new Newest(followed.anchor);
    this.#remembered = followed.revision;
    this.#unverified = { ...followed, isListed: true };
  }

  /**
   * All was listed anew, at a revision: `newest` is of it, and `before` is the revision that this run followed until then (0n:
   * none).
   */
  listed(newest: Newest, revision: bigint, before: bigint): void {
    // Also what was verified since the start: another store may have been listed.
    const followed = before > 0n ? before : this.#remembered;
    if (followed > 0n) this.demand(followed, true);
    if (this.#unverified !== undefined)
      this.#unverified = { ...this.#unverified, isOld: revision < this.#unverified.revision };
    this.#trip = undefined;
    this.#isTainted = false;
    this.#unproven = [];
    this.#newest = newest;
  }

  /** The store is heard again: it is asked anew, whatever tripped before. */
  heardAgain(): void {
    this.#trip = undefined;
    this.#timesHeard += 1;
  }

  /** What was followed up to `revision` must be found again before anything that the store says counts. */
  demand(revision: bigint, isListed: boolean): void {
    this.#demands += 1;
    if (this.#unverified !== undefined) this.#setAside();
    const followed = this.#unverified ?? { anchor: this.#newest.anchor, revision, isListed };
    this.#unverified = isListed ? { ...followed, isListed } : followed;
  }

  /** What comes next may come from another store than what was taken in until now. */
  #setAside(): void {
    const { anchor } = this;
    if (anchor !== undefined && !isSame(anchor, this.#unproven.at(-1))) this.#unproven.push(anchor);
  }

  /**
   * Whether the store has the history that was followed. `isHeard`: something came from it. Returns what trips; while it does, nothing
   * that came meanwhile counts. Throws what the store throws.
   */
  async verify(isHeard: boolean, signal?: AbortSignal): Promise<Trip | undefined> {
    // While nothing is heard of the store nothing of it can count, and what is local goes on.
    if (!isHeard && this.#unverified?.isListed === false) return this.#trip;
    while (this.#unverified !== undefined && this.#trip === undefined) {
      const followed = this.#unverified;
      const { demands } = this;
      const timesHeard = this.#timesHeard;
      const verdict = await checkHistory(this.#store, followed, this.#taken(), signal);
      // Another connection since then: who answered is not known.
      if (demands !== this.#demands || timesHeard !== this.#timesHeard) continue;
      if (typeof verdict !== 'string') {
        this.#trip = verdict;
        break;
      }
      this.#unverified = undefined;
      this.#unproven = [];
      // A store that has gone on from there has that history as well, and would have told of what came after it.
      this.#settle(followed.isOld === true ? 'mixed' : verdict, followed);
    }
    return this.#trip;
  }

  #taken(): Anchor[] {
    const { anchor } = this;
    return anchor === undefined ? this.#unproven : [...this.#unproven, anchor];
  }

  /** What came of another history, or what a watch brought and cannot be told from one, is compared as a whole. */
  #settle(verdict: 'same' | 'compacted' | 'mixed', followed: Unverified): void {
    if (verdict === 'same' || (verdict === 'compacted' && followed.isListed)) return;
    this.#newest = new Newest(followed.anchor);
    this.#isTainted = true;
    this.#onTainted(followed);
  }
}

function isSame(one: Anchor, other: Anchor | undefined): boolean {
  return one.modRevision === other?.modRevision && one.hash === other.hash;
}
