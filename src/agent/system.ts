/** The real world as the ports of a run. */

import { readFileSync } from 'node:fs';

import type { ByteString } from '../codec/kv.ts';
import { systemClock } from './base/clock.ts';
import { DirectoryWatch } from './disk/directory-watch.ts';
import { etcdStore } from './etcd/etcd.ts';
import { nodeFs } from './disk/fs.ts';
import { ChokidarWatch } from './disk/local-watch.ts';
import { acquireLock } from './start/lock.ts';
import type { Ports, WatchPort } from './base/ports.ts';

/** What hints at changes of DIR. */
export const WATCHERS = ['directories', 'chokidar', 'none'] as const;

export type Watcher = (typeof WATCHERS)[number];

const NO_WATCH: WatchPort = { start: () => undefined, close: async () => undefined };

export function systemPorts(watcher: Watcher): Ports {
  const bootId = readBootId();
  return {
    ...(bootId === undefined ? {} : { bootId }),
    fs: nodeFs,
    clock: systemClock,
    openStore: (address) => etcdStore(address, systemClock),
    openWatch: (root, stateDir) => openWatch(watcher, root, stateDir),
    lock: async (stateDir) => acquireLock(nodeFs, stateDir),
  };
}

function openWatch(watcher: Watcher, root: ByteString, stateDir: ByteString): WatchPort {
  switch (watcher) {
    case 'directories':
      return new DirectoryWatch(root, stateDir);
    case 'chokidar':
      return new ChokidarWatch(root, stateDir);
    case 'none':
      return NO_WATCH;
  }
}

function readBootId(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return undefined;
  }
}
