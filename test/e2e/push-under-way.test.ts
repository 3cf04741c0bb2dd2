/** Edits of what is on its way to the volume just now. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { differences, plainTree, publishedTree, startAgent, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { TestVolume } from '../support/pushing.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const BEFORE =
  'mkdir conf.d conf.d/sub; echo one > conf.d/in; echo two > conf.d/sub/in; echo other > other.conf; echo > keep';
const EDIT = 'echo more >> conf.d/in; echo more >> conf.d/sub/in';

const CASES = [
  { title: 'becomes a file', line: 'rm -r conf.d; echo whole > conf.d' },
  { title: 'becomes a link', line: 'rm -r conf.d; ln -s other.conf conf.d' },
  { title: 'gives way to a file that is moved', line: 'rm -r conf.d; mv other.conf conf.d' },
  { title: 'is removed', line: 'rm -r conf.d' },
  { title: 'moves', line: 'mv conf.d moved' },
  { title: 'moves into a directory', line: 'mkdir new; mv conf.d new/moved' },
];

describe('a directory with edits on their way to the volume', function () {
  this.timeout(60_000);
  let server: EtcdServer;
  let folder: string;
  let proxy: TcpProxy | undefined;
  let agent: Agent | undefined;
  let count = 0;

  before(async () => {
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'under-way-'));
  });
  afterEach(async () => {
    await agent?.kill();
    await proxy?.close();
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  for (const { title, line } of CASES) {
    it(title, async () => {
      count += 1;
      const name = `under-way-${count}`;
      const volume = await TestVolume.format(server, { name, blockSizeKiB: 64, trashDays: 0 });
      await volume.store.close();
      proxy = await TcpProxy.start(server.endpoint);
      const [dir, model] = [join(folder, name), join(folder, `${name}-model`)];
      mkdirSync(dir);
      mkdirSync(model);
      const type = (typed: string): void => {
        for (const cwd of [model, dir]) execFileSync('/bin/sh', ['-c', typed], { cwd });
      };
      const url = `etcd://127.0.0.1:${proxy.endpoint.port}/${name}`;
      agent = await startAgent(url, dir, ['--min-interval', '20ms', '--rescan', '200ms']);
      type(BEFORE);
      await agent.pushed();
      proxy.blackhole();
      type(EDIT);
      await agent.rescanned(4);
      type(line);
      await agent.rescanned(4);
      proxy.heal();
      await agent.pushed();
      const shown = (): readonly string[] => differences(plainTree(model), publishedTree(dir));
      await until('it shows what was typed', () => shown().length === 0).catch(() => undefined);
      expect(shown()).to.deep.equal([]);
      const { problems } = await agent.pushed();
      expect(problems).to.deep.equal({});
    });
  }
});
