/** What an idle agent costs with each way to be told of changes. */

import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { WATCHERS, type Watcher } from '../../src/agent/system.ts';
import { startAgent } from '../support/agent.ts';
import { residentMiB } from './samples.ts';

const QUIET_MS = 5_000;

export interface WatcherCost {
  readonly watcher: Watcher;
  readonly restMiB: number;
  /** Watches that the kernel keeps. */
  readonly watches: number;
}

/** An agent a watcher, one after the other, each on a new directory below `parent`. */
export async function measureWatchers(url: string, parent: string): Promise<WatcherCost[]> {
  const costs: WatcherCost[] = [];
  for (const watcher of WATCHERS) {
    const agent = await startAgent(url, mkdtempSync(join(parent, 'watch-')), ['--watcher', watcher]);
    try {
      await delay(QUIET_MS);
      costs.push({ watcher, restMiB: residentMiB(agent.pid), watches: watchesOf(agent.pid) });
    } finally {
      await agent.stop();
    }
  }
  return costs;
}

function watchesOf(pid: number): number {
  const dir = `/proc/${pid}/fdinfo`;
  const infos = readdirSync(dir).map((fd) => readFileSync(join(dir, fd), 'latin1'));
  return infos.join('').match(/^inotify wd/gm)?.length ?? 0;
}
