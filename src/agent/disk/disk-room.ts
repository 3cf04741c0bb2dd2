/** A disk without room for what the volume brings: that is tried again, slower and slower, and the rest goes on meanwhile. */

import { codeOf } from '../base/error.ts';
import { log } from '../base/log.ts';
import type { Clock } from '../base/ports.ts';

/** Pause before what had no room is brought again, doubled up to the longest; milliseconds. */
const PAUSE_MS = 1_000;
const PAUSE_MAX_MS = 30_000;

export class DiskRoom {
  readonly #clock: Clock;
  #pauseMs = PAUSE_MS;
  #againMs = -Infinity;
  #reason: string | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What is lacking; `undefined` while there is room as far as is known. */
  get problem(): string | undefined {
    return this.#reason;
  }

  /** How long it is not tried again (milliseconds); 0 or less: now. */
  get waitMs(): number {
    return this.#againMs - this.#clock.monotonicMs();
  }

  /** Whether an error says that there is no room: then it is noted, and the pause begins. */
  isLacking(error: unknown): boolean {
    const code = codeOf(error);
    if (code !== 'ENOSPC' && code !== 'EDQUOT') return false;
    const reason = `no room for what the volume brings: ${code}`;
    if (this.#reason === undefined) log('warn', 'disk full', { reason });
    this.#reason = reason;
    this.#againMs = this.#clock.monotonicMs() + this.#pauseMs;
    this.#pauseMs = Math.min(PAUSE_MAX_MS, this.#pauseMs * 2);
    return true;
  }

  /** It was brought. */
  isThere(): void {
    if (this.#reason !== undefined) log('info', 'there is room again');
    this.#reason = undefined;
    this.#pauseMs = PAUSE_MS;
    this.#againMs = -Infinity;
  }
}
