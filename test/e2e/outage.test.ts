/** What the agent does while etcd is away, comes back, comes back empty, or loses the volume: the published tree stays. */

import { expect } from 'chai';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import type { StoreOp } from '../../src/codec/kv.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { type Agent, publishedTree, runCommand, type ShownTree } from '../support/agent.ts';
import { directory, file } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { textOf } from '../support/reading.ts';
import { servedVolume } from '../support/served-volume.ts';
import { namesOnDisk, storeRevision } from '../support/stillness.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

describe('outages', () => {
  const own = servedVolume('outage', async (volume) => {
    await volume.push(
      ...['a', 'b', 'c'].map((name) => volume.make(name, file(`${name}\n`))),
      volume.make('d', directory()),
    );
    await volume.push(volume.make('d/f', file('below\n')));
  });

  async function once(...options: string[]): Promise<string> {
    const { code, sentence, stderr } = await runCommand(['--once', ...options, own.volume.url, own.dir]);
    expect(code, stderr).to.equal(0);
    return sentence;
  }

  const read = (path: string): string => textOf(join(own.dir, path)) ?? '(nothing)';
  const cat = async (path: string): Promise<string> =>
    (await runCommand(['cat', own.volume.url, path])).stdout;
  const untilInVolume = (path: string, text: string): Promise<void> =>
    until(`${path} of the volume is ${JSON.stringify(text)}`, async () => (await cat(path)) === text);
  const untilRead = (agent: Agent, path: string, text: string): Promise<unknown> =>
    agent.until(`${path} is ${JSON.stringify(text)}`, () => read(path) === text);

  /** Everything in DIR but the agent's own state, with times: a rewrite, a chmod or a touch shows. */
  const onDisk = (): unknown => namesOnDisk(own.dir);

  describe('etcd does not answer at the start', () => {
    it('a tree of an earlier run is served at once as stale, and follows once etcd is there', async () => {
      await once();
      await own.volume.push(own.volume.edit('a', file('changed meanwhile\n')), own.volume.remove('b'));
      await own.etcd.kill();
      const before = onDisk();
      const agent = own.agent();
      await agent.until('it is ready and stale', ({ ready, stale, storeError }) => {
        return ready && stale && storeError !== undefined;
      });
      expect((await runCommand(['status', own.dir, '--ready'])).code).to.equal(0);
      expect((await runCommand(['status', own.dir])).stdout).to.match(
        /ready +yes, the store cannot be followed now/,
      );
      expect(onDisk()).to.deep.equal(before);
      writeFileSync(join(own.dir, 'c'), 'edited meanwhile\n');
      await own.etcd.start();
      await agent.ready();
      await untilRead(agent, 'a', 'changed meanwhile\n');
      await agent.until('what was removed is gone', () => read('b') === '(nothing)');
      await untilInVolume('c', 'edited meanwhile\n');
    });

    it('a directory without a tree waits for it, not ready', async () => {
      await own.etcd.kill();
      const agent = own.agent();
      await agent.until('it says why', ({ ready, storeError }) => !ready && storeError !== undefined);
      expect((await runCommand(['status', own.dir, '--ready'])).code).to.equal(1);
      await own.etcd.start();
      await agent.ready();
      expect(read('d/f')).to.equal('below\n');
    });

    it('--once keeps an earlier tree with --allow-stale, and gives up without it', async () => {
      await once();
      await own.etcd.kill();
      const before = onDisk();
      expect(await once('--allow-stale', '--timeout', '20s')).to.match(
        /kept the tree of revision \d+: .*not reach/,
      );
      const without = await runCommand(['--once', '--timeout', '500ms', own.volume.url, own.dir]);
      expect(without.code, without.stderr).to.equal(4);
      expect(without.sentence).to.match(/nothing published within 500 ms: ./);
      expect(onDisk()).to.deep.equal(before);
      rmSync(own.dir, { recursive: true });
      mkdirSync(own.dir);
      const nothing = await runCommand([
        '--once',
        '--allow-stale',
        '--timeout',
        '500ms',
        own.volume.url,
        own.dir,
      ]);
      expect(nothing.code, nothing.stderr).to.equal(4);
    });
  });

  describe('etcd goes under a running agent and comes back', () => {
    for (const how of ['SIGTERM', 'SIGKILL', 'SIGSTOP'] as const) {
      it(`by ${how}: the tree stays, and both sides' edits arrive afterwards`, async () => {
        const agent = await own.agent().ready();
        const before = publishedTree(own.dir);
        if (how === 'SIGSTOP') own.etcd.pause();
        else await own.etcd.kill(how);
        writeFileSync(join(own.dir, '..data/a'), 'edited meanwhile\n');
        writeFileSync(join(own.dir, 'd/new'), 'made meanwhile\n');
        await agent.until('the edits are seen', ({ pendingEdits }) => pendingEdits > 0);
        if (how !== 'SIGSTOP') {
          await agent.until('it is stale and ready', ({ ready, stale }) => ready && stale);
        }
        expect({ ...publishedTree(own.dir), a: '', 'd/new': '' }).to.deep.equal({
          ...before,
          a: '',
          'd/new': '',
        });
        if (how === 'SIGSTOP') own.etcd.resume();
        else await own.etcd.start();
        await own.volume.push(own.volume.edit('b', file('remote, right after\n')));
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
      const agent = await own.agent(['--rescan', '200ms']).ready();
      await own.etcd.kill();
      const ledger = join(own.dir, '..etcd-etc-agent/ledger');
      const names = Array.from({ length: 200 }, (_, index) => `d/${'x'.repeat(60)}-${index}`);
      let largest = 0;
      let written = 0;
      // Each round is seen before the next one: so many edits go through the log as an hour brings.
      for (let round = 0; round < 12; round += 1) {
        for (const name of names) writeFileSync(join(own.dir, name), `${round} ${'y'.repeat(200)}\n`);
        written += names.length;
        await agent.until('it has seen them', ({ files }) => files >= names.length);
        await agent.rescanned(1);
        largest = Math.max(largest, statSync(ledger).size);
      }
      expect(written).to.equal(2400);
      expect(largest).to.be.lessThan(3 << 20);
      expect(readdirSync(join(own.dir, '..etcd-etc-agent/kept')).length).to.be.lessThan(names.length);
      await own.etcd.start();
      await untilInVolume(names[7] ?? '', `11 ${'y'.repeat(200)}\n`);
      await agent.until('all is pushed', ({ pendingEdits, stale }) => pendingEdits === 0 && !stale);
    });

    it('keeps its tree when the store comes back empty, says so, and follows the volume once it is put back', async () => {
      const agent = await own.agent(['--rescan', '500ms']).ready();
      const saved: StoreOp[] = [];
      const everything = [prefixRange(own.volume.address.prefix), prefixRange(`${own.name}/`)];
      await own.volume.store.snapshot(everything, ({ key, value }) =>
        saved.push({ type: 'put', key, value }),
      );
      // So that what comes back is an older revision even after all has been put again.
      for (let n = 0; n < 30; n += 1)
        await writeKeys(own.volume.store, [{ type: 'put', key: 'x', value: new Uint8Array() }]);
      await own.volume.push(own.volume.edit('c', file('lost with the store\n')));
      await untilRead(agent, 'c', 'lost with the store\n');
      writeFileSync(join(own.dir, 'd/own'), 'own\n');
      await untilInVolume('d/own', 'own\n');
      const before = publishedTree(own.dir);
      await own.etcd.kill('SIGKILL');
      await own.etcd.wipe();
      await own.etcd.start();
      await agent.until('it is stale', ({ ready, stale }) => ready && stale);
      await until('it says so', () => /the volume is gone/.test(agent.stderr));
      expect(publishedTree(own.dir)).to.deep.equal(before);
      await agent.rescanned(1);
      expect(publishedTree(own.dir)).to.deep.equal(before);
      await writeKeys(own.volume.store, saved);
      const { guards } = await agent.until('the guard trips', (status) => status.guards.length > 0);
      expect(guards[0]?.reason).to.match(/^the store went back from revision \d+ to \d+/);
      expect(publishedTree(own.dir)).to.deep.equal(before);
      expect((await runCommand(['accept', own.dir, guards[0]?.id ?? ''])).code).to.equal(0);
      await untilRead(agent, 'c', 'c\n');
      await agent.ready();
      // What the store lost with its history is nobody's removal.
      expect(read('d/own')).to.equal('own\n');
      await agent.until('the copy is pushed', ({ parked, unadopted }) => {
        return parked.length === 0 && unadopted.includes('d/own');
      });
      expect((await runCommand(['ls', '-R', own.volume.url, '/.conflicts'])).stdout).to.match(/\/c$/m);
      writeFileSync(join(own.dir, 'a'), 'after the restore\n');
      await untilInVolume('a', 'after the restore\n');
    });
  });

  describe('the volume goes', () => {
    async function deleteVolume(): Promise<StoreOp[]> {
      const saved: Extract<StoreOp, { type: 'put' }>[] = [];
      await own.volume.store.snapshot([prefixRange(own.volume.address.prefix)], ({ key, value }) =>
        saved.push({ type: 'put', key, value }),
      );
      await writeKeys(
        own.volume.store,
        saved.map(({ key }) => ({ type: 'delete', key })),
      );
      return saved;
    }

    it('all of its keys deleted at once: the tree stays, the status says so, and it goes on when they are back', async () => {
      const agent = await own.agent(['--rescan', '500ms']).ready();
      const before = publishedTree(own.dir);
      const saved = await deleteVolume();
      await agent.until('it is ready and stale', ({ ready, stale }) => ready && stale);
      expect(agent.stderr).to.match(/the volume is gone.*its setting was deleted/);
      expect((await runCommand(['status', own.dir])).stdout).to.match(/its setting was deleted/);
      await agent.rescanned(1);
      expect(publishedTree(own.dir)).to.deep.equal(before);
      expect(await agent.stop()).to.equal(0);

      const again = own.agent();
      await again.until('it serves the tree', ({ ready, stale, storeError }) => {
        return ready && stale && storeError !== undefined;
      });
      expect(publishedTree(own.dir)).to.deep.equal(before);
      const early = await runCommand(['--once', '--timeout', '30s', own.volume.url, join(own.folder)]);
      expect(early.code, early.stderr).to.equal(3);
      await writeKeys(own.volume.store, saved);
      await again.ready();
      await own.volume.push(own.volume.edit('a', file('it goes on\n')));
      await untilRead(again, 'a', 'it goes on\n');
    });

    it('all of its files deleted: nothing is emptied', async () => {
      const agent = await own.agent().ready();
      const before = publishedTree(own.dir);
      await own.volume.push(...['a', 'b', 'c', 'd/f'].map((path) => own.volume.remove(path)));
      const { guards } = await agent.until('the guard trips', (status) => status.guards.length > 0);
      expect(guards[0]?.reason).to.match(/would be removed here/);
      expect(publishedTree(own.dir)).to.deep.equal(before);
      await agent.stop();
      expect(await once()).to.match(/kept the tree of revision \d+: .*would be removed here/);
      expect((await runCommand(['--once', '--strict', own.volume.url, own.dir])).code).to.equal(5);
      expect(publishedTree(own.dir)).to.deep.equal(before);
    });
  });

  describe('a restart', () => {
    it('writes nothing: an init container, then a sidecar, then the sidecar again', async () => {
      await once();
      const before = onDisk();
      const revision = await storeRevision(own.volume.store);
      for (const options of [[], ['--min-interval', '20ms']]) {
        const agent = await own.agent(['--rescan', '200ms', ...options]).ready();
        await agent.rescanned(2);
        expect(await agent.stop()).to.equal(0);
        expect(agent.stderr.trimEnd().split('\n').at(-1)).to.match(
          /^etcd-etc-agent: stopped at revision \d+$/,
        );
        expect(onDisk()).to.deep.equal(before);
      }
      await once();
      expect(onDisk()).to.deep.equal(before);
      expect(await storeRevision(own.volume.store)).to.equal(revision);
    });

    it('sees what was removed, edited and made while it was down, on both sides', async () => {
      await once();
      await own.volume.push(
        own.volume.remove('a'),
        own.volume.edit('b', file('remote\n')),
        own.volume.make('e', file('remote\n')),
      );
      writeFileSync(join(own.dir, 'd/f'), 'local\n');
      rmSync(join(own.dir, '..data/c'));
      const agent = await own.agent().ready();
      await untilInVolume('d/f', 'local\n');
      await until(
        'c is removed',
        async () => (await runCommand(['ls', own.volume.url])).stdout.match(/ c$/m) === null,
      );
      const wanted: ShownTree = publishedTree(own.dir);
      expect(Object.keys(wanted).sort()).to.deep.equal(['b', 'd', 'd/f', 'e']);
      expect(read('b') + read('e')).to.equal('remote\nremote\n');
      expect(existsSync(join(own.dir, 'a')) || existsSync(join(own.dir, 'c'))).to.equal(false);
      await agent.until('nothing is left', ({ pendingEdits }) => pendingEdits === 0);
    });
  });

  describe('history that was compacted', () => {
    async function compact(): Promise<void> {
      const client = new Etcd3({ hosts: own.etcd.clientUrl });
      try {
        await client.kv.compact({ revision: String(await storeRevision(own.volume.store)), physical: true });
      } finally {
        client.close();
      }
    }
    const change = async (): Promise<void> => {
      await own.volume.push(
        own.volume.remove('a'),
        own.volume.edit('b', file('after\n')),
        own.volume.make('new', file('after\n')),
      );
      await own.volume.push(own.volume.edit('d/f', file('after\n')));
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
      await untilFollowed(await own.agent().ready());
    });

    it('while the agent was cut off is no loss', async () => {
      const proxy = await TcpProxy.start(own.etcd.endpoint);
      try {
        const { host, port } = proxy.endpoint;
        const agent = await own.agent([], `etcd://${host}:${port}/${own.name}`).ready();
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
      const proxy = await TcpProxy.start(own.etcd.endpoint);
      try {
        const { host, port } = proxy.endpoint;
        const url = `etcd://${host}:${port}/${own.name}`;
        const agent = await own.agent([], url).ready();
        proxy.delayMs = 150;
        writeFileSync(join(own.dir, 'b'), 'pushed at the end\n');
        const ledger = join(own.dir, '..etcd-etc-agent/ledger');
        await until('a push is under way', () => readFileSync(ledger, 'latin1').includes('"pushing"'));
        expect(await agent.stop()).to.equal(0);
        const last = agent.stderr.trimEnd().split('\n').at(-1) ?? '';
        expect(last).to.match(/^etcd-etc-agent: stopped at revision \d+/);
        const isDone = (await cat('b')) === 'pushed at the end\n';
        expect(isDone, agent.stderr).to.equal(!last.includes('not in the volume yet'));
        proxy.delayMs = 0;
        const revision = await storeRevision(own.volume.store);
        const again = await own.agent(['--rescan', '200ms'], url).ready();
        await untilInVolume('b', 'pushed at the end\n');
        await again.rescanned(2);
        if (isDone) expect(await storeRevision(own.volume.store)).to.equal(revision);
      } finally {
        await proxy.close();
      }
    });

    it('pushes all that has settled, however much, and says what has not', async () => {
      const agent = await own.agent(['--rescan', '500ms']).ready();
      const names = Array.from({ length: 60 }, (_, index) => `n${index}`);
      for (const name of names) writeFileSync(join(own.dir, 'd', name), `${name}\n`);
      await agent.until(
        'a push is under way or done',
        ({ pendingEdits, files }) => files >= 5 + names.length && pendingEdits <= names.length,
      );
      writeFileSync(join(own.dir, 'd/late'), 'just now\n');
      await agent.until('the late one is seen, or pushed already', ({ pendingEdits, files }) => {
        return pendingEdits > 0 || files > 5 + names.length;
      });
      expect(await agent.stop()).to.equal(0);
      const last = agent.stderr.trimEnd().split('\n').at(-1) ?? '';
      const listed = (await runCommand(['ls', own.volume.url, '/d'])).stdout;
      for (const name of names) expect(listed, last).to.match(new RegExp(` ${name}$`, 'm'));
      expect(/ late$/m.test(listed), last).to.equal(!last.includes('d/late'));
    });

    it('says what is left when etcd is away, in the termination message too', async () => {
      const message = join(own.folder, 'termination-log');
      writeFileSync(message, '');
      const agent = await own.agent(['--termination-log', message]).ready();
      await own.etcd.kill();
      try {
        writeFileSync(join(own.dir, '..data/a'), 'left\n');
        writeFileSync(join(own.dir, '..data/d/f'), 'left too\n');
        await agent.until('the edits are seen', ({ pendingEdits }) => pendingEdits === 2);
        expect(await agent.stop()).to.equal(0);
        const said = /stopped at revision \d+, 2 local edits are not in the volume yet: a, d\/f\n$/;
        expect(agent.stderr).to.match(said);
        expect(readFileSync(message, 'utf8')).to.match(said);
      } finally {
        await own.etcd.start();
      }
      await own.agent().ready();
      await untilInVolume('a', 'left\n');
    });
  });
});
