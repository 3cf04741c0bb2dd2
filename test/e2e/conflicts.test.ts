/** Edits of both sides at once: what becomes of them with each `--conflict`, with two agents on a real etcd. */

import { expect } from 'chai';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  publishedTree,
  runCommand,
  startAgent,
  untilSame,
  type Agent,
  type CommandResult,
} from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { until } from '../support/until.ts';

const NGINX = `worker_processes auto;

http {
    server {
        listen 80;
        server_name example.com;

        location / {
            root /srv/www;
        }
    }
}
`;
const HERE = NGINX.replace('listen 80;', 'listen 8080;');
const THERE = NGINX.replace('/srv/www', '/srv/new');
const BOTH = HERE.replace('/srv/www', '/srv/new');
const OVER_HERE = NGINX.replace('listen 80;', 'listen 9090;');

const QUICK = ['--min-interval', '0', '--rescan', '300ms'];

describe('--conflict', () => {
  let server: EtcdServer;
  let folder: string;
  let count = 0;
  let url: string;
  const agents: Agent[] = [];

  before(async () => {
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'etc-conflicts-'));
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    count += 1;
    url = `${server.url}/conflicts-${count}`;
    await verb('format', url, `conflicts-${count}`);
  });
  afterEach(async () => {
    for (const agent of agents.splice(0)) await agent.kill();
  });

  async function verb(...args: string[]): Promise<CommandResult> {
    const result = await runCommand(args);
    if (result.code !== 0) throw new Error(`${args.join(' ')}: ${result.stderr}`);
    return result;
  }

  async function start(name: string, ...options: string[]): Promise<Agent> {
    const dir = join(folder, `${count}-${name}`);
    mkdirSync(dir, { recursive: true });
    const agent = await startAgent(url, dir, [...QUICK, '--agent-id', name, ...options]);
    agents.push(agent);
    return agent;
  }

  /** Lets nothing happen in an agent while `edits` are made, and goes on then. */
  async function frozen(agent: Agent, edits: () => Promise<void>): Promise<void> {
    process.kill(agent.pid, 'SIGSTOP');
    try {
      await edits();
    } finally {
      process.kill(agent.pid, 'SIGCONT');
    }
  }

  /** A file that both have, edited in both at once. */
  async function editBoth(one: Agent, two: Agent, path: string, here: string, there: string): Promise<void> {
    await frozen(one, async () => {
      writeFileSync(join(one.dir, path), here);
      writeFileSync(join(two.dir, path), there);
      await two.pushed();
    });
  }

  async function both(options: readonly string[], files: Readonly<Record<string, string>>): Promise<Agent[]> {
    const one = await start('one', ...options);
    const two = await start('two', ...options);
    for (const [path, content] of Object.entries(files)) writeFileSync(join(one.dir, path), content);
    await one.pushed();
    await same(one, two);
    return [one, two];
  }

  async function same(one: Agent, two: Agent): Promise<void> {
    await untilSame(
      'both directories agree',
      () => publishedTree(one.dir),
      () => publishedTree(two.dir),
    );
  }

  async function decided(one: Agent, two: Agent): Promise<void> {
    await one.pushed();
    await one.until('nothing is parked', ({ parked }) => parked.length === 0);
    await same(one, two);
  }

  const read = (agent: Agent, path: string): string => readFileSync(join(agent.dir, path), 'utf8');

  /** The conflict copies in the volume: their contents by the path of what lost. */
  async function copies(): Promise<Record<string, string>> {
    const { stdout, code } = await runCommand(['ls', url, '/.conflicts', '-R']);
    if (code !== 0) return {};
    const found: Record<string, string> = {};
    for (const line of stdout.split('\n')) {
      const [, stamp, path] = /^-.* (\d{8}T\d{6}Z-r\d+-[^/]+)\/(.*)$/.exec(line) ?? [];
      if (stamp === undefined || path === undefined) continue;
      found[path] = (await verb('cat', url, `/.conflicts/${stamp}/${path}`)).stdout;
    }
    return found;
  }

  it('merges texts where the edits do not touch, and keeps no copy', async () => {
    const files = { 'nginx.conf': NGINX, crlf: 'a\r\nb\r\nc\r\n', endless: 'a\nb\nc' };
    const [one, two] = await both([], files);
    if (one === undefined || two === undefined) throw new Error('no agents');
    await frozen(one, async () => {
      writeFileSync(join(one.dir, 'nginx.conf'), HERE);
      writeFileSync(join(two.dir, 'nginx.conf'), THERE);
      writeFileSync(join(one.dir, 'crlf'), 'A\r\nb\r\nc\r\n');
      writeFileSync(join(two.dir, 'crlf'), 'a\r\nb\r\nC\r\n');
      writeFileSync(join(one.dir, 'endless'), 'A\nb\nc');
      writeFileSync(join(two.dir, 'endless'), 'a\nb\nC');
      await two.pushed();
    });
    await decided(one, two);
    expect(read(two, 'nginx.conf')).to.equal(BOTH);
    expect(read(two, 'crlf')).to.equal('A\r\nb\r\nC\r\n');
    expect(read(two, 'endless')).to.equal('A\nb\nC');
    expect(await copies()).to.deep.equal({});
    expect(one.stderr).to.match(/info merged path=nginx\.conf/);
  });

  it('merges what was edited while the agent was down, at the second start too', async () => {
    const [one, two] = await both([], { 'nginx.conf': NGINX });
    if (one === undefined || two === undefined) throw new Error('no agents');
    await one.kill();
    writeFileSync(join(one.dir, 'nginx.conf'), HERE);
    writeFileSync(join(two.dir, 'nginx.conf'), THERE);
    await two.pushed();
    const again = await start('one');
    await decided(again, two);
    expect(read(two, 'nginx.conf')).to.equal(BOTH);
    expect(await copies()).to.deep.equal({});
  });

  it('reads the ancestor from the store where the state has no copy of it', async () => {
    const [one, two] = await both(['--ancestor-cache', '0'], { 'nginx.conf': NGINX });
    if (one === undefined || two === undefined) throw new Error('no agents');
    await editBoth(one, two, 'nginx.conf', HERE, THERE);
    await decided(one, two);
    expect(read(two, 'nginx.conf')).to.equal(BOTH);
    expect(readdirSync(join(one.dir, '..etcd-etc-agent'))).not.to.include('ancestor');
  });

  it('keeps the local version where edits touch or a file is no text', async () => {
    const files = { 'nginx.conf': NGINX, binary: 'a\nb\nc\n\0' };
    const [one, two] = await both([], files);
    if (one === undefined || two === undefined) throw new Error('no agents');
    await frozen(one, async () => {
      writeFileSync(join(one.dir, 'nginx.conf'), HERE);
      writeFileSync(join(two.dir, 'nginx.conf'), OVER_HERE);
      writeFileSync(join(one.dir, 'binary'), 'A\nb\nc\n\0');
      writeFileSync(join(two.dir, 'binary'), 'a\nb\nC\n\0');
      await two.pushed();
    });
    await decided(one, two);
    expect(read(one, 'nginx.conf')).to.equal(OVER_HERE);
    expect(read(one, 'binary')).to.equal('a\nb\nC\n\0');
    expect(await copies()).to.deep.equal({ 'nginx.conf': HERE, binary: 'A\nb\nc\n\0' });
  });

  it('remote: keeps the local version, mergeable or not', async () => {
    const [one, two] = await both(['--conflict', 'remote'], { 'nginx.conf': NGINX });
    if (one === undefined || two === undefined) throw new Error('no agents');
    await editBoth(one, two, 'nginx.conf', HERE, THERE);
    await decided(one, two);
    expect(read(one, 'nginx.conf')).to.equal(THERE);
    expect(await copies()).to.deep.equal({ 'nginx.conf': HERE });
  });

  it('local: keeps the version of the volume before the local one replaces it', async () => {
    const [one, two] = await both(['--conflict', 'local'], { 'nginx.conf': NGINX });
    if (one === undefined || two === undefined) throw new Error('no agents');
    await editBoth(one, two, 'nginx.conf', HERE, THERE);
    await until('the local version is everywhere', () => read(two, 'nginx.conf') === HERE);
    expect(await copies()).to.deep.equal({ 'nginx.conf': THERE });
    await decided(one, two);
    expect(read(one, 'nginx.conf')).to.equal(HERE);
  });

  it('newest: the younger file stays, whichever side it is on', async () => {
    const [one, two] = await both(['--conflict', 'newest'], { a: 'base\n', b: 'base\n' });
    if (one === undefined || two === undefined) throw new Error('no agents');
    await frozen(one, async () => {
      for (const [agent, path, age] of [
        [one, 'a', 'older'],
        [two, 'a', 'younger'],
        [one, 'b', 'younger'],
        [two, 'b', 'older'],
      ] as const) {
        const time = age === 'older' ? 1_700_000_000 : 1_700_000_001;
        writeFileSync(join(agent.dir, path), `${age}\n`);
        utimesSync(join(agent.dir, path), time, time);
      }
      await two.pushed();
    });
    await decided(one, two);
    expect([read(two, 'a'), read(two, 'b')]).to.deep.equal(['younger\n', 'younger\n']);
    expect(await copies()).to.deep.equal({ a: 'older\n', b: 'older\n' });
  });

  it('shows no copy in any directory', async () => {
    const [one, two] = await both(['--conflict', 'remote'], { f: 'base\n' });
    if (one === undefined || two === undefined) throw new Error('no agents');
    await editBoth(one, two, 'f', 'here\n', 'there\n');
    await decided(one, two);
    expect(Object.keys(await copies())).to.deep.equal(['f']);
    for (const agent of [one, two]) expect(Object.keys(publishedTree(agent.dir))).to.deep.equal(['f']);
  });
});
