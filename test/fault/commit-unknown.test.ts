/** The answer to a transaction is lost: it is sent again until its outcome is known, and is carried out once. */

import { expect } from 'chai';
import { UnknownOutcomeError } from '../../src/agent/base/error.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import type { StoreTransaction } from '../../src/codec/kv.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { openStore, putKey } from '../support/store.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { needTool } from '../support/tools.ts';
import { until } from '../support/until.ts';

describe('a transaction whose answer is lost', () => {
  let server: EtcdServer;
  let proxy: TcpProxy;
  let direct: EtcdStore;
  let store: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    proxy = await TcpProxy.start(server.endpoint);
    direct = openStore(server.endpoint);
  });
  beforeEach(() => {
    store = openStore(proxy.endpoint);
  });
  afterEach(async () => {
    await store.close();
    proxy.heal();
    proxy.cut();
  });
  after(async () => {
    await direct?.close();
    await proxy?.close();
    await server?.stop();
  });

  /** Its transactions are given up soon, its reads and connections as late as those of any other. */
  const hasty = async (): Promise<EtcdStore> => {
    await store.close();
    store = openStore(proxy.endpoint, { callMs: 500 });
    await store.get(['something']);
    return store;
  };
  const create = (key: string): StoreTransaction => ({
    compares: [{ key, modRevision: 0n }],
    ops: [{ type: 'put', key, value: new Uint8Array([1]) }],
  });
  const modRevision = async (key: string): Promise<bigint | undefined> =>
    (await direct.get([key])).kvs[0]?.modRevision;

  it('because the connection was cut is lost to itself, says so, and was carried out once', async () => {
    await store.status();
    proxy.swallowReplies();
    const committing = store.commit(create('cut'));
    await until('the transaction is carried out', async () => (await modRevision('cut')) !== undefined);
    const revision = await modRevision('cut');
    expect(proxy.cut()).to.be.greaterThan(0);
    proxy.heal();

    const result = await committing;
    expect(result).to.include({ outcome: 'lost', ambiguous: true });
    if (result.outcome === 'lost') {
      expect(result.current.get('cut')).to.include({ modRevision: revision, createRevision: revision });
    }
    expect(await modRevision('cut')).to.equal(revision);
  });

  it('because its time was up is sent again, too', async () => {
    await hasty();
    proxy.swallowReplies();
    const accepted = proxy.accepted;
    const committing = store.commit(create('deadline'));
    await until('the transaction is carried out', async () => (await modRevision('deadline')) !== undefined);
    await until('the store gave that connection up', () => proxy.accepted > accepted);
    proxy.heal();
    proxy.cut();
    expect(await committing).to.include({ outcome: 'lost', ambiguous: true });
  });

  it('and that was not carried out passes when it is sent again', async () => {
    await hasty();
    proxy.blackhole();
    const committing = store.commit(create('never arrived'));
    const accepted = proxy.accepted;
    await until('the store tries again', () => proxy.accepted > accepted);
    expect(await modRevision('never arrived')).to.equal(undefined);
    proxy.cut();
    proxy.heal();
    expect(await committing).to.have.property('outcome', 'committed');
    expect(await modRevision('never arrived')).to.not.equal(undefined);
  });

  it('rejects with UnknownOutcomeError when it may not be sent again', async () => {
    await store.status();
    proxy.swallowReplies();
    const abort = new AbortController();
    const committing = store.commit(create('aborted'), abort.signal).catch((reason: unknown) => reason);
    await until('the transaction is carried out', async () => (await modRevision('aborted')) !== undefined);
    abort.abort();
    expect(await committing).to.be.instanceOf(UnknownOutcomeError);
  });

  it('is no matter for one that was never sent: it was without effect', async () => {
    await store.close();
    store = openStore(proxy.endpoint, { connectMs: 500 });
    proxy.blackhole();
    const error = await store.commit(create('unsent')).catch((reason: unknown) => reason);
    expect(error).to.have.property('code', 'ERR_UNAVAILABLE');
    await putKey(direct, 'something else');
    expect(await modRevision('unsent')).to.equal(undefined);
  });
});
