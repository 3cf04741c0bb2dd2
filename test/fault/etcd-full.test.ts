/** etcd is out of space: writes say so, everything else works on. */

import { expect } from 'chai';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { openStore, putKey } from '../support/store.ts';
import { needTool } from '../support/tools.ts';
import { followWatch } from '../support/watch-recorder.ts';

describe('an etcd that is full', () => {
  let server: EtcdServer;
  let store: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd({ args: ['--quota-backend-bytes', String(4 << 20)] });
    store = openStore(server.endpoint);
  });
  after(async () => {
    await store?.close();
    await server?.stop();
  });

  it('refuses puts with LimitError and serves reads, watches and deletes', async () => {
    const first = await putKey(store, 'A');
    const watch = followWatch(store, [{ start: 'A', end: 'B' }], first);
    await watch.until('the watch stands', () => watch.newest(0) === first);

    let refusal: unknown;
    for (let n = 0; n < 20 && refusal === undefined; n += 1) {
      refusal = await putKey(store, `fill${n}`, 'x'.repeat(1_000_000)).then(
        () => undefined,
        (reason: unknown) => reason,
      );
    }
    expect(refusal).to.have.property('code', 'ERR_LIMIT');
    expect(String(refusal)).to.include('space exceeded');
    const small = await putKey(store, 'A', 'small').catch((reason: unknown) => reason);
    expect(small).to.have.property('code', 'ERR_LIMIT');

    expect((await store.get(['A'])).kvs[0]).to.have.property('modRevision', first);
    const seen: string[] = [];
    await store.snapshot([{ start: 'A', end: 'B' }], (kv) => seen.push(kv.key));
    expect(seen).to.deep.equal(['A']);
    const deleted = await store.commit({ compares: [], ops: [{ type: 'delete', key: 'A' }] });
    await watch.until('the watch goes on', () => watch.newest(0) === deleted.revision);
    await watch.stop();
    expect(watch.downs).to.deep.equal([]);
  });

  it('does not disturb the reads beside a refused put', async () => {
    const read = async (turns: number): Promise<void> => {
      for (let n = 0; n < turns; n += 1)
        expect((await store.get(['fill0'])).kvs[0]?.value).to.have.length(1_000_000);
    };
    const write = async (turns: number): Promise<void> => {
      for (let n = 0; n < turns; n += 1) {
        const refusal = await putKey(store, 'A').catch((reason: unknown) => reason);
        expect(refusal).to.have.property('code', 'ERR_LIMIT');
      }
    };
    await Promise.all([
      ...Array.from({ length: 4 }, () => read(20)),
      ...Array.from({ length: 4 }, () => write(40)),
    ]);
  });
});
