/** What happened in a run, line by line, and a hash of all of it. */

import { createHash } from 'node:crypto';

export class Trace {
  readonly #hash = createHash('sha256');
  readonly #nowMs: () => number;
  readonly lines: string[] = [];

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  note(actor: string, what: string): void {
    const line = `${this.#nowMs().toFixed(3).padStart(11)} ${actor.padEnd(8)} ${what}`;
    this.#hash.update(`${line}\n`);
    this.lines.push(line);
  }

  /** Of all lines so far. */
  digest(): string {
    return this.#hash.copy().digest('hex').slice(0, 16);
  }

  /** Lines that name one of some things, with the last ones of all. */
  about(words: readonly string[], last = 25): string {
    const from = Math.max(0, this.lines.length - last);
    const own = this.lines.filter(
      (line, index) => index >= from || words.some((word) => line.includes(word)),
    );
    return own.slice(-120).join('\n');
  }
}
