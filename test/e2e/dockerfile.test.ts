/** The image: its paths are those of the build, its user is no root, and nothing in it needs a shell. */

import { existsSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { readDockerfile } from '../support/dockerfile.ts';
import { projectDir } from '../support/tools.ts';

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
});
