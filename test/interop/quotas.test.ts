/** Quotas and limits that the real client set: our pushes count in them as its own writes do, and stop where it stops. */

import { expect } from 'chai';
import { chownSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

/** The number of an error of the file system; 0 if there is none. Node has no name for EDQUOT. */
function failure(work: () => void): number {
  try {
    work();
    return 0;
  } catch (error) {
    return -Number((error as NodeJS.ErrnoException).errno);
  }
}

describe('quotas of the real client', function () {
  this.timeout(180_000);
  let server: EtcdServer;
  let juicefs: Juicefs;

  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
  });
  after(async () => server?.stop());

  async function quietVolume(volume: TestVolume, limited: readonly string[]): Promise<void> {
    await until('the mount closed its session', async () => {
      let sessions = 0;
      const { prefix } = volume.address;
      await volume.store.snapshot([{ start: `${prefix}SI`, end: `${prefix}SJ` }], () => (sessions += 1));
      return sessions === 0;
    });
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
    for (const path of limited) {
      expect(await juicefs.ok(['quota', 'check', volume.url, '--path', path])).to.match(/is consistent/);
    }
    await juicefs.fsck(volume.url);
    expect(await juicefs.gc(volume.url)).to.include({ leaked: 0 });
  }

  for (const trashDays of [1, 0]) {
    const onOff = trashDays > 0 ? 'on' : 'off';
    it(`stay exact through pushes of every kind beside a mount, trash ${onOff}`, async function () {
      needFuse(this);
      const name = `quotas-${trashDays}`;
      const url = `${server.url}/${name}`;
      await juicefs.format(url, name, server.url.slice('etcd://'.length), [
        ...['--block-size', '64', '--trash-days', String(trashDays)],
      ]);
      await juicefs.ok(['config', url, '--user-group-quota', '--yes']);
      const volume = await TestVolume.open(server, `/${name}`);
      await volume.push(
        ...['q', 'q/in', 'free', 'free/tree', 'free/tree/sub'].map((path) =>
          volume.make(path, directory({ mode: 0o777 })),
        ),
        volume.make('free/tree/sub/deep', file('deep\n', { uid: 7, gid: 8 })),
      );
      for (const [path, inodes] of [
        ['/q', 100],
        ['/q/in', 50],
      ] as const) {
        await juicefs.ok(['quota', 'set', url, '--path', path, '--capacity', '1', '--inodes', `${inodes}`]);
      }
      const mount = await juicefs.mount(url, ['--heartbeat', '3']);
      const at = (path: string): string => join(mount.dir, path);
      try {
        const theirs = (async () => {
          for (let i = 0; i < 40; i += 1) {
            writeFileSync(at(`q/in/theirs-${i}`), `theirs ${i}\n`.repeat(i * 40));
            if (i % 4 === 1) renameSync(at(`q/in/theirs-${i}`), at(`free/theirs-${i}`));
            if (i % 4 === 2) rmSync(at(`q/in/theirs-${i}`));
            if (i % 4 === 3 && process.getuid?.() === 0) chownSync(at(`q/in/theirs-${i}`), 7, 8);
            await new Promise((resolve) => setImmediate(resolve));
          }
          mkdirSync(at('q/dir-of-theirs'));
          linkSync(at('q/in/theirs-0'), at('q/dir-of-theirs/linked'));
          symlinkSync('nowhere', at('q/link-of-theirs'));
        })();
        await volume.push(
          volume.make('q/a', file('a\n'.repeat(5000))),
          volume.make('q/in/b', file('b\n', { uid: 7, gid: 8 })),
          volume.make('q/in/link', symlink('b')),
          volume.make('free/c', file('c\n'.repeat(9000))),
        );
        await volume.push(volume.edit('q/a', file('shorter\n')));
        await volume.push(volume.move('free/c', 'q/in/c'));
        await volume.push(volume.move('free/tree', 'q/tree'));
        await volume.push(volume.make('q/tree/sub/more', file('more\n'.repeat(2000))));
        await volume.push(volume.move('q/tree/sub', 'q/in/sub'));
        await volume.push(volume.move('q/in/b', 'q/a', { over: volume.at('q/a') }));
        await volume.push(volume.make('q/rm', directory()), volume.make('q/rm/f', file('f\n')));
        await volume.push(volume.remove('q/rm/f'), volume.remove('q/rm'), volume.remove('q/in/link'));
        await volume.push(volume.move('q/in/sub', 'free/sub'));
        await theirs;
        expect(failure(() => writeFileSync(at('free/sub/theirs'), 'in a directory that moved\n'))).to.equal(
          0,
        );
      } finally {
        await mount.close();
      }
      await quietVolume(volume, ['/q', '/q/in']);
      await volume.store.close();
    });
  }

  it('refuse our pushes where the real client is refused', async function () {
    needFuse(this);
    const url = `${server.url}/full`;
    await juicefs.format(url, 'full', server.url.slice('etcd://'.length), [
      ...['--block-size', '64', '--inodes', '12'],
    ]);
    const volume = await TestVolume.open(server, '/full');
    await volume.push(volume.make('d', directory()), volume.make('d/1', file('1\n')));
    await juicefs.ok(['quota', 'set', url, '--path', '/d', '--inodes', '3']);
    const before = await volume.try([
      volume.make('d/2', file('2\n')),
      volume.make('d/3', file('3\n')),
      volume.make('d/4', file('4\n')),
      volume.make('beside', file('beside\n')),
    ]);
    expect(before.changes.map((one) => ('reason' in one ? one.reason : one.outcome))).to.deep.equal([
      'committed',
      'committed',
      'the quota of /d has no room: 1 of 3 files and directories are used, and the push needs 3 more',
      'committed',
    ]);
    const mount = await juicefs.mount(url);
    try {
      expect(failure(() => writeFileSync(join(mount.dir, 'd/4'), ''))).to.equal(constants.errno.EDQUOT);
    } finally {
      await mount.close();
    }
    const rest = await volume.try(
      Array.from({ length: 10 }, (_, i) => volume.make(`more-${i}`, file(`${i}\n`))),
    );
    const refused = rest.changes.filter(({ outcome }) => outcome === 'refused');
    expect(refused).to.have.length(3);
    expect(refused[0]).to.include({
      reason:
        "the volume's limit has no room: 5 of 12 files and directories are used, and the push needs 8 more",
    });
    await quietVolume(volume, ['/d']);

    // What the setting says counts at once, for a volume that was opened long before.
    await juicefs.ok(['config', url, '--inodes', '0', '--trash-days', '0', '--user-group-quota', '--yes']);
    await juicefs.ok(['quota', 'set', url, '--uid', '7', '--inodes', '1']);
    const ino = volume.at('d/3').ino;
    await volume.push(volume.remove('d/3'));
    const [attr] = (await volume.store.get([volume.volume.keyOf({ kind: 'attr', ino })])).kvs;
    expect(attr, 'removed with the trash off').to.equal(undefined);
    const owned = await volume.try([
      volume.make('seven', file('7\n', { uid: 7 })),
      volume.make('seven-again', file('7\n', { uid: 7 })),
    ]);
    expect(owned.changes.map((one) => ('reason' in one ? one.reason : one.outcome))).to.deep.equal([
      'committed',
      'the quota of user 7 has no room: 0 of 1 files and directories are used, and the push needs 2 more',
    ]);
    await quietVolume(volume, ['/d']);
    await volume.store.close();
  });
});
