/** `npm run test:sim`: the simulation alone. `--seeds N` runs N of them, `--seed S` from S on, `--profile NAME` with more going on (test/sim/simulation.ts). */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { projectDir } from './find.mjs';
import { ensurePackages } from './packages.mjs';
import { explain, runOpen } from './run.mjs';

async function main() {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string' },
      seed: { type: 'string' },
      profile: { type: 'string' },
      trace: { type: 'boolean' },
    },
  });
  await ensurePackages();
  const given = {
    SEEDS: values.seeds,
    SEED: values.seed,
    PROFILE: values.profile,
    TRACE: values.trace && '1',
  };
  const env = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  process.exitCode = await runOpen(join(projectDir, 'node_modules/.bin/mocha'), ['test/sim/**/*.test.ts'], {
    cwd: projectDir,
    env: { ...process.env, ...env },
  });
}

main().catch(explain);
