/** A file system that really runs full, of inodes or of blocks: what is published stays whole, and all arrives once there is room. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, differences, publishedTree, runCommand, untilSame } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { describeWithMounts, mountTmpfs, remount, unmount } from '../support/mounts.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { until } from '../support/until.ts';

interface Lack {
  readonly what: string;
  /** Options of the file system that has no room, and of one that has. */
  readonly little: string;
  readonly enough: string;
  /** What a volume may bring that has no room there. */
  readonly files: readonly (readonly [string, string])[];
}

const LACKS: readonly Lack[] = [
  {
    what: 'inodes',
    little: 'nr_inodes=150',
    enough: 'nr_inodes=2000',
    files: Array.from({ length: 300 }, (_, n) => [`many/${n}`, `${n}\n`] as const),
  },
  {
    what: 'blocks',
    little: 'size=1m',
    enough: 'size=32m',
    files: Array.from({ length: 8 }, (_, n) => [`many/${n}`, `${n}\n`.repeat(100_000)] as const),
  },
];

describeWithMounts('a file system without room', () => {
  let etcd: EtcdServer;
  let folder: string;
  let dir: string;
  let volume: TestVolume;
  let agent: Agent | undefined;

  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => etcd?.stop());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'full-'));
    dir = join(folder, 'served');
    mkdirSync(dir);
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(agent?.stderr ?? '');
    await agent?.kill();
    unmount(dir);
    await volume.store.close();
    rmSync(folder, { recursive: true });
  });

  for (const { what, little, enough, files } of LACKS) {
    it(`for ${what}: the tree stays, edits of what is there are pushed, and all arrives once there is room`, async () => {
      volume = await TestVolume.format(etcd, { name: `full-${what}`, blockSizeKiB: 64, trashDays: 1 });
      await volume.push(
        volume.make('d', directory()),
        volume.make('d/f', file('first\n')),
        volume.make('top', file('first\n')),
      );
      mountTmpfs(dir, little);
      agent = await new Agent(volume.url, dir, ['--rescan', '500ms']).ready();
      const before = publishedTree(dir);
      await volume.push(
        volume.make('many', directory()),
        ...files.map(([path, text]) => volume.make(path, file(text))),
      );
      const running = agent;
      await until('the disk is full', () => running.stderr.includes('disk full'));
      const { problems } = await running.until('it says so', (status) => status.problems[''] !== undefined);
      expect(problems['']).to.equal('no room for what the volume brings: ENOSPC');
      const stage = join(dir, '..etcd-etc-agent/stage');
      await until('what had no room is not left lying', () => readdirSync(stage).length === 0);
      expect(publishedTree(dir)).to.deep.equal(before);

      writeFileSync(join(dir, 'd/f'), 'local\n');
      const cat = async (path: string): Promise<string> =>
        (await runCommand(['cat', volume.url, path])).stdout;
      await until('the edit is pushed', async () => (await cat('d/f')) === 'local\n');
      expect(readFileSync(join(dir, 'top'), 'utf8')).to.equal('first\n');
      expect(differences({ ...before, 'd/f': '' }, { ...publishedTree(dir), 'd/f': '' })).to.deep.equal([]);

      // The next start finds no room either.
      await agent.kill();
      agent = new Agent(volume.url, dir, ['--rescan', '500ms']);
      const second = agent;
      await until('the disk is full for it too', () => second.stderr.includes('disk full'));
      expect(differences({ ...before, 'd/f': '' }, { ...publishedTree(dir), 'd/f': '' })).to.deep.equal([]);
      expect(second.exitCode, second.stderr).to.equal(null);

      remount(dir, enough);
      await until('all is there', () => Object.keys(publishedTree(dir)).length === 4 + files.length);
      await agent.until('it is well', ({ ready, stale, problems, pendingEdits }) => {
        return ready && !stale && pendingEdits === 0 && Object.keys(problems).length === 0;
      });
      const copy = join(folder, 'copy');
      mkdirSync(copy);
      await runCommand(['--once', volume.url, copy]);
      await untilSame(
        'it shows what another one shows',
        () => publishedTree(dir),
        () => publishedTree(copy),
      );
      expect((await runCommand(['ls', volume.url])).stdout).not.to.include('.conflicts');
    });
  }
});
