/** Brings node_modules in line with package-lock.json when it is missing or stale. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectDir } from './find.mjs';
import { run } from './run.mjs';
import { step } from './say.mjs';

/** Runs `npm ci --include=dev` unless every package of the lock is there in the version that the lock names. */
export async function ensurePackages() {
  if (upToDate()) return;
  await step('installing packages', () => run('npm', ['ci', '--include=dev'], { cwd: projectDir }));
}

/** Compiles `src` to `dist`. */
export async function build() {
  await step('building', () => run('npm', ['run', '--silent', 'build'], { cwd: projectDir }));
}

// npm keeps a lock of what it installed; packages for other platforms are optional and not in it.
function upToDate() {
  const wanted = packagesOf('package-lock.json');
  const installed = packagesOf('node_modules/.package-lock.json');
  return (
    installed !== undefined &&
    Object.entries(wanted).every(
      ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
    )
  );
}

function packagesOf(lock) {
  try {
    return JSON.parse(readFileSync(join(projectDir, lock), 'utf8')).packages;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}
