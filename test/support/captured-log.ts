/** What agents in this process log, kept for a test that fails instead of printed. */

import { configureLog } from '../../src/agent/base/log.ts';

/** Takes the lines from now on. */
export function captureLog(): string[] {
  const lines: string[] = [];
  configureLog({ format: 'text', level: 'info', write: (line) => lines.push(line) });
  return lines;
}

/** Prints them again. */
export function releaseLog(): void {
  configureLog({ format: 'text', level: 'info', write: (line) => void process.stderr.write(line) });
}
