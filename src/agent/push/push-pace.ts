/** When the next push may start: after failures and lost races it waits, longer and longer. */

import { LimitError } from '../base/error.ts';
import { log } from '../base/log.ts';
import type { Clock } from '../base/ports.ts';
import { REFUSED_RETRY_MS } from './refusals.ts';

/** Pause after a push that failed for lack of a store, doubled up to the longest; milliseconds. */
const FAILED_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
/** Pause before what another writer came first with is tried again; milliseconds. */
const LOST_PAUSE_MS = 50;

export class PushPace {
  readonly #clock: Clock;
  #afterMs = 0;
  #failuresInARow = 0;
  /** Changes that did not get in since one did. */
  #lostInARow = 0;
  /** Why the last push failed, as it was said: an hour without etcd says it once. */
  #saidFailure: string | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How long a push has to wait; milliseconds, not above 0 when it may start. */
  get leftMs(): number {
    return this.#afterMs - this.#clock.monotonicMs();
  }

  onEnded(): void {
    this.#failuresInARow = 0;
    this.#saidFailure = undefined;
  }

  onFailed(error: unknown): void {
    const pauseMs = this.#jitter(Math.min(LONGEST_PAUSE_MS, FAILED_PAUSE_MS * 2 ** this.#failuresInARow));
    this.#failuresInARow += 1;
    this.#afterMs = this.#clock.monotonicMs() + (error instanceof LimitError ? REFUSED_RETRY_MS : pauseMs);
    const reason = error instanceof Error ? error.message : String(error);
    if (reason !== this.#saidFailure) log('warn', 'push failed', { reason });
    this.#saidFailure = reason;
  }

  /** A change got in. */
  onCommitted(): void {
    this.#lostInARow = 0;
  }

  /** Another writer came first. */
  onLost(): void {
    this.#lostInARow += 1;
    this.#pause(Math.min(LONGEST_PAUSE_MS, LOST_PAUSE_MS * 2 ** this.#lostInARow));
  }

  /** Another writer came first with a move. */
  onMoveLost(): void {
    this.#pause(LOST_PAUSE_MS);
  }

  /** Conflict copies are left over. */
  onCopiesLeft(): void {
    this.#pause(FAILED_PAUSE_MS);
  }

  #pause(ms: number): void {
    this.#afterMs = Math.max(this.#afterMs, this.#clock.monotonicMs() + this.#jitter(ms));
  }

  #jitter(ms: number): number {
    return ms * (0.5 + this.#clock.random());
  }
}
