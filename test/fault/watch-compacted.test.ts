/** History is compacted away while a watch is cut off: it ends with CompactedError, and has told nothing wrong. */

import { expect } from 'chai';
import { Etcd3 } from 'etcd3';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { openStore, putKey } from '../support/store.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { needTool } from '../support/tools.ts';
import { followWatch } from '../support/watch-recorder.ts';

describe('a compaction while a watch is cut off', () => {
  let server: EtcdServer;
  let proxy: TcpProxy;
  let admin: Etcd3;
  let direct: EtcdStore;
  let store: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    proxy = await TcpProxy.start(server.endpoint);
    admin = new Etcd3({ hosts: server.clientUrl });
    direct = openStore(server.endpoint);
    store = openStore(proxy.endpoint, { connectMs: 200 });
  });
  after(async () => {
    await store?.close();
    await direct?.close();
    admin?.close();
    await proxy?.close();
    await server?.stop();
  });

  const compact = async (revision: bigint): Promise<void> => {
    await admin.kv.compact({ revision: String(revision), physical: true });
  };

  it('ends it when it had not got so far', async () => {
    const first = await putKey(direct, 'A');
    const watch = followWatch(store, [{ start: 'A', end: 'B' }], first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    proxy.blackhole();
    proxy.cut();
    await watch.until('the watch is cut off', () => !watch.up);
    await putKey(direct, 'A', 'missed');
    await compact(await putKey(direct, 'A'));
    proxy.heal();
    const error = await watch.until('never', () => false).catch((reason: unknown) => reason);
    expect(error).to.have.property('code', 'ERR_COMPACTED');
    expect(watch.told(0)).to.deep.equal([`${first}: A`]);
  });

  it('does no harm to a watch that had got everything before', async () => {
    const first = await putKey(direct, 'A');
    const watch = followWatch(store, [{ start: 'A', end: 'B' }], first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    await compact(first);
    const downs = watch.downs.length;
    proxy.cut();
    await watch.until('the watch was cut', () => watch.downs.length > downs);
    const second = await putKey(direct, 'A');
    await watch.until('the watch goes on', () => watch.newest(0) === second);
    await watch.stop();
  });
});
