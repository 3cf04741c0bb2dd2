/** Two pods on one volume, each a built agent and a real nginx that reads its directory. */

import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type Agent, runCommand, startAgent } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { type NginxServer, startNginx } from '../support/nginx.ts';
import { needTool, projectDir } from '../support/tools.ts';
import { until } from '../support/until.ts';

interface Pod {
  readonly dir: string;
  readonly agent: Agent;
  readonly nginx: NginxServer;
}

describe('two pods with nginx', () => {
  let folder: string;
  let etcd: EtcdServer;
  let volume: string;
  let podA: Pod;
  let podB: Pod;
  const started: { stop(): Promise<unknown> }[] = [];

  before(async function () {
    needTool(this, 'nginx');
    folder = mkdtempSync(join(tmpdir(), 'pods-'));
    etcd = await startEtcd();
    started.push(etcd);
    volume = `${etcd.url}/site`;
    await agentCommand('format', volume, 'site');
    await agentCommand('import', volume, join(projectDir, 'tools/demo/nginx'));
    podA = await startPod('pod-a');
    podB = await startPod('pod-b');
  });

  after(async () => {
    for (const each of started.reverse()) await each.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  async function startPod(name: string): Promise<Pod> {
    const dir = join(folder, name, 'nginx');
    mkdirSync(dir, { recursive: true });
    const agent = await startAgent(volume, dir, ['--min-interval', '20ms']);
    started.push(agent);
    const nginx = await startNginx(join(folder, name));
    started.push(nginx);
    return { dir, agent, nginx };
  }

  async function agentCommand(...args: string[]): Promise<void> {
    const { code, sentence } = await runCommand(args);
    expect(code, sentence).to.equal(0);
  }

  async function put(path: string, content: string): Promise<void> {
    const file = join(folder, 'content');
    writeFileSync(file, content);
    await agentCommand('put', volume, file, path);
  }

  /** As an editor saves: the whole text in one rename. */
  function save(file: string, content: string): void {
    writeFileSync(`${file}~`, content);
    renameSync(`${file}~`, file);
  }

  const untilServed = (pod: Pod, path: string, content: string): Promise<void> =>
    until(`${pod.nginx.url}${path} is ${JSON.stringify(content)}`, async () => {
      const { status, body } = await pod.nginx.get(path);
      return status === 200 && body === content;
    });

  it('serve the site of the volume', async () => {
    const page = readFileSync(join(projectDir, 'tools/demo/nginx/html/index.html'), 'utf8');
    for (const { nginx } of [podA, podB])
      expect(await nginx.get('/')).to.deep.equal({ status: 200, body: page });
  });

  it('serve a page that was edited in the directory of the other', async () => {
    save(join(podA.dir, 'html/index.html'), 'edited in A\n');
    await untilServed(podB, '/', 'edited in A\n');
    save(join(podB.dir, 'html/index.html'), 'edited in B\n');
    await untilServed(podA, '/', 'edited in B\n');
  });

  it('serve a page that was changed in the volume', async () => {
    await put('/html/news.txt', 'changed in the volume\n');
    for (const pod of [podA, podB]) await untilServed(pod, '/news.txt', 'changed in the volume\n');
  });

  it('answer every request with a whole page while it changes', async () => {
    const version = (n: number): string => `version ${n}\n${`${n}\n`.repeat(5000)}`;
    const file = join(podA.dir, 'html/page.txt');
    save(file, version(0));
    await untilServed(podB, '/page.txt', version(0));
    const seen = new Set<number>();
    let last = 0;
    for (let n = 1; n <= 20; n += 1) {
      save(file, version(n));
      await until(`version ${n} is served`, async () => {
        const { status, body } = await podB.nginx.get('/page.txt');
        expect(status).to.equal(200);
        const read = Number(/^version (\d+)\n/.exec(body)?.[1]);
        expect(body).to.equal(version(read));
        expect(read).to.be.at.least(last);
        last = read;
        seen.add(read);
        return read === n;
      });
    }
    expect(seen.size).to.be.at.least(20);
  });

  it('load a configuration that was changed in the volume', async () => {
    const file = join(projectDir, 'tools/demo/nginx/conf.d/site.conf');
    const changed = readFileSync(file, 'utf8').replace(
      'location / {',
      'location = /new { return 204; }\n location / {',
    );
    await put('/conf.d/site.conf', changed);
    const published = (): string => readFileSync(join(podA.dir, 'conf.d/site.conf'), 'utf8');
    await until('the configuration is published', () => published() === changed);
    expect((await podA.nginx.get('/new')).status).to.equal(404);
    process.kill(podA.nginx.pid, 'SIGHUP');
    await until('the configuration is loaded', async () => (await podA.nginx.get('/new')).status === 204);
  });
});
