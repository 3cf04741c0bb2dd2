/**
 * Blocks that come after the metadata that name them, as mounts with --writeback have it: beside the metadata and in an etcd
 * of their own, whose revisions are others. What is there meanwhile stays, and is said to be unfinished.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { BlockStore } from '../../src/agent/base/ports.ts';
import { Pusher } from '../../src/agent/push/push.ts';
import { format } from '../../src/agent/verbs/format.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Collected, contentOf, file, TestVolume } from '../support/pushing.ts';

/** Contents that a transaction does not take along. */
const large = (letter: string): string => letter.repeat(300_000);

describe('blocks that come late', function () {
  this.timeout(120_000);
  let servers: EtcdServer[];
  let folder: string;
  let agent: Agent | undefined;

  before(async () => {
    servers = [await startEtcd(), await startEtcd()];
    folder = mkdtempSync(join(tmpdir(), 'late-'));
  });
  afterEach(async () => {
    await agent?.kill();
    agent = undefined;
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(folder, { recursive: true });
  });

  /** Pushes without storing the blocks; the function stores them. */
  async function pushEarly(volume: TestVolume, changes: readonly PushChange[]): Promise<() => Promise<void>> {
    const { data } = volume.volume;
    const late: { readonly key: string; readonly block: Uint8Array }[] = [];
    const holding: BlockStore = {
      stores: data.stores,
      elsewhere: data.elsewhere,
      besideMetadata: data.besideMetadata,
      get: (keys, options) => data.get(keys, options),
      pack: (block) => data.pack(block),
      unpack: (stored, length) => data.unpack(stored, length),
      writer: () => ({
        put: async (key, block) => void late.push({ key, block }),
        putPacked: async () => {},
        finish: async () => {},
        settle: async () => {},
      }),
      delete: (keys, signal) => data.delete(keys, signal),
      follow: (onBlock, signal) => data.follow(onBlock, signal),
      close: () => data.close(),
    };
    const pusher = new Pusher(volume.store, { ...volume.volume, data: holding }, systemClock);
    const { changes: outcomes } = await pusher.push(changes, {
      read: async ({ new: entry }, offset, length) => {
        if (entry?.type !== 'file') throw new Error('only files are read');
        return contentOf(entry).subarray(Number(offset), Number(offset) + length);
      },
    });
    for (const { outcome } of outcomes) expect(outcome).to.equal('committed');
    expect(late).not.to.have.length(0);
    return async () => {
      const writer = data.writer();
      for (const { key, block } of late) await writer.put(key, block);
      await writer.finish();
    };
  }

  for (const where of ['beside the metadata', 'in another etcd'] as const) {
    it(`${where}: are waited for, then missed, and shown when they come`, async () => {
      const [here, there] = servers;
      if (here === undefined || there === undefined) throw new Error('no servers');
      const name = where === 'in another etcd' ? 'late-elsewhere' : 'late-beside';
      const url = `${here.url}/${name}`;
      const address = parseMetaUrl(url);
      const store = etcdStore(address, systemClock);
      const bucket = where === 'in another etcd' ? { bucket: there.url } : {};
      const out = new Collected();
      await format(
        { store, address, data: bucket, clock: systemClock, out, err: out },
        { name, blockSizeKiB: 64 },
      );
      await store.close();
      const volume = await TestVolume.open(here, `/${name}`);
      try {
        expect(volume.volume.data.besideMetadata).to.equal(where === 'beside the metadata');
        await volume.push(volume.make('old', file(large('o'))), volume.make('other', file('one\n')));
        const dir = mkdtempSync(join(folder, 'dir-'));
        agent = new Agent(url, dir, ['--min-interval', '20ms', '--hold-max', '500ms']);
        await agent.until('it is ready', ({ ready }) => ready, 60_000);

        const storeBlocks = await pushEarly(volume, [
          volume.edit('old', file(large('n'))),
          volume.make('new', file(large('N'))),
        ]);
        const missing = await agent.until(
          'both are missed',
          ({ problems }) => 'old' in problems && 'new' in problems,
        );
        expect(missing.problems['old']).to.equal('unfinished: a block is missing in the store');
        // What does not wait goes on.
        await volume.push(volume.edit('other', file('two\n')));
        await agent.until(
          'the other file is followed',
          () => readFileSync(join(dir, 'other'), 'utf8') === 'two\n',
        );
        expect(readFileSync(join(dir, 'old'), 'utf8')).to.equal(large('o'));
        expect(existsSync(join(dir, 'new'))).to.equal(false);

        await storeBlocks();
        await agent.until('nothing is missed any more', ({ problems }) => Object.keys(problems).length === 0);
        await agent.until('both are shown', () => existsSync(join(dir, 'new')));
        expect(readFileSync(join(dir, 'old'), 'utf8')).to.equal(large('n'));
        expect(readFileSync(join(dir, 'new'), 'utf8')).to.equal(large('N'));
      } finally {
        await volume.volume.close();
        await volume.store.close();
      }
    });
  }

  it('an etcd of the data that is away: what changed meanwhile comes when it is back', async () => {
    const [here, there] = servers;
    if (here === undefined || there === undefined) throw new Error('no servers');
    const volume = await TestVolume.open(here, '/late-elsewhere');
    try {
      const dir = mkdtempSync(join(folder, 'dir-'));
      agent = new Agent(volume.url, dir, ['--min-interval', '20ms']);
      await agent.until('it is ready', ({ ready }) => ready, 60_000);
      await there.kill('SIGKILL');
      const storeBlocks = await pushEarly(volume, [volume.make('meanwhile', file(large('m')))]);
      await agent.until('it says that it is away', ({ storeError }) => storeError !== undefined, 60_000);
      expect(readFileSync(join(dir, 'old'), 'utf8')).to.equal(large('n'));
      await there.start();
      await storeBlocks();
      await agent.until('it is shown', () => existsSync(join(dir, 'meanwhile')), 60_000);
      expect(readFileSync(join(dir, 'meanwhile'), 'utf8')).to.equal(large('m'));
      await agent.until('it says nothing of it any more', ({ storeError }) => storeError === undefined);
    } finally {
      await volume.volume.close();
      await volume.store.close();
    }
  });
});
