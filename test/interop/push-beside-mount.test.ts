/** The pusher beside a live mount of the real client: what each sees of the other, and that nothing is counted wrong. */

import { expect } from 'chai';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type VolumeNode, VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, treeOfMount, type Mount } from '../support/juicefs.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { textOf } from '../support/reading.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

for (const trashDays of [1, 0]) {
  describe(`the pusher beside a live mount, trash ${trashDays > 0 ? 'on' : 'off'}`, function () {
    this.timeout(180_000);
    const name = `beside-${trashDays}`;
    let server: EtcdServer;
    let juicefs: Juicefs;
    let volume: TestVolume;
    let mount: Mount | undefined;

    before(async function () {
      juicefs = new Juicefs(this);
      needFuse(this);
      server = await startEtcd();
      volume = await TestVolume.format(server, { name, trashDays, blockSizeKiB: 64 });
      mount = await juicefs.mount(volume.url, ['--heartbeat', '3']);
    });
    after(async () => {
      await mount?.close();
      await volume?.store.close();
      await server?.stop();
    });

    /** What the mount made, as the old state of a change. */
    async function made(path: string): Promise<VolumeNode> {
      const { revision } = await volume.store.status();
      const node = await new VolumeTree(volume.store, volume.volume, revision).find(path);
      if (node === undefined) throw new Error(`the mount did not make ${path}`);
      const entry = new VolumeTree(volume.store, volume.volume, revision).entryOf(node, 'not looked at', '');
      if (entry !== undefined) volume.tree.set(path, entry);
      return node;
    }

    it('shows replaced contents to whoever opens the file again', async () => {
      const dir = mount?.dir ?? '';
      await volume.push(
        volume.make('shared', directory({ mode: 0o777 })),
        volume.make('shared/f', file('one\n')),
      );
      expect(readFileSync(join(dir, 'shared/f'), 'utf8')).to.equal('one\n');
      // Of equal size: only a changed mtime or inode tells. With the trash off the old inode is gone at once, and the kernel
      // remembers for a second that the name led to it (layout 13.3).
      await volume.push(volume.edit('shared/f', file('two\n')));
      await until('the mount shows the new contents', () => textOf(join(dir, 'shared/f')) === 'two\n');
    });

    it('edits, unlinks and moves files that the mount hard linked', async () => {
      const dir = mount?.dir ?? '';
      mkdirSync(join(dir, 'links'));
      mkdirSync(join(dir, 'links/sub'));
      writeFileSync(join(dir, 'links/a'), 'linked\n');
      linkSync(join(dir, 'links/a'), join(dir, 'links/b'));
      linkSync(join(dir, 'links/a'), join(dir, 'links/sub/c'));
      for (const path of ['links', 'links/sub', 'links/a', 'links/b', 'links/sub/c']) await made(path);
      await volume.push({ ...volume.edit('links/a', file('edited\n')), link: { kind: 'in-place' } });
      for (const path of ['links/a', 'links/b', 'links/sub/c'])
        await until(`${path} has the edit`, () => textOf(join(dir, path)) === 'edited\n');
      await volume.push(volume.remove('links/b'));
      await volume.push(volume.move('links/a', 'links/sub/a'));
      expect(readFileSync(join(dir, 'links/sub/a'), 'utf8')).to.equal('edited\n');
      await volume.push(volume.remove('links/sub/a'));
      expect(readFileSync(join(dir, 'links/sub/c'), 'utf8')).to.equal('edited\n');
      await volume.push(volume.remove('links/sub/c'));
    });

    it('works in the same directory at the same time', async () => {
      const dir = mount?.dir ?? '';
      let isPushing = true;
      const writer = (async () => {
        for (let i = 0; isPushing || i < 60; i += 1) {
          const path = join(dir, `shared/theirs-${i % 40}`);
          if (i % 3 === 2) rmSync(path, { force: true });
          else writeFileSync(path, `theirs ${i}\n`);
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
      for (let i = 0; i < 60; i += 1) {
        const path = `shared/ours-${i}`;
        await volume.push(volume.make(path, file(`ours ${i}\n`)));
        if (i % 3 === 1) await volume.push(volume.edit(path, file(`ours ${i}, again\n`)));
        if (i % 3 === 2) await volume.push(volume.remove(path));
        if (i % 5 === 4) await volume.push(volume.make(`shared/link-${i}`, symlink('f')));
      }
      isPushing = false;
      await writer;
    });

    it('leaves a volume that is whole once the mount is gone', async () => {
      const shownBefore = treeOfMount(mount?.dir ?? '');
      await mount?.close();
      mount = undefined;
      await until('the client closed its session', async () => {
        let sessions = 0;
        const prefix = volume.address.prefix;
        await volume.store.snapshot([{ start: `${prefix}SI`, end: `${prefix}SJ` }], () => (sessions += 1));
        return sessions === 0;
      });
      expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      await juicefs.fsck(volume.url);
      expect(await juicefs.gc(volume.url)).to.include({ leaked: 0 });
      const fresh = await juicefs.mount(volume.url, ['--read-only', '--no-bgjob']);
      try {
        expect(treeOfMount(fresh.dir)).to.deep.equal(shownBefore);
      } finally {
        await fresh.close();
      }
    });
  });
}
