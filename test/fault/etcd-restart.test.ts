/** etcd is restarted under a store: the watch goes on where it was, calls fail with a clear error and work again. */

import { expect } from 'chai';
import { UnavailableError } from '../../src/agent/base/error.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { openStore, putKey } from '../support/store.ts';
import { needTool } from '../support/tools.ts';
import { followWatch } from '../support/watch-recorder.ts';

describe('a restart of etcd', () => {
  let server: EtcdServer;
  let store: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    store = openStore(server.endpoint);
  });
  after(async () => {
    await store?.close();
    await server?.stop();
  });

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    it(`by ${signal} interrupts a watch and loses nothing of it`, async () => {
      const first = await putKey(store, `A-${signal}`);
      const watch = followWatch(store, [{ start: 'A', end: 'B' }], first);
      await watch.until('the watch stands', () => watch.newest(0) === first);

      const pid = server.pid;
      await server.kill(signal);
      await watch.until('the watch notices', () => !watch.up);
      const error = await store.get(['A']).catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(UnavailableError);

      await server.start();
      expect(server.pid).to.not.equal(pid);
      const second = await putKey(store, `A-${signal}`);
      await watch.until('the watch goes on', () => watch.newest(0) === second);
      await watch.stop();
      expect(watch.told(0)).to.deep.equal([`${first}: A-${signal}`, `${second}: A-${signal}`]);
      expect(watch.downs).to.have.length.at.least(1);
    });
  }

  it('that comes back empty is told as a history that is gone', async () => {
    for (let n = 0; n < 3; n += 1) await putKey(store, 'A');
    const last = await putKey(store, 'A');
    const watch = followWatch(store, [{ start: 'A', end: 'B' }], last);
    await watch.until('the watch stands', () => watch.newest(0) === last);
    await server.kill('SIGKILL');
    await server.wipe();
    await server.start();
    const error = await watch.until('never', () => false).catch((reason: unknown) => reason);
    expect(error).to.have.property('code', 'ERR_COMPACTED');
    expect(watch.told(0)).to.deep.equal([`${last}: A`]);
  });

  it('of one of two endpoints leaves the other in use', async () => {
    // Another test's server may be at any port of 127.0.0.1.
    const dead = { host: '127.0.0.2', port: server.endpoint.port };
    for (const endpoints of [
      [dead, server.endpoint],
      [server.endpoint, dead],
    ]) {
      const both = openStore(endpoints);
      const revision = await putKey(both, 'A');
      const watch = followWatch(both, [{ start: 'A', end: 'B' }], revision);
      await watch.until('the watch stands', () => watch.newest(0) === revision);
      await watch.stop();
      await both.close();
    }
  });
});
