/** Directories of the trees as they were when they were listed. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { ancestorsOf } from '../../reconcile/push-change.ts';
import type { TreeName, Layout } from '../disk/layout.ts';
import type { FileStat, FsPort } from '../base/ports.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Slot } from '../disk/slot.ts';

export class Listed {
  readonly #fs: FsPort;
  readonly #layout: Layout;
  /** By their place on disk. */
  readonly #listed = new Map<ByteString, { readonly path: Path; readonly mtimeNs: bigint }>();

  constructor({ fs, layout }: { readonly fs: FsPort; readonly layout: Layout }) {
    this.#fs = fs;
    this.#layout = layout;
  }

  /** A directory is listed now. */
  note(at: ByteString, path: Path, mtimeNs: bigint): void {
    this.#listed.set(at, { path, mtimeNs });
  }

  /** Those of a tree in which names came or went since, or that got another mode. */
  touchedSince(tree: TreeName, { slots }: LedgerState): Path[] {
    const root = this.#layout.tree(tree);
    const touched: Path[] = [];
    // What was below a directory that is none any more is not there: where a symlink stands now, another one might be found.
    const gone = new Set<ByteString>();
    for (const [at, { path, mtimeNs }] of [...this.#listed].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (at !== root && !at.startsWith(`${root}/`)) continue;
      const isBelowGone = [...ancestorsOf(at)].some((above) => gone.has(above));
      const stat = isBelowGone ? undefined : this.#fs.lstat('look again', at);
      if (stat?.type !== 'directory') {
        gone.add(at);
        this.#listed.delete(at);
      } else if (stat.mtimeNs !== mtimeNs || hasOtherMode(slots.get(path), stat)) touched.push(path);
    }
    return touched;
  }

  /** This program changed directories itself: what is known of them counts no more until they are listed again. */
  forget(directories: Iterable<ByteString>): void {
    for (const at of directories) this.#listed.delete(at);
  }
}

function hasOtherMode(slot: Slot | undefined, { mode }: FileStat): boolean {
  return slot?.type === 'directory' && slot.signature.mode !== mode;
}
