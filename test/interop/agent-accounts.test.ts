/** Local edits in volumes with ACLs and quotas: what the volume makes of them, and what it does not let in. */

import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { startAgent, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { directory, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { storeRevision } from '../support/stillness.ts';
import { needFuse, needTool } from '../support/tools.ts';
import { until } from '../support/until.ts';

const QUICK = ['--min-interval', '20ms', '--rescan', '1s'];

/** The default ACL u::rwx,u:1234:rwx,g::r-x,m::rwx,o::--- as the kernel passes it. */
const DEFAULT_ACL =
  '02000000' +
  '01000700ffffffff' +
  '02000700d2040000' +
  '04000500ffffffff' +
  '10000700ffffffff' +
  '20000000ffffffff';

const SET = 'import os,sys; os.setxattr(sys.argv[1], "system.posix_acl_default", bytes.fromhex(sys.argv[2]))';
const GET = 'import os,sys; print(os.getxattr(sys.argv[1], "system.posix_acl_access").hex())';

function python(script: string, ...args: readonly string[]): string {
  return execFileSync('python3', ['-c', script, ...args], { encoding: 'utf8' }).trim();
}

describe('an agent on a volume with accounts', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let juicefs: Juicefs;
  let dir: string;
  let agent: Agent | undefined;
  let volume: TestVolume | undefined;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    needTool(this, 'python3');
    server = await startEtcd();
  });
  after(async () => server?.stop());
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'accounts-'));
  });
  afterEach(async () => {
    await agent?.kill();
    await volume?.store.close();
    [agent, volume] = [undefined, undefined];
    rmSync(dir, { recursive: true, force: true });
  });

  async function format(name: string, options: readonly string[] = []): Promise<string> {
    const url = `${server.url}/${name}`;
    await juicefs.format(url, name, server.url.slice('etcd://'.length), ['--block-size', '64', ...options]);
    return url;
  }

  async function expectWhole(url: string, { store, address }: TestVolume): Promise<void> {
    expect(await recount(store, address.prefix)).to.deep.equal([]);
    await juicefs.fsck(url);
  }

  it('takes the mode that an inherited ACL leaves of its own, and a chmod goes to the mask', async () => {
    const url = await format('agent-acl', ['--enable-acl']);
    const mount = await juicefs.mount(url);
    try {
      mkdirSync(join(mount.dir, 'shared'));
      python(SET, join(mount.dir, 'shared'), DEFAULT_ACL);
      agent = await startAgent(url, dir, QUICK);
      const local = join(dir, 'shared/new');
      const modes = (): number[] => [
        statSync(local).mode & 0o777,
        statSync(join(mount.dir, 'shared/new')).mode & 0o777,
      ];
      await until('the directory is there', () => statSync(join(dir, 'shared')).isDirectory());
      writeFileSync(local, 'new\n', { mode: 0o644 });
      chmodSync(local, 0o644);
      await until(
        'the volume cut the mode',
        () => statSync(join(mount.dir, 'shared')).nlink > 0 && exists(modes, 0o640),
      );
      await agent.pushed();
      expect(modes()).to.deep.equal([0o640, 0o640]);
      const inherited = python(GET, join(mount.dir, 'shared/new'));
      expect(inherited).to.contain('02000700d2040000').and.contain('10000400ffffffff');
      chmodSync(local, 0o600);
      await until('the chmod is in the volume', () => exists(modes, 0o600));
      await agent.pushed();
      const cut = python(GET, join(mount.dir, 'shared/new'));
      expect(cut).to.contain('02000700d2040000').and.contain('10000000ffffffff');
      writeFileSync(local, 'edited\n');
      await until(
        'the edit is in the volume',
        () => readFileSync(join(mount.dir, 'shared/new'), 'utf8') === 'edited\n',
      );
      expect(python(GET, join(mount.dir, 'shared/new'))).to.equal(cut);
    } finally {
      await mount.close();
    }
    volume = await TestVolume.open(server, '/agent-acl');
    await expectWhole(url, volume);
  });

  it('takes the group that a directory with sgid gives', async function () {
    if (process.getuid?.() !== 0) this.skip();
    const url = await format('agent-sgid');
    volume = await TestVolume.open(server, '/agent-sgid');
    await volume.push(volume.make('shared', directory({ gid: 55 })));
    const mount = await juicefs.mount(url);
    try {
      chmodSync(join(mount.dir, 'shared'), 0o2775);
      agent = await startAgent(url, dir, QUICK);
      mkdirSync(join(dir, 'shared/d'));
      writeFileSync(join(dir, 'shared/d/f'), 'in a new directory\n');
      const groups = (): number[] =>
        [dir, mount.dir].flatMap((root) =>
          ['shared/d', 'shared/d/f'].map((path) => statSync(join(root, path)).gid),
        );
      const isAll55 = (): boolean => {
        try {
          return groups().every((gid) => gid === 55);
        } catch {
          return false;
        }
      };
      await until('both sides have the group', isAll55);
      await agent.pushed();
      expect(groups()).to.deep.equal([55, 55, 55, 55]);
      expect(statSync(join(mount.dir, 'shared/d')).mode & 0o2000).to.equal(0o2000);
    } finally {
      await mount.close();
    }
    await expectWhole(url, volume);
  });

  it('says whose quota has no room, goes on with the rest, and pushes when there is room', async () => {
    const url = await format('agent-quota');
    volume = await TestVolume.open(server, '/agent-quota');
    await volume.push(volume.make('limited', directory()));
    await juicefs.ok(['quota', 'set', url, '--path', '/limited', '--inodes', '2']);
    agent = await startAgent(url, dir, QUICK);
    writeFileSync(join(dir, 'limited/1'), '1\n');
    await agent.pushed();
    writeFileSync(join(dir, 'limited/2'), '2\n');
    await agent.pushed();
    writeFileSync(join(dir, 'limited/3'), '3\n');
    writeFileSync(join(dir, 'beside'), 'beside\n');
    const { problems } = await agent.until(
      'it says why',
      (status) => status.problems['limited/3'] !== undefined,
    );
    expect(problems['limited/3']).to.equal(
      'the quota of /limited has no room: 2 of 2 files and directories are used, and the push needs 1 more',
    );
    rmSync(join(dir, 'limited/1'));
    const { store, volume: opened } = volume;
    await until('the removal is in the volume', async () => {
      const tree = new VolumeTree(store, opened, await storeRevision(store));
      return (await tree.find('limited/1')) === undefined;
    });
    writeFileSync(join(dir, 'limited/3'), 'three\n');
    await agent.until('there is room', (status) => status.problems['limited/3'] === undefined);
    await agent.pushed();
    await expectWhole(url, volume);
    expect(await juicefs.ok(['quota', 'check', url, '--path', '/limited'])).to.match(/is consistent/);
  });
});

function exists(modes: () => number[], wanted: number): boolean {
  try {
    return modes().every((mode) => mode === wanted);
  } catch {
    return false;
  }
}
