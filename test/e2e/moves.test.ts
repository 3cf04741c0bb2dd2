/** Moves on one side that edits and additions on the other cross: two agents on a real etcd. */

import { expect } from 'chai';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { publishedTree, runCommand, startAgent, untilSame, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { until } from '../support/until.ts';

const QUICK = ['--min-interval', '0', '--rescan', '300ms'];

describe('moves that cross changes', () => {
  let server: EtcdServer;
  let folder: string;
  let url: string;
  let one: Agent;
  let two: Agent;
  let test = 0;

  before(async () => {
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'etc-moves-'));
    url = `${server.url}/moves`;
    await runCommand(['format', url, 'moves']);
    [one, two] = await Promise.all([start('one'), start('two')]);
  });
  after(async () => {
    await one?.kill();
    await two?.kill();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    test += 1;
    // Below the top, as in real trees; and a file that nobody touches.
    mkdirSync(own(one, 'd/sub'), { recursive: true });
    for (const path of ['a', 'd/f', 'd/other', 'd/sub/g'])
      writeFileSync(own(one, path), `${path}\nline\nend\n`);
    await until('the other agent has the files', () => existsSync(own(two, 'd/sub/g')));
    await same();
    await one.pushed();
  });

  function start(name: string): Promise<Agent> {
    const dir = join(folder, name);
    mkdirSync(dir, { recursive: true });
    return startAgent(url, dir, [...QUICK, '--agent-id', name]);
  }

  const own = (agent: Agent, path: string): string => join(agent.dir, `t${test}`, path);
  const read = (agent: Agent, path: string): string => readFileSync(own(agent, path), 'utf8');

  /** The paths of this test that both directories have in the end. */
  function tree(): string[] {
    const prefix = `t${test}/`;
    const paths = Object.keys(publishedTree(one.dir)).filter((path) => path.startsWith(prefix));
    return paths.map((path) => path.slice(prefix.length)).sort();
  }

  async function same(): Promise<void> {
    await untilSame(
      'both directories agree',
      () => publishedTree(one.dir),
      () => publishedTree(two.dir),
    );
  }

  /** Changes both directories while the first agent cannot see it, and waits until they agree again. */
  async function both(here: () => void, there: () => void): Promise<void> {
    process.kill(one.pid, 'SIGSTOP');
    try {
      here();
      there();
      await two.pushed();
    } finally {
      process.kill(one.pid, 'SIGCONT');
    }
    await settled();
  }

  async function settled(): Promise<void> {
    for (const agent of [one, two, one]) await agent.pushed();
    await same();
  }

  const write = (agent: Agent, path: string, text: string): void => writeFileSync(own(agent, path), text);
  const move = (agent: Agent, from: string, to: string): void => renameSync(own(agent, from), own(agent, to));
  const noCopies = async (): Promise<void> => {
    expect((await runCommand(['conflicts', 'ls', url])).stdout).to.equal('');
  };

  const BELOW = ['d', 'd/f', 'd/other', 'd/sub', 'd/sub/g'];
  const moved = BELOW.map((path) => path.replace(/^d/, 'e'));

  it('a file edited here and moved in the volume: the edit is at its new name', async () => {
    await both(
      () => write(one, 'a', 'edited\n'),
      () => move(two, 'a', 'b'),
    );
    expect(tree()).to.deep.equal(['b', ...BELOW]);
    expect(read(two, 'b')).to.equal('edited\n');
    await noCopies();
  });

  it('a file moved here and edited in the volume: the edit is at its new name', async () => {
    await both(
      () => move(one, 'a', 'b'),
      () => write(two, 'a', 'edited\n'),
    );
    expect(tree()).to.deep.equal(['b', ...BELOW]);
    expect(read(one, 'b')).to.equal('edited\n');
    await noCopies();
  });

  it('a file moved and edited on both sides: the edits are merged at its new name', async () => {
    await both(
      () => {
        move(one, 'a', 'b');
        write(one, 'b', 'here\nline\nend\n');
      },
      () => write(two, 'a', 'a\nline\nthere\n'),
    );
    expect(tree()).to.deep.equal(['b', ...BELOW]);
    expect(read(two, 'b')).to.equal('here\nline\nthere\n');
    await noCopies();
  });

  it('a file moved on both sides: the name that the volume gave it', async () => {
    await both(
      () => move(one, 'a', 'here'),
      () => move(two, 'a', 'there'),
    );
    expect(tree()).to.deep.equal([...BELOW, 'there']);
    expect(one.stderr).to.match(/conflict decided path=t\d+\/there reason="moved here and in the volume/);
  });

  it('a directory moved here, a file added and one edited in it in the volume', async () => {
    await both(
      () => move(one, 'd', 'e'),
      () => {
        write(two, 'd/new', 'new\n');
        write(two, 'd/sub/g', 'edited\n');
      },
    );
    expect(tree()).to.deep.equal(['a', ...moved, 'e/new'].sort());
    expect([read(one, 'e/new'), read(one, 'e/sub/g')]).to.deep.equal(['new\n', 'edited\n']);
  });

  it('a directory moved in the volume, a file added and one edited in it here', async () => {
    await both(
      () => {
        write(one, 'd/new', 'new\n');
        write(one, 'd/sub/g', 'edited\n');
      },
      () => move(two, 'd', 'e'),
    );
    expect(tree()).to.deep.equal(['a', ...moved, 'e/new'].sort());
    expect([read(two, 'e/new'), read(two, 'e/sub/g')]).to.deep.equal(['new\n', 'edited\n']);
  });

  it('a file edited here and moved into a new directory of the volume', async () => {
    await both(
      () => write(one, 'a', 'edited\n'),
      () => {
        mkdirSync(own(two, 'n'));
        move(two, 'a', 'n/a');
      },
    );
    expect(tree()).to.deep.equal([...BELOW, 'n', 'n/a']);
    expect(read(two, 'n/a')).to.equal('edited\n');
  });

  it('two directories moved into each other: nothing is lost, and there is no circle', async () => {
    mkdirSync(own(one, 'x'));
    write(one, 'x/f', 'x\n');
    await settled();
    await both(
      () => move(one, 'd', 'x/d'),
      () => move(two, 'x', 'd/x'),
    );
    const contents = tree().filter((path) => existsSync(own(one, path)) && /[fg]$|other$/.test(path));
    expect(contents.map((path) => path.split('/').at(-1)).sort()).to.deep.equal(['f', 'f', 'g', 'other']);
  });

  it('moves and edits made while the agent was down', async () => {
    await one.kill();
    move(one, 'd', 'e');
    write(one, 'a', 'edited\n');
    write(two, 'd/f', 'edited\n');
    move(two, 'a', 'b');
    await two.pushed();
    one = await start('one');
    await settled();
    expect(tree()).to.deep.equal(['b', ...moved]);
    expect([read(two, 'b'), read(two, 'e/f')]).to.deep.equal(['edited\n', 'edited\n']);
  });
});
