/** Pushes changes into a volume, one push after the other. */

import type { PushChange } from '../../reconcile/push-change.ts';
import { IdPool } from '../volume/id-pool.ts';
import type { Clock, EtcdStore } from '../base/ports.ts';
import type { PushOptions, PushOutcome } from './push-outcome.ts';
import { PushRun, type Shared } from './push-run.ts';
import type { Volume } from '../volume/volume.ts';

export type { ChangeOutcome, Claim, PushOptions, PushOutcome } from './push-outcome.ts';

export class Pusher {
  readonly #store: EtcdStore;
  readonly #volume: Volume;
  readonly #clock: Clock;
  readonly #shared: Shared;

  constructor(store: EtcdStore, volume: Volume, clock: Clock) {
    this.#store = store;
    this.#volume = volume;
    this.#clock = clock;
    this.#shared = {
      inodes: new IdPool(store, volume.keyOf({ kind: 'counter', name: 'nextInode' }), 2n),
      slices: new IdPool(store, volume.keyOf({ kind: 'counter', name: 'nextChunk' }), 1n),
      orphans: new Set(),
      holds: new Set(),
      isInDoubt: false,
      view: undefined,
    };
  }

  /** Whether nothing is left in the volume that no name leads to. */
  get isClean(): boolean {
    const { orphans, holds, isInDoubt } = this.#shared;
    return orphans.size === 0 && holds.size === 0 && !isInDoubt;
  }

  /** The store may have become another one: no number that was claimed until now is used any more. */
  forgetIds(): void {
    this.#shared.inodes.forget();
    this.#shared.slices.forget();
  }

  /**
   * Pushes changes, in one step for those who see the volume wherever one transaction can set all names (ADR 6), else
   * in as few as they fit into: parents first, removals last. What is refused or stale is left out and the rest goes on;
   * a lost transaction ends the push. Rejects with the store's errors; blocks of contents
   * that did not get into the volume are deleted unless their transaction may still have committed.
   */
  async push(changes: readonly PushChange[], options: PushOptions): Promise<PushOutcome> {
    const { writeRefusal } = this.#volume;
    if (writeRefusal !== undefined) {
      return {
        changes: changes.map((change) => ({ outcome: 'refused', change, reason: writeRefusal })),
        revisions: [],
      };
    }
    return new PushRun(this.#store, this.#volume, this.#clock, this.#shared, options, changes).run();
  }
}
