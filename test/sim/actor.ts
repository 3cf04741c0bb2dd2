/** Somebody who runs one program after the other on a site. */

import { codeOf } from '../../src/agent/base/error.ts';
import type { Random } from '../support/random.ts';
import type { RecordedSite } from './history.ts';
import { pickProgram, type Program, type Weighted } from './programs.ts';
import type { Cancel, Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

export class Actor {
  readonly site: RecordedSite;
  readonly #scheduler: Scheduler;
  readonly #trace: Trace;
  readonly #random: Random;
  readonly #programs: Weighted;
  readonly #restMs: number;
  #program: Program | undefined;
  #cancel: Cancel = () => undefined;
  #isStepping = false;
  #isResting = false;

  /** `restMs` is how long it rests between two programs, on average. */
  constructor(
    site: RecordedSite,
    scheduler: Scheduler,
    trace: Trace,
    random: Random,
    programs: Weighted,
    restMs: number,
  ) {
    this.site = site;
    this.#scheduler = scheduler;
    this.#trace = trace;
    this.#random = random;
    this.#programs = programs;
    this.#restMs = restMs;
  }

  start(): void {
    this.#plan(this.#random.next() * this.#restMs);
  }

  /** Runs the program that is under way to its end, and none after it. */
  finish(): void {
    this.#isResting = true;
    this.#cancel();
    for (let steps = 0; this.#program !== undefined && steps < 10_000; steps += 1) this.#advance();
  }

  #plan(ms: number): void {
    this.#cancel = this.#scheduler.after(ms, () => this.step());
  }

  /** The next step, now instead of when it is due. */
  step(): void {
    if (this.#isResting || this.#isStepping) return;
    this.#cancel();
    this.#isStepping = true;
    try {
      this.#program ??= pickProgram(this.#programs, this.site, this.#random);
      const pauseMs = this.#advance();
      this.#plan(pauseMs ?? this.#random.next() * 2 * this.#restMs);
    } finally {
      this.#isStepping = false;
    }
  }

  #advance(): number | undefined {
    try {
      const next = this.#program?.next();
      if (next !== undefined && next.done !== true) return next.value;
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      this.#trace.note(this.site.name, `failed: ${error instanceof Error ? error.message : code}`);
    }
    this.#program = undefined;
    return undefined;
  }
}
