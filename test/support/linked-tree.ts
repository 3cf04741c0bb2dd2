/** Trees in words with the names that share an inode, to be compared with each other. */

import { lstatSync } from 'node:fs';
import { mountedTree, plainTree, publishedTree, type ShownTree } from './agent.ts';

/** A tree, with each file that has several names followed by all of them. */
function withNames(tree: ShownTree, dir: string): ShownTree {
  const names = new Map<bigint, string[]>();
  const inodes = new Map<string, bigint>();
  for (const [path, line] of Object.entries(tree)) {
    if (!line.startsWith('file')) continue;
    const { ino } = lstatSync(Buffer.from(`${dir}/${path}`, 'latin1'), { bigint: true });
    inodes.set(path, ino);
    names.set(ino, [...(names.get(ino) ?? []), path].sort());
  }
  return Object.fromEntries(
    Object.entries(tree).map(([path, line]) => {
      const group = names.get(inodes.get(path) ?? 0n) ?? [];
      return [path, group.length < 2 ? line : `${line} = ${group.join(' ')}`];
    }),
  );
}

/** What a reader finds in the published tree of an agent's DIR. */
export function linkedPublished(dir: string): ShownTree {
  return withNames(publishedTree(dir), `${dir}/..data`);
}

/** What a directory without an agent holds. */
export function linkedPlain(dir: string): ShownTree {
  return withNames(plainTree(dir), dir);
}

/** What a mount shows. */
export function linkedMount(dir: string): ShownTree {
  return withNames(mountedTree(dir), dir);
}
