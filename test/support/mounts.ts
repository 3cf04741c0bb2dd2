/** File systems of a test's own, mounted with the system's `mount`: only root may, and not everywhere. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

function command(program: 'mount' | 'umount', ...args: readonly string[]): void {
  execFileSync(program, args, { stdio: 'pipe' });
}

/** Mounts an empty file system in memory on a directory; `options` such as `nr_inodes=100`. */
export function mountTmpfs(dir: string, options: string): void {
  command('mount', '-t', 'tmpfs', '-o', options, 'tmpfs', dir);
}

/** Other options for a mounted file system. */
export function remount(dir: string, options: string): void {
  command('mount', '-o', `remount,${options}`, dir);
}

/** Makes what is in `from` appear on `dir`, over what is there. */
export function bindMount(from: string, dir: string): void {
  command('mount', '--bind', from, dir);
}

/** Takes the uppermost mount away from a directory, whoever uses it. */
export function unmount(dir: string): void {
  command('umount', '--lazy', dir);
}

/** Why nothing can be mounted here; `undefined` where it works. A suite that needs it is not declared then, and this is said. */
function whyNoMounts(): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'mount-'));
  try {
    mountTmpfs(dir, 'nr_inodes=10');
    unmount(dir);
    return undefined;
  } catch (error) {
    return `nothing can be mounted here: ${error instanceof Error ? error.message.trim().split('\n').at(-1) : String(error)}`;
  } finally {
    rmdirSync(dir);
  }
}

/** Declares a suite that mounts; where it cannot, a loud line stands for it. */
export function describeWithMounts(title: string, declare: (this: Mocha.Suite) => void): void {
  const reason = whyNoMounts();
  if (reason === undefined) describe(title, declare);
  else process.stderr.write(`\n  !!! SKIPPED: ${title}: ${reason}\n\n`);
}
