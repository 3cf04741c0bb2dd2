/** The pod: every command, variable and path of the rendered manifests is one that the program and the image have. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { ARGUMENT_ENV, OPTIONS } from '../../src/agent/options.ts';
import { readDockerfile } from '../support/dockerfile.ts';
import { type EtcdServer, freePort, startEtcd } from '../support/etcd.ts';
import { type Container, type PodSpec, type Rendered, renderManifests } from '../support/pod.ts';
import { needTool, projectDir } from '../support/tools.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
const MAIN = join(projectDir, 'dist/agent/main.js');
const AGENT_IMAGE = /^etcd-etc-agent:/;
const SERVED = '/etc/nginx';

describe('manifests/base', () => {
  const image = readDockerfile().stage();
  let pod: PodSpec;
  let secrets: Rendered['secrets'];
  let seed: Container;
  let follow: Container;
  let nginx: Container;

  before(function () {
    ({ pod, secrets } = renderManifests(needTool(this, 'kubectl')));
    const containers = [...pod.initContainers, ...pod.containers];
    expect(containers.map(({ name }) => name)).to.deep.equal(['seed', 'follow', 'nginx']);
    [seed, follow, nginx] = containers as [Container, Container, Container];
  });

  const agents = (): Container[] => [seed, follow];
  const probes = (): string[] =>
    [follow.startupProbe, follow.readinessProbe, follow.livenessProbe].map(
      (probe) => probe?.httpGet?.path ?? '',
    );

  it('starts the agents by the entry point of the image', () => {
    for (const { image: name, command } of agents()) {
      expect(name).to.match(AGENT_IMAGE);
      expect(command).to.equal(undefined);
    }
  });

  it('gives the agents no option and no variable that the program does not have', () => {
    const flags = OPTIONS.map(({ name }) => `--${name}`);
    const variables = [...Object.values(ARGUMENT_ENV), ...OPTIONS.map(({ env }) => env)];
    for (const { args = [], env = [] } of agents()) {
      expect(flags).to.include.members(args.map((arg) => arg.replace(/=.*/s, '')));
      expect(variables).to.include.members(env.map(({ name }) => name));
    }
  });

  it('seeds once before anything else, and follows as a sidecar that restarts', () => {
    expect(seed.args).to.deep.equal(['--once']);
    expect(seed.restartPolicy).to.equal(undefined);
    expect(follow.args).to.deep.equal(['--watch', '--listen=:9464']);
    expect(follow.restartPolicy).to.equal('Always');
  });

  it('takes the address from a Secret in the shape of the CSI driver', () => {
    for (const { env = [] } of agents()) {
      const reference = env.find(({ name }) => name === ARGUMENT_ENV.metaUrl)?.valueFrom?.secretKeyRef;
      expect(reference?.key).to.equal('metaurl');
      expect(secrets.get(reference?.name ?? '')).to.have.all.keys(
        'name',
        'metaurl',
        'storage',
        'bucket',
        'access-key',
        'secret-key',
        'envs',
      );
    }
  });

  it('mounts one writable emptyDir at the directory that the agents serve and nginx reads', () => {
    const [volume, ...others] = new Set(
      [seed, follow, nginx].map(({ volumeMounts = [] }) => {
        const mount = volumeMounts.find(({ mountPath }) => mountPath === SERVED);
        expect(mount?.readOnly).to.equal(undefined);
        return mount?.name;
      }),
    );
    expect(others).to.deep.equal([]);
    expect(pod.volumes.find(({ name }) => name === volume)).to.have.property('emptyDir');
    for (const { env = [] } of agents()) {
      expect(env.find(({ name }) => name === ARGUMENT_ENV.dir)?.value).to.equal(SERVED);
    }
  });

  it('probes the sidecar where it listens', () => {
    const [port, ...others] = follow.ports ?? [];
    expect(others).to.deep.equal([]);
    expect(follow.args).to.include(`--listen=:${port?.containerPort}`);
    expect(probes()).to.deep.equal(['/readyz', '/readyz', '/livez']);
    for (const probe of [follow.startupProbe, follow.readinessProbe, follow.livenessProbe])
      expect(probe?.httpGet?.port).to.equal(port?.name);
  });

  it('runs everything as the user of the image, on the restricted profile', () => {
    const { runAsUser, runAsGroup, runAsNonRoot, seccompProfile } = pod.securityContext;
    expect(`${runAsUser}:${runAsGroup}`).to.equal(image.user);
    expect(runAsNonRoot).to.equal(true);
    expect(seccompProfile?.type).to.equal('RuntimeDefault');
    for (const { securityContext, resources } of [seed, follow, nginx]) {
      expect(securityContext).to.deep.equal({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(resources).to.have.all.keys('requests', 'limits');
    }
  });

  describe('run as it is written, on a real volume', () => {
    let etcd: EtcdServer;
    let volume: string;
    let dir: string;
    let port: number;
    let sidecar: ChildProcess | undefined;

    before(async () => {
      etcd = await startEtcd();
      port = await freePort();
      volume = `${etcd.url}/pod`;
      dir = mkdtempSync(join(tmpdir(), 'pod-'));
      await run(process.execPath, [
        MAIN,
        'format',
        volume,
        'pod',
        '--block-size',
        '1024',
        '--trash-days',
        '1',
      ]);
      await run(process.execPath, [MAIN, 'import', volume, join(projectDir, 'tools/demo/nginx')]);
    });

    after(async () => {
      if (sidecar !== undefined && sidecar.exitCode === null) {
        const ended = once(sidecar, 'exit');
        sidecar.kill('SIGTERM');
        await ended;
      }
      await etcd.stop();
      rmSync(dir, { recursive: true });
    });

    /** The container's own variables, with this machine's directory and volume for those of the cluster. */
    const environment = ({ env = [] }: Container): NodeJS.ProcessEnv => ({
      PATH: process.env['PATH'],
      ...Object.fromEntries(
        env.map(({ name, value, valueFrom }) => [name, valueFrom === undefined ? here(value ?? '') : volume]),
      ),
    });
    const here = (word: string): string => (word === SERVED ? dir : word);
    const probe = async (path: string): Promise<boolean> =>
      fetch(`http://127.0.0.1:${port}${path}`).then(
        ({ ok }) => ok,
        () => false,
      );

    it('has the whole configuration when the init container ends', async () => {
      await run(process.execPath, [MAIN, ...(seed.args ?? [])], { env: environment(seed) });
      for (const file of ['nginx.conf', 'conf.d/site.conf', 'html/index.html']) {
        const original = readFileSync(join(projectDir, 'tools/demo/nginx', file));
        expect(readFileSync(join(dir, file)).equals(original), file).to.equal(true);
      }
    });

    it('becomes ready and follows the volume while the sidecar runs', async () => {
      const args = (follow.args ?? []).map((arg) =>
        arg.replace(/^--listen=.*/, `--listen=127.0.0.1:${port}`),
      );
      const child = spawn(process.execPath, [MAIN, ...args], {
        env: environment(follow),
        stdio: 'ignore',
      });
      sidecar = child;
      for (const path of probes()) {
        await until(`${path} succeeds`, async () => {
          expect(child.exitCode).to.equal(null);
          return probe(path);
        });
      }
      const put = run(process.execPath, [MAIN, 'put', volume, '/html/news.txt']);
      put.child.stdin?.end('changed\n');
      await put;
      const news = (): string => readFileSync(join(dir, 'html/news.txt'), 'utf8');
      await until('the changed page is published', () => news() === 'changed\n');
    });
  });
});
