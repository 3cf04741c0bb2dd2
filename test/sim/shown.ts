/** Trees as one line an entry, so that sides can be compared. */

import { targetInVolume } from '../../src/reconcile/target.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import type { MemoryFs } from '../support/memory-fs.ts';
import type { MountSite } from './mount.ts';
import { ROOT } from './pod.ts';

export type Shown = ReadonlyMap<Path, string>;

function join(dir: Path, name: string): Path {
  return dir === '' ? name : `${dir}/${name}`;
}

/** What the volume holds. */
export function volumeShown(mount: MountSite): Shown {
  const shown = new Map<Path, string>();
  const walk = (dir: Path): void => {
    for (const name of mount.list(dir)) {
      const path = join(dir, name);
      const kind = mount.kind(path);
      const look = mount.look(path);
      if (kind === undefined || look === undefined) continue;
      const mode = (look.mode & 0o777).toString(8);
      if (kind === 'directory') {
        shown.set(path, `directory ${mode}`);
        walk(path);
      } else if (kind === 'symlink') shown.set(path, `-> ${look.target}`);
      else shown.set(path, `file ${mode} ${JSON.stringify(mount.text(path))}`);
    }
  };
  walk('');
  return shown;
}

/** What a served directory shows through `..data`. */
export function diskShown(fs: MemoryFs, tree: string = `${ROOT}/..data`): Shown {
  const shown = new Map<Path, string>();
  if (fs.stat(tree)?.type !== 'directory') return shown;
  const walk = (dir: Path): void => {
    for (const name of fs.readdir('check', join(tree, dir))) {
      const path = join(dir, name);
      const at = `${tree}/${path}`;
      const stat = fs.lstat('check', at);
      if (stat === undefined) continue;
      const mode = (stat.mode & 0o777).toString(8);
      if (stat.type === 'directory') {
        shown.set(path, `directory ${mode}`);
        walk(path);
      } else if (stat.type === 'symlink') {
        shown.set(path, `-> ${targetInVolume(fs.readlink('check', at) ?? '', path, ROOT)}`);
      } else if (stat.type === 'file') {
        shown.set(path, `file ${mode} ${JSON.stringify(Buffer.from(fs.readFile(at)).toString('latin1'))}`);
      } else shown.set(path, stat.type);
    }
  };
  walk('');
  return shown;
}

/** A tree, with each file that has several names followed by all of them. */
export function withNames(shown: Shown, identityAt: (path: Path) => unknown): Shown {
  const files = [...shown].filter(([, line]) => line.startsWith('file')).map(([path]) => path);
  const names = new Map<unknown, Path[]>();
  for (const path of files) names.set(identityAt(path), [...(names.get(identityAt(path)) ?? []), path]);
  const all = (path: Path): readonly Path[] => names.get(identityAt(path)) ?? [];
  return new Map(
    [...shown].map(([path, line]) => {
      const group = line.startsWith('file') ? all(path) : [];
      return [path, group.length < 2 ? line : `${line} = ${group.join(' ')}`];
    }),
  );
}

/** How two sides differ, in words. */
export function differences(a: Shown, b: Shown): string[] {
  const paths = [...new Set([...a.keys(), ...b.keys()])].sort();
  return paths
    .filter((path) => a.get(path) !== b.get(path))
    .map((path) => `${path}: ${a.get(path) ?? 'nothing'} | ${b.get(path) ?? 'nothing'}`);
}

/** Every inode and ctime outside the state directory. */
export function identities(fs: MemoryFs): string[] {
  const lines: string[] = [];
  const walk = (dir: string): void => {
    for (const name of fs.readdir('check', dir)) {
      const at = `${dir}/${name}`;
      if (at === `${ROOT}/..etcd-etc-agent`) continue;
      const stat = fs.lstat('check', at);
      if (stat === undefined) continue;
      lines.push(`${at} ${stat.ino} ${stat.ctimeNs}`);
      if (stat.type === 'directory') walk(at);
    }
  };
  walk(ROOT);
  return lines;
}

/** The text of every file below a directory, whoever it belongs to. */
export function* textsBelow(fs: MemoryFs, dir: string): Iterable<string> {
  for (const name of fs.readdir('check', dir)) {
    const at = `${dir}/${name}`;
    const type = fs.lstat('check', at)?.type;
    if (type === 'directory') yield* textsBelow(fs, at);
    else if (type === 'file') yield fs.textAt(at) ?? '';
  }
}
