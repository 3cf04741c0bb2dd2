/** `npm run coverage`: which lines and branches of `src` the tests reach, counted on compiled code and mapped back. */

import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { ensureTools } from './ensure.mjs';
import { projectDir } from './find.mjs';
import { build, ensurePackages } from './packages.mjs';
import { explain, run, runOpen } from './run.mjs';
import { step } from './say.mjs';
import { SUITES, TOOLS } from './suites.mjs';

// Through tsx the positions of branches are lost, so the tests are compiled too, and run from where they land.
const compiled = join(projectDir, '.cache/coverage');
const bin = (name) => join(projectDir, 'node_modules/.bin', name);

async function compile() {
  rmSync(compiled, { recursive: true, force: true });
  mkdirSync(join(compiled, 'test'), { recursive: true });
  for (const shared of ['tools', 'test/fixtures'])
    symlinkSync(join(projectDir, shared), join(compiled, shared));
  await run(bin('tsc'), ['-p', 'tsconfig.coverage.json'], { cwd: projectDir });
}

async function main() {
  const suites = process.argv.length > 2 ? process.argv.slice(2) : SUITES;
  await ensurePackages();
  await build();
  await step('compiling the tests', compile);
  await ensureTools(TOOLS);
  const specs = suites.map((suite) => `.cache/coverage/test/${suite}/**/*.test.js`);
  const reports = [
    '--reporter=text',
    '--reporter=html',
    '--exclude-after-remap',
    '--include=src/**',
    '--all',
  ];
  const mocha = ['--no-config', '--forbid-only', '--check-leaks', '--timeout=60000', ...specs];
  process.exitCode = await runOpen(bin('c8'), [...reports, bin('mocha'), ...mocha], { cwd: projectDir });
}

main().catch(explain);
