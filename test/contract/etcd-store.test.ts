/** The store on a real etcd and the one in memory keep the same contract. */

import { Etcd3 } from 'etcd3';
import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import { startEtcd } from '../support/etcd.ts';
import { MemoryEtcd } from '../support/memory-etcd.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { needTool } from '../support/tools.ts';
import { describeStore } from './etcd-store.ts';

describe('the store on etcd', () => {
  describeStore(async (context) => {
    needTool(context, 'etcd');
    const server = await startEtcd();
    const store = etcdStore({ endpoints: [server.endpoint], prefix: '\xfd' }, systemClock);
    const client = new Etcd3({ hosts: server.clientUrl });
    return {
      store,
      async compact(revision) {
        await client.kv.compact({ revision: String(revision), physical: true });
      },
      async backUp() {
        await server.kill();
        const backup = await server.save();
        await server.start();
        return async () => {
          await server.kill();
          await server.restore(backup);
          await server.start();
        };
      },
      async wipe() {
        await server.kill();
        await server.wipe();
        await server.start();
      },
      async close() {
        client.close();
        await store.close();
        await server.stop();
      },
    };
  });
});

describe('the store in memory', () => {
  describeStore(async () => {
    const etcd = new MemoryEtcd(() => systemClock.monotonicMs());
    // A real one ends leases by itself.
    const timer = setInterval(() => etcd.expireLeases(), 50);
    const store = new MemoryStore(etcd, systemClock);
    return {
      store,
      compact: async (revision) => etcd.compact(revision),
      async backUp() {
        const backup = etcd.save();
        return async () => etcd.restore(backup);
      },
      wipe: async () => etcd.restore(),
      async close() {
        clearInterval(timer);
        await store.close();
      },
    };
  });
});
