/** etcd falls silent with its connections open: noticed by keepalive, by deadlines, and by asking for progress. */

import { expect } from 'chai';
import type { EtcdOptions } from '../../src/agent/etcd/etcd.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { QUICK_WATCH, openStore, putKey } from '../support/store.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { needTool } from '../support/tools.ts';
import { followWatch } from '../support/watch-recorder.ts';

const RANGES = [{ start: 'A', end: 'B' }];
/** etcd hangs up on who pings more often than each 5 s, counting from three pings on; these tests end before. */
const QUICK: Partial<EtcdOptions> = {
  keepaliveMs: 1_000,
  keepaliveTimeoutMs: 500,
};

describe('a silent etcd', () => {
  let server: EtcdServer;
  let proxy: TcpProxy;
  let direct: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    proxy = await TcpProxy.start(server.endpoint);
    direct = openStore(server.endpoint);
  });
  after(async () => {
    await direct?.close();
    await proxy?.close();
    await server?.stop();
  });

  it('behind a network that drops everything is noticed by keepalive', async () => {
    const store = openStore(proxy.endpoint, QUICK);
    const first = await putKey(direct, 'A');
    const watch = followWatch(store, RANGES, first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    proxy.blackhole();
    const missed = await putKey(direct, 'A');
    await watch.until('the silence is noticed', () => !watch.up);
    expect(watch.newest(0)).to.equal(first);
    proxy.heal();
    await watch.until('the watch goes on', () => watch.newest(0) === missed);
    await watch.stop();
    await store.close();
  });

  it('that is stopped is noticed by keepalive, and by the deadline of a call', async () => {
    const store = openStore(server.endpoint, QUICK);
    const first = await putKey(store, 'A');
    const watch = followWatch(store, RANGES, first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    server.pause();
    const error = await store.get(['A']).catch((reason: unknown) => reason);
    expect(error).to.have.property('code', 'ERR_UNAVAILABLE');
    await watch.until('the silence is noticed', () => !watch.up);
    server.resume();
    const second = await putKey(store, 'A');
    await watch.until('the watch goes on', () => watch.newest(0) === second);
    await watch.stop();
    await store.close();
  });

  it('whose connections live on is noticed by asking for progress', async () => {
    const store = openStore(proxy.endpoint, {
      connectMs: 500,
      callMs: 1_000,
      watch: { ...QUICK_WATCH, createMs: 300, progressMs: 100, silentMs: 500 },
    });
    const first = await putKey(direct, 'A');
    const watch = followWatch(store, RANGES, first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    // A sign of life has to be seen once: behind a grpc-proxy there is none, and its absence means nothing.
    const streams = watch.ups;
    const answered = proxy.answeredBytes;
    await watch.until('a request for progress is answered', () => proxy.answeredBytes > answered);
    proxy.swallowReplies();
    await watch.until('the silence is noticed', () => watch.downs.includes('silent'));
    proxy.heal();
    proxy.cut();
    await watch.until('the watch stands again', () => watch.up && watch.ups > streams);
    await watch.stop();
    await store.close();
  });

  it('does not keep a store from closing', async () => {
    const store = openStore(proxy.endpoint);
    const watch = followWatch(store, RANGES, 1n);
    await watch.until('the watch stands', () => watch.up);
    proxy.blackhole();
    const reading = store.get(['A']).catch((reason: unknown) => reason);
    await store.close();
    expect(await reading).to.have.property('code', 'ERR_UNAVAILABLE');
    const error = await watch.until('never', () => false).catch((reason: unknown) => reason);
    expect(error).to.have.property('code', 'ERR_UNAVAILABLE');
    proxy.cut();
    proxy.heal();
  });
});
