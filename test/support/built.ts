/** The built program: made once when it is missing or older than its sources. */

import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { projectDir } from './tools.ts';

let checked = false;

/** The path of the command, up to date, or what `AGENT_MAIN` names. `npm test` has built it already; a single file of tests may not have been. */
export function builtMain(): string {
  const given = process.env['AGENT_MAIN'];
  if (given !== undefined) return given;
  const main = join(projectDir, 'dist/agent/main.js');
  if (!checked && isStale(main)) {
    const compiler = join(projectDir, 'node_modules/typescript/bin/tsc');
    const options = { cwd: projectDir, encoding: 'utf8', stdio: 'pipe' } as const;
    execFileSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], options);
  }
  checked = true;
  return main;
}

function isStale(main: string): boolean {
  const built = statSync(main, { throwIfNoEntry: false })?.mtimeMs;
  if (built === undefined) return true;
  const src = join(projectDir, 'src');
  const names = readdirSync(src, { recursive: true, encoding: 'utf8' });
  return names.some((name) => name.endsWith('.ts') && statSync(join(src, name)).mtimeMs > built);
}
