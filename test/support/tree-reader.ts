/** A process that resolves `..data` once, reads some files of that tree, and says whether they agreed. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** What it saw. A read is one resolve of `..data` and all files after it. */
export interface TreeReads {
  /** Reads that were done within the limit. */
  readonly reads: number;
  /** Of these, those whose files had different contents. */
  readonly mixed: number;
  /** Of these, those in which a file was missing. */
  readonly missing: number;
  /** Reads that took longer than the limit: nothing is promised to them. */
  readonly late: number;
  /** Different contents seen. */
  readonly contents: number;
}

const PROGRAM = `
import { readFileSync, readlinkSync } from 'node:fs';
const [dir, pause, limit, ...names] = process.argv.slice(1);
const cell = new Int32Array(new SharedArrayBuffer(4));
const seen = { reads: 0, mixed: 0, missing: 0, late: 0 };
const contents = new Set();
function read() {
  const start = performance.now();
  const tree = dir + '/' + readlinkSync(dir + '/..data');
  const texts = new Set();
  let missing = false;
  for (const [i, name] of names.entries()) {
    if (i > 0 && pause > 0) Atomics.wait(cell, 0, 0, Number(pause));
    try {
      texts.add(readFileSync(tree + '/' + name, 'utf8'));
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
      missing = true;
    }
  }
  if (performance.now() - start > limit) {
    seen.late += 1;
    return;
  }
  seen.reads += 1;
  if (missing) seen.missing += 1;
  if (texts.size > 1) seen.mixed += 1;
  for (const text of texts) contents.add(text);
}
process.stdin.resume();
process.stdin.on('end', () => {
  process.stdout.write(JSON.stringify({ ...seen, contents: contents.size }), () => process.exit(0));
});
function turn() {
  read();
  setImmediate(turn);
}
turn();
process.stdout.write('\\n');
`;

export class TreeReader {
  readonly #child: ChildProcess;
  readonly #output: Promise<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#output = this.#collect();
  }

  /**
   * Starts it and waits until it has read once. `pauseMs` passes between two files; reads that take more than `limitMs`
   * count as late.
   */
  static async start(
    dir: string,
    names: readonly string[],
    options: { readonly pauseMs: number; readonly limitMs: number },
  ): Promise<TreeReader> {
    const args = [dir, String(options.pauseMs), String(options.limitMs), ...names];
    const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, '--', ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const reader = new TreeReader(child);
    await Promise.race([once(child.stdout, 'data'), once(child, 'close')]);
    if (child.exitCode !== null) throw new Error(`the reader ended with ${child.exitCode}`);
    return reader;
  }

  async #collect(): Promise<string> {
    let text = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (part: string) => (text += part));
    await once(this.#child, 'close');
    return text;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Ends it and returns what it saw. */
  async stop(): Promise<TreeReads> {
    this.#child.stdin?.end();
    return JSON.parse(await this.#output) as TreeReads;
  }
}
