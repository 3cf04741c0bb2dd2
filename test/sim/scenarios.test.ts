/** What the simulation has found, each as a case of its own: two writers, told step by step, in virtual time. */

import { expect } from 'chai';
import { UnavailableError, UnknownOutcomeError } from '../../src/agent/base/error.ts';
import { fsError } from '../support/fs-error.ts';
import { RecordedSite } from './history.ts';
import type { Pod } from './pod.ts';
import { expectAgreement, write } from './scenario.ts';
import { DiskSite } from './site.ts';
import { Stage } from './stage.ts';

describe('what the simulation has found', () => {
  let stage: Stage;

  beforeEach(async () => {
    stage = await Stage.open(1);
  });
  afterEach(() => stage.end());

  /** Somebody in the tree that was replaced. Whether hints tell of what is done there is up to the kernel. */
  function oldTree(pod: Pod, isHinted: boolean): RecordedSite {
    const active = pod.fs.readlink('test', pod.layout.data);
    const idle = pod.layout.tree(active === '..a' ? 'b' : 'a');
    const site = new DiskSite('shell', pod.fs, idle, (path) => {
      if (isHinted) pod.changed(path);
    });
    return new RecordedSite(site, stage.history, stage.trace);
  }

  it('a file that comes to a name whose old file was removed here, unseen by the volume, stays', async () => {
    const { pod, local } = stage.addPod();
    pod.start();
    await stage.pass(3_000);
    stage.weather.isDown = true;
    pod.agent?.cutWatch();
    write(local, 'top');
    await stage.pass(3_000);
    pod.agent?.kill();
    local.unlink('top');
    write(stage.remote, 'top');
    stage.weather.isDown = false;
    pod.start();
    await expectAgreement(stage);
    expect(stage.mount.text('top')).to.include('mount');
  });

  for (const isLate of [false, true]) {
    const when = isLate ? 'while it is not known yet' : 'right after it';
    it(`a file that comes below a name at the top, removed there ${when}, stays`, async () => {
      const { pod, local } = stage.addPod();
      stage.mount.mkdir('d');
      write(stage.remote, 'd/old');
      pod.start();
      await stage.pass(5_000);
      stage.lostHints = isLate ? 1 : 0;
      local.unlink('d');
      write(stage.remote, 'd/new');
      await expectAgreement(stage);
      expect(stage.mount.list('d')).to.deep.equal(['new']);
    });
  }

  it('a file that comes below a name at the top is not lost to a directory that takes its place meanwhile', async () => {
    const { pod, local } = stage.addPod();
    for (const path of ['d', 'e', 'e/in']) stage.mount.mkdir(path);
    for (const path of ['d/old', 'e/in/new']) write(stage.remote, path);
    pod.start();
    await stage.pass(5_000);
    stage.lostHints = 1;
    local.unlink('d');
    local.rename('e/in', 'd');
    write(stage.remote, 'd/new');
    await stage.pass(5_000);
    stage.lostHints = 0;
    await expectAgreement(stage);
  });

  it('a name at the top that is moved into itself, where a directory could not go, stays with all that it leads to', async () => {
    const { pod, local } = stage.addPod();
    for (const path of ['d', 'd/in']) stage.mount.mkdir(path);
    write(stage.remote, 'd/in/file');
    pod.start();
    await stage.pass(5_000);
    local.rename('d', 'd/in/itself');
    await expectAgreement(stage);
    expect(stage.mount.list('d/in')).to.deep.equal(['file']);
    expect(local.list('d/in')).to.deep.equal(['file']);
  });

  it('a file that comes to a directory which is removed here at that time stays, and its directory', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    stage.mount.mkdir('d/in');
    write(stage.remote, 'd/in/old');
    pod.start();
    await stage.pass(3_000);
    pod.agent?.kill();
    local.unlink('d/in/old');
    local.rmdir('d/in');
    write(stage.remote, 'd/in/new');
    pod.start();
    await expectAgreement(stage);
    expect(stage.mount.list('d/in')).to.deep.equal(['new']);
  });

  it('a file that was edited and is removed here, and with its directory in the volume, holds nothing up', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    stage.mount.mkdir('d/in');
    write(stage.remote, 'd/in/file');
    pod.start();
    await stage.pass(3_000);
    stage.weather.isDown = true;
    pod.agent?.cutWatch();
    write(local, 'd/in/file');
    await stage.pass(3_000);
    pod.agent?.kill();
    local.unlink('d/in/file');
    stage.remote.unlink('d/in/file');
    stage.remote.rmdir('d/in');
    stage.weather.isDown = false;
    // Its removal has not settled when the volume's comes.
    pod.start();
    await stage.pass(3_000);
    write(local, 'd/other');
    await expectAgreement(stage);
    expect(stage.mount.list('d')).to.deep.equal(['other']);
  });

  it('a file that cannot come back because its directory is being removed is not removed with it', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    stage.mount.mkdir('d/in');
    write(stage.remote, 'd/in/old');
    pod.start();
    await stage.pass(3_000);
    stage.weather.latencyMs = 4_000;
    local.unlink('d/in/old');
    local.rmdir('d/in');
    await stage.pass(1_500);
    write(stage.remote, 'd/in/new');
    await stage.pass(10_000);
    stage.weather.latencyMs = 1;
    await expectAgreement(stage);
    expect(stage.mount.list('d/in')).to.deep.equal(['new']);
  });

  it('a file that is made anew in the tree that was just replaced, while it is pushed, is an edit', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    stage.weather.latencyMs = 1_500;
    const file = local.open('d/file', { append: true });
    file.write(stage.history.line('pod', 'd/file'), 0);
    file.close();
    await stage.pass(600);
    const shell = oldTree(pod, true);
    shell.unlink('d/file');
    write(shell, 'd/file');
    await stage.pass(2_000);
    write(stage.remote, 'd/other');
    await stage.pass(10_000);
    stage.weather.latencyMs = 1;
    await expectAgreement(stage);
    expect(stage.mount.text('d/file')).to.include('shell');
  });

  it('a late edit is found although its inode has the number of one that has just gone', async () => {
    const { pod, local } = stage.addPod({ conflict: 'remote' });
    stage.mount.mkdir('d');
    for (const name of ['d/file', 'd/goes']) write(stage.remote, name);
    pod.start();
    await stage.pass(3_000);
    pod.agent?.kill();
    // Without an agent that holds it, the number is free as soon as the last name goes.
    local.unlink('d/file');
    local.unlink('d/goes');
    for (const tree of ['a', 'b'] as const) {
      const at = pod.layout.inTree(tree, 'd/goes');
      if (pod.fs.stat(at) !== undefined) pod.fs.unlink('test', at);
    }
    const held = local.open('d/file', { create: true });
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(500);
    held.write(stage.history.line('pod', 'd/file'), 0);
    held.close();
    await expectAgreement(stage);
  });

  it('a write of the same length into a file that is about to be pushed is not lost', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    const before = stage.mount.text('d/file')?.length ?? 0;
    pod.start();
    await stage.pass(3_000);
    stage.weather.latencyMs = 200;
    write(local, 'd/file');
    const revision = stage.etcd.revision;
    // The push has begun: it takes its numbers.
    for (let step = 0; step < 5_000 && stage.etcd.revision === revision; step += 1) await stage.pass(1);
    const other = stage.remote.open('d/file', {});
    other.write(stage.history.line('mount', 'd/file'), 0);
    other.close();
    expect(stage.mount.text('d/file')).to.have.length(before);
    stage.weather.latencyMs = 1;
    await expectAgreement(stage);
  });

  it('a volume that is compacted while it is listed is listed again', async () => {
    const { pod } = stage.addPod();
    stage.mount.mkdir('d');
    for (let n = 0; n < 20; n += 1) write(stage.remote, `d/${n}`);
    pod.start();
    for (let step = 0; step < 40; step += 1) {
      await stage.pass(0.2);
      write(stage.remote, 'd/other');
      stage.etcd.compact(stage.etcd.revision);
    }
    await expectAgreement(stage);
  });

  it('a file that lost and is written once more through an open descriptor is kept as it is then', async () => {
    const { pod, local } = stage.addPod({ conflict: 'remote' });
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    stage.weather.isDown = true;
    pod.agent?.cutWatch();
    const held = local.open('d/file', { append: true });
    held.write(stage.history.line('pod', 'd/file'), 0);
    await stage.pass(2_000);
    write(stage.remote, 'd/file');
    stage.weather.isDown = false;
    // It lost, and the program that has it open goes on before its copy is in the volume.
    let isParked = false;
    for (let step = 0; step < 100_000 && !isParked; step += 1) {
      await stage.pass(0.05);
      isParked = stage.trace.lines.some((line) => line.includes('warn conflict path=d/file'));
    }
    expect(isParked).to.equal(true);
    held.write(stage.history.line('pod', 'd/file'), 0);
    held.close();
    await expectAgreement(stage);
    expect(pod.fs.readdir('test', pod.layout.parked)).to.deep.equal([]);
  });

  it('what was staged for a publish that an edit crossed does not stay when nothing is published after all', async () => {
    const { pod, local } = stage.addPod({ conflict: 'local' });
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    const link = pod.fs.link.bind(pod.fs);
    let crossings = 0;
    let isArmed = false;
    pod.fs.link = (label, from, to) => {
      link(label, from, to);
      if (!isArmed || !from.startsWith(`${pod.layout.stage}/`)) return;
      isArmed = false;
      crossings += 1;
      write(local, 'd/file');
    };
    pod.start();
    await stage.pass(3_000);
    isArmed = true;
    write(stage.remote, 'd/file');
    await expectAgreement(stage);
    expect(crossings).to.equal(1);
    expect(pod.fs.readdir('test', pod.layout.stage)).to.deep.equal([]);
  });

  it('what lost right after another content of its path, before the store has told of that copy, is kept as well', async () => {
    const { pod, local } = stage.addPod({ conflict: 'remote' });
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    const held = local.open('d/file', { append: true });
    write(stage.remote, 'd/file');
    await stage.pass(1_000);
    const kept = async (): Promise<void> => {
      const copies = (): number =>
        stage.trace.lines.filter((line) => line.includes('info conflict copy')).length;
      const before = copies();
      held.write(stage.history.line('pod', 'd/file'), 0);
      for (let step = 0; step < 10_000 && copies() === before; step += 1) await stage.pass(0.1);
      expect(copies()).to.equal(before + 1);
    };
    pod.agent?.lagWatch(8_000);
    await kept();
    await kept();
    held.close();
    await expectAgreement(stage);
  });

  it('a file that is moved into a directory where nobody has looked since is not taken for removed', async () => {
    const { pod } = stage.addPod();
    for (const dir of ['d', 'g']) stage.mount.mkdir(dir);
    for (const path of ['d/file', 'g/file']) write(stage.remote, path);
    pod.start();
    await stage.pass(5_500);
    write(stage.remote, 'g/file');
    await stage.pass(600);
    // No hint tells of it.
    pod.fs.rename('test', `${pod.layout.root}/d/file`, `${pod.layout.root}/g/moved`);
    write(stage.remote, 'd/other');
    await expectAgreement(stage);
    expect(stage.mount.list('g')).to.include('moved');
  });

  it('a file made in a directory that has just been removed, in the tree that was just replaced, stays', async () => {
    const { pod } = stage.addPod();
    for (const dir of ['d', 'd/in']) stage.mount.mkdir(dir);
    pod.start();
    await stage.pass(3_000);
    stage.mount.rmdir('d/in');
    await stage.pass(600);
    write(oldTree(pod, true), 'd/in/new');
    await stage.pass(100);
    // The tree is shown again before the file has settled, and once more after it.
    write(stage.remote, 'd/other');
    await stage.pass(450);
    write(stage.remote, 'd/other');
    await expectAgreement(stage);
    expect(stage.mount.list('d/in')).to.deep.equal(['new']);
  });

  it('a file that is made in both trees at the same time is kept as it is in each', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_000);
    write(oldTree(pod, true), 'd/new');
    write(local, 'd/new');
    await expectAgreement(stage);
    expect(stage.mount.text('d/new')).to.include('pod');
  });

  it('a late edit that is found while the store is away waits for it, however long it is kept otherwise', async () => {
    const { pod, local } = stage.addPod({ keepMs: 10_000 });
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    const held = local.open('d/file', { append: true });
    for (let n = 0; n < 2; n += 1) {
      write(stage.remote, 'd/file');
      await stage.pass(1_000);
    }
    stage.weather.isDown = true;
    pod.agent?.kill();
    pod.start();
    await stage.pass(1_000);
    held.write(stage.history.line('pod', 'd/file'), 0);
    held.close();
    await stage.pass(60_000);
    stage.weather.isDown = false;
    await expectAgreement(stage);
  });

  it('a file found in the old tree and another one put at its name before it is taken over are both kept', async () => {
    const { pod, local } = stage.addPod({ minIntervalMs: 3_000 });
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_500);
    // The next flip has to wait from here on.
    write(stage.remote, 'd/other');
    await stage.pass(600);
    const active = pod.fs.readlink('test', pod.layout.data);
    write(oldTree(pod, true), 'd/new');
    await stage.pass(700);
    expect(pod.fs.readlink('test', pod.layout.data)).to.equal(active);
    write(local, 'd/new');
    await expectAgreement(stage);
    expect(stage.mount.text('d/new')).to.include('pod');
  });

  it('an agent that was killed right after a flip leaves the tree that it replaced alone when it starts again', async () => {
    const { pod } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    const active = (): string | undefined => pod.fs.readlink('test', pod.layout.data);
    const before = active();
    write(stage.remote, 'd/file');
    for (let step = 0; step < 10_000 && active() === before; step += 1) await stage.pass(0.05);
    pod.agent?.kill();
    write(stage.remote, 'd/file');
    pod.start();
    await expectAgreement(stage);
  });

  it('an edit that settles while the watch is down does not go to a backup that came up meanwhile', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_000);
    const backup = stage.etcd.save();
    write(stage.remote, 'later');
    await stage.pass(3_000);
    stage.weather.isDown = true;
    pod.agent?.cutWatch();
    await stage.pass(5_000);
    stage.replaceStore(backup);
    write(local, 'd/edit');
    await stage.pass(250);
    stage.weather.isDown = false;
    await stage.pass(10_000);
    stage.bringStoreBack();
    await expectAgreement(stage);
    expect(stage.mount.list('d')).to.include('edit');
  });

  it('a write to a file that was kept at two of its names, one after the other, is found', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file.new');
    pod.start();
    await stage.pass(4_000);
    stage.remote.rename('d/file.new', 'd/file');
    await stage.pass(1_000);
    const held = local.open('d/file', { append: true });
    for (let n = 0; n < 3; n += 1) {
      write(stage.remote, n === 1 ? 'd/file' : 'd/other');
      await stage.pass(300);
    }
    await stage.pass(12_000);
    held.write(stage.history.line('pod', 'd/file'), 0);
    held.close();
    await expectAgreement(stage);
  });

  it('a file that was moved in the old tree, to a name that the volume gets before anybody looks, is kept', async () => {
    const { pod } = stage.addPod();
    for (const dir of ['d', 'g']) stage.mount.mkdir(dir);
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    oldTree(pod, false).rename('d/file', 'g/file');
    write(stage.remote, 'g/file');
    await stage.pass(1_000);
    await expectAgreement(stage);
    expect(stage.mount.text('g/file')).to.include('mount');
  });

  it('a file that takes the place of one name of two stays apart when the volume changes the mode of both meanwhile', async () => {
    const { pod, local } = stage.addPod();
    for (const dir of ['d', 'g']) stage.mount.mkdir(dir);
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    local.link('d/file', 'g/file');
    await stage.pass(10_000);
    write(local, 'd/file.new');
    local.rename('d/file.new', 'd/file');
    await stage.pass(50);
    stage.remote.chmod('g/file', 0o600);
    await expectAgreement(stage);
    expect(stage.mount.text('g/file')).to.include('mount');
    expect(stage.mount.text('d/file')).to.include('pod');
  });

  it('a name that the volume links to a file that is just being moved here is not removed instead', async () => {
    const { pod, local } = stage.addPod({ conflict: 'remote' });
    const { pod: other, local: elsewhere } = stage.addPod({ conflict: 'remote' });
    stage.mount.mkdir('d');
    for (const path of ['d/file', 'd/file.new']) write(stage.remote, path);
    for (const one of [pod, other]) one.start();
    await stage.pass(3_000);
    write(local, 'd/file.new');
    local.rename('d/file.new', 'd/file');
    await stage.pass(100);
    elsewhere.unlink('d/file');
    elsewhere.link('d/file.new', 'd/file');
    await expectAgreement(stage);
    expect(stage.mount.text('d/file')).to.include('mount d/file.new');
  });

  it('a file that was moved in the old tree right before two flips is kept', async () => {
    const { pod } = stage.addPod();
    for (const dir of ['d', 'g']) stage.mount.mkdir(dir);
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    oldTree(pod, false).rename('d/file', 'g/file');
    write(stage.remote, 'g/file');
    await stage.pass(1_000);
    write(stage.remote, 'g/other');
    await expectAgreement(stage);
    expect(stage.mount.text('g/file')).to.include('mount');
  });

  it('a file that was moved over another one in the old tree is kept', async () => {
    const { pod } = stage.addPod();
    for (const dir of ['d', 'g']) stage.mount.mkdir(dir);
    for (const path of ['d/file', 'g/file']) write(stage.remote, path);
    pod.start();
    await stage.pass(3_000);
    oldTree(pod, false).rename('d/file', 'g/file');
    await expectAgreement(stage);
    expect(stage.mount.text('g/file')).to.include('d/file');
  });

  it('a file that the volume had moved out of a directory before that was moved here does not stay in it', async () => {
    const { pod, local } = stage.addPod();
    for (const dir of ['d', 'e', 'e/in']) stage.mount.mkdir(dir);
    for (const path of ['e/in/goes', 'e/in/stays']) write(stage.remote, path);
    pod.start();
    await stage.pass(3_000);
    stage.weather.latencyMs = 400;
    local.rename('e/in', 'd/in');
    await stage.pass(50);
    stage.remote.rename('e/in/goes', 'd/gone');
    write(stage.remote, 'e/in/stays');
    await stage.pass(3_000);
    stage.weather.latencyMs = 1;
    await expectAgreement(stage);
    expect(stage.mount.list('d/in')).to.deep.equal(['stays']);
  });

  for (const isWritten of [true, false]) {
    const kind = isWritten ? 'a backup that was written' : 'a backup';
    it(`an init container that listed ${kind} right before the right store came back lists that one`, async () => {
      const { pod } = stage.addPod();
      stage.mount.mkdir('d');
      write(stage.remote, 'd/file');
      pod.start();
      await stage.pass(3_000);
      const backup = stage.etcd.save();
      write(stage.remote, 'd/file');
      await stage.pass(3_000);
      pod.agent?.kill();
      stage.replaceStore(backup);
      for (let n = 0; isWritten && n < 20; n += 1) stage.stranger(n);
      const listings = (): number => stage.trace.lines.filter((line) => line.includes('info listed')).length;
      const before = listings();
      pod.start(Infinity, { once: true, allowStale: true, timeoutMs: 5_000 });
      for (let step = 0; step < 5_000 && listings() === before; step += 1) await stage.pass(0.05);
      stage.bringStoreBack();
      await stage.pass(6_000);
      expect(stage.trace.lines.findLast((line) => line.includes('ended with'))).to.include(
        `ended with 0: published revision ${stage.etcd.revision}`,
      );
      pod.start();
      await expectAgreement(stage);
    });
  }

  it('what a backup told right before it went is not shown while no store is there', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('e');
    pod.start();
    await stage.pass(3_000);
    const backup = stage.etcd.save();
    write(stage.remote, 'e/file');
    await stage.pass(3_000);
    stage.replaceStore(backup);
    for (let n = 0; n < 20; n += 1) stage.stranger(n);
    // Its watch tells all, and it does not answer what it is asked.
    const { etcd } = stage;
    const get = etcd.get.bind(etcd);
    etcd.get = (...args) => {
      if (stage.isForeign) throw new UnavailableError('the answer was lost');
      return get(...args);
    };
    await stage.pass(3_000);
    stage.weather.isDown = true;
    pod.agent?.cutWatch();
    await stage.pass(3_000);
    expect(local.list('e')).to.deep.equal(['file']);
    stage.bringStoreBack();
    stage.weather.isDown = false;
    await expectAgreement(stage);
    expect(local.list('e')).to.deep.equal(['file']);
  });

  it('an init container ends when the volume goes between opening and listing it', async () => {
    const { pod } = stage.addPod();
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_000);
    pod.agent?.kill();
    const { etcd } = stage;
    const get = etcd.get.bind(etcd);
    // The last that is read to open it.
    etcd.get = (key, revision) => {
      if (key.endsWith('juicefs_uuid')) stage.scheduler.after(0, () => stage.replaceStore(undefined));
      return get(key, revision);
    };
    pod.start(Infinity, { once: true, allowStale: true, timeoutMs: 5_000 });
    await stage.pass(1_000);
    expect(stage.trace.lines.at(-1)).to.match(/ended: .*The volume is gone/);
  });

  it('a push that was under way does not claim numbers of another store', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_000);
    stage.weather.latencyMs = 400;
    // The counter has been read, and who claims next is not the first.
    const { etcd } = stage;
    const claimed: string[] = [];
    etcd.listen(({ by, events }) => {
      if (stage.isForeign) claimed.push(`${by}: ${events.length}`);
    });
    const get = etcd.get.bind(etcd);
    etcd.get = (key, revision) => {
      const kv = get(key, revision);
      if (key.endsWith('CnextInode')) stage.scheduler.after(0, () => stage.replaceStore(stage.otherVolume));
      return kv;
    };
    write(local, 'd/new');
    await stage.pass(10_000);
    expect(stage.isForeign).to.equal(true);
    expect(claimed).to.deep.equal([]);
    etcd.get = get;
    stage.bringStoreBack();
    stage.weather.latencyMs = 1;
    await expectAgreement(stage);
  });

  it('what a backup has under the numbers of a push without an answer is not taken for that push', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    pod.start();
    await stage.pass(3_000);
    const backup = stage.etcd.save();
    write(stage.remote, 'd/file');
    await stage.pass(3_000);
    const { etcd } = stage;
    const commit = etcd.commit.bind(etcd);
    etcd.commit = (txn, by) => {
      if (by !== pod.name || !txn.ops.some((op) => 'key' in op && op.key.endsWith('Dnew')))
        return commit(txn, by);
      etcd.commit = commit;
      stage.replaceStore(backup);
      stage.stranger(0);
      throw new UnknownOutcomeError('the answer was lost');
    };
    write(local, 'd/new');
    await stage.pass(8_000);
    expect(stage.isForeign).to.equal(true);
    stage.bringStoreBack();
    await expectAgreement(stage);
  });

  it('the data of a file that was removed here stay in a backup that still has the file', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'd/file');
    pod.start();
    await stage.pass(3_000);
    const backup = stage.etcd.save();
    const { etcd } = stage;
    const written: string[] = [];
    etcd.listen(({ by, revision }) => {
      if (stage.isForeign) written.push(`${by}: ${revision}`);
      else if (by === pod.name) stage.scheduler.after(0, () => stage.replaceStore(backup));
    });
    local.unlink('d/file');
    await stage.pass(10_000);
    expect(stage.isForeign).to.equal(true);
    expect(written).to.deep.equal([]);
  });

  for (const delayMs of [50, 100, 200, 300, 400, 600, 800])
    it(`numbers that another store gave to a push under way are not used when the right one is back: after ${delayMs} ms`, async () => {
      const { pod, local } = stage.addPod();
      stage.mount.mkdir('d');
      pod.start();
      await stage.pass(3_000);
      const backup = stage.etcd.save();
      // The mount's own numbers do: what is there afterwards has those that the backup gives out.
      for (let n = 0; n < 40; n += 1) write(stage.remote, `d/${n}`);
      await stage.pass(3_000);
      stage.weather.latencyMs = 400;
      write(local, 'd/new');
      await stage.pass(delayMs);
      stage.replaceStore(backup);
      await stage.pass(2_000);
      stage.bringStoreBack();
      stage.weather.latencyMs = 1;
      await expectAgreement(stage);
    });

  it('a push that was begun before the watch was lost goes no further, although its conflict copies had nothing to send', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    write(stage.remote, 'edited');
    const open = pod.fs.openRead.bind(pod.fs);
    let isCut = false;
    // Numbers are claimed for the copy, and are there for what comes next: it is not sent, as it cannot be read.
    pod.fs.openRead = (label, path) => {
      if (isCut || label !== 'read for push' || !path.startsWith(`${pod.layout.parked}/`))
        return open(label, path);
      isCut = true;
      pod.agent?.cutWatch();
      throw fsError('ENOENT', 'open', path);
    };
    pod.start();
    await stage.pass(3_000);
    const isFollowed = (): boolean =>
      stage.trace.lines.findLast((line) => / watch(ing| lost) /.test(line))?.includes(' watching ') === true;
    for (const site of [stage.remote, local]) write(site, 'edited');
    write(local, 'd/new');
    for (let ms = 0; ms < 20_000 && !isCut; ms += 1) await stage.pass(1);
    expect(isFollowed()).to.equal(false);
    for (let ms = 0; ms < 20_000 && !isFollowed(); ms += 1) {
      expect(stage.mount.list('d')).to.deep.equal([]);
      await stage.pass(1);
    }
    await expectAgreement(stage);
    expect(stage.mount.list('d')).to.deep.equal(['new']);
  });

  it('files that were saved together are pushed together although the disk fails to open one of them', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    const open = pod.fs.openRead.bind(pod.fs);
    let failures = 0;
    pod.fs.openRead = (label, path) => {
      if (label === 'read for push' && path.endsWith('/d/one') && failures < 2) {
        failures += 1;
        throw fsError('EMFILE', 'open', path);
      }
      return open(label, path);
    };
    pod.start();
    await stage.pass(3_000);
    for (const path of ['d/one', 'd/two']) write(local, path);
    for (let step = 0; step < 20_000 && stage.mount.list('d').length === 0; step += 1) await stage.pass(1);
    expect(stage.mount.list('d')).to.deep.equal(['one', 'two']);
    expect(failures).to.equal(2);
    await expectAgreement(stage);
  });

  it('files that were saved together are pushed together although they are saved once more while they are read', async () => {
    const { pod, local } = stage.addPod();
    stage.mount.mkdir('d');
    const open = pod.fs.openRead.bind(pod.fs);
    let isSavedAgain = false;
    pod.fs.openRead = (label, path) => {
      if (label === 'read for push' && path.endsWith('/d/two') && !isSavedAgain) {
        isSavedAgain = true;
        for (const each of ['d/one', 'd/two']) write(local, each);
      }
      return open(label, path);
    };
    // Only looks tell.
    pod.start(Infinity, { rescanMs: 5_000 });
    await stage.pass(3_000);
    for (const path of ['d/one', 'd/two']) write(local, path);
    for (let step = 0; step < 20_000 && stage.mount.list('d').length === 0; step += 1) await stage.pass(1);
    expect(stage.mount.list('d')).to.deep.equal(['one', 'two']);
    expect(isSavedAgain).to.equal(true);
    await expectAgreement(stage);
  });
});
