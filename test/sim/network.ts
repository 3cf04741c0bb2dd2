/** What lies between one client and the store: time, and faults that the seed decides. */

import { UnavailableError, UnknownOutcomeError } from '../../src/agent/base/error.ts';
import type { Random } from '../support/random.ts';
import type { Network } from '../support/memory-store.ts';
import type { Scheduler } from './scheduler.ts';
import { speaker } from './speaker.ts';

/** How bad the network is. Chances are in [0, 1]. */
export interface Weather {
  /** Nothing gets through. */
  isDown: boolean;
  /** Longest time of one way, in milliseconds. */
  latencyMs: number;
  /** An answer is lost although the request was served. */
  lostAnswer: number;
  /** A request gets there only after its sender has given up. */
  lateRequest: number;
}

export const FINE: Weather = { isDown: false, latencyMs: 2, lostAnswer: 0, lateRequest: 0 };

/** How long a caller waits for an answer, and how long after that a late request may still arrive; milliseconds. */
const CALL_MS = 5_000;
const LATE_MS = 4_000;

/** One stream. */
interface Line {
  readonly end: (error: Error) => void;
  readonly lag: (untilMs: number, lane: string | undefined) => void;
}

/** One client's way to the store. It ends with the client: then nothing comes back any more. */
export class SimNetwork implements Network {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #weather: Weather;
  readonly #lines = new Set<Line>();
  #isDead = false;

  readonly #client: string;

  constructor(client: string, scheduler: Scheduler, random: Random, weather: Weather) {
    this.#client = client;
    this.#scheduler = scheduler;
    this.#random = random;
    this.#weather = weather;
  }

  /** Nothing gets back to the client any more; what it sent may still arrive. */
  die(): void {
    this.#isDead = true;
  }

  /** Ends all streams. */
  cut(): void {
    for (const { end } of [...this.#lines]) end(new UnavailableError('the connection was cut'));
  }

  /**
   * The member that serves the open streams is behind the others: for so long (milliseconds) nothing comes of them, or of one `lane`,
   * as a server has watches that are behind others of the same stream. Reads and transactions go to any member and are
   * linearizable, so they never are behind; a new stream begins with such a read, at another member.
   */
  lag(ms: number, lane?: string): void {
    for (const line of this.#lines) line.lag(this.#scheduler.nowMs + ms, lane);
  }

  #oneWayMs(): number {
    return 0.05 + this.#random.next() * this.#weather.latencyMs;
  }

  call<T>(kind: 'read' | 'commit', serve: () => T, signal: AbortSignal | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const weather = this.#weather;
      let isSent = false;
      const lost = (reason: string): Error =>
        kind === 'commit' && isSent ? new UnknownOutcomeError(reason) : new UnavailableError(reason);
      let isOver = false;
      const end = (finish: () => void): void => {
        if (isOver || this.#isDead) return;
        isOver = true;
        signal?.removeEventListener('abort', abort);
        finish();
      };
      const abort = (): void =>
        end(() => reject(kind === 'commit' && isSent ? lost('stopped') : (signal?.reason as Error)));
      signal?.addEventListener('abort', abort);
      const after = (ms: number, run: () => void): void => void this.#scheduler.after(ms, run);
      if (weather.isDown) {
        after(1 + this.#random.next() * 50, () => end(() => reject(lost('connection refused'))));
        return;
      }
      isSent = true;
      if (this.#random.next() < weather.lateRequest) {
        after(CALL_MS, () => end(() => reject(lost('deadline exceeded'))));
        after(CALL_MS + this.#random.next() * LATE_MS, () => attempt(serve));
        return;
      }
      const isAnswerLost = this.#random.next() < weather.lostAnswer;
      after(this.#oneWayMs(), () => {
        // Cut while it was on its way: nobody knows whether it got there.
        if (weather.isDown && this.#random.next() < 0.5) {
          after(1, () => end(() => reject(lost('connection reset'))));
          return;
        }
        const answer = attempt(serve);
        if (isAnswerLost || weather.isDown) {
          after(this.#oneWayMs(), () => end(() => reject(lost('connection reset'))));
          return;
        }
        after(this.#oneWayMs(), () =>
          end(() => ('error' in answer ? reject(answer.error) : resolve(answer.value))),
        );
      });
    });
  }

  stream(end: (error: Error) => void): ReturnType<Network['stream']> {
    const lines = this.#lines;
    let arrivesMs = 0;
    /** Until when nothing comes of a lane; virtual milliseconds. */
    const held = new Map<string, number>();
    let isOpen = true;
    const line: Line = {
      end: (error) => {
        if (!this.#isDead) end(error);
      },
      lag: (untilMs, lane) => {
        if (lane === undefined) arrivesMs = Math.max(arrivesMs, untilMs);
        else held.set(lane, Math.max(untilMs, held.get(lane) ?? 0));
      },
    };
    lines.add(line);
    return {
      send: (deliver, lane) => {
        const now = this.#scheduler.nowMs;
        // In order: nothing overtakes what was sent before it, and what is about all lanes comes after all.
        arrivesMs = Math.max(arrivesMs, now + this.#oneWayMs());
        const heldMs = lane === undefined ? Math.max(0, ...held.values()) : (held.get(lane) ?? 0);
        this.#scheduler.after(Math.max(arrivesMs, heldMs) - now, () => {
          if (isOpen && !this.#isDead) speaker.run(this.#client, deliver);
        });
      },
      close: () => {
        isOpen = false;
        lines.delete(line);
      },
    };
  }

  fragment(): number {
    return 1 + this.#random.below(8);
  }
}

function attempt<T>(serve: () => T): { readonly value: T } | { readonly error: Error } {
  try {
    return { value: serve() };
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }
}
