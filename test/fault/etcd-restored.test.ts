/** A backup of etcd is restored under an agent, or while it is down: the tree stays until a person accepts it, and nothing is lost. */

import { expect } from 'chai';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import type { Tripped } from '../../src/agent/guard/guards.ts';
import { Agent, publishedTree, runCommand } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { storeRevision } from '../support/stillness.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

const MANY = Array.from({ length: 15 }, (_, index) => `d/f${index}`);

describe('a restored backup of etcd', () => {
  let folder: string;
  let dir: string;
  let etcd: EtcdServer;
  let proxy: TcpProxy;
  let volume: TestVolume;
  let agent: Agent;
  let backup: string;
  let count = 0;

  before(async () => {
    etcd = await startEtcd();
    proxy = await TcpProxy.start(etcd.endpoint);
  });
  after(async () => {
    await proxy?.close();
    await etcd?.stop();
  });

  /** A volume, a backup of it, and an agent that has followed it further since. */
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'restored-'));
    dir = join(folder, 'served');
    mkdirSync(dir);
    const name = `restored-${(count += 1)}`;
    volume = await TestVolume.format(etcd, { name, blockSizeKiB: 64 });
    await volume.push(volume.make('a', file('a\n')), volume.make('d', directory()));
    await etcd.kill();
    backup = await etcd.save();
    await etcd.start();
    await volume.push(volume.edit('a', file('lost with the store\n')));
    await volume.push(...MANY.map((path) => volume.make(path, file(`${path}\n`))));
    const { host, port } = proxy.endpoint;
    agent = new Agent(`etcd://${host}:${port}/${name}`, dir, ['--rescan', '500ms']);
    await agent.ready();
    await agent.until('it has all', () => existsSync(join(dir, 'd/f14')));
  });
  afterEach(async () => {
    await agent.kill();
    proxy.cutAfter = () => undefined;
    await volume.store.close();
    rmSync(folder, { recursive: true });
  });

  async function restore(from: string): Promise<void> {
    await etcd.kill();
    await etcd.restore(from);
    await etcd.start();
  }

  /** Others write on, so that the revision is at least what it was. */
  async function writeOn(revision: bigint): Promise<void> {
    while ((await storeRevision(volume.store)) < revision + 5n)
      await writeKeys(volume.store, [{ type: 'put', key: 'x', value: new Uint8Array(3) }]);
  }

  async function tripped(one: Agent): Promise<Tripped> {
    const { guards, ready } = await one.until('a guard trips', (status) => status.guards.length > 0);
    expect(ready).to.equal(true);
    return guards[0] as Tripped;
  }

  /** What a person accepted: the store as it is, and everything that it does not know any more is kept. */
  async function acceptAndCheck(one: Agent, id: string): Promise<void> {
    const { code, stderr } = await runCommand(['accept', dir, id]);
    expect(code, stderr).to.equal(0);
    await one.until('it follows', ({ guards, stale, parked, unadopted }) => {
      return guards.length === 0 && !stale && parked.length === 0 && unadopted.length === MANY.length;
    });
    expect(readFileSync(join(dir, 'a'), 'utf8')).to.equal('a\n');
    expect(readFileSync(join(dir, 'd/f3'), 'utf8')).to.equal('d/f3\n');
    const copies = (await runCommand(['ls', '-R', volume.url, '/.conflicts'])).stdout;
    const [, copy] = /(\S+\/a)$/m.exec(copies) ?? [];
    expect((await runCommand(['cat', volume.url, `/.conflicts/${copy}`])).stdout).to.equal(
      'lost with the store\n',
    );
    writeFileSync(join(dir, 'a'), 'afterwards\n');
    await one.until('it pushes again', ({ pendingEdits }) => pendingEdits === 0);
  }

  it('at an older revision: guard regressed', async () => {
    const before = publishedTree(dir);
    await restore(backup);
    const { id, guard } = await tripped(agent);
    expect(guard).to.equal('regressed');
    expect(publishedTree(dir)).to.deep.equal(before);
    await acceptAndCheck(agent, id);
  });

  it('at the same or a higher revision, under a running agent: guard history, until the right store is back', async () => {
    const before = publishedTree(dir);
    const revision = await storeRevision(volume.store);
    await etcd.kill();
    const right = await etcd.save();
    await etcd.start();
    proxy.cutAfter = () => 0;
    proxy.cut();
    await agent.until('it is cut off', ({ stale }) => stale);
    await restore(backup);
    await writeOn(revision);
    // In the other history, in a file that the agent knows.
    await volume.push(volume.edit('d', directory({ mode: 0o700 })));
    proxy.cutAfter = () => undefined;
    const { id, guard } = await tripped(agent);
    expect(guard).to.equal('history');
    writeFileSync(join(dir, 'a'), 'edited while held\n');
    await agent.until('it sees the edit', ({ pendingEdits }) => pendingEdits > 0);
    await agent.rescanned(1);
    expect({ ...publishedTree(dir), a: '' }).to.deep.equal({ ...before, a: '' });

    await restore(right);
    await agent.until('it goes on', ({ guards, stale, pendingEdits }) => {
      return guards.length === 0 && !stale && pendingEdits === 0;
    });
    expect((await runCommand(['cat', volume.url, 'a'])).stdout).to.equal('edited while held\n');
    expect({ ...publishedTree(dir), a: '' }).to.deep.equal({ ...before, a: '' });
    expect((await runCommand(['accept', dir, id])).code).to.equal(2);
  });

  it('at the same or a higher revision, while the agent is down: guard history, also with --once', async () => {
    const before = publishedTree(dir);
    const revision = await storeRevision(volume.store);
    await agent.stop();
    await restore(backup);
    await writeOn(revision);
    const once = await runCommand(['--once', '--strict', volume.url, dir]);
    expect(once.code, once.stderr).to.equal(5);
    expect(once.sentence).to.match(/kept the tree .*another history.*accept history-[0-9a-f]{8}/);
    expect(publishedTree(dir)).to.deep.equal(before);
    agent = new Agent(volume.url, dir, ['--rescan', '500ms']);
    const { id, guard } = await tripped(agent);
    expect(guard).to.equal('history');
    expect(publishedTree(dir)).to.deep.equal(before);
    await acceptAndCheck(agent, id);
  });

  it('whose history is compacted: all is compared, under the guard of mass deletes', async () => {
    const before = publishedTree(dir);
    const revision = await storeRevision(volume.store);
    await agent.stop();
    await restore(backup);
    await writeOn(revision);
    const client = new Etcd3({ hosts: etcd.clientUrl });
    await client.kv.compact({ revision: String(await storeRevision(volume.store)), physical: true });
    client.close();
    agent = new Agent(volume.url, dir, ['--rescan', '500ms']);
    const { guard } = await tripped(agent);
    expect(guard).to.equal('delete');
    expect(publishedTree(dir)).to.deep.equal(before);
  });
});
