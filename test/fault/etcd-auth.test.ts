/** etcd with users: refusals are told as such; tokens that expire or are forgotten are replaced without a word. */

import { expect } from 'chai';
import { Etcd3 } from 'etcd3';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { openStore, putKey } from '../support/store.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { needTool } from '../support/tools.ts';
import { until } from '../support/until.ts';
import { followWatch } from '../support/watch-recorder.ts';

const ROOT = { name: 'root', password: 'root' };
const AGENT = { user: 'agent', password: 'p@ss:/word' };
const TOKEN_TTL_S = 2;
const IDLE_TOKENS = 40;
const SNAPSHOT_COUNT = 10;
const RANGES = [{ start: 'A', end: 'B' }];

describe('an etcd with users', () => {
  let server: EtcdServer;
  let proxy: TcpProxy;
  /** Talks to the server as root would. */
  let admin: Etcd3;
  let store: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd({
      args: [
        ...['--auth-token-ttl', String(TOKEN_TTL_S), '--bcrypt-cost', '4'],
        // A start replays the log from the last snapshot on, and with it the tokens that were given since.
        ...['--snapshot-count', String(SNAPSHOT_COUNT)],
      ],
    });
    proxy = await TcpProxy.start(server.endpoint);
    admin = new Etcd3({ hosts: server.clientUrl });
    const { auth } = admin;
    await auth.userAdd(ROOT);
    await auth.userGrantRole({ user: 'root', role: 'root' });
    await auth.roleAdd({ name: 'agent' });
    for (const [start, end] of [
      ['A', 'B'],
      ['\xfd', '\xfe'],
    ] as const) {
      const range = { key: Buffer.from(start, 'latin1'), range_end: Buffer.from(end, 'latin1') };
      await auth.roleGrantPermission({ name: 'agent', perm: { permType: 'Readwrite', ...range } });
    }
    await auth.userAdd({ name: AGENT.user, password: AGENT.password });
    await auth.userGrantRole({ user: 'agent', role: 'agent' });
    await auth.authEnable();
    server.login = { username: ROOT.name, password: ROOT.password };
  });
  beforeEach(() => {
    store = openStore(proxy.endpoint, {}, AGENT);
  });
  afterEach(async () => {
    await store.close();
  });
  after(async () => {
    admin?.close();
    await proxy?.close();
    await server?.stop();
  });

  const newToken = async (): Promise<string> =>
    (await admin.auth.authenticate({ name: AGENT.user, password: AGENT.password })).token;

  it('lets in who has the password, and refuses everybody else with AuthError', async () => {
    await putKey(store, 'A');
    for (const other of [{ user: 'agent', password: 'wrong' }, { user: 'nobody', password: '' }, {}]) {
      const stranger = openStore(server.endpoint, {}, other);
      await expectRefused(stranger.get(['A']));
      await expectRefused(stranger.status());
      await expectRefused(stranger.commit({ compares: [], ops: [{ type: 'delete', key: 'A' }] }));
      await stranger.close();
    }
  });

  it('refuses what was not granted, and a watch of more than was granted', async () => {
    await expectRefused(store.get(['elsewhere']));
    await expectRefused(putKey(store, 'elsewhere'));
    await expectRefused(store.watch([{ start: 'A', end: 'C' }], 1n, ignore(), new AbortController().signal));
    await putKey(store, 'A');
  });

  it('forgets tokens when they are not used for a while: calls and watches get new ones', async () => {
    const first = await putKey(store, 'A');
    const watch = followWatch(store, RANGES, first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    // To ask with one is to use it: each is asked with once. The store used its own before these were made.
    const idle = await Promise.all(Array.from({ length: IDLE_TOKENS }, newToken));
    await until(
      'a token is forgotten that nobody used',
      async () => isForgotten(server, idle.pop() ?? 'no more'),
      40_000,
      40_000 / IDLE_TOKENS,
    );
    expect(idle).to.not.have.length(0);

    const second = await putKey(store, 'A');
    await watch.until('the watch never noticed', () => watch.newest(0) === second);
    expect(watch.downs).to.deep.equal([]);
    proxy.cut();
    const third = await putKey(store, 'A');
    await watch.until('the watch goes on after a cut', () => watch.newest(0) === third);
    expect(watch.downs).to.have.length(1);
    await watch.stop();
  });

  it('forgets all tokens when it is restarted: calls and watches get new ones', async () => {
    const first = await putKey(store, 'A');
    const watch = followWatch(store, RANGES, first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    const old = await newToken();
    for (let n = 0; n < 3 * SNAPSHOT_COUNT; n += 1) await putKey(store, 'A');
    await server.kill('SIGTERM');
    await server.start();
    expect(await isForgotten(server, old)).to.equal(true);

    const second = await putKey(store, 'A');
    await watch.until('the watch goes on', () => watch.newest(0) === second);
    await watch.stop();
    const revisions = 1 + 3 * SNAPSHOT_COUNT + 1;
    expect(watch.told(0)).to.deep.equal(
      Array.from({ length: revisions }, (_, i) => `${first + BigInt(i)}: A`),
    );
  });

  it('that is told to do without users takes one all the same', async () => {
    const plain = await startEtcd();
    const named = openStore(plain.endpoint, {}, AGENT);
    await putKey(named, 'A');
    await named.close();
    await plain.stop();
  });
});

async function expectRefused(promise: Promise<unknown>): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error, String(error)).to.have.property('code', 'ERR_AUTH');
}

/** Whether a token is worth nothing any more. */
async function isForgotten(server: EtcdServer, token: string): Promise<boolean> {
  const answer = await fetch(`${server.clientUrl}/v3/kv/range`, {
    method: 'POST',
    headers: { authorization: token, connection: 'close' },
    body: JSON.stringify({ key: Buffer.from('A').toString('base64') }),
  });
  return (await answer.text()).includes('invalid auth token');
}

function ignore() {
  return { onRevision() {}, onProgress() {}, onState() {} };
}
