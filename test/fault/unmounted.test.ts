/** What DIR is a mount of is taken away under the agent, another one takes its place, and the first one comes back. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, publishedTree, runCommand, type ShownTree } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { bindMount, describeWithMounts, mountTmpfs, unmount } from '../support/mounts.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { textOf } from '../support/reading.ts';
import { until } from '../support/until.ts';

const FILES = Array.from({ length: 20 }, (_, n) => `d/f${n}`);

describeWithMounts('the file system of DIR goes away under the agent', () => {
  let etcd: EtcdServer;
  let folder: string;
  let dir: string;
  let volume: TestVolume;
  let agent: Agent;
  let count = 0;

  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => etcd?.stop());
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'unmounted-'));
    dir = join(folder, 'served');
    for (const name of ['served', 'first', 'second']) mkdirSync(join(folder, name));
    volume = await TestVolume.format(etcd, { name: `unmounted-${(count += 1)}`, blockSizeKiB: 64 });
    await volume.push(
      volume.make('top', file('first\n')),
      volume.make('d', directory()),
      ...FILES.map((path) => volume.make(path, file(`${path}\n`))),
    );
    bindMount(join(folder, 'first'), dir);
    agent = await new Agent(volume.url, dir, ['--rescan', '500ms']).ready();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(agent.stderr);
    await agent.kill();
    for (;;) {
      try {
        unmount(dir);
      } catch {
        break;
      }
    }
    await volume.store.close();
    rmSync(folder, { recursive: true });
  });

  const cat = async (path: string): Promise<string> => (await runCommand(['cat', volume.url, path])).stdout;

  async function untilServed(wanted: ShownTree): Promise<void> {
    await until('the guard trips', () => agent.stderr.includes('guard tripped guard=directory'));
    await until('the tree is there', () => {
      try {
        return JSON.stringify(publishedTree(dir)) === JSON.stringify(wanted);
      } catch {
        return false;
      }
    });
    await agent.until('it goes on', ({ guards, ready, stale, pendingEdits, problems }) => {
      return (
        guards.length === 0 && ready && !stale && pendingEdits === 0 && Object.keys(problems).length === 0
      );
    });
    const { stdout } = await runCommand(['ls', '--recursive', volume.url]);
    expect(stdout.split('\n').filter((line) => /f\d+$/.test(line))).to.have.length(FILES.length);
    expect(stdout).not.to.include('.conflicts');
  }

  it('unmounted: what was below is served instead, both ways, and what was mounted once it is back', async () => {
    const before = publishedTree(dir);
    unmount(dir);
    await untilServed(before);
    writeFileSync(join(dir, 'd/f0'), 'edited below\n');
    await until('an edit is pushed', async () => (await cat('d/f0')) === 'edited below\n');
    // Somebody edits what is not mounted.
    writeFileSync(join(folder, 'first/d/f1'), 'edited while away\n');
    bindMount(join(folder, 'first'), dir);
    await until('what came meanwhile is there', () => textOf(join(dir, 'd/f0')) === 'edited below\n');
    await until('the edit is pushed', async () => (await cat('d/f1')) === 'edited while away\n');
    await untilServed(publishedTree(dir));
    expect({ ...publishedTree(dir), 'd/f0': '', 'd/f1': '' }).to.deep.equal({
      ...before,
      'd/f0': '',
      'd/f1': '',
    });
  });

  it('another one is mounted over it: that is filled, and nothing goes in the volume', async () => {
    const before = publishedTree(dir);
    mountTmpfs(dir, 'size=16m');
    await untilServed(before);
    await volume.push(volume.edit('top', file('second\n')));
    await until('it follows', () => textOf(join(dir, 'top')) === 'second\n');
    // The first one comes to light again, with an older tree.
    unmount(dir);
    await until('it follows there', () => textOf(join(dir, 'top')) === 'second\n');
    await untilServed({ ...publishedTree(dir) });
  });
});
