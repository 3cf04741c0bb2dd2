/** What an entry has besides its name and content, between the directory of the built agent and a real mount, both ways. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, untilSame, type Agent, type ShownTree } from '../support/agent.ts';
import { attributesIn } from '../support/attributes.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { shell } from '../support/shell.ts';
import { needFuse } from '../support/tools.ts';

const QUICK = ['--min-interval', '20ms', '--rescan', '1s'];

const IS_ROOT = process.getuid?.() === 0;

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
    this.timeout(60_000);
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
      mount = await juicefs.mount(url, ['--attr-cache', '0', '--entry-cache', '0', '--dir-entry-cache', '0']);
      mkdirSync(join(folder, 'dir'));
      agent = await startAgent(url, join(folder, 'dir'), [...QUICK, ...options], env);
    });
    after(async () => {
      await agent?.kill();
      await mount?.close();
      await server?.stop();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    });

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
  this.timeout(60_000);
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
