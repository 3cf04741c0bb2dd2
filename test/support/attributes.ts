/** What `stat` says of the entries of a tree, in one line each. */

import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../src/agent/disk/native.ts';
import type { ShownTree } from './agent.ts';

/** Names that the real client shows in the root of each mount, and what no view shows. */
const OUT_OF_VIEW: ReadonlySet<string> = new Set(['.accesslog', '.config', '.stats', '.trash', '.conflicts']);

/** Everything that the kernel says of a name but for its times. */
const STAT_ALONE = { xattrs: false, times: false };

/**
 * By path, a byte string, in order: `file 644 0:0`, `fifo 600 0:0`, `char 644 0:0 259`, `file 644 0:0 user.k=v`. Symlinks are not
 * followed; times are cut to the microsecond, and directories have none.
 */
export function attributesIn(dir: string, { xattrs, times } = STAT_ALONE): ShownTree {
  const lines: Record<string, string> = {};
  const root = Buffer.from(dir).toString('latin1');
  const walk = (below: string): void => {
    for (const name of readdirSync(raw(join(root, below)), 'latin1').sort()) {
      if (below === '' && OUT_OF_VIEW.has(name)) continue;
      const path = join(below, name);
      const at = join(root, path);
      const stat = lstatSync(raw(at));
      const mode = stat.isSymbolicLink() ? '' : ` ${(stat.mode & 0o7777).toString(8)}`;
      const device = stat.isBlockDevice() || stat.isCharacterDevice() ? ` ${stat.rdev}` : '';
      const held = xattrs && (stat.isFile() || stat.isDirectory()) ? xattrsOf(at) : '';
      const time =
        times && !stat.isDirectory() ? ` ${lstatSync(raw(at), { bigint: true }).mtimeNs / 1000n}` : '';
      lines[path] = `${typeOf(stat)}${mode} ${stat.uid}:${stat.gid}${device}${held}${time}`;
      if (stat.isDirectory()) walk(path);
    }
  };
  walk('');
  return lines;
}

function raw(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}

function xattrsOf(at: string): string {
  const calls = native();
  if (calls === undefined) throw new Error('extended attributes cannot be read without the package koffi');
  const names = calls.listXattrs(at).filter((name) => /^(user|system\.posix_acl_)/.test(name));
  const values = names.sort().map((name): string => {
    const value = calls.getXattr(at, name) ?? '';
    return ` ${name}=${name.startsWith('user.') ? value : Buffer.from(value, 'latin1').toString('hex')}`;
  });
  return values.join('');
}

function typeOf(stat: ReturnType<typeof lstatSync> & object): string {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isFIFO()) return 'fifo';
  if (stat.isSocket()) return 'socket';
  return stat.isBlockDevice() ? 'block' : 'char';
}
