/** ACLs of a volume on disk, and captured volumes full of attributes: the same as a mount shows, whatever is edited. */

import { expect } from 'chai';
import { appendFileSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native } from '../../src/agent/disk/native.ts';
import { encodePosixAcl } from '../../src/codec/posix-acl.ts';
import { startAgent, untilSame, type Agent, type ShownTree } from '../support/agent.ts';
import { attributesIn } from '../support/attributes.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { loadInto } from '../support/raw-keys.ts';
import { shell } from '../support/shell.ts';
import { needFuse } from '../support/tools.ts';

const QUICK = ['--min-interval', '20ms', '--rescan', '1s', '--special-files', 'all'];
const MOUNT = ['--enable-xattr', '--attr-cache', '0', '--entry-cache', '0', '--dir-entry-cache', '0'];
const EVERYTHING = { xattrs: true, times: false };

const RULE = {
  owner: 6,
  group: 4,
  mask: 6,
  other: 0,
  users: [{ id: 1234, perm: 6 }],
  groups: [{ id: 55, perm: 4 }],
};

describe('attributes of whole volumes', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;
  const agents: Agent[] = [];
  const mounts: Mount[] = [];

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    // Owners and ACLs as the volume has them take root.
    if (process.getuid?.() !== 0) this.skip();
    folder = mkdtempSync(join(tmpdir(), 'attributes-'));
  });
  beforeEach(async () => {
    server = await startEtcd();
  });
  afterEach(async () => {
    for (const agent of agents.splice(0)) await agent.kill();
    for (const mount of mounts.splice(0)) await mount.close();
    await server?.stop();
  });
  after(() => {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  async function mounted(url: string): Promise<string> {
    const mount = await juicefs.mount(url, MOUNT);
    mounts.push(mount);
    return mount.dir;
  }

  async function served(
    url: string,
    name: string,
    env: Readonly<Record<string, string>> = {},
    options: readonly string[] = [],
  ): Promise<Agent> {
    const dir = join(folder, name);
    mkdirSync(dir);
    const agent = await startAgent(url, dir, [...QUICK, ...options], env);
    agents.push(agent);
    return agent;
  }

  const shown = (agent: Agent): ShownTree => attributesIn(join(agent.dir, '..data'), EVERYTHING);

  function setAcl(path: string, kind: 'access' | 'default', rule = RULE): void {
    native()?.setXattr(
      Buffer.from(path).toString('latin1'),
      `system.posix_acl_${kind}`,
      encodePosixAcl(rule),
    );
  }

  it('ACLs are there, follow the volume, and are kept by every edit', async () => {
    const url = `${server.url}/acl`;
    await juicefs.format(url, 'acl', server.url.slice('etcd://'.length), [
      '--block-size',
      '64',
      '--enable-acl',
    ]);
    const dir = await mounted(url);
    await shell(dir, 'mkdir d; echo f > d/f; echo g > d/g; echo top > top');
    for (const path of ['d', 'd/f', 'top']) setAcl(join(dir, path), 'access');
    setAcl(join(dir, 'd'), 'default');
    const agent = await served(url, 'acl');
    const equal = (): Promise<void> =>
      untilSame(
        'both sides have the same ACLs',
        () => shown(agent),
        () => attributesIn(dir, EVERYTHING),
      );
    await equal();
    expect(shown(agent)['d/f']).to.match(/^file 660 .*posix_acl_access/);

    setAcl(join(dir, 'd/f'), 'access', { ...RULE, mask: 4, users: [{ id: 1, perm: 7 }] });
    setAcl(join(dir, 'd/g'), 'access');
    await shell(dir, 'chmod 0640 top; echo new > d/inherits; mkdir d/sub');
    await equal();

    // Names in a directory with a default ACL inherit it, here by the kernel and there by the push.
    await shell(
      agent.dir,
      'umask 022; echo in place >> d/f; sed -i s/g/G/ d/g; echo own > d/own; mkdir d/own-dir; chmod 0600 top',
    );
    await agent.pushed();
    await equal();
    expect(agent.status?.problems).to.deep.equal({});
    const revision = agent.status?.publishedRevision;
    await agent.rescanned(2);
    expect(agent.status?.publishedRevision).to.equal(revision);
  });

  it('an ACL that is set here stays here, and its mask is no mode', async () => {
    const url = `${server.url}/own-acl`;
    await juicefs.format(url, 'own-acl', server.url.slice('etcd://'.length), [
      '--block-size',
      '64',
      '--enable-acl',
    ]);
    const dir = await mounted(url);
    await shell(dir, 'echo f > f; chmod 0600 f; mkdir d');
    const agent = await served(url, 'own-acl');
    setAcl(join(agent.dir, '..data/f'), 'access');
    expect(lstatSync(join(agent.dir, '..data/f')).mode & 0o777).to.equal(0o660);
    await agent.until('it is a problem', ({ problems }) => problems['f'] !== undefined);
    appendFileSync(join(agent.dir, 'f'), 'edited\n');
    await agent.pushed();
    expect(readFileSync(join(dir, 'f'), 'utf8')).to.equal('f\nedited\n');
    expect(attributesIn(dir, EVERYTHING)['f']).to.equal('file 600 0:0');
  });

  it('times of files follow both sides where that is asked for, and nowhere else', async () => {
    const url = `${server.url}/times`;
    await juicefs.format(url, 'times', server.url.slice('etcd://'.length), ['--block-size', '64']);
    const dir = await mounted(url);
    await shell(
      dir,
      'mkdir d; echo f > d/f; echo g > d/g; ln -s f d/l; touch -d 2001-02-03T04:05:06.789 d/f',
    );
    const timed = await served(url, 'times', {}, ['--sync-times']);
    const plain = await served(url, 'no-times');
    const times = (at: string): ShownTree => attributesIn(at, { xattrs: false, times: true });
    const equal = (): Promise<void> =>
      untilSame(
        'both sides have the same times',
        () => times(join(timed.dir, '..data')),
        () => times(dir),
      );
    await equal();
    const revision = plain.status?.publishedRevision;
    const before = times(join(plain.dir, '..data'));
    await shell(dir, 'touch -d 2002-03-04 d/f');
    await equal();
    await shell(timed.dir, 'touch -d 2003-04-05 d/g; touch -h -d 2004-05-06 d/l; echo edited >> d/f');
    await timed.pushed();
    await equal();
    expect(times(dir)['d/g']).to.match(/ 1049/);
    // Without, it is neither taken over nor pushed.
    await shell(plain.dir, 'touch -d 2005-06-07 d/g');
    await plain.rescanned(2);
    expect(plain.status?.pendingEdits).to.equal(0);
    expect(times(join(plain.dir, '..data'))['d/l']).to.equal(before['d/l']);
    await equal();
    expect(plain.status?.publishedRevision).to.not.equal(revision);
  });

  for (const [how, env] of [
    ['with', {}],
    ['without', { ETCD_ETC_AGENT_NATIVE: 'off' }],
  ] as const) {
    for (const name of ['acl', 'shapes']) {
      it(`${name} is published as a mount shows it, and loses nothing by an edit of each file, ${how} the native calls`, async () => {
        const { url, store } = await loadInto(server, name);
        await store.close();
        const dir = await mounted(url);
        const before = attributesIn(dir, EVERYTHING);
        // 400 MB of holes are no attributes.
        const agent = await served(url, `${name}-${how}`, env, ['--exclude', 'sparse']);
        const found = shown(agent);
        const left = Object.keys(agent.status?.problems ?? {});
        const hidden = (path: string): boolean =>
          left.some((one) => path === one) || found[path] === undefined;
        const visible = Object.keys(before).filter((path) => !hidden(path));
        expect(visible.length).to.be.greaterThan(name === 'acl' ? 14 : 300);
        if (how === 'with') {
          for (const path of visible) expect(onDisk(found[path]), path).to.equal(onDisk(before[path]));
        }
        // Those in flags are immutable or append-only; large ones take long, and are no other case.
        const isSmall = (path: string): boolean =>
          lstatSync(Buffer.from(`${dir}/${path}`, 'latin1')).size < 100_000;
        const files = visible
          .filter((path) => before[path]?.startsWith('file 6') === true && !path.startsWith('flags/'))
          .filter(isSmall)
          .filter((path, index) => index < 12 || path.startsWith('xattrs/'));
        for (const path of files) appendFileSync(Buffer.from(`${agent.dir}/..data/${path}`, 'latin1'), '+');
        await agent.pushed();
        const after = attributesIn(dir, EVERYTHING);
        for (const path of files) expect(after[path], path).to.equal(before[path]);
      });
    }
  }
});

/** suid, sgid and sticky stay in the volume, and ext4 does not take 8 KiB of extended attributes. */
function onDisk(line = ''): string {
  return line.replace(/^(\S+) [0-7]+([0-7]{3}) /, '$1 $2 ').replace(/ user\.long=v+/, '');
}
