/** What an agent says of itself while it runs: asked for by the endpoint, answered by whatever run is under way. */

import type { Clock } from '../base/ports.ts';
import type { CurrentStatus } from './status.ts';

/** What a run under way knows. */
export interface ReportSource {
  readonly status: () => CurrentStatus;
  /** When the whole of DIR was looked at last, on the clock that never jumps; -Infinity: not yet. */
  readonly lastScanMs: () => number;
  /** How often it is looked at; milliseconds. */
  readonly rescanMs: () => number;
}

/** No look for so many times `--rescan`, and a while: the loop is stuck (design G10). */
const STUCK_RESCANS = 3;
const STUCK_MS = 30_000;

export class Report {
  readonly #clock: Clock;
  #source: ReportSource | undefined;
  /** The start, and then the last look; on the clock that never jumps. */
  #aliveMs: number;
  #rescanMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#aliveMs = clock.monotonicMs();
  }

  /** A run has begun; `undefined`: it has ended, and nothing is served until another one begins. */
  set source(source: ReportSource | undefined) {
    this.#note();
    this.#source = source;
  }

  /** `undefined` before the first run and between two. */
  get status(): CurrentStatus | undefined {
    return this.#source?.status();
  }

  /** Whether DIR has been looked at within the time that is allowed. */
  get isLive(): boolean {
    this.#note();
    return this.#clock.monotonicMs() - this.#aliveMs <= STUCK_RESCANS * this.#rescanMs + STUCK_MS;
  }

  #note(): void {
    if (this.#source === undefined) return;
    this.#aliveMs = Math.max(this.#aliveMs, this.#source.lastScanMs());
    this.#rescanMs = this.#source.rescanMs();
  }
}
