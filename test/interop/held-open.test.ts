/** A program on a mount that still holds a file open which an agent has replaced or removed: what it writes is not lost. */

import { expect } from 'chai';
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, treeOfMount, type Mount } from '../support/juicefs.ts';
import { until } from '../support/until.ts';

describe('a file that a mount holds open while an agent takes its name', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;
  let url: string;
  let mount: Mount;
  let agent: Agent;

  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'held-open-'));
    url = `${server.url}/held`;
    const bucket = server.url.slice('etcd://'.length);
    await juicefs.format(url, 'held', bucket, ['--block-size', '64', '--trash-days', '1']);
    mount = await juicefs.mount(url);
    mkdirSync(`${mount.dir}/conf`);
    for (const name of ['replaced', 'removed', 'left', 'twice'])
      writeFileSync(`${mount.dir}/conf/${name}`, `${name} by the mount\n`);
    mkdirSync(join(folder, 'dir'));
    agent = await startAgent(url, join(folder, 'dir'), ['--min-interval', '20ms', '--rescan', '1s']);
    await until('the agent shows all', () => shown('left') !== undefined);
  });
  after(async () => {
    await agent?.stop();
    await mount?.close();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  function shown(name: string): string | undefined {
    try {
      return readFileSync(join(folder, 'dir/conf', name), 'utf8');
    } catch {
      return undefined;
    }
  }

  /** Contents of the conflict copies of a file. */
  function copies(name: string): string[] {
    const paths = [...treeOfMount(mount.dir).keys()].filter(
      (path) => path.startsWith('.conflicts/') && path.endsWith(`/conf/${name}`),
    );
    return paths.map((path) => readFileSync(join(mount.dir, path), 'utf8')).sort();
  }

  function write(fd: number, text: string): void {
    writeSync(fd, text, 0);
    ftruncateSync(fd, text.length);
    fsyncSync(fd);
  }

  it('has what it wrote after it was replaced in a conflict copy, and the edit that replaced it in place', async () => {
    const fd = openSync(`${mount.dir}/conf/replaced`, 'r+');
    writeFileSync(join(folder, 'dir/conf/replaced'), 'by the agent\n');
    await until(
      'the edit is in the volume',
      () => readFileSync(`${mount.dir}/conf/replaced`, 'utf8') === 'by the agent\n',
    );
    write(fd, 'late, by the mount\n');
    closeSync(fd);
    await until('a copy is there', () => copies('replaced').length > 0);
    expect(copies('replaced')).to.deep.equal(['late, by the mount\n']);
    expect(shown('replaced')).to.equal('by the agent\n');
    await until('the agent says why', () =>
      /conflict path=conf\/replaced reason="?written by a mount/.test(agent.stderr),
    );
  });

  it('has it when the file was removed', async () => {
    const fd = openSync(`${mount.dir}/conf/removed`, 'r+');
    rmSync(join(folder, 'dir/conf/removed'));
    await until('the name is gone from the volume', () => !treeOfMount(mount.dir).has('conf/removed'));
    write(fd, 'late, by the mount, and longer than before\n');
    closeSync(fd);
    await until('a copy is there', () => copies('removed').length > 0);
    expect(copies('removed')).to.deep.equal(['late, by the mount, and longer than before\n']);
    expect(shown('removed')).to.equal(undefined);
  });

  it('has each content that was left settled, and once', async () => {
    const fd = openSync(`${mount.dir}/conf/twice`, 'r+');
    writeFileSync(join(folder, 'dir/conf/twice'), 'by the agent\n');
    await until(
      'the edit is in the volume',
      () => readFileSync(`${mount.dir}/conf/twice`, 'utf8') === 'by the agent\n',
    );
    write(fd, 'first late content\n');
    await until('a copy is there', () => copies('twice').length === 1);
    write(fd, 'second late content\n');
    await until('a second copy is there', () => copies('twice').length === 2);
    closeSync(fd);
    expect(copies('twice')).to.deep.equal(['first late content\n', 'second late content\n']);
  });

  it('leaves no copy when nothing was written', async () => {
    const fd = openSync(`${mount.dir}/conf/left`, 'r+');
    writeFileSync(join(folder, 'dir/conf/left'), 'by the agent\n');
    await until(
      'the edit is in the volume',
      () => readFileSync(`${mount.dir}/conf/left`, 'utf8') === 'by the agent\n',
    );
    closeSync(fd);
    await agent.pushed();
    expect(copies('left')).to.deep.equal([]);
  });

  it('leaves a volume that the real client finds in order', async () => {
    await mount.close();
    mount = await juicefs.mount(url);
    await juicefs.fsck(url);
    expect(await juicefs.gc(url)).to.include({ leaked: 0, pending: 0 });
  });
});
