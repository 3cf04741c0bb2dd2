/**
 * Decides when a change has settled: the same fingerprint in two looks, some quiet time apart, on a clock that never jumps.
 * Names that change one after the other settle together.
 */

/** How long a name must look the same before it counts; milliseconds. */
export const QUIET_MS = {
  /** Without a lease probe only time tells that a writer is done (watch-and-flip 5). */
  content: 300,
  /** Editors rename and unlink before they create (watch-and-flip 7). */
  absence: 1000,
} as const;

/** How much longer a name waits for others that began to change after it, so that one save of several files is one change. */
const TOGETHER_MS = 1000;

/** A name that never settles is taken as it is after this long, and then at most this often. */
const RESTLESS_MS = 10_000;
const RESTLESS_AGAIN_MS = 30_000;

interface Unsettled {
  fingerprint: string;
  sinceMs: number;
  dueMs: number;
  round: number;
  settled: boolean;
}

/** Names that differ from what is known and have not been quiet for long enough. */
export class Settling {
  readonly #unsettled = new Map<string, Unsettled>();
  readonly #restless = new Set<string>();
  #round = 0;
  /** When the last name began to change. */
  #newestMs = -Infinity;

  /** A look begins. Every look comes by all names that have not settled. */
  startRound(): void {
    this.#round += 1;
  }

  /**
   * A look is over: names it did not come by are not there any more. `lasting` says which of those that have settled
   * it would have come by.
   */
  endRound(lasting: (name: string) => boolean): void {
    for (const [name, { round, settled }] of this.#unsettled) {
      if (round !== this.#round && (!settled || lasting(name))) this.#unsettled.delete(name);
    }
  }

  /** Names are about to be asked for one after the other: one of them that begins to change holds up those before it as well. */
  noteBegun(names: Iterable<string>, nowMs: number): void {
    for (const name of names) if (!this.#unsettled.has(name)) this.#newestMs = nowMs;
  }

  /**
   * Whether the name counts now. Call it once a look. A settled name is forgotten, unless it `lasts`: then it counts
   * in every look as long as it stays the same. `isHeld` is asked in the end: what somebody can still write to waits.
   */
  isSettled(
    name: string,
    fingerprint: string,
    quietMs: number,
    nowMs: number,
    lasts = false,
    isHeld = (): boolean => false,
  ): boolean {
    if (quietMs <= 0) {
      this.#unsettled.delete(name);
      return true;
    }
    const seen = this.#unsettled.get(name);
    if (seen === undefined) {
      const round = this.#round;
      this.#newestMs = nowMs;
      this.#unsettled.set(name, {
        fingerprint,
        sinceMs: nowMs,
        dueMs: nowMs + this.#restlessMs(name),
        round,
        settled: false,
      });
      return false;
    }
    seen.round = this.#round;
    if (seen.fingerprint !== fingerprint) {
      seen.fingerprint = fingerprint;
      seen.sinceMs = nowMs;
      if (seen.settled) seen.dueMs = nowMs + this.#restlessMs(name);
      seen.settled = false;
    }
    if (seen.settled) return true;
    const isAlone = nowMs - this.#newestMs >= quietMs || nowMs - seen.sinceMs >= quietMs + TOGETHER_MS;
    const quiet = nowMs - seen.sinceMs >= quietMs && isAlone;
    if ((!quiet || isHeld()) && nowMs < seen.dueMs) return false;
    if (quiet) this.#restless.delete(name);
    else this.#restless.add(name);
    if (lasts) seen.settled = true;
    else this.#unsettled.delete(name);
    return true;
  }

  #restlessMs(name: string): number {
    return this.#restless.has(name) ? RESTLESS_AGAIN_MS : RESTLESS_MS;
  }

  /** The name is as it should be again. */
  forget(name: string): void {
    this.#unsettled.delete(name);
  }

  /** Names waiting for quiet. */
  *waiting(): Generator<string> {
    for (const [name, { settled }] of this.#unsettled) if (!settled) yield name;
  }
}
