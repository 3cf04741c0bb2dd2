/** The clean-up's measure of age, and what the command says. */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { cleanUp } from '../../src/agent/housekeeping/clean-up.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { LeaseStore } from '../../src/agent/base/ports.ts';
import { openVolume } from '../../src/agent/volume/volume.ts';
import { blockKey } from '../../src/codec/block.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import { runCommand } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { needTool } from '../support/tools.ts';
import { until } from '../support/until.ts';

/** Of blocks that go; seconds. */
const AGE_S = 2;

describe('gc on blocks that nothing names', function () {
  let server: EtcdServer;
  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
  });
  after(async () => server?.stop());

  /** Fails unless blocks that are lost in `data` go once they are older than two seconds, and not before. */
  async function expectAging(
    url: string,
    store: LeaseStore,
    data: LeaseStore,
    bucket?: string,
  ): Promise<void> {
    const address = parseMetaUrl(url);
    const volume = await openVolume(store, address, undefined, bucket === undefined ? {} : { bucket });
    try {
      const clean = () =>
        cleanUp({ store, volume, clock: systemClock, guard: [] }, { minAge: AGE_S, dryRun: false });
      const lose = (id: bigint) =>
        writeKeys(data, [{ type: 'put', key: blockKey(volume.blocks, id, 0, 5), value: new Uint8Array(5) }]);
      await lose(100n);
      const fromMs = performance.now();
      expect(await clean(), 'a first run').to.deep.include({ blocks: 0, youngBlocks: 1 });
      await lose(101n);
      const atOnce = await clean();
      // On a machine that takes as long for this, the older one may be old.
      if (performance.now() - fromMs < AGE_S * 1_000)
        expect(atOnce, 'a run at once').to.deep.include({ blocks: 0, youngBlocks: 2 });
      let { blocks } = atOnce;
      await until('the older one goes', async () => {
        if (blocks === 0) ({ blocks } = await clean());
        return blocks > 0;
      });
      expect(blocks).to.equal(1);
      await until('the younger one goes', async () => (await clean()).blocks === 1);
    } finally {
      await volume.close();
    }
  }

  it('lets them go when they are old by the measure of the store, and not before', async () => {
    const volume = await TestVolume.format(server, { name: 'aging', trashDays: 1, blockSizeKiB: 64 });
    await expectAging(volume.url, volume.store, volume.store);
    await volume.store.close();
  });

  it('does so in another etcd as well', async () => {
    const other = await startEtcd();
    const data = etcdStore(parseMetaUrl(other.url), systemClock);
    const bucket = `${other.endpoint.host}:${other.endpoint.port}`;
    const formatted = await runCommand(['format', `${server.url}/apart`, 'apart', '--bucket', bucket]);
    expect(formatted.code, formatted.stderr).to.equal(0);
    const store = etcdStore(parseMetaUrl(`${server.url}/apart`), systemClock);
    try {
      await expectAging(`${server.url}/apart`, store, data, bucket);
    } finally {
      await store.close();
      await data.close();
      await other.stop();
    }
  });

  it('says what it would do, and writes nothing', async () => {
    const volume = await TestVolume.format(server, { name: 'dry', trashDays: 1, blockSizeKiB: 64 });
    const lost = blockKey(volume.volume.blocks, 100n, 0, 5);
    await writeKeys(volume.store, [{ type: 'put', key: lost, value: new Uint8Array(5) }]);
    const { revision } = await volume.store.status();
    const quiet = await runCommand(['gc', volume.url, '--dry-run', '--min-age', '0']);
    expect(quiet).to.deep.include({ code: 0, stdout: 'would remove 1 blocks that nothing names\n' });
    const young = await runCommand(['gc', volume.url, '--dry-run', '--json']);
    expect(JSON.parse(young.stdout)).to.deep.include({ blocks: 0, youngBlocks: 1, left: [] });
    const { prefix } = volume.address;
    const all = ['dry/', prefix, `etcd-etc-agent/${volume.volume.setting.uuid}/`].map(prefixRange);
    const newer: string[] = [];
    await volume.store.snapshot(all, ({ key }) => newer.push(key), { changedSince: revision + 1n });
    expect(newer).to.deep.equal([]);
    expect((await volume.store.get([lost])).kvs[0]?.key).to.equal(lost);
    expect(await runCommand(['gc', volume.url, '--min-age', '0'])).to.deep.include({ code: 0 });
    const after = await runCommand(['gc', volume.url, '--min-age', '0']);
    expect(after).to.deep.include({ code: 0, stdout: 'nothing to clean\n' });
    const checked = await runCommand(['fsck', volume.url]);
    expect(checked.stdout).to.match(
      /^volume dry at revision \d+: \d+ inodes, no mount is alive\nnothing is wrong\n$/,
    );
    await volume.store.close();
  });

  for (const [wrong, sentence] of [
    [['--watch', '--dry-run'], 'exclude each other'],
    [['--watch', '--min-age', '0'], 'not with --watch'],
    [['--min-age', 'soon'], '--min-age takes a time'],
  ] as const) {
    it(`refuses ${wrong.join(' ')}`, async () => {
      const { code, sentence: said } = await runCommand(['gc', `${server.url}/dry`, ...wrong]);
      expect(code).to.equal(2);
      expect(said).to.include(sentence);
    });
  }
});
