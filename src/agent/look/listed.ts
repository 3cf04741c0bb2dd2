/** Directories of the trees as they were when they were listed. */

import type { ByteString } from '../../codec/kv.ts';
import { parentOf, type Path } from '../../reconcile/entry.ts';
import { ancestorsOf } from '../../reconcile/push-change.ts';
import type { TreeName, Layout } from '../disk/layout.ts';
import { otherModes } from '../disk/tree-stat.ts';
import type { FsPort } from '../base/ports.ts';
import type { LedgerState } from '../state/ledger-state.ts';

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly excluded: (path: Path) => boolean;
}

export class Listed {
  readonly #o: Options;
  /** By their place on disk. */
  readonly #listed = new Map<ByteString, { readonly path: Path; readonly mtimeNs: bigint }>();

  constructor(options: Options) {
    this.#o = options;
  }

  /** A directory is listed now. */
  note(at: ByteString, path: Path, mtimeNs: bigint): void {
    this.#listed.set(at, { path, mtimeNs });
  }

  /**
   * Those of a tree in which names came or went since, and those that hold one with another mode than it is known by: that is found
   * in the tree that is shown alone, so that it counts whether that directory is listed or not.
   */
  touchedSince(tree: TreeName, { slots }: LedgerState): Path[] {
    const { fs, layout, excluded } = this.#o;
    const root = layout.tree(tree);
    const touched: Path[] = [];
    // What was below a directory that is none any more is not there: where a symlink stands now, another one might be found.
    const gone = new Set<ByteString>();
    for (const [at, { path, mtimeNs }] of [...this.#listed].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (at !== root && !at.startsWith(`${root}/`)) continue;
      const isBelowGone = [...ancestorsOf(at)].some((above) => gone.has(above));
      const stat = isBelowGone ? undefined : fs.lstat('look again', at);
      if (stat?.type !== 'directory') {
        gone.add(at);
        this.#listed.delete(at);
      } else if (stat.mtimeNs !== mtimeNs) touched.push(path);
    }
    for (const { path } of otherModes(fs, layout, tree, slots))
      if (!excluded(path)) touched.push(parentOf(path) ?? '');
    return touched;
  }

  /** This program changed directories itself: what is known of them counts no more until they are listed again. */
  forget(directories: Iterable<ByteString>): void {
    for (const at of directories) this.#listed.delete(at);
  }
}
