/** What the verbs that write share: open for writing, push until nobody came first, and say what could not be done. */

import { createHash } from 'node:crypto';
import { escapeBytes } from '../../codec/bytes.ts';
import type { FileEntry } from '../../reconcile/entry.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import type { ReadContent } from '../push/content.ts';
import { Pusher, type ChangeOutcome } from '../push/push.ts';
import type { Volume } from '../volume/volume.ts';
import { shownPath, VolumeTree, type VolumeNode } from '../volume/volume-tree.ts';
import { EXIT, print, type VerbContext } from './context.ts';
import { withSignal } from '../base/signal.ts';

/** How often the changes are made up anew because another writer came first. */
const TRIES = 20;
/** How often, if the same entries are in the way each time: then they are no race. */
const EQUAL_TRIES = 3;

/** What a push of a verb came to. */
export interface Pushed {
  readonly committed: readonly ChangeOutcome[];
  readonly transactions: number;
  /** 0, or 5 when something could not be done; that was said. */
  readonly exitCode: number;
}

/**
 * Makes changes from what the volume has, pushes them, and does both again where another writer came first. What is
 * refused is printed and left out.
 */
export async function pushUntilDone(
  context: VerbContext,
  volume: Volume,
  verb: string,
  changesFor: (
    tree: VolumeTree,
  ) => Promise<{ readonly changes: readonly PushChange[]; readonly read: ReadContent }>,
  onProgress?: (done: number, total: number) => void,
): Promise<Pushed> {
  const { store, clock, signal } = context;
  const pusher = new Pusher(store, volume, clock);
  const committed: ChangeOutcome[] = [];
  const refused = new Map<string, string>();
  let transactions = 0;
  let open: readonly ChangeOutcome[] = [];
  let equalTries = 0;
  for (let tries = 0; tries < TRIES && equalTries < EQUAL_TRIES; tries += 1) {
    const { revision } = await store.status(signal);
    const { changes, read } = await changesFor(new VolumeTree(store, volume, revision, signal));
    const wanted = changes.filter(({ path }) => !refused.has(path));
    if (wanted.length === 0) {
      open = [];
      break;
    }
    const outcome = await pusher.push(wanted, {
      read,
      ...withSignal(signal),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    transactions += outcome.revisions.length;
    committed.push(...outcome.changes.filter((one) => one.outcome === 'committed'));
    for (const one of outcome.changes)
      if (one.outcome === 'refused') refused.set(one.change.path, one.reason);
    const before = inTheWay(open);
    open = outcome.changes.filter((one) => one.outcome !== 'committed' && one.outcome !== 'refused');
    if (open.length === 0) break;
    equalTries = inTheWay(open) === before && before !== '' ? equalTries + 1 : 1;
  }
  for (const [path, reason] of refused) {
    await print(context.err, `${verb}: ${escapeBytes(shownPath(path))}: ${reason}\n`);
  }
  for (const one of open) {
    await print(context.err, `${verb}: ${escapeBytes(shownPath(one.change.path))}: ${whyOpen(one)}\n`);
  }
  const exitCode = refused.size + open.length === 0 ? EXIT.done : EXIT.problems;
  return { committed, transactions, exitCode };
}

/** Equal texts for equal obstacles; empty where another writer was in the way. */
function inTheWay(open: readonly ChangeOutcome[]): string {
  if (open.some(({ outcome }) => outcome !== 'stale')) return '';
  return JSON.stringify(open.map((one) => [one.change.path, whyOpen(one)]));
}

function whyOpen(one: ChangeOutcome): string {
  switch (one.outcome) {
    case 'changed':
      return 'it changed while it was read';
    case 'stale':
      return one.reason;
    default:
      return 'other writers came first each time';
  }
}

/**
 * The change that gives a file of the volume new contents and mode; `undefined` if it has them. Its contents are read
 * only where the size leaves a doubt.
 */
export async function fileChange(
  tree: VolumeTree,
  node: VolumeNode,
  wanted: FileEntry,
): Promise<PushChange | undefined> {
  const digest = node.attr?.length === wanted.size ? await digestOf(tree, node) : '';
  const old = tree.entryOf(node, digest, '');
  if (old === undefined) return undefined;
  const isSame = digest === wanted.digest && (old.mode & 0o777) === (wanted.mode & 0o777);
  if (isSame) return undefined;
  return { path: node.path, old, new: wanted, expect: { attrModRevision: node.attrModRevision } };
}

async function digestOf(tree: VolumeTree, node: VolumeNode): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of tree.content(node)) hash.update(bytes);
  return hash.digest('hex');
}

/** Who owns a new entry: as on disk where this process could have made it so, else as the directory it goes into. */
export function ownerOf(
  local: { readonly uid: number; readonly gid: number },
  parent: { readonly uid: number; readonly gid: number },
): { readonly uid: number; readonly gid: number } {
  const { uid, gid } = process.getuid?.() === 0 ? local : parent;
  return { uid, gid };
}
