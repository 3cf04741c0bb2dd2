/** A process that reads files in a tight loop and writes down what no reader should see. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { until } from './until.ts';

interface Report {
  readonly reads: number;
  /** One line for each different bad sight. */
  readonly bad: readonly string[];
  /** The contents seen last, by file. */
  readonly last: readonly string[];
}

/** Runs in the process. It tells about what it saw whenever it is asked, and ends at the end of its input. */
const PROGRAM = `
import { readFileSync, statSync } from 'node:fs';
const files = process.argv.slice(1);
const bad = new Set(), last = files.map(() => '');
let reads = 0;
process.stdin.on('data', () => process.stdout.write(JSON.stringify({ reads, bad: [...bad], last }) + '\\n'));
process.stdin.on('end', () => process.exit(0));
function turn() {
  for (let n = 0; n < 50; n += 1) {
    for (const [i, file] of files.entries()) {
      try {
        const { mode } = statSync(file);
        if ((mode & 0o777) === 0o600) bad.add(file + ' is private');
        const text = readFileSync(file, 'utf8');
        if (text === '') bad.add(file + ' is empty');
        last[i] = text;
      } catch (error) {
        bad.add(file + ': ' + error.code);
      }
      reads += 1;
    }
  }
  setImmediate(turn);
}
turn();
`;

export class Poller {
  readonly #child: ChildProcess;
  #answers: ((report: Report) => void)[] = [];

  private constructor(files: readonly string[]) {
    const args = ['--input-type=module', '-e', PROGRAM, '--', ...files];
    this.#child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    let text = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        this.#answers.shift()?.(JSON.parse(text.slice(0, end)) as Report);
        text = text.slice(end + 1);
      }
    });
  }

  /** Starts it and waits until it has read every file. */
  static async start(files: readonly string[]): Promise<Poller> {
    const poller = new Poller(files);
    await until('the poller reads', async () => (await poller.ask()).reads >= files.length);
    return poller;
  }

  async ask(): Promise<Report> {
    return new Promise((resolve) => {
      this.#answers.push(resolve);
      this.#child.stdin?.write('?');
    });
  }

  /** Waits until all files have this content. */
  async sees(content: string): Promise<void> {
    let last: readonly string[] = [];
    try {
      await until(`the poller sees ${JSON.stringify(content)}`, async () => {
        ({ last } = await this.ask());
        return last.every((text) => text === content);
      });
    } catch (cause) {
      throw new Error(`${String(cause)}, last: ${JSON.stringify(last)}`, { cause });
    }
  }

  /** Ends it and returns what it saw. */
  async stop(): Promise<Report> {
    const report = await this.ask();
    const ended = once(this.#child, 'close');
    this.#child.stdin?.end();
    await ended;
    return report;
  }
}
