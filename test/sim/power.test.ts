/** What a power cut leaves in the file system in memory, and what an agent makes of it. */

import { expect } from 'chai';
import { MemoryFs } from '../support/memory-fs.ts';
import type { Pod } from './pod.ts';
import { append, write } from './scenario.ts';
import { Stage } from './stage.ts';

/** Keeps all names, and of data that was not synced the length and the first three bytes. */
function tear(below: number): number {
  return below === 4 ? 2 : below > 4 ? 3 : 0;
}

/** Keeps all names, and of new data nothing. */
function forget(below: number): number {
  return below === 4 ? 3 : 0;
}

/** Keeps all names, and of data that was not synced what was there before it. */
function forgetNewest(): number {
  return 0;
}

function cut(pod: Pod, below: (below: number) => number): void {
  pod.agent?.kill();
  pod.fs.cutPower(below);
  pod.boots = (pod.boots ?? 0) + 1;
}

/** The machine is back, and the volume and the directory have what was pushed before. */
async function expectBack(stage: Stage, pod: Pod, pushed: string | undefined): Promise<void> {
  pod.start();
  await stage.pass(10_000);
  expect(stage.mount.text('d/file')).to.equal(pushed);
  expect(stage.differences()).to.deep.equal([]);
  expect(stage.failures).to.deep.equal([]);
  stage.end();
}

describe('a power cut', () => {
  describe('of the file system in memory', () => {
    let fs: MemoryFs;
    const write = (path: string, text: string, isSynced: boolean): void => {
      const fd = fs.openWrite(path, { create: true });
      fs.write('test', fd, Buffer.from(text));
      if (isSynced) fs.fsync('test', fd);
      fs.close('test', fd);
    };

    beforeEach(() => {
      let now = 0n;
      fs = new MemoryFs(() => (now += 1000n));
      fs.mkdir('test', '/d', 0o755);
      fs.syncDir('test', '/d');
    });

    it('leaves what was synced, and of the rest the name without the data', () => {
      write('/d/synced', 'synced', true);
      write('/d/not', 'never', false);
      fs.syncDir('test', '/d');
      fs.cutPower(forget);
      expect(fs.readdir('test', '/d')).to.deep.equal(['not', 'synced']);
      expect([fs.textAt('/d/synced'), fs.textAt('/d/not')]).to.deep.equal(['synced', '']);
    });

    it('can leave zeros in the place of data', () => {
      write('/d/not', 'never', false);
      fs.cutPower(tear);
      expect(fs.textAt('/d/not')).to.equal('nev\0\0');
    });

    it('takes back names in the order in which they were changed, up to the last sync of a directory', () => {
      write('/d/a', 'a', true);
      fs.syncDir('test', '/d');
      fs.rename('test', '/d/a', '/d/b');
      fs.link('test', '/d/b', '/d/c');
      fs.unlink('test', '/d/b');
      const seen = new Set<string>();
      const names = (): string => fs.readdir('test', '/d').join();
      seen.add(names());
      // The last change, and one more each time.
      for (let step = 0; step < 4; step += 1) {
        fs.cutPower((below) => (below === 4 ? 0 : Math.min(1, below - 1)));
        seen.add(names());
        if (names() === 'a') break;
      }
      expect([...seen]).to.deep.equal(['c', 'b,c']);
      expect(fs.lstat('test', '/d/c')?.nlink).to.equal(2);
    });

    it('can take all of them back, but nothing from before the sync', () => {
      write('/d/a', 'a', true);
      fs.syncFs('test', '/d');
      fs.rename('test', '/d/a', '/d/b');
      fs.unlink('test', '/d/b');
      fs.cutPower((below) => below - 1);
      expect(fs.readdir('test', '/d')).to.deep.equal(['a']);
      expect(fs.lstat('test', '/d/a')?.nlink).to.equal(1);
      expect(fs.textAt('/d/a')).to.equal('a');
    });
  });

  it('tears no file of the agent, and a torn one that nobody has written since it was pushed comes back from the volume', async () => {
    const stage = await Stage.open(1);
    const { pod, local } = stage.addPod();
    pod.boots = 1;
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_000);
    write(local, 'd/file');
    await stage.pass(3_000);
    const pushed = stage.mount.text('d/file');
    expect(pushed).to.match(/^#1 /);
    // A publish has its log synced, and so what is known of the file.
    stage.mount.mkdir('d/new');
    await stage.pass(3_000);
    cut(pod, tear);
    expect(pod.fs.textAt(`${pod.layout.data}/d/file`)).to.match(/^#1 \0+$/);
    await expectBack(stage, pod, pushed);
  });

  it('that takes an append which is in the volume already does not take it there', async () => {
    const stage = await Stage.open(1);
    const { pod, local } = stage.addPod();
    pod.boots = 1;
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    append(local, 'd/file');
    await stage.pass(3_000);
    const pushed = stage.mount.text('d/file');
    expect(pushed).to.match(/^#1 .*\n#2 /);
    // A publish has its log synced, and so what is known of the file.
    stage.mount.mkdir('d/new');
    await stage.pass(3_000);
    cut(pod, forgetNewest);
    expect(pod.fs.textAt(`${pod.layout.data}/d/file`)).to.match(/^#1 .*\n$/);
    await expectBack(stage, pod, pushed);
  });

  it('in the middle of a push, after its transaction, does not make what it left of the file an edit', async () => {
    const stage = await Stage.open(1);
    const { pod, local } = stage.addPod();
    pod.boots = 1;
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    stage.weather.latencyMs = 200;
    append(local, 'd/file');
    const isPushed = (): boolean => stage.mount.text('d/file')?.includes('#2') === true;
    for (let step = 0; step < 20_000 && !isPushed(); step += 1) await stage.pass(1);
    const pushed = stage.mount.text('d/file');
    stage.weather.latencyMs = 1;
    // The log may have come to the disk by itself.
    const fd = pod.fs.openWrite(`${pod.layout.state}/ledger`);
    pod.fs.fsync('test', fd);
    pod.fs.close('test', fd);
    cut(pod, forgetNewest);
    expect(pod.fs.textAt(`${pod.layout.data}/d/file`)).to.match(/^#1 .*\n$/);
    await expectBack(stage, pod, pushed);
  });
});
