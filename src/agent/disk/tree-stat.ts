/** `lstat` of a path in a tree, following no symlink on the way either: a name behind one is not in the tree (design G8). */

import { codeOf } from '../base/error.ts';
import type { Path } from '../../reconcile/entry.ts';
import type { Layout, TreeName } from './layout.ts';
import type { FileStat, FsPort } from '../base/ports.ts';
import type { Slot, SlotTree } from './slot.ts';

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

/** A directory of a tree that has another mode than it is known by. */
interface OtherMode {
  readonly path: Path;
  readonly slot: Slot;
  readonly stat: FileStat;
}

/** The directories of a tree that have other modes than in `slots`, as far as none above them is closed to this agent. */
export function* otherModes(
  fs: FsPort,
  layout: Layout,
  tree: TreeName,
  slots: Pick<SlotTree, 'entries'>,
): Generator<OtherMode> {
  for (const [path, slot] of slots.entries()) {
    if (slot.type !== 'directory') continue;
    const isOther = (stat: FileStat | undefined): stat is FileStat =>
      stat?.type === 'directory' && stat.mode !== slot.signature.mode;
    let stat: FileStat | undefined;
    try {
      stat = fs.lstat('look at mode', layout.inTree(tree, path));
      // Nearly all of them are as they were: what is above them matters for the others alone.
      if (isOther(stat)) stat = statInTree(fs, 'look at mode', layout, tree, path);
    } catch (error) {
      if (codeOf(error) !== 'EACCES') throw error;
    }
    if (isOther(stat)) yield { path, slot, stat };
  }
}
