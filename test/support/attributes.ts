/** What `stat` says of the entries of a tree, in one line each. */

import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../src/agent/native.ts';
import type { ShownTree } from './agent.ts';

/** Names that the real client shows in the root of each mount, and what no view shows. */
const OUT_OF_VIEW: ReadonlySet<string> = new Set(['.accesslog', '.config', '.stats', '.trash', '.conflicts']);

/** Everything that the kernel says of a name but for its times. */
const STAT_ALONE = { xattrs: false, times: false };

/**
 * By path, in order: `file 644 0:0`, `fifo 600 0:0`, `char 644 0:0 259`, `file 644 0:0 user.k=v`. Symlinks are not
 * followed; times are cut to the microsecond, and directories have none.
 */
export function attributesIn(dir: string, { xattrs, times } = STAT_ALONE): ShownTree {
  const lines: Record<string, string> = {};
  const walk = (below: string): void => {
    for (const name of readdirSync(join(dir, below)).sort()) {
      if (below === '' && OUT_OF_VIEW.has(name)) continue;
      const path = join(below, name);
      const stat = lstatSync(join(dir, path));
      const mode = stat.isSymbolicLink() ? '' : ` ${(stat.mode & 0o7777).toString(8)}`;
      const device = stat.isBlockDevice() || stat.isCharacterDevice() ? ` ${stat.rdev}` : '';
      const held = xattrs && (stat.isFile() || stat.isDirectory()) ? xattrsOf(join(dir, path)) : '';
      const time = times && !stat.isDirectory() ? ` ${Math.floor(stat.mtimeMs * 1000)}` : '';
      lines[path] = `${typeOf(stat)}${mode} ${stat.uid}:${stat.gid}${device}${held}${time}`;
      if (stat.isDirectory()) walk(path);
    }
  };
  walk('');
  return lines;
}

function xattrsOf(path: string): string {
  const calls = native();
  if (calls === undefined) throw new Error('extended attributes cannot be read without the package koffi');
  const at = Buffer.from(path).toString('latin1');
  const names = calls.listXattrs(at).filter((name) => name.startsWith('user.'));
  return names
    .sort()
    .map((name) => ` ${name}=${calls.getXattr(at, name)}`)
    .join('');
}

function typeOf(stat: ReturnType<typeof lstatSync> & object): string {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isFIFO()) return 'fifo';
  if (stat.isSocket()) return 'socket';
  return stat.isBlockDevice() ? 'block' : 'char';
}
