/** `npm run bench`: the numbers, on a private etcd and the built program. */

import { ensureTools } from './ensure.mjs';
import { projectDir } from './find.mjs';
import { build, ensurePackages } from './packages.mjs';
import { explain, runOpen } from './run.mjs';

async function main() {
  await ensurePackages();
  await build();
  await ensureTools(['etcd'], { required: true });
  const args = ['--import', 'tsx', 'test/bench/bench.ts', ...process.argv.slice(2)];
  process.exitCode = await runOpen(process.execPath, args, { cwd: projectDir });
}

main().catch(explain);
