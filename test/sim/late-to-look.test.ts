/** Writes to files that are replaced, or that a publish replaces, before any look has seen either: in virtual time. */

import { otherTree, type TreeName } from '../../src/agent/disk/layout.ts';
import { RecordedSite } from './history.ts';
import type { Pod } from './pod.ts';
import { expectAgreement, write } from './scenario.ts';
import { DiskSite } from './site.ts';
import { Stage } from './stage.ts';

describe('what is written before a look comes', () => {
  let stage: Stage;

  beforeEach(async () => {
    stage = await Stage.open(1);
  });
  afterEach(() => stage.end());

  function activeTree(pod: Pod): TreeName {
    return pod.fs.readlink('test', pod.layout.data) === '..a' ? 'a' : 'b';
  }

  /** Somebody in one of the trees, of whom no hint tells. */
  function unseen(pod: Pod, who: string, tree: TreeName): RecordedSite {
    const site = new DiskSite(who, pod.fs, pod.layout.tree(tree), () => undefined);
    return new RecordedSite(site, stage.history, stage.trace);
  }

  for (const isGone of [false, true]) {
    it(`to a file that was ${isGone ? 'removed' : 'replaced'} in the old tree is not lost when that tree is published`, async () => {
      const { pod } = stage.addPod();
      stage.mount.mkdir('d');
      for (const path of ['d/file', 'd/other']) write(stage.remote, path);
      pod.start();
      await stage.pass(3_000);
      const active = activeTree(pod);
      const shell = unseen(pod, 'shell', otherTree(active));
      if (isGone) shell.unlink('d/file');
      else {
        write(shell, 'd/file.new');
        shell.rename('d/file.new', 'd/file');
      }
      await stage.pass(100);
      write(unseen(pod, 'local', active), 'd/file');
      await stage.pass(100);
      // Its name is placed in the directory where the other one went.
      write(stage.remote, 'd/other');
      await expectAgreement(stage);
    });
  }

  it('to a file that had come by a rename is not lost when names come to its directory after the flip', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(6_000);
    write(local, 'd/file.new');
    local.rename('d/file.new', 'd/file');
    await stage.pass(1_000);
    const held = local.open('d/file', { append: true });
    const before = activeTree(pod);
    write(stage.remote, 'd/file');
    for (let step = 0; step < 10_000 && activeTree(pod) === before; step += 1) await stage.pass(0.1);
    held.write(stage.history.line('pod', 'd/file'), 0);
    held.close();
    write(local, 'd/other');
    await expectAgreement(stage);
  });
});
