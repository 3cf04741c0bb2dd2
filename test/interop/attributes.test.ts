/** What an entry has besides its name and content, between the directory of the built agent and a real mount, both ways. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native, type Native } from '../../src/agent/disk/native.ts';
import { startAgent, untilSame, type Agent, type ShownTree } from '../support/agent.ts';
import { attributesIn } from '../support/attributes.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { shell } from '../support/shell.ts';
import { needFuse } from '../support/tools.ts';

/** A mount that asks for each attribute anew. */
const MOUNT = ['--enable-xattr', '--attr-cache', '0', '--entry-cache', '0', '--dir-entry-cache', '0'];
const QUICK = ['--min-interval', '20ms', '--rescan', '1s'];

const IS_ROOT = process.getuid?.() === 0;

function xattrs(): Native {
  const calls = native();
  if (calls === undefined) throw new Error('the tests of extended attributes need the package koffi');
  return calls;
}

interface Variant {
  readonly name: string;
  readonly what: string;
  readonly options: readonly string[];
  /** The environment of the agent. */
  readonly env: Readonly<Record<string, string>>;
}

const VARIANTS: readonly Variant[] = [
  { name: 'attributes', what: 'with the native calls', options: [], env: {} },
  {
    name: 'attributes-plain',
    what: 'without the native calls',
    options: [],
    env: { ETCD_ETC_AGENT_NATIVE: 'off' },
  },
];

for (const { name, what, options, env } of VARIANTS) {
  describe(`attributes, ${what}`, function () {
    let server: EtcdServer;
    let juicefs: Juicefs;
    let folder: string;
    let url: string;
    let mount: Mount;
    let agent: Agent;

    before(async function () {
      juicefs = new Juicefs(this);
      needFuse(this);
      server = await startEtcd();
      folder = mkdtempSync(join(tmpdir(), 'attributes-'));
      url = `${server.url}/${name}`;
      await juicefs.format(url, name, server.url.slice('etcd://'.length), ['--block-size', '64']);
      mount = await juicefs.mount(url, MOUNT);
      mkdirSync(join(folder, 'dir'));
      agent = await start();
    });
    after(async () => {
      await agent?.kill();
      await mount?.close();
      await server?.stop();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    });

    const start = (): Promise<Agent> => startAgent(url, join(folder, 'dir'), [...QUICK, ...options], env);
    const inDir = (): ShownTree => attributesIn(join(agent.dir, '..data'));
    const inMount = (): ShownTree => attributesIn(mount.dir);

    async function untilEqual(): Promise<void> {
      await untilSame('both sides are equal', inDir, inMount);
    }

    describe('fifos', () => {
      it('of the volume are made, and keep their mode', async () => {
        await shell(mount.dir, 'mkdir d; mkfifo -m 0640 top d/pipe');
        await untilEqual();
        expect(inDir()['d/pipe']).to.match(/^fifo 640/);
      });

      it('are renamed and removed as the volume does it', async () => {
        await shell(mount.dir, 'mv d/pipe d/tube; mv top upper; chmod 0600 d/tube');
        await untilEqual();
        await shell(mount.dir, 'rm d/tube');
        await untilEqual();
        expect(Object.keys(inDir())).to.deep.equal(['d', 'upper']);
      });

      it('that a local program makes, changes, renames and removes are so in the volume', async () => {
        await shell(agent.dir, 'mkfifo -m 0600 d/own direct');
        await agent.pushed();
        await untilEqual();
        expect(inMount()['direct']).to.match(/^fifo 600/);
        await shell(agent.dir, 'chmod 0644 d/own; mv d/own d/renamed; rm direct');
        await agent.pushed();
        await untilEqual();
        expect(Object.keys(inMount())).to.deep.equal(['d', 'd/renamed', 'upper']);
      });

      it('take the place of a file and give theirs to one', async () => {
        await shell(agent.dir, 'rm d/renamed; echo file > d/renamed; echo f > f');
        await agent.pushed();
        await shell(mount.dir, 'rm f; mkfifo f');
        await untilEqual();
        await shell(agent.dir, 'rm d/renamed; mkfifo d/renamed');
        await agent.pushed();
        await untilEqual();
      });

      it('that are written and read are no edits', async () => {
        const status = agent.status;
        await shell(agent.dir, 'cat d/renamed > /dev/null & echo through > d/renamed; wait');
        await agent.rescanned(2);
        expect(agent.status?.publishedRevision).to.equal(status?.publishedRevision);
        expect(agent.status?.problems).to.deep.equal({});
      });
    });

    describe('owners', function () {
      before(function () {
        if (!IS_ROOT) this.skip();
      });

      it('of the volume are there', async () => {
        await shell(
          mount.dir,
          'mkdir o; echo f > o/f; ln -s f o/l; chown 33:34 o/f; chown -h 35:36 o/l; chown 37:38 o',
        );
        await untilEqual();
        expect(inDir()['o/f']).to.match(/^file 644 33:34/);
        await shell(mount.dir, 'chown 40:41 o/f; chown 42 o');
        await untilEqual();
      });

      it('that somebody sets here are in the volume', async () => {
        await shell(
          agent.dir,
          'chown 50:51 o/f; chown -h 52:53 o/l; chown 54:55 o; echo new > o/new; chown 56:57 o/new',
        );
        await agent.pushed();
        await untilEqual();
        expect(inMount()['o/f']).to.match(/50:51/);
        expect(inMount()['o']).to.match(/54:55/);
      });

      it('stay in the volume when a file is saved anew, but for an owner that is meant', async () => {
        await shell(agent.dir, 'echo saved > o/.n; mv o/.n o/f; install -o 60 -g 61 /dev/null o/new');
        await agent.pushed();
        expect(inMount()['o/f']).to.match(/50:51/);
        await untilSame(
          'the new owner is there',
          () => ({ new: inMount()['o/new'] ?? '' }),
          () => ({
            new: inDir()['o/new'] ?? '',
          }),
        );
        expect(inMount()['o/new']).to.match(/60:61/);
        await shell(agent.dir, 'chown 62:63 o/f');
        await agent.pushed();
        await untilEqual();
      });

      it('and contents changed on both sides join', async () => {
        await agent.stop();
        await shell(agent.dir, 'chown 70:71 o/f; echo here > o/new');
        await shell(mount.dir, 'echo there > o/f; chown 72:73 o/new');
        agent = await start();
        await agent.pushed();
        await untilEqual();
        expect(inMount()['o/f']).to.match(/70:71/);
        expect(await shell(mount.dir, 'cat o/f o/new')).to.equal('there\nhere\n');
        expect(inMount()['o/new']).to.match(/72:73/);
      });
    });

    describe('extended attributes', () => {
      const at = (dir: string, path: string): string => Buffer.from(join(dir, path)).toString('latin1');
      const isHeld = env['ETCD_ETC_AGENT_NATIVE'] !== 'off';
      const everything = { xattrs: true, times: false };
      const mounted = (): ShownTree => attributesIn(mount.dir, everything);
      const shown = (): ShownTree => attributesIn(join(agent.dir, '..data'), everything);
      const untilAllEqual = (): Promise<void> =>
        isHeld ? untilSame('both sides are equal with xattrs', shown, mounted) : untilEqual();

      it('of the volume are there, and removed with it', async () => {
        await shell(mount.dir, 'mkdir x; echo f > x/f; echo g > x/g; echo top > xtop');
        for (const path of ['x', 'x/f', 'x/g', 'xtop']) xattrs().setXattr(at(mount.dir, path), 'user.k', 'v');
        xattrs().setXattr(at(mount.dir, 'x/f'), 'user.bytes', '\xff\x01\n ');
        await untilAllEqual();
        xattrs().removeXattr(at(mount.dir, 'x/f'), 'user.bytes');
        xattrs().setXattr(at(mount.dir, 'x'), 'user.k', 'w');
        xattrs().removeXattr(at(mount.dir, 'x/g'), 'user.k');
        await untilAllEqual();
      });

      const itIfHeld = isHeld ? it : (): void => undefined;
      itIfHeld('that somebody sets here are in the volume', async () => {
        const dir = join(agent.dir, '..data');
        xattrs().setXattr(at(dir, 'x/f'), 'user.own', 'mine');
        xattrs().setXattr(at(dir, 'x'), 'user.dir', 'mine');
        xattrs().setXattr(at(dir, 'xtop'), 'user.k', 'changed');
        await shell(agent.dir, 'echo new > x/new');
        xattrs().setXattr(at(dir, 'x/new'), 'user.new', 'n');
        await agent.pushed();
        await untilAllEqual();
        expect(mounted()['x/new']).to.match(/user.new=n/);
        expect(mounted()['x']).to.match(/user.dir=mine user.k=w/);
        xattrs().removeXattr(at(dir, 'x/f'), 'user.k');
        xattrs().removeXattr(at(dir, 'x'), 'user.dir');
        await agent.pushed();
        await untilAllEqual();
        expect(mounted()['x/f']).to.match(/0:0 user.own=mine$/);
      });

      it('survive every way of saving', async () => {
        const before = mounted();
        await shell(
          agent.dir,
          'echo in place >> x/f; sed -i s/g/G/ x/g; echo t > .t; mv .t xtop; sed -i s/t/T/ xtop',
        );
        await agent.pushed();
        await shell(agent.dir, 'chmod 0600 x/f; mv x/g x/h');
        await agent.pushed();
        await shell(agent.dir, 'mv x y');
        await agent.pushed();
        await untilEqual();
        const now = mounted();
        const values = (line = ''): string => line.replace(/^\S+ \S+ \S+ ?/, '');
        for (const [was, is] of [
          ['x', 'y'],
          ['x/f', 'y/f'],
          ['x/g', 'y/h'],
          ['xtop', 'xtop'],
        ] as const)
          expect(values(now[is]), is).to.equal(values(before[was]));
      });

      it('are left alone by a restart', async () => {
        const before = mounted();
        const revision = agent.status?.publishedRevision;
        await agent.stop();
        agent = await start();
        await agent.rescanned(2);
        expect(mounted()).to.deep.equal(before);
        expect(agent.status?.publishedRevision).to.equal(revision);
        expect(agent.status?.problems).to.deep.equal({});
      });
    });

    describe('all of it', () => {
      it('leaves a volume that the real client finds in order', async () => {
        await mount.close();
        await juicefs.fsck(url);
        const volume = await TestVolume.open(server, `/${name}`);
        expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
        await volume.store.close();
        mount = await juicefs.mount(url);
        await untilEqual();
      });
    });
  });
}

describe('special files', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;
  let url: string;
  let mount: Mount;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    if (!IS_ROOT) this.skip();
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'special-'));
    url = `${server.url}/special`;
    await juicefs.format(url, 'special', server.url.slice('etcd://'.length), ['--block-size', '64']);
    mount = await juicefs.mount(url);
    await shell(
      mount.dir,
      'mkfifo fifo; mknod null c 1 3; mknod -m 0600 loop b 7 300; mkdir d; mknod d/zero c 1 5',
    );
    await shell(mount.dir, `python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("d/socket")'`);
  });
  after(async () => {
    await mount?.close();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  function newDir(name: string): string {
    const dir = join(folder, name);
    mkdirSync(dir);
    return dir;
  }

  it('that are sockets and devices are left out and named unless they are asked for', async () => {
    const agent = await startAgent(url, newDir('fifo'), QUICK);
    expect(Object.keys(attributesIn(join(agent.dir, '..data')))).to.deep.equal(['d', 'fifo']);
    expect(Object.keys(agent.status?.problems ?? {}).sort()).to.deep.equal([
      'd/socket',
      'd/zero',
      'loop',
      'null',
    ]);
    expect(agent.status?.problems['d/socket']).to.equal(
      'a socket is not shown: --special-files fifo leaves it out',
    );
    await agent.stop();
  });

  it('are all left out with none, local ones too', async () => {
    const agent = await startAgent(url, newDir('none'), [...QUICK, '--special-files', 'none']);
    await shell(agent.dir, 'mkfifo d/own');
    await agent.until('the fifo is a problem', ({ problems }) => problems['d/own'] !== undefined);
    expect(Object.keys(attributesIn(join(agent.dir, '..data')))).to.deep.equal(['d', 'd/own']);
    await agent.stop();
  });

  for (const [how, env] of [
    ['with', {}],
    ['without', { ETCD_ETC_AGENT_NATIVE: 'off' }],
  ] as const) {
    it(`are all there with all, ${how} the native calls`, async () => {
      const agent = await startAgent(url, newDir(`all-${how}`), [...QUICK, '--special-files', 'all'], env);
      const wanted = attributesIn(mount.dir);
      const found = attributesIn(join(agent.dir, '..data'));
      if (how === 'without') {
        expect(agent.status?.problems).to.deep.equal({
          'd/socket': 'a socket is not shown: it cannot be made here (ENOTSUP)',
        });
        expect({ ...found, 'd/socket': wanted['d/socket'] }).to.deep.equal(wanted);
      } else {
        expect(agent.status?.problems).to.deep.equal({});
        expect(found).to.deep.equal(wanted);
      }
      await shell(mount.dir, `mv loop loop-${how}; mv loop-${how} loop; rm d/zero; mknod d/zero c 1 5`);
      await agent.rescanned(1);
      await agent.stop();
    });
  }
});
