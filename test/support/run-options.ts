/** Options of a run in this process: those of the command line's defaults, but quick and without a limit on removals. */

import type { RunOptions } from '../../src/agent/run-options.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';

/** Of a `--watch` of the volume at `url` on `dir`. */
export function watchOptions(url: string, dir: string, options: Partial<RunOptions> = {}): RunOptions {
  return {
    address: parseMetaUrl(url),
    data: {},
    dir,
    once: false,
    mode: 'two-way',
    adopt: false,
    strict: false,
    allowStale: false,
    agentId: 'agent',
    subdir: '/',
    exclude: [],
    stateDir: undefined,
    minIntervalMs: 20,
    holdMaxMs: 2_000,
    settleMs: 0,
    rescanMs: 500,
    keepMs: 600_000,
    maxDeletePercent: 100,
    conflict: 'merge',
    ancestorCacheBytes: 64 << 20,
    specialFiles: 'fifo',
    syncTimes: false,
    timeoutMs: 0,
    accept: [],
    ...options,
  };
}
