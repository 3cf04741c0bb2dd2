/** `npm test`: from a fresh clone to a finished run. Arguments name suites (`interop`) or single test files. */

import { accessSync, constants } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ensureTools } from './ensure.mjs';
import { cacheDir, findTool, projectDir } from './find.mjs';
import { build, ensurePackages } from './packages.mjs';
import { explain, runOpen } from './run.mjs';
import { OLD_CLIENTS, SUITES, TOOLS } from './suites.mjs';

const inCi = !['', '0', 'false'].includes(process.env.CI ?? '');

function canMount() {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function warn(sentences) {
  if (sentences.length === 0) return;
  console.error(`\n  !!! Tests that need these programs ${inCi ? 'fail' : 'are skipped'}:`);
  for (const sentence of sentences) console.error(`  !!! ${sentence}`);
  console.error('');
}

async function main() {
  const named = process.argv.slice(2);
  const specs = (named.length > 0 ? named : SUITES).map((name) =>
    SUITES.includes(name) ? `test/${name}/**/*.test.ts` : name,
  );
  await ensurePackages();
  await build();
  const interop = specs.some((spec) => spec.includes('test/interop/'));
  const missing = await ensureTools(interop ? [...TOOLS, ...OLD_CLIENTS] : TOOLS);
  if (!canMount()) missing.push('/dev/fuse cannot be used here: a real mount needs it.');
  else if (process.getuid() === 0) missing.push(...(await ensureTools(['fusermount3'])));
  else if (findTool('fusermount3') === undefined) missing.push('fusermount3 is missing: install fuse3.');
  warn(missing);
  // A skip in CI is a failure; only where nothing can be mounted may the mounts be left out.
  const strict = inCi && canMount() ? ['--forbid-pending'] : [];
  // Tests wait more than they compute: the files of suites run at the same time, in processes of their own.
  const isSuite = specs.some((spec) => spec.includes('*'));
  const parallel = isSuite ? ['--parallel', '--jobs', String(availableParallelism() + 1)] : [];
  process.exitCode = await runOpen(
    join(projectDir, 'node_modules/.bin/mocha'),
    [...strict, ...parallel, ...specs],
    {
      cwd: projectDir,
      env: { ...process.env, PATH: `${process.env.PATH}:${join(cacheDir, 'bin')}` },
    },
  );
}

main().catch(explain);
