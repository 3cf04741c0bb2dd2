/** Where the programs that tests and the demo need are: `NAME_BIN`, then PATH, then the project's own cache. */

import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const projectDir = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
export const cacheDir = join(projectDir, '.cache', 'tools');

/** The environment variable that names a program: `JUICEFS_1_3_0_BIN`. */
export function binVariable(name) {
  return `${name.toUpperCase().replace(/\W/g, '_')}_BIN`;
}

/** The absolute path of a program, or `undefined`. `NAME_BIN` (such as `ETCD_BIN`) is taken at its word. */
export function findTool(name) {
  const given = process.env[binVariable(name)];
  if (given) return given;
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'));
  return [...folders, '/usr/sbin', join(cacheDir, 'bin')]
    .map((folder) => join(folder, name))
    .find((file) => isProgram(file));
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
