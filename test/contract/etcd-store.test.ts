/** The store on a real etcd keeps the contract. */

import { Etcd3 } from 'etcd3';
import { systemClock } from '../../src/agent/clock.ts';
import { etcdStore } from '../../src/agent/etcd.ts';
import { startEtcd } from '../support/etcd.ts';
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
      async close() {
        client.close();
        await store.close();
        await server.stop();
      },
    };
  });
});
