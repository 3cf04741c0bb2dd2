/** Edits of both sides at once: what becomes of them with each `--conflict`, with two agents on a real etcd. */

import { expect } from 'chai';
import { createHash } from 'node:crypto';
import {
  existsSync,
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

import type { ConflictRecord } from '../../src/agent/state/conflict-record.ts';
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

/** Two agents on one volume. */
interface Pair {
  readonly url: string;
  one: Agent;
  two: Agent;
}

/** Edits of one test: what is written in the directory of each agent, by path. */
type Edits = Readonly<Record<string, { readonly here: string; readonly there: string }>>;

interface Shown extends ConflictRecord {
  readonly id: string;
}

describe('--conflict', () => {
  let server: EtcdServer;
  let folder: string;
  const pairs = new Map<string, Promise<Pair>>();
  const agents: Agent[] = [];
  let test = 0;

  before(async () => {
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'etc-conflicts-'));
  });
  after(async () => {
    for (const agent of agents) await agent.kill();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    test += 1;
  });

  /** A path of this test's own: the pairs are shared. */
  const own = (name: string): string => `${test}-${name}`;

  async function verb(...args: string[]): Promise<CommandResult> {
    const result = await runCommand(args);
    if (result.code !== 0) throw new Error(`${args.join(' ')}: ${result.stderr}`);
    return result;
  }

  async function start(url: string, name: string, options: readonly string[]): Promise<Agent> {
    const dir = join(folder, `${url.split('/').at(-1)}-${name}`);
    mkdirSync(dir, { recursive: true });
    const agent = await startAgent(url, dir, [...QUICK, '--agent-id', name, ...options]);
    agents.push(agent);
    return agent;
  }

  async function newPair(options: readonly string[]): Promise<Pair> {
    const name = `conflicts-${pairs.size}`;
    const url = `${server.url}/${name}`;
    await verb('format', url, name);
    const [one, two] = await Promise.all([start(url, 'one', options), start(url, 'two', options)]);
    return { url, one, two };
  }

  function pairWith(...options: string[]): Promise<Pair> {
    const key = options.join(' ');
    const known = pairs.get(key) ?? newPair(options);
    pairs.set(key, known);
    return known;
  }

  const read = (agent: Agent, path: string): string => readFileSync(join(agent.dir, path), 'utf8');
  const write = (agent: Agent, path: string, text: string): void =>
    writeFileSync(join(agent.dir, path), text);

  async function same({ one, two }: Pair): Promise<void> {
    await untilSame(
      'both directories agree',
      () => publishedTree(one.dir),
      () => publishedTree(two.dir),
    );
  }

  /** Gives both agents files. */
  async function give(pair: Pair, files: Readonly<Record<string, string>>): Promise<void> {
    for (const [path, text] of Object.entries(files)) write(pair.one, path, text);
    const has = (agent: Agent): boolean =>
      Object.entries(files).every(
        ([path, text]) => existsSync(join(agent.dir, path)) && read(agent, path) === text,
      );
    await until('the other agent has the files', () => has(pair.two));
    await pair.one.until('nothing is pending', ({ pendingEdits }) => pendingEdits === 0);
  }

  /** Edits files in both directories while the first agent cannot see it, and lets it go on once the second has pushed. */
  async function editBoth(pair: Pair, edits: Edits): Promise<void> {
    process.kill(pair.one.pid, 'SIGSTOP');
    try {
      for (const [path, { here, there }] of Object.entries(edits)) {
        write(pair.one, path, here);
        write(pair.two, path, there);
      }
      await pair.two.pushed();
    } finally {
      process.kill(pair.one.pid, 'SIGCONT');
    }
  }

  async function decided(pair: Pair): Promise<void> {
    await pair.one.pushed();
    await pair.one.until('nothing is parked', ({ parked }) => parked.length === 0);
    await same(pair);
  }

  /** What `conflicts ls --json` says of this test's paths. */
  async function conflicts({ url }: Pair): Promise<Shown[]> {
    const { stdout } = await verb('conflicts', 'ls', url, '--json');
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Shown)
      .filter(({ path }) => path.startsWith(`/${own('')}`));
  }

  /** The conflict copies of this test's paths: contents by the path of what lost. */
  async function copies(pair: Pair): Promise<Record<string, string>> {
    const found: Record<string, string> = {};
    for (const { path, copy } of await conflicts(pair))
      found[path.slice(1)] = (await verb('cat', pair.url, copy)).stdout;
    return found;
  }

  const EDITS: Readonly<Record<string, { base: string; here: string; there: string; both: string }>> = {
    'nginx.conf': { base: NGINX, here: HERE, there: THERE, both: BOTH },
    crlf: {
      base: 'a\r\nb\r\nc\r\n',
      here: 'A\r\nb\r\nc\r\n',
      there: 'a\r\nb\r\nC\r\n',
      both: 'A\r\nb\r\nC\r\n',
    },
    endless: { base: 'a\nb\nc', here: 'A\nb\nc', there: 'a\nb\nC', both: 'A\nb\nC' },
  };

  function each(what: 'base' | 'both'): Record<string, string> {
    return Object.fromEntries(Object.entries(EDITS).map(([name, edit]) => [own(name), edit[what]]));
  }

  function ownEdits(): Edits {
    return Object.fromEntries(Object.entries(EDITS).map(([name, edit]) => [own(name), edit]));
  }

  function expectMerged({ one, two }: Pair): void {
    for (const agent of [one, two]) {
      for (const [path, text] of Object.entries(each('both'))) expect(read(agent, path), path).to.equal(text);
    }
  }

  it('merge: texts whose edits do not touch are joined, and no copy is kept', async () => {
    const pair = await pairWith();
    await give(pair, each('base'));
    await editBoth(pair, ownEdits());
    await decided(pair);
    expectMerged(pair);
    expect(await conflicts(pair)).to.deep.equal([]);
    expect(pair.one.stderr).to.include(`info merged path=${own('nginx.conf')}`);
  });

  it('merge: what was edited while the agent was down is joined at its start', async () => {
    const pair = await pairWith();
    await give(pair, each('base'));
    await pair.one.kill();
    for (const [path, { here, there }] of Object.entries(ownEdits())) {
      write(pair.one, path, here);
      write(pair.two, path, there);
    }
    await pair.two.pushed();
    pair.one = await start(pair.url, 'one', []);
    await decided(pair);
    expectMerged(pair);
    expect(await conflicts(pair)).to.deep.equal([]);
  });

  it('merge: without a copy in the state the ancestor is read from the store', async () => {
    const pair = await pairWith('--ancestor-cache', '0');
    await give(pair, each('base'));
    await editBoth(pair, ownEdits());
    await decided(pair);
    expectMerged(pair);
    expect(readdirSync(join(pair.one.dir, '..etcd-etc-agent'))).not.to.include('ancestor');
  });

  it('merge: where edits touch or a file is no text, the version of the volume stays', async () => {
    const pair = await pairWith();
    const [conf, binary] = [own('nginx.conf'), own('binary')];
    await give(pair, { [conf]: NGINX, [binary]: 'a\nb\nc\n\0' });
    await editBoth(pair, {
      [conf]: { here: HERE, there: OVER_HERE },
      [binary]: { here: 'A\nb\nc\n\0', there: 'a\nb\nC\n\0' },
    });
    await decided(pair);
    expect([read(pair.one, conf), read(pair.one, binary)]).to.deep.equal([OVER_HERE, 'a\nb\nC\n\0']);
    expect(await copies(pair)).to.deep.equal({ [conf]: HERE, [binary]: 'A\nb\nc\n\0' });
  });

  it('remote: the version of the volume stays, though the edits could be joined', async () => {
    const pair = await pairWith('--conflict', 'remote');
    const conf = own('nginx.conf');
    await give(pair, { [conf]: NGINX });
    await editBoth(pair, { [conf]: { here: HERE, there: THERE } });
    await decided(pair);
    expect(read(pair.one, conf)).to.equal(THERE);
    expect(await copies(pair)).to.deep.equal({ [conf]: HERE });
    for (const agent of [pair.one, pair.two])
      expect(
        Object.keys(publishedTree(agent.dir)).filter((path) => path.includes('.conflicts')),
      ).to.deep.equal([]);
  });

  it('local: the version of the volume is kept before the local one replaces it', async () => {
    const pair = await pairWith('--conflict', 'local');
    const conf = own('nginx.conf');
    await give(pair, { [conf]: NGINX });
    await editBoth(pair, { [conf]: { here: HERE, there: THERE } });
    await until('the local version is everywhere', () => read(pair.two, conf) === HERE);
    expect(await copies(pair)).to.deep.equal({ [conf]: THERE });
    await decided(pair);
    expect(read(pair.one, conf)).to.equal(HERE);
  });

  it('newest: the younger file stays, whichever side it is on', async () => {
    const pair = await pairWith('--conflict', 'newest');
    const [a, b] = [own('a'), own('b')];
    await give(pair, { [a]: 'base\n', [b]: 'base\n' });
    const time = (agent: Agent, path: string, seconds: number): void =>
      utimesSync(join(agent.dir, path), seconds, seconds);
    process.kill(pair.one.pid, 'SIGSTOP');
    try {
      write(pair.one, b, 'younger\n');
      time(pair.one, b, 1_700_000_001);
      write(pair.one, a, 'older\n');
      time(pair.one, a, 1_700_000_000);
      write(pair.two, a, 'younger\n');
      time(pair.two, a, 1_700_000_001);
      write(pair.two, b, 'older\n');
      time(pair.two, b, 1_700_000_000);
      await pair.two.pushed();
    } finally {
      process.kill(pair.one.pid, 'SIGCONT');
    }
    await decided(pair);
    expect([read(pair.two, a), read(pair.two, b)]).to.deep.equal(['younger\n', 'younger\n']);
    expect(await copies(pair)).to.deep.equal({ [a]: 'older\n', [b]: 'older\n' });
  });

  it('keeps the same content of a path once, another one beside it, and says who, when, what and why', async () => {
    const pair = await pairWith('--conflict', 'remote');
    const path = own('f');
    await give(pair, { [path]: 'base\n' });
    for (const [here, there] of [
      ['here\n', 'there\n'],
      ['here\n', 'there again\n'],
      ['here again\n', 'there at last\n'],
    ] as const) {
      await editBoth(pair, { [path]: { here, there } });
      await decided(pair);
    }
    const [first, second, ...others] = await conflicts(pair);
    expect(others).to.deep.equal([]);
    const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
    expect(first).to.include({ version: 1, path: `/${path}`, agent: 'one', kept: 'local' });
    expect(first?.why).to.equal('changed here and in the volume');
    expect(Date.now() - Date.parse(first?.time ?? '')).to.be.within(0, 120_000);
    expect([first?.ancestor?.digest, first?.local?.digest, first?.remote?.digest]).to.deep.equal(
      ['base\n', 'here\n', 'there\n'].map(digest),
    );
    expect(Number(first?.revisions.volume)).to.be.greaterThan(Number(first?.revisions.ancestor));
    expect(second?.local?.digest).to.equal(digest('here again\n'));
  });

  for (const policy of ['remote', 'local']) {
    it(`${policy}: a copy that the volume does not take waits, is shown, and holds up nothing else`, async () => {
      const pair = await pairWith('--conflict', policy);
      const path = own('f');
      await give(pair, { [path]: 'base\n' });
      // A file where the directory of the copies should be.
      await verb('rm', '-r', pair.url, '/.conflicts');
      write(pair.two, own('in-the-way'), 'in the way\n');
      await verb('put', pair.url, join(pair.two.dir, own('in-the-way')), '/.conflicts');
      await editBoth(pair, { [path]: { here: 'here\n', there: 'there\n' } });
      const { problems, parked } = await pair.one.until(
        'the copy waits',
        (status) => status.problems[path] !== undefined,
      );
      expect(parked).to.deep.equal([path]);
      expect(problems[path]).to.match(/^the conflict copy waits here: /);
      write(pair.one, own('other'), 'other\n');
      await until('the rest goes on', () => existsSync(join(pair.two.dir, own('other'))));
      // The version of the volume is not replaced before it is kept.
      expect(read(pair.two, path)).to.equal('there\n');
      await pair.one.stop();
      await verb('rm', pair.url, '/.conflicts');
      pair.one = await start(pair.url, 'one', ['--conflict', policy]);
      await decided(pair);
      expect(read(pair.one, path)).to.equal(policy === 'remote' ? 'there\n' : 'here\n');
      expect(await copies(pair)).to.deep.equal({ [path]: policy === 'remote' ? 'here\n' : 'there\n' });
    });
  }

  describe('the verb conflicts', () => {
    async function lost(here: string, there: string): Promise<Pair & { path: string; id: string }> {
      const pair = await pairWith('--conflict', 'remote');
      const path = own('f');
      await give(pair, { [path]: 'base\n' });
      await editBoth(pair, { [path]: { here, there } });
      await decided(pair);
      const [record] = await conflicts(pair);
      return { ...pair, path, id: record?.id ?? '' };
    }

    async function everywhere(pair: Pair & { path: string }, content: string): Promise<void> {
      for (const agent of [pair.one, pair.two])
        await until(`${agent.dir} has what was taken`, () => read(agent, pair.path) === content);
      expect(await conflicts(pair)).to.deep.equal([]);
      expect((await verb('ls', pair.url, '/', '-R')).stdout).not.to.match(
        new RegExp(`\\.conflicts/.*${pair.path}`),
      );
    }

    it('lists and shows, as text and as JSON', async () => {
      const { url, path, id } = await lost('a\nhere\nc\n', 'a\nthere\u202e\nc\n');
      expect((await verb('conflicts', 'ls', url)).stdout).to.match(
        new RegExp(`^${id}  20\\S+Z  one  local  /${path}  changed here and in the volume$`, 'm'),
      );
      const { stdout } = await verb('conflicts', 'show', url, id);
      expect(stdout).to.include('agent      one\n');
      expect(stdout).to.match(/^--- \/\S+ \(in the volume\)\n\+\+\+ \/\.conflicts\/\S+-one\/\S+\n@@ /m);
      expect(stdout).to.include(' a\n-there\\xe2\\x80\\xae\n+here\n c\n');
      const shown = await verb('conflicts', 'show', url, `/${path}`, '--json');
      const json = JSON.parse(shown.stdout) as { diff: string };
      expect(json).to.include({ id, path: `/${path}` });
      expect(json.diff).to.include('+here');
    });

    it('takes the version that lost', async () => {
      const pair = await lost('here\n', 'there\n');
      await verb('conflicts', 'take', pair.url, pair.id, 'local');
      await everywhere(pair, 'here\n');
    });

    it('takes the version that is in place', async () => {
      const pair = await lost('here\n', 'there\n');
      await verb('conflicts', 'take', pair.url, pair.id, 'remote');
      await everywhere(pair, 'there\n');
    });

    it('takes a file', async () => {
      const pair = await lost('here\n', 'there\n');
      const file = join(folder, 'joined');
      writeFileSync(file, 'here and there\n');
      await verb('conflicts', 'take', pair.url, pair.id, file);
      await everywhere(pair, 'here and there\n');
    });

    it('drops one, and says what there is not', async () => {
      const pair = await lost('here\n', 'there\n');
      await verb('conflicts', 'drop', pair.url, pair.id);
      await everywhere(pair, 'there\n');
      const { code, sentence } = await runCommand(['conflicts', 'show', pair.url, pair.id]);
      expect([code, sentence]).to.deep.equal([
        2,
        `etcd-etc-agent: There is no conflict ${pair.id}: conflicts ls shows them.`,
      ]);
      expect((await runCommand(['conflicts', pair.url])).sentence).to.match(
        /^etcd-etc-agent: one of: conflicts ls/,
      );
    });

    it('lists a copy that has no record, and drops all', async () => {
      const { url } = await pairWith('--conflict', 'newest');
      const file = join(folder, 'by-hand');
      writeFileSync(file, 'by hand\n');
      for (const at of ['one/a', 'one/b/c']) await verb('put', url, file, `/.conflicts/${at}`);
      expect((await verb('conflicts', 'ls', url)).stdout).to.match(
        /\w{8} {2}one {2}\/a\n\w{8} {2}one {2}\/b\/c\n$/,
      );
      await verb('conflicts', 'drop', url, '--all');
      expect((await verb('conflicts', 'ls', url)).stdout).to.equal('');
    });
  });
});
