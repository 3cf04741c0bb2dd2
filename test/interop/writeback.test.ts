/** A mount with --writeback, which names blocks before it stores them, on an encrypted volume with its data in another etcd; the agent, both ways. */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { FIXTURE_PASSPHRASE } from '../support/fixture.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { textOf } from '../support/reading.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

const KEY_FILE = fileURLToPath(new URL('../fixtures/encrypted.key.pem', import.meta.url));

/** Long enough for a busy agent to miss them meanwhile. */
const UPLOAD_DELAY = '10s';

describe('a mount with --writeback', function () {
  this.timeout(120_000);
  const servers: EtcdServer[] = [];
  let juicefs: Juicefs;
  let url: string;
  let folder: string;
  let dir: string;
  let mount: Mount | undefined;
  let agent: Agent | undefined;

  before(async function () {
    juicefs = new Juicefs(this, { JFS_RSA_PASSPHRASE: FIXTURE_PASSPHRASE });
    needFuse(this);
    const [metadata, data] = [await startEtcd(), await startEtcd()];
    servers.push(metadata, data);
    folder = mkdtempSync(join(tmpdir(), 'writeback-'));
    dir = join(folder, 'served');
    mkdirSync(dir);
    writeFileSync(join(folder, 'passphrase'), FIXTURE_PASSPHRASE);
    url = `${metadata.url}/late`;
    const bucket = `${data.endpoint.host}:${data.endpoint.port}`;
    const options = ['--block-size', '256', '--compress', 'lz4', '--encrypt-rsa-key', KEY_FILE];
    await juicefs.format(url, 'late', bucket, options);
    mount = await juicefs.mount(url, ['--writeback', '--upload-delay', UPLOAD_DELAY]);
    const file = ['--rsa-passphrase-file', join(folder, 'passphrase')];
    agent = new Agent(url, dir, ['--min-interval', '20ms', '--hold-max', '500ms', ...file]);
    await agent.until('it is ready', ({ ready }) => ready, 60_000);
  });
  after(async () => {
    await agent?.kill();
    await mount?.close();
    await Promise.all(servers.map((server) => server.stop()));
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  it('is followed: a file is missed as long as its blocks are, and shown when they come', async () => {
    const content = 'a line of a large file\n'.repeat(30_000);
    writeFileSync(join(mount?.dir ?? '', 'theirs'), content);
    await agent?.until('it is missed', ({ problems }) => 'theirs' in problems, 30_000);
    expect(existsSync(join(dir, 'theirs'))).to.equal(false);
    await until('it is shown', () => existsSync(join(dir, 'theirs')), 60_000);
    expect(readFileSync(join(dir, 'theirs'), 'utf8')).to.equal(content);
    await agent?.until('nothing is missed any more', ({ problems }) => Object.keys(problems).length === 0);
  });

  it('sees what is edited here, and the volume is whole', async () => {
    const content = readFileSync(join(dir, 'theirs'), 'utf8').replace('a line', 'the first line');
    writeFileSync(join(dir, 'theirs'), content);
    mkdirSync(join(dir, 'ours'));
    writeFileSync(join(dir, 'ours/file'), 'from here\n');
    const there = (path: string): string | undefined => textOf(join(mount?.dir ?? '', path));
    await until('the mount has the new directory', () => there('ours/file') === 'from here\n', 30_000);
    await until('the mount has the edit', () => there('theirs') === content, 30_000);
    await agent?.stop();
    await mount?.close();
    mount = undefined;
    await juicefs.fsck(url);
    const { leaked, pending } = await juicefs.gc(url);
    expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
  });
});
