/** What `stat` says of the entries of a tree, in one line each. */

import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ShownTree } from './agent.ts';

/** Names that the real client shows in the root of each mount, and what no view shows. */
const OUT_OF_VIEW: ReadonlySet<string> = new Set(['.accesslog', '.config', '.stats', '.trash', '.conflicts']);

/** By path, in order: `file 644 0:0`, `fifo 600 0:0`, `char 644 0:0 259`. Symlinks are not followed. */
export function attributesIn(dir: string): ShownTree {
  const lines: Record<string, string> = {};
  const walk = (below: string): void => {
    for (const name of readdirSync(join(dir, below)).sort()) {
      if (below === '' && OUT_OF_VIEW.has(name)) continue;
      const path = join(below, name);
      const stat = lstatSync(join(dir, path));
      const mode = stat.isSymbolicLink() ? '' : ` ${(stat.mode & 0o7777).toString(8)}`;
      const device = stat.isBlockDevice() || stat.isCharacterDevice() ? ` ${stat.rdev}` : '';
      lines[path] = `${typeOf(stat)}${mode} ${stat.uid}:${stat.gid}${device}`;
      if (stat.isDirectory()) walk(path);
    }
  };
  walk('');
  return lines;
}

function typeOf(stat: ReturnType<typeof lstatSync> & object): string {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isFIFO()) return 'fifo';
  if (stat.isSocket()) return 'socket';
  return stat.isBlockDevice() ? 'block' : 'char';
}
