/** Files with several names, edited in the agent's directory and on a real mount: a plain directory says what must come of it. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, untilSame, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { linkedMount, linkedPlain, linkedPublished } from '../support/linked-tree.ts';
import { TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { shell } from '../support/shell.ts';
import { storeRevision } from '../support/stillness.ts';
import { needFuse } from '../support/tools.ts';

/** Each is done once in the agent's directory and once on a mount, and each time in a plain directory. */
const EDITS: readonly (readonly [what: string, command: string])[] = [
  ['makes files', 'mkdir d e; for i in 1 2 3 4; do echo $i > d/$i; done; echo e > e/f; echo o > e/one'],
  ['links in one directory and across two', 'ln d/1 d/1b; ln d/2 e/2'],
  ['writes anew in place', 'echo more > d/1'],
  ['appends in place under the other name', 'echo more >> e/2'],
  ['writes fewer bytes in place', 'printf x > d/1b'],
  ['empties in place', ': > d/1'],
  ['fills again in place', 'seq 1 50000 > d/1b'],
  ['changes the mode of one name', 'chmod 600 e/2'],
  ['changes mode and contents', 'chmod 640 d/2; echo again > d/2'],
  ['replaces one name', 'sed -i s/again/once-more/ e/2'],
  ['links again, over a name that is there', 'ln -f d/2 e/2'],
  ['replaces one name by the same contents', 'cp -p d/1 d/.new; mv d/.new d/1'],
  ['links what has the same contents', 'ln -f d/1 d/1b'],
  ['links and edits at once', 'ln d/3 e/3; echo linked >> d/3'],
  ['creates with several names', 'echo new > d/n; ln d/n e/n; ln d/n e/m'],
  ['links several at once', 'ln d/4 d/4b; ln d/4 e/4; ln e/f e/g; ln e/f d/f'],
  ['links and removes the original', 'ln e/one e/uno; rm e/one'],
  ['removes one of several names', 'rm d/4b'],
  ['renames one of several names', 'mv e/4 e/four'],
  ['renames one of several names into another directory', 'mv e/four d/four'],
  ['is refused a rename of one name over the other', '! mv d/four d/4 2> /dev/null'],
  ['renames over a name of a linked file', 'echo w > d/w; mv d/w e/n'],
  ['renames a linked name over another linked file', 'mv e/m e/3'],
  ['renames a directory with linked files in it', 'mv d D'],
  ['edits in place after that', 'echo moved >> D/2'],
  ['renames and edits', 'ln D/1 D/1c; mv D/1 D/1d; echo edited >> D/1d'],
  ['swaps two names, one of them linked', 'mv D/2 D/t; mv D/f D/2; mv D/t D/f'],
  ['keeps the old file under another name', 'mv D/2 D/2.old; echo anew > D/2'],
  ['makes a directory of a linked name', 'rm D/2.old; mkdir D/2.old; ln D/2 D/2.old/in'],
  ['makes a linked name of a directory', 'rm -r D/2.old; ln D/2 D/2.old'],
  ['makes a symlink of a linked name and back', 'ln -sf 2 D/2.old; rm e/g; ln D/3 e/g'],
  ['copies a tree with links', 'mkdir F G; cp -al D/. F; cp -a D/. G'],
  ['removes that tree', 'rm -r F'],
  ['edits every file in place', 'for f in e/*; do echo all >> $f; done'],
  ['removes all names of one', 'rm D/3 e/g'],
  ['makes a file at the top', 'echo top > x'],
  ['links it there', 'ln x y'],
  ['links it once more, following what stands there', 'ln -L x z; ln -L x e/x'],
  ['edits it in place', 'echo more >> y'],
  ['replaces one name at the top', 'sed -i s/more/less/ z'],
  ['links over a name at the top', 'ln -f y z'],
  ['makes two files of the same contents', 'for i in 1 2; do echo same > e/s$i; done'],
  ['makes them one', 'echo same > e/s3; ln -f e/s3 e/s1; ln -f e/s3 e/s2'],
  ['copies a directory at the top with links', 'cp -al e h'],
  ['edits there', 'echo there >> h/x'],
];

const VOLUMES = [
  { name: 'links-trash', what: 'with trash', options: ['--trash-days', '1'] },
  { name: 'links-bare', what: 'without trash', options: ['--trash-days', '0'] },
];
const QUICK = ['--min-interval', '20ms', '--rescan', '1s'];

describe('files with several names', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;

  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'links-'));
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  function newDir(name: string): string {
    const dir = join(folder, name);
    mkdirSync(dir);
    return dir;
  }

  async function format(name: string, options: readonly string[]): Promise<string> {
    const url = `${server.url}/${name}`;
    await juicefs.format(url, name, server.url.slice('etcd://'.length), ['--block-size', '64', ...options]);
    return url;
  }

  /** What the real client and our own count say of a volume that nobody writes to. */
  async function check(url: string, volume: TestVolume): Promise<void> {
    await juicefs.fsck(url);
    const { leaked, pending } = await juicefs.gc(url);
    expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
  }

  for (const { name, what, options } of VOLUMES) {
    describe(`edited in the agent's directory, in a volume ${what}`, () => {
      let url: string;
      let model: string;
      let one: Agent;
      let two: Agent;
      let volume: TestVolume;

      before(async () => {
        url = await format(name, options);
        model = newDir(`${name}-model`);
        one = await startAgent(url, newDir(`${name}-1`), QUICK);
        two = await startAgent(url, newDir(`${name}-2`), QUICK);
        volume = await TestVolume.open(server, `/${name}`);
      });
      after(async () => {
        await one?.kill();
        await two?.kill();
        await volume?.store.close();
      });

      for (const [edit, command] of EDITS) {
        it(edit, async () => {
          await shell(model, command);
          await shell(one.dir, command);
          const wanted = (): ReturnType<typeof linkedPlain> => linkedPlain(model);
          await untilSame('the own directory has the edit', () => linkedPublished(one.dir), wanted);
          await untilSame('the other directory has the edit', () => linkedPublished(two.dir), wanted);
        });
      }

      it('leaves nothing to do', async () => {
        const status = await one.until('nothing is pending', ({ pendingEdits }) => pendingEdits === 0);
        expect(status.problems).to.deep.equal({});
        expect(status.parked).to.deep.equal([]);
        const before = await storeRevision(volume.store);
        for (const agent of [one, two]) await agent.rescanned(2);
        expect(await storeRevision(volume.store)).to.equal(before);
      });

      it('leaves a volume that the real client finds in order', async () => {
        await check(url, volume);
      });

      it('shows the same in a fresh mount', async function () {
        needFuse(this);
        const mount = await juicefs.mount(url, ['--read-only', '--no-bgjob']);
        try {
          expect(linkedMount(mount.dir)).to.deep.equal(linkedPlain(model));
        } finally {
          await mount.close();
        }
      });
    });
  }

  describe('edited on both sides', () => {
    let one: Agent;
    let two: Agent;
    let url: string;

    before(async () => {
      url = await format('links-both', ['--trash-days', '1']);
      one = await startAgent(url, newDir('both-1'), QUICK);
      two = await startAgent(url, newDir('both-2'), QUICK);
      await shell(one.dir, 'mkdir d e; echo base > d/1; ln d/1 e/1; ln d/1 d/2; echo base > d/3; ln d/3 e/3');
      await one.pushed();
      await agree();
    });
    after(async () => {
      await one?.kill();
      await two?.kill();
    });

    async function agree(): Promise<void> {
      await one.until('all is decided', ({ pendingEdits }) => pendingEdits === 0);
      await two.until('all is decided', ({ pendingEdits }) => pendingEdits === 0);
      await untilSame(
        'both agree',
        () => linkedPublished(one.dir),
        () => linkedPublished(two.dir),
      );
    }

    it('keeps the version of the volume under all names, and the other one once', async () => {
      await one.stop();
      await shell(one.dir, 'echo one > d/1');
      await shell(two.dir, 'echo two > e/1');
      await two.pushed();
      one = await startAgent(url, one.dir, QUICK);
      await agree();
      expect(await shell(one.dir, 'cat d/1 d/2 e/1')).to.equal('two\ntwo\ntwo\n');
      expect(linkedPublished(one.dir)['d/1']).to.match(/ = d\/1 d\/2 e\/1$/);
      const copies = one.stderr.split('\n').filter((line) => line.includes('conflict copy'));
      expect(copies).to.have.length(1);
    });

    it('takes an edit of one name and a removal of another for no conflict', async () => {
      await one.stop();
      await shell(one.dir, 'echo more >> d/1; rm e/1; ln d/2 e/2');
      await shell(two.dir, 'rm d/3');
      await two.pushed();
      one = await startAgent(url, one.dir, QUICK);
      await one.pushed();
      await agree();
      expect(linkedPublished(two.dir)['d/1']).to.match(/ = d\/1 d\/2 e\/2$/);
      expect(Object.keys(linkedPublished(two.dir))).to.deep.equal(['d', 'd/1', 'd/2', 'e', 'e/2', 'e/3']);
      expect(one.stderr).not.to.contain('conflict');
    });

    it('leaves a volume that the real client finds in order', async () => {
      const volume = await TestVolume.open(server, '/links-both');
      try {
        await check(url, volume);
      } finally {
        await volume.store.close();
      }
    });
  });

  describe('edited on a mount', () => {
    let url: string;
    let model: string;
    let mount: Mount;
    let one: Agent;

    before(async function () {
      needFuse(this);
      url = await format('links-mount', ['--trash-days', '1']);
      model = newDir('mount-model');
      mount = await juicefs.mount(url);
      one = await startAgent(url, newDir('mount-1'), QUICK);
    });
    after(async () => {
      await one?.kill();
      await mount?.close();
    });

    // A file that a mount has emptied is taken as meant after ten seconds.
    for (const [edit, command] of EDITS.filter(([, how]) => !how.startsWith(': >'))) {
      it(edit, async () => {
        await shell(model, command);
        await shell(mount.dir, command);
        await untilSame(
          'the directory has the edit',
          () => linkedPublished(one.dir),
          () => linkedPlain(model),
        );
      });
    }

    it('is shown the same by an agent that starts on it', async () => {
      const dir = newDir('mount-2');
      const two = await startAgent(url, dir, QUICK);
      try {
        expect(linkedPublished(dir)).to.deep.equal(linkedPlain(model));
      } finally {
        await two.kill();
      }
    });

    it('leaves nothing to do, and nothing is pushed', async () => {
      const status = await one.until('nothing is pending', ({ pendingEdits }) => pendingEdits === 0);
      expect(status.problems).to.deep.equal({});
      expect(status.parked).to.deep.equal([]);
      expect(one.stderr).not.to.contain('pushed');
    });
  });
});
