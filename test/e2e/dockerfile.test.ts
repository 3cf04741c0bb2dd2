/** The image: its paths are those of the build, its user is no root, and nothing in it needs a shell. */

import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { readDockerfile } from '../support/dockerfile.ts';
import { projectDir } from '../support/tools.ts';

const run = promisify(execFile);
const read = (file: string): string => readFileSync(`${projectDir}/${file}`, 'utf8');

describe('Dockerfile', () => {
  const { stages, stage } = readDockerfile();
  const image = stage();

  it('starts the file that the build writes and package.json names', () => {
    const { compilerOptions } = JSON.parse(read('tsconfig.build.json')) as {
      compilerOptions: { rootDir: string; outDir: string };
    };
    const { bin } = JSON.parse(read('package.json')) as { bin: Record<string, string> };
    const built = `${compilerOptions.outDir}/agent/main.js`;
    expect(bin['etcd-etc-agent']).to.equal(built);
    expect(image.entrypoint).to.deep.equal(['node', `/app/${built}`]);
    expect(existsSync(`${projectDir}/${compilerOptions.rootDir}/agent/main.ts`)).to.equal(true);
    expect(image.copies).to.deep.include({ from: 'build', source: '/app/dist', target: '/app/dist' });
  });

  it('brings the dependencies without those for development', () => {
    expect(stage('dependencies').run).to.deep.equal(['npm ci --omit=dev']);
    expect(image.copies).to.deep.include({
      from: 'dependencies',
      source: '/app/node_modules',
      target: '/app/node_modules',
    });
  });

  it('runs as a numeric user that is not root, and runs no shell in the last stage', () => {
    expect(image.user).to.match(/^[1-9][0-9]*:[1-9][0-9]*$/);
    expect(image.run).to.deep.equal([]);
  });

  it('takes both base images as build arguments', () => {
    expect(read('Dockerfile').match(/^FROM \S+/gm)).to.satisfy((lines: string[]) =>
      lines.every((line) => /^FROM \$\{(BUILD|RUN)_IMAGE\}$/.test(line)),
    );
  });

  it('copies only what the build context holds', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copied = stages.flatMap((name) => stage(name).copies).filter(({ from }) => from === undefined);
    expect(copied).to.not.have.length(0);
    for (const { source } of copied) {
      const file = source.replace(/^\.\//, '');
      expect(existsSync(`${projectDir}/${file}`), file).to.equal(true);
      expect(allowed).to.include(file);
    }
  });

  describe('laid out in a folder', () => {
    let root: string;

    before(async function () {
      this.timeout(300_000); // the packages may have to be fetched
      root = mkdtempSync(join(tmpdir(), 'image-'));
      chmodSync(root, 0o755);
      const app = join(root, 'app');
      mkdirSync(app);
      for (const file of ['package.json', 'package-lock.json'])
        cpSync(join(projectDir, file), join(app, file));
      for (const command of stage('dependencies').run) {
        const [program = '', ...args] = command.split(' ');
        await run(program, [...args, '--prefer-offline'], { cwd: app });
      }
      for (const { from, source, target } of image.copies.filter(
        ({ from: name }) => name !== 'dependencies',
      )) {
        // What the build stage leaves in /app/dist is in the project's own dist after "npm run build".
        const file = from === 'build' ? source.replace('/app/', '') : source;
        mkdirSync(dirname(join(root, target)), { recursive: true });
        cpSync(join(projectDir, file), join(root, target), { recursive: true });
      }
    });

    after(() => rmSync(root, { recursive: true }));

    it("starts with nothing else, as the image's user where the test may choose one", async () => {
      const [program = '', main = ''] = image.entrypoint;
      const [uid = 0, gid = 0] = image.user.split(':').map(Number);
      const user = process.getuid?.() === 0 ? { uid, gid } : {};
      const { stdout } = await run(program, [join(root, main), '--help'], {
        ...user,
        cwd: '/',
        env: { PATH: process.env['PATH'] },
      });
      expect(stdout).to.include('etcd-etc-agent');
    });
  });
});
