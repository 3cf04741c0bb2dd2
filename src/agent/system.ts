/** The real world as the ports of a run. */

import { systemClock } from './clock.ts';
import { etcdStore } from './etcd.ts';
import { nodeFs } from './fs.ts';
import { ChokidarWatch } from './local-watch.ts';
import { acquireLock } from './lock.ts';
import type { Ports } from './ports.ts';

export const systemPorts: Ports = {
  fs: nodeFs,
  clock: systemClock,
  openStore: (address) => etcdStore(address, systemClock),
  openWatch: (root, stateDir) => new ChokidarWatch(root, stateDir),
  lock: async (stateDir) => acquireLock(nodeFs, stateDir),
};
