/** DIR itself: whether it is still the one that is served, and what to do when the agent's own names in it are damaged. */

import { otherTree, type Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import { log } from '../base/log.ts';
import type { Clock, FsPort } from '../base/ports.ts';

/** Which directories a path led to. */
export interface Identity {
  readonly root: string;
  readonly state: string;
}

/** What DIR and the state directory are now; what is missing or no directory has no identity. */
export function identityOf(fs: FsPort, layout: Layout): Identity {
  const of = (path: string): string => {
    const stat = fs.lstat('identify', path);
    return stat?.type === 'directory' ? `${stat.dev}:${stat.ino}` : '';
  };
  return { root: of(layout.root), state: of(layout.state) };
}

/** Why DIR is not the one it was; `undefined` while it is. */
export function whyReplaced(before: Identity, now: Identity): string | undefined {
  if (now.root === '') return 'the directory is gone';
  if (now.root !== before.root) return 'the directory was replaced by another one';
  if (now.state !== before.state) return 'the state directory was removed or replaced';
  return undefined;
}

interface RestoreContext {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
}

/**
 * Makes what the state says of the trees true again, or forgets it. A `..data` that is missing or leads elsewhere is put
 * back. Without the tree that was published nothing of what was agreed on counts: the volume is published anew, what is
 * left on disk agrees, conflicts or stays, and nothing is removed from the volume.
 */
export function restoreTrees(context: RestoreContext): void {
  const { fs, layout, ledger } = context;
  const { active, intent } = ledger.state;
  if (active === undefined) return;
  const isTree = (tree: typeof active): boolean =>
    fs.lstat('restore', layout.tree(tree))?.type === 'directory';
  const text = fs.readlink('restore', layout.data);
  const led = (['a', 'b'] as const).find((tree) => text === `..${tree}`);
  // A publish that was cut off by a crash: recovery knows what to do.
  if (led !== undefined && isTree(led) && (led === active || intent?.tree === led)) return;
  for (const tree of [active, otherTree(active)]) if (!isTree(tree)) moveAside(context, layout.tree(tree));
  const left = isTree(active) ? active : otherTree(active);
  if (left !== active) {
    log('error', 'published tree lost', { reason: `..${active} is gone: what was agreed on is forgotten` });
    ledger.write([{ t: 'forgotten', trees: true }], true);
  }
  if (text === undefined) moveAside(context, layout.data);
  if (!isTree(left)) {
    if (text !== undefined) fs.unlink('restore', layout.data);
    return;
  }
  if (fs.lstat('restore', layout.dataTmp) !== undefined) fs.unlink('restore', layout.dataTmp);
  fs.symlink('restore', `..${left}`, layout.dataTmp);
  fs.rename('restore', layout.dataTmp, layout.data);
  log('warn', 'restored', { name: '..data' });
}

/** What somebody put in the place of one of the agent's names: nobody has looked into it, so it is kept. */
function moveAside({ fs, layout, clock }: RestoreContext, at: string): void {
  if (fs.lstat('move aside', at) === undefined) return;
  const to = `${layout.parked}/found-${clock.uuid()}`;
  fs.rename('move aside', at, to);
  log('warn', 'moved aside', { from: at, to });
}
