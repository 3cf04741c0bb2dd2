/** `lstat` of a path in a tree, following no symlink on the way either: a name behind one is not in the tree (design G8). */

import type { Path } from '../../reconcile/entry.ts';
import type { Layout, TreeName } from './layout.ts';
import type { FileStat, FsPort } from '../base/ports.ts';

/**
 * What stands at a path of a tree; `undefined` also when something above it is no directory.
 * RACE: somebody with write access to DIR can put a symlink on the way right after this; what the agent does then
 * happens behind it, with the agent's rights.
 */
export function statInTree(
  fs: FsPort,
  label: string,
  layout: Layout,
  tree: TreeName,
  path: Path,
): FileStat | undefined {
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    if (fs.lstat(label, layout.inTree(tree, path.slice(0, slash)))?.type !== 'directory') return undefined;
  }
  return fs.lstat(label, layout.inTree(tree, path));
}
