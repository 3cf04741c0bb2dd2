/** What the agent does while etcd is away, comes back, comes back empty, or loses the volume: the published tree stays. */

import { expect } from 'chai';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import type { StoreOp } from '../../src/codec/kv.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { Agent, publishedTree, runCommand, type ShownTree } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { namesOnDisk, storeRevision } from '../support/stillness.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

function isRunning(server: EtcdServer): boolean {
  try {
    return server.pid > 0;
  } catch {
    return false;
  }
}

describe('outages', () => {
  let folder: string;
  let etcd: EtcdServer;
  let volume: TestVolume;
  let dir: string;
  let count = 0;
  const running: Agent[] = [];

  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => etcd?.stop());
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'outage-'));
    dir = join(folder, 'served');
    mkdirSync(dir);
    volume = await TestVolume.format(etcd, { name: `outage-${(count += 1)}`, blockSizeKiB: 64 });
    await volume.push(
      ...['a', 'b', 'c'].map((name) => volume.make(name, file(`${name}\n`))),
      volume.make('d', directory()),
    );
    await volume.push(volume.make('d/f', file('below\n')));
  });
  afterEach(async () => {
    for (const agent of running.splice(0)) await agent.kill();
    if (isRunning(etcd)) etcd.resume();
    else await etcd.start();
    await volume.store.close();
    rmSync(folder, { recursive: true });
  });

  function start(options: readonly string[] = [], url = volume.url): Agent {
    const agent = new Agent(url, dir, options);
    running.push(agent);
    return agent;
  }

  async function once(...options: string[]): Promise<string> {
    const { code, sentence, stderr } = await runCommand(['--once', ...options, volume.url, dir]);
    expect(code, stderr).to.equal(0);
    return sentence;
  }

  const read = (path: string): string => {
    const at = join(dir, path);
    return existsSync(at) ? readFileSync(at, 'utf8') : '(nothing)';
  };
  const cat = async (path: string): Promise<string> => (await runCommand(['cat', volume.url, path])).stdout;
  const untilInVolume = (path: string, text: string): Promise<void> =>
    until(`${path} of the volume is ${JSON.stringify(text)}`, async () => (await cat(path)) === text);
  const untilRead = (agent: Agent, path: string, text: string): Promise<unknown> =>
    agent.until(`${path} is ${JSON.stringify(text)}`, () => read(path) === text);

  /** Everything in DIR but the agent's own state, with times: a rewrite, a chmod or a touch shows. */
  const onDisk = (): unknown => namesOnDisk(dir);

  describe('etcd does not answer at the start', () => {
    it('a tree of an earlier run is served at once as stale, and follows once etcd is there', async () => {
      await once();
      await volume.push(volume.edit('a', file('changed meanwhile\n')), volume.remove('b'));
      await etcd.kill();
      const before = onDisk();
      const agent = start();
      await agent.until('it is ready and stale', ({ ready, stale, storeError }) => {
        return ready && stale && storeError !== undefined;
      });
      expect((await runCommand(['status', dir, '--ready'])).code).to.equal(0);
      expect((await runCommand(['status', dir])).stdout).to.match(
        /ready +yes, the store cannot be followed now/,
      );
      expect(onDisk()).to.deep.equal(before);
      writeFileSync(join(dir, 'c'), 'edited meanwhile\n');
      await etcd.start();
      await agent.ready();
      await untilRead(agent, 'a', 'changed meanwhile\n');
      await agent.until('what was removed is gone', () => read('b') === '(nothing)');
      await untilInVolume('c', 'edited meanwhile\n');
    });

    it('a directory without a tree waits for it, not ready', async () => {
      await etcd.kill();
      const agent = start();
      await agent.until('it says why', ({ ready, storeError }) => !ready && storeError !== undefined);
      expect((await runCommand(['status', dir, '--ready'])).code).to.equal(1);
      await etcd.start();
      await agent.ready();
      expect(read('d/f')).to.equal('below\n');
    });

    it('--once keeps an earlier tree with --allow-stale, and gives up without it', async () => {
      await once();
      await etcd.kill();
      const before = onDisk();
      expect(await once('--allow-stale', '--timeout', '20s')).to.match(
        /kept the tree of revision \d+: .*not reach/,
      );
      const without = await runCommand(['--once', '--timeout', '500ms', volume.url, dir]);
      expect(without.code, without.stderr).to.equal(4);
      expect(without.sentence).to.match(/nothing published within 500 ms: ./);
      expect(onDisk()).to.deep.equal(before);
      rmSync(dir, { recursive: true });
      mkdirSync(dir);
      const nothing = await runCommand(['--once', '--allow-stale', '--timeout', '500ms', volume.url, dir]);
      expect(nothing.code, nothing.stderr).to.equal(4);
    });
  });

  describe('etcd goes under a running agent and comes back', () => {
    for (const how of ['SIGTERM', 'SIGKILL', 'SIGSTOP'] as const) {
      it(`by ${how}: the tree stays, and both sides' edits arrive afterwards`, async () => {
        const agent = await start().ready();
        const before = publishedTree(dir);
        if (how === 'SIGSTOP') etcd.pause();
        else await etcd.kill(how);
        writeFileSync(join(dir, '..data/a'), 'edited meanwhile\n');
        writeFileSync(join(dir, 'd/new'), 'made meanwhile\n');
        await agent.until('the edits are seen', ({ pendingEdits }) => pendingEdits > 0);
        if (how !== 'SIGSTOP') {
          await agent.until('it is stale and ready', ({ ready, stale }) => ready && stale);
        }
        expect({ ...publishedTree(dir), a: '', 'd/new': '' }).to.deep.equal({
          ...before,
          a: '',
          'd/new': '',
        });
        if (how === 'SIGSTOP') etcd.resume();
        else await etcd.start();
        await volume.push(volume.edit('b', file('remote, right after\n')));
        await untilRead(agent, 'b', 'remote, right after\n');
        await untilInVolume('a', 'edited meanwhile\n');
        await untilInVolume('d/new', 'made meanwhile\n');
        const status = await agent.until(
          'all is pushed',
          ({ pendingEdits, stale }) => pendingEdits === 0 && !stale,
        );
        expect(status).to.include({ ready: true });
        expect(status.problems).to.deep.equal({});
        expect(read('a')).to.equal('edited meanwhile\n');
      });
    }

    it('for long, with many edits: the state stays small, and the last ones are pushed afterwards', async () => {
      const agent = await start(['--rescan', '200ms']).ready();
      await etcd.kill();
      const ledger = join(dir, '..etcd-etc-agent/ledger');
      const names = Array.from({ length: 200 }, (_, index) => `d/${'x'.repeat(60)}-${index}`);
      let largest = 0;
      let written = 0;
      // Each round is seen before the next one: so many edits go through the log as an hour brings.
      for (let round = 0; round < 12; round += 1) {
        for (const name of names) writeFileSync(join(dir, name), `${round} ${'y'.repeat(200)}\n`);
        written += names.length;
        await agent.until('it has seen them', ({ files }) => files >= names.length);
        await agent.rescanned(1);
        largest = Math.max(largest, statSync(ledger).size);
      }
      expect(written).to.equal(2400);
      expect(largest).to.be.lessThan(3 << 20);
      expect(readdirSync(join(dir, '..etcd-etc-agent/kept')).length).to.be.lessThan(names.length);
      await etcd.start();
      await untilInVolume(names[7] ?? '', `11 ${'y'.repeat(200)}\n`);
      await agent.until('all is pushed', ({ pendingEdits, stale }) => pendingEdits === 0 && !stale);
    });

    it('keeps its tree when the store comes back empty, says so, and follows the volume once it is put back', async () => {
      const agent = await start(['--rescan', '500ms']).ready();
      const saved: StoreOp[] = [];
      const everything = [prefixRange(volume.address.prefix), prefixRange(`outage-${count}/`)];
      await volume.store.snapshot(everything, ({ key, value }) => saved.push({ type: 'put', key, value }));
      // So that what comes back is an older revision even after all has been put again.
      for (let n = 0; n < 30; n += 1)
        await writeKeys(volume.store, [{ type: 'put', key: 'x', value: new Uint8Array() }]);
      await volume.push(volume.edit('c', file('lost with the store\n')));
      await untilRead(agent, 'c', 'lost with the store\n');
      writeFileSync(join(dir, 'd/own'), 'own\n');
      await untilInVolume('d/own', 'own\n');
      const before = publishedTree(dir);
      await etcd.kill('SIGKILL');
      await etcd.wipe();
      await etcd.start();
      await agent.until('it is stale', ({ ready, stale }) => ready && stale);
      await until('it says so', () => /the volume is gone/.test(agent.stderr));
      expect(publishedTree(dir)).to.deep.equal(before);
      await agent.rescanned(1);
      expect(publishedTree(dir)).to.deep.equal(before);
      await writeKeys(volume.store, saved);
      const { guards } = await agent.until('the guard trips', (status) => status.guards.length > 0);
      expect(guards[0]?.reason).to.match(/^the store went back from revision \d+ to \d+/);
      expect(publishedTree(dir)).to.deep.equal(before);
      expect((await runCommand(['accept', dir, guards[0]?.id ?? ''])).code).to.equal(0);
      await untilRead(agent, 'c', 'c\n');
      await agent.ready();
      // What the store lost with its history is nobody's removal.
      expect(read('d/own')).to.equal('own\n');
      await agent.until('the copy is pushed', ({ parked, unadopted }) => {
        return parked.length === 0 && unadopted.includes('d/own');
      });
      expect((await runCommand(['ls', '-R', volume.url, '/.conflicts'])).stdout).to.match(/\/c$/m);
      writeFileSync(join(dir, 'a'), 'after the restore\n');
      await untilInVolume('a', 'after the restore\n');
    });
  });

  describe('the volume goes', () => {
    async function deleteVolume(): Promise<StoreOp[]> {
      const saved: Extract<StoreOp, { type: 'put' }>[] = [];
      await volume.store.snapshot([prefixRange(volume.address.prefix)], ({ key, value }) =>
        saved.push({ type: 'put', key, value }),
      );
      await writeKeys(
        volume.store,
        saved.map(({ key }) => ({ type: 'delete', key })),
      );
      return saved;
    }

    it('all of its keys deleted at once: the tree stays, the status says so, and it goes on when they are back', async () => {
      const agent = await start(['--rescan', '500ms']).ready();
      const before = publishedTree(dir);
      const saved = await deleteVolume();
      await agent.until('it is ready and stale', ({ ready, stale }) => ready && stale);
      expect(agent.stderr).to.match(/the volume is gone.*its setting was deleted/);
      expect((await runCommand(['status', dir])).stdout).to.match(/its setting was deleted/);
      await agent.rescanned(1);
      expect(publishedTree(dir)).to.deep.equal(before);
      expect(await agent.stop()).to.equal(0);

      const again = start();
      await again.until('it serves the tree', ({ ready, stale, storeError }) => {
        return ready && stale && storeError !== undefined;
      });
      expect(publishedTree(dir)).to.deep.equal(before);
      const early = await runCommand(['--once', '--timeout', '5s', volume.url, join(folder)]);
      expect(early.code, early.stderr).to.equal(3);
      await writeKeys(volume.store, saved);
      await again.ready();
      await volume.push(volume.edit('a', file('it goes on\n')));
      await untilRead(again, 'a', 'it goes on\n');
    });

    it('all of its files deleted: nothing is emptied', async () => {
      const agent = await start().ready();
      const before = publishedTree(dir);
      await volume.push(...['a', 'b', 'c', 'd/f'].map((path) => volume.remove(path)));
      const { guards } = await agent.until('the guard trips', (status) => status.guards.length > 0);
      expect(guards[0]?.reason).to.match(/would be removed here/);
      expect(publishedTree(dir)).to.deep.equal(before);
      await agent.stop();
      expect(await once()).to.match(/kept the tree of revision \d+: .*would be removed here/);
      expect((await runCommand(['--once', '--strict', volume.url, dir])).code).to.equal(5);
      expect(publishedTree(dir)).to.deep.equal(before);
    });
  });

  describe('a restart', () => {
    it('writes nothing: an init container, then a sidecar, then the sidecar again', async () => {
      await once();
      const before = onDisk();
      const revision = await storeRevision(volume.store);
      for (const options of [[], ['--min-interval', '20ms']]) {
        const agent = await start(['--rescan', '200ms', ...options]).ready();
        await agent.rescanned(2);
        expect(await agent.stop()).to.equal(0);
        expect(agent.stderr.trimEnd().split('\n').at(-1)).to.match(
          /^etcd-etc-agent: stopped at revision \d+$/,
        );
        expect(onDisk()).to.deep.equal(before);
      }
      await once();
      expect(onDisk()).to.deep.equal(before);
      expect(await storeRevision(volume.store)).to.equal(revision);
    });

    it('sees what was removed, edited and made while it was down, on both sides', async () => {
      await once();
      await volume.push(
        volume.remove('a'),
        volume.edit('b', file('remote\n')),
        volume.make('e', file('remote\n')),
      );
      writeFileSync(join(dir, 'd/f'), 'local\n');
      rmSync(join(dir, '..data/c'));
      const agent = await start().ready();
      await untilInVolume('d/f', 'local\n');
      await until(
        'c is removed',
        async () => (await runCommand(['ls', volume.url])).stdout.match(/ c$/m) === null,
      );
      const wanted: ShownTree = publishedTree(dir);
      expect(Object.keys(wanted).sort()).to.deep.equal(['b', 'd', 'd/f', 'e']);
      expect(read('b') + read('e')).to.equal('remote\nremote\n');
      expect(existsSync(join(dir, 'a')) || existsSync(join(dir, 'c'))).to.equal(false);
      await agent.until('nothing is left', ({ pendingEdits }) => pendingEdits === 0);
    });
  });

  describe('history that was compacted', () => {
    async function compact(): Promise<void> {
      const client = new Etcd3({ hosts: etcd.clientUrl });
      try {
        await client.kv.compact({ revision: String(await storeRevision(volume.store)), physical: true });
      } finally {
        client.close();
      }
    }
    const change = async (): Promise<void> => {
      await volume.push(
        volume.remove('a'),
        volume.edit('b', file('after\n')),
        volume.make('new', file('after\n')),
      );
      await volume.push(volume.edit('d/f', file('after\n')));
      await compact();
    };
    async function untilFollowed(agent: Agent): Promise<void> {
      await agent.until('it has followed', () => {
        return read('a') === '(nothing)' && ['b', 'new', 'd/f'].every((path) => read(path) === 'after\n');
      });
    }

    it('while the agent was down is no loss', async () => {
      await once();
      await change();
      await untilFollowed(await start().ready());
    });

    it('while the agent was cut off is no loss', async () => {
      const proxy = await TcpProxy.start(etcd.endpoint);
      try {
        const { host, port } = proxy.endpoint;
        const agent = await start([], `etcd://${host}:${port}/outage-${count}`).ready();
        proxy.cutAfter = () => 0;
        proxy.cut();
        await agent.until('it is cut off', ({ stale }) => stale);
        await change();
        proxy.cutAfter = () => undefined;
        await untilFollowed(agent);
        await agent.ready();
      } finally {
        await proxy.close();
      }
    });
  });

  describe('SIGTERM during a push', () => {
    it('finishes it, or says what is left', async () => {
      const proxy = await TcpProxy.start(etcd.endpoint);
      try {
        const { host, port } = proxy.endpoint;
        const url = `etcd://${host}:${port}/outage-${count}`;
        const agent = await start([], url).ready();
        proxy.delayMs = 150;
        writeFileSync(join(dir, 'b'), 'pushed at the end\n');
        const ledger = join(dir, '..etcd-etc-agent/ledger');
        await until('a push is under way', () => readFileSync(ledger, 'latin1').includes('"pushing"'));
        expect(await agent.stop()).to.equal(0);
        const last = agent.stderr.trimEnd().split('\n').at(-1) ?? '';
        expect(last).to.match(/^etcd-etc-agent: stopped at revision \d+/);
        const isDone = (await cat('b')) === 'pushed at the end\n';
        expect(isDone, agent.stderr).to.equal(!last.includes('not in the volume yet'));
        proxy.delayMs = 0;
        const revision = await storeRevision(volume.store);
        const again = await start(['--rescan', '200ms'], url).ready();
        await untilInVolume('b', 'pushed at the end\n');
        await again.rescanned(2);
        if (isDone) expect(await storeRevision(volume.store)).to.equal(revision);
      } finally {
        await proxy.close();
      }
    });

    it('pushes all that has settled, however much, and says what has not', async () => {
      const agent = await start(['--rescan', '500ms']).ready();
      const names = Array.from({ length: 60 }, (_, index) => `n${index}`);
      for (const name of names) writeFileSync(join(dir, 'd', name), `${name}\n`);
      await agent.until(
        'a push is under way or done',
        ({ pendingEdits, files }) => files > 60 && pendingEdits <= 61,
      );
      writeFileSync(join(dir, 'd/late'), 'just now\n');
      await agent.until('the late one is seen', ({ pendingEdits }) => pendingEdits > 0);
      expect(await agent.stop()).to.equal(0);
      const last = agent.stderr.trimEnd().split('\n').at(-1) ?? '';
      const listed = (await runCommand(['ls', volume.url, '/d'])).stdout;
      for (const name of names) expect(listed, last).to.match(new RegExp(` ${name}$`, 'm'));
      expect(/ late$/m.test(listed), last).to.equal(!last.includes('d/late'));
    });

    it('says what is left when etcd is away, in the termination message too', async () => {
      const message = join(folder, 'termination-log');
      writeFileSync(message, '');
      const agent = await start(['--termination-log', message]).ready();
      await etcd.kill();
      try {
        writeFileSync(join(dir, '..data/a'), 'left\n');
        writeFileSync(join(dir, '..data/d/f'), 'left too\n');
        await agent.until('the edits are seen', ({ pendingEdits }) => pendingEdits === 2);
        expect(await agent.stop()).to.equal(0);
        const said = /stopped at revision \d+, 2 local edits are not in the volume yet: a, d\/f\n$/;
        expect(agent.stderr).to.match(said);
        expect(readFileSync(message, 'utf8')).to.match(said);
      } finally {
        await etcd.start();
      }
      await start().ready();
      await untilInVolume('a', 'left\n');
    });
  });
});
