/** Local edits in the directory of the built agent: a fresh mount, another agent and the checks of the real client agree. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  mountedTree,
  plainTree,
  publishedTree,
  startAgent,
  untilSame,
  type Agent,
  type ShownTree,
} from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, treeOfMount } from '../support/juicefs.ts';
import { TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { saveWithVim, shell } from '../support/shell.ts';
import { namesOnDisk, storeRevision } from '../support/stillness.ts';
import { needFuse } from '../support/tools.ts';

type Edit = string | ((dir: string) => Promise<void>);

/** Each is done in the agent's directory and in a plain one, which says what must come of it. */
const EDITS: readonly (readonly [what: string, edit: Edit])[] = [
  ['creates files', 'echo top > top; mkdir d; echo f > d/f; echo g > d/g; mkdir d/sub; echo s > d/sub/s'],
  ['edits in place', 'echo more >> top; echo new > d/f; printf X | dd of=d/g conv=notrunc status=none'],
  ['edits by rename', 'echo renamed > d/.new; mv d/.new d/f; sed -i s/s/S/ d/sub/s'],
  ['edits at the top with sed -i', 'sed -i s/top/TOP/ top'],
  ['edits at the top with sed -i once more', 'sed -i s/TOP/Top/ top'],
  ['edits at the top by rename', 'echo whole > .new; mv .new top'],
  [
    'saves with vim',
    async (dir) => {
      await saveWithVim(join(dir, 'top'), 'vim at the top');
      await saveWithVim(join(dir, 'd/f'), 'vim below');
    },
  ],
  ['installs files', 'install -m 0640 d/f d/g; install -m 0755 d/f top; install -m 0600 d/f secret'],
  ['renames files', 'echo 1 > one; mv one d/uno; mv d/g d/h; mv top zenith; mv d/sub/s up'],
  ['renames and edits at once', 'mv d/h d/i; echo edited >> d/i; echo in its place > d/h'],
  ['swaps two files', 'mv d/h d/tmp; mv d/i d/h; mv d/tmp d/i'],
  [
    'makes directories, empty ones too',
    'mkdir -p a/b/c a/e; echo deep > a/b/c/deep; mkdir -m 0700 p; mkdir -p d/x/y/z',
  ],
  ['renames a directory at the top', 'mv a A'],
  ['renames directories below', 'mv A/b d/moved; mv d/x d/sub/x'],
  ['moves a directory to the top and one from there', 'mv d/moved M; mv A d/A'],
  ['renames one directory and edits in it', 'mv M N; echo deeper >> N/c/deep; echo added > N/c/added'],
  [
    'makes symlinks',
    'ln -s d/f link; ln -s ../outside out; ln -s /etc/hostname abs; ln -s ../secret d/up; ln -s ../no-such d/gone; ln -s no no',
  ],
  ['retargets symlinks', 'ln -sfn d/h link; ln -sfn f d/up'],
  ['changes modes', 'chmod 600 zenith; chmod 0750 d/f d/sub; chmod 755 p; chmod 700 N'],
  [
    'turns a file into a directory',
    'rm zenith; mkdir zenith; echo i > zenith/i; rm d/h; mkdir d/h; echo i > d/h/i',
  ],
  ['turns a directory into a symlink', 'rm -r zenith; ln -s d zenith; rm -r d/h; ln -s i d/h'],
  ['turns a symlink into a file', 'rm zenith; echo f > zenith; rm d/h; echo f > d/h'],
  [
    'turns a symlink into a directory and a directory into a file',
    'rm link; mkdir link; echo l > link/l; rm -r p; echo p > p',
  ],
  ['deletes files', 'rm zenith; rm d/i; rm no'],
  ['deletes directories with all in them', 'rm -rf N; rm -rf d/sub'],
  ['deletes and creates anew at once', 'rm up; echo again > up; rm -r d/A; mkdir d/A; echo again > d/A/a'],
  ['creates two files at the top', 'echo t > t1; cp t1 t2'],
  ['moves one of them into a directory and one over a file there', 'mv t1 d/t1; mv t2 d/f'],
  ['copies a directory at the top', 'rm d/gone; cp -rL d d.bak; echo edited >> d/f'],
  ['makes an alias of a directory a copy', 'if [ -L d ]; then cp -r d alias; else cp -r d alias; fi'],
  ['unpacks over what is there', 'tar c -h d | tar x'],
  ['edits below a directory that was unpacked', 'echo after >> d/f; rm d/up'],
  [
    'uses names of 255 bytes and odd bytes',
    `echo l > ${'n'.repeat(255)}; echo b > $'\\xff\\xfe odd\\nname'; mkdir $'d\\xe9'; echo in > $'d\\xe9/\\x01'`,
  ],
  ['writes empty files', ': > empty; touch d/empty; : > d/f'],
  ['writes a file of several blocks', 'seq 1 700000 > large; seq 1 100000 > d/blocks'],
  [
    'edits a file of several blocks',
    'printf edited | dd of=large bs=1 seek=2000000 conv=notrunc status=none; truncate -s 150000 d/blocks; truncate -s 6000000 large',
  ],
  ['makes hard links', 'ln d/blocks d/blocks2; ln secret secret2'],
  [
    'writes more files than one transaction holds',
    'mkdir many; for i in $(seq 150); do echo $i > many/$i; done',
  ],
  ['renames the directory of all these', 'mv many d/lots'],
  [
    'does everything at once',
    'echo x > x; rm empty; mv secret d/; sed -i s/1/I/ d/lots/1; chmod 600 d/lots/2; rm -r alias; mkdir -p q/r; ln -s r q/s',
  ],
];

const VOLUMES = [
  { name: 'push-trash', what: 'with trash', options: ['--trash-days', '1'] },
  {
    name: 'push-hash',
    what: 'with hash prefix and without trash',
    options: ['--trash-days', '0', '--hash-prefix'],
  },
];
const QUICK = ['--min-interval', '20ms', '--rescan', '1s'];

describe('pushing local edits', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;

  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'push-'));
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

  async function format(name: string, options: readonly string[] = []): Promise<string> {
    const url = `${server.url}/${name}`;
    await juicefs.format(url, name, server.url.slice('etcd://'.length), ['--block-size', '64', ...options]);
    return url;
  }

  async function freshMount(url: string): Promise<{ shown: ShownTree; conflicts: string[] }> {
    const mount = await juicefs.mount(url, ['--read-only', '--no-bgjob']);
    try {
      const conflicts = [...treeOfMount(mount.dir).keys()].filter((path) => path.startsWith('.conflicts'));
      return { shown: mountedTree(mount.dir), conflicts };
    } finally {
      await mount.close();
    }
  }

  for (const { name, what, options } of VOLUMES) {
    describe(`into a volume ${what}`, () => {
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

      for (const [edit, how] of EDITS) {
        it(edit, async () => {
          for (const dir of [model, one.dir]) {
            if (typeof how === 'string') await shell(dir, how);
            else await how(dir);
          }
          const wanted = (): ShownTree => plainTree(model);
          await untilSame('the own directory has the edit', () => publishedTree(one.dir), wanted);
          await untilSame('the other directory has the edit', () => publishedTree(two.dir), wanted);
        });
      }

      it('leaves nothing to do', async () => {
        const status = await one.until('nothing is pending', ({ pendingEdits }) => pendingEdits === 0);
        expect(status.problems).to.deep.equal({});
        expect(status.parked).to.deep.equal([]);
      });

      it('shows the same in a fresh mount', async function () {
        needFuse(this);
        const { shown, conflicts } = await freshMount(url);
        expect(shown).to.deep.equal(plainTree(model));
        expect(conflicts).to.deep.equal([]);
      });

      it('leaves a volume that the real client finds in order', async () => {
        await juicefs.fsck(url);
        const { leaked, pending } = await juicefs.gc(url);
        expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
        expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      });

      it('writes nothing more, neither in the store nor on disk', async () => {
        const before = await storeRevision(volume.store);
        const names = [namesOnDisk(one.dir), namesOnDisk(two.dir)];
        for (const agent of [one, two]) await agent.rescanned(3);
        expect([namesOnDisk(one.dir), namesOnDisk(two.dir)]).to.deep.equal(names);
        expect(await storeRevision(volume.store)).to.equal(before);
      });

      it('writes nothing when it is started again', async () => {
        const before = await storeRevision(volume.store);
        const names = namesOnDisk(one.dir);
        expect(await one.stop()).to.equal(0);
        one = await startAgent(url, one.dir, QUICK);
        await one.rescanned(2);
        expect(namesOnDisk(one.dir)).to.deep.equal(names);
        expect(await storeRevision(volume.store)).to.equal(before);
      });
    });
  }

  describe('edits of both sides', () => {
    let url: string;
    let one: Agent;
    let two: Agent;

    before(async () => {
      url = await format('conflicts');
      one = await startAgent(url, newDir('conflicts-1'), [...QUICK, '--agent-id', 'pod-one']);
      two = await startAgent(url, newDir('conflicts-2'), [
        ...QUICK,
        '--agent-id',
        'pod-two',
        '--max-delete',
        '100',
      ]);
      await shell(
        one.dir,
        'mkdir d; for f in top d/both d/gone-here d/gone-there d/mode; do echo base > $f; done',
      );
      await one.pushed();
      await untilSame(
        'both have the files',
        () => publishedTree(two.dir),
        () => publishedTree(one.dir),
      );
    });
    after(async () => {
      await one?.kill();
      await two?.kill();
    });

    it('keeps the remote version in place and the local one under /.conflicts', async function () {
      await one.stop();
      await shell(
        one.dir,
        'echo local > d/both; sed -i s/base/local/ top; rm d/gone-here; echo local > d/gone-there; chmod 600 d/mode',
      );
      await shell(
        two.dir,
        'echo remote > d/both; echo remote > top; echo remote > d/gone-here; rm d/gone-there; echo remote > d/mode',
      );
      await two.pushed();
      const read = (path: string): string => readFileSync(join(two.dir, path), 'utf8');
      one = await startAgent(url, one.dir, [...QUICK, '--agent-id', 'pod-one']);
      await one.until(
        'all is decided',
        ({ pendingEdits, parked }) => pendingEdits === 0 && parked.length === 0,
      );
      await untilSame(
        'both directories agree',
        () => publishedTree(one.dir),
        () => publishedTree(two.dir),
      );
      expect(read('d/both')).to.equal('remote\n');
      expect(read('top')).to.equal('remote\n');
      // An edit beats a delete, and a mode goes with the other side's content.
      expect(read('d/gone-here')).to.equal('remote\n');
      expect(read('d/gone-there')).to.equal('local\n');
      expect(read('d/mode')).to.equal('remote\n');
      expect(publishedTree(two.dir)['d/mode']).to.match(/^file 0600/);
      needFuse(this);
      const mount = await juicefs.mount(url, ['--read-only', '--no-bgjob']);
      try {
        const copies = (
          await shell(mount.dir, 'cd .conflicts; find . -name .records -prune -o -type f -print | sort')
        )
          .trim()
          .split('\n');
        expect(copies).to.have.length(2);
        expect(copies[0]).to.match(/^\.\/\d{8}T\d{6}Z-r\d+-pod-one\/d\/both$/);
        expect(copies[1]).to.match(/^\.\/\d{8}T\d{6}Z-r\d+-pod-one\/top$/);
        for (const copy of copies) {
          expect(readFileSync(join(mount.dir, '.conflicts', copy), 'utf8')).to.equal('local\n');
        }
      } finally {
        await mount.close();
      }
      await juicefs.fsck(url);
    });

    it('sets aside what the guard finds too much, and pushes it when told so', async () => {
      await shell(one.dir, 'mkdir many; for i in $(seq 40); do echo $i > many/$i; done');
      await one.pushed();
      await untilSame(
        'both have the files',
        () => publishedTree(two.dir),
        () => publishedTree(one.dir),
      );
      await shell(one.dir, 'rm -r many');
      await one.until('the guard trips', ({ guards }) => guards.length > 0);
      expect(Object.keys(publishedTree(two.dir))).to.include('many/1');
      await one.stop();
      one = await startAgent(url, one.dir, [...QUICK, '--max-delete', '100']);
      await one.pushed();
      await untilSame(
        'both are without the files',
        () => publishedTree(two.dir),
        () => publishedTree(one.dir),
      );
      expect(Object.keys(publishedTree(two.dir))).not.to.include('many');
    });

    it('says in pull mode what it parks, and takes it back', async () => {
      await one.stop();
      writeFileSync(join(one.dir, 'd/both'), 'unwanted\n');
      one = await startAgent(url, one.dir, [...QUICK, '--mode', 'pull']);
      await one.until('the edit is parked', ({ parked }) => parked.includes('d/both'));
      await untilSame(
        'the directory is as the volume',
        () => publishedTree(one.dir),
        () => publishedTree(two.dir),
      );
    });
  });
});
