/** Builds what has no names yet below a directory without a name, and takes it away again (ADR 6). */

import { decodeAttr } from '../../codec/attr.ts';
import { decodeDentry } from '../../codec/dentry.ts';
import { dentryRange, encodeKey, inodeRange } from '../../codec/key.ts';
import type { ByteString, StoreTransaction } from '../../codec/kv.ts';
import type { Setting } from '../../codec/setting.ts';
import { Accounting } from '../../reconcile/accounting.ts';
import { planBuild, type BuildPlan, type DetachedTree } from '../../reconcile/detached.ts';
import { Draft, Unanswered } from '../../reconcile/draft.ts';
import { LIMITS } from '../../reconcile/limits.ts';
import type { Clock, CommitResult, EtcdStore } from '../base/ports.ts';
import { lostOnAccounts } from './push-verdict.ts';
import { PushView } from './push-view.ts';
import type { Volume } from '../volume/volume.ts';
import { withSignal } from '../base/signal.ts';

/** Inodes that are taken away in one transaction. */
const REMOVED_AT_ONCE = 100;
/** Longest wait before a transaction that lost on accounts alone is built again, in milliseconds. */
const JITTER_MS = 20;

/** What building and taking away need of the world. */
export interface HoldContext {
  readonly store: EtcdStore;
  readonly volume: Volume;
  readonly clock: Clock;
}

interface BuildOptions {
  readonly view: PushView;
  /** As it is now. */
  readonly setting: Setting;
  readonly nowNs: bigint;
  readonly signal: AbortSignal | undefined;
  /** Sends a transaction; the caller notes whether its outcome is in doubt. */
  readonly send: (transaction: StoreTransaction) => Promise<CommitResult>;
  readonly onCommitted: (transaction: StoreTransaction, revision: bigint) => void;
  /** What a transaction that lost without a known outcome left is known now. */
  readonly onKnown: () => void;
}

/** Builds a tree, parents first. `lost`: somebody took it away meanwhile. */
export async function buildHold(
  { store, volume, clock }: HoldContext,
  tree: DetachedTree,
  { view, setting, nowNs, signal, send, onCommitted, onKnown }: BuildOptions,
): Promise<'built' | 'lost'> {
  for (let done = 0; done < tree.pieces.length;) {
    const plan = await planned(view, signal, () =>
      planBuild({
        view,
        prefix: volume.prefix,
        tree,
        done,
        setting,
        nowNs,
        limits: LIMITS,
      }),
    );
    if (plan.status === 'gone') return 'lost';
    const { transaction } = plan;
    const result = await send(transaction);
    let revision = result.outcome === 'committed' ? result.revision : undefined;
    if (result.outcome === 'lost' && result.ambiguous) {
      // Nobody else writes below a directory without a name.
      const key = volume.prefix + firstKey(tree, done);
      revision = (await store.get([key], withSignal(signal))).kvs[0]?.modRevision;
      onKnown();
    }
    if (revision !== undefined) {
      onCommitted(transaction, revision);
      done = plan.done;
    } else if (result.outcome === 'lost') {
      if (!lostOnAccounts(view, volume.prefix, transaction, result.current)) return 'lost';
      view.learn(result.current, result.revision);
      await clock.sleep(JITTER_MS * clock.random(), signal);
    }
  }
  return 'built';
}

function firstKey(tree: DetachedTree, done: number): ByteString {
  const put = tree.pieces[done]?.puts[0];
  if (put === undefined) throw new RangeError('a piece puts at least one key');
  return encodeKey(put.key);
}

async function planned(
  view: PushView,
  signal: AbortSignal | undefined,
  plan: () => BuildPlan,
): Promise<Exclude<BuildPlan, { status: 'need' }>> {
  for (;;) {
    const result = plan();
    if (result.status !== 'need') return result;
    await view.fetch(result, signal);
  }
}

/**
 * Takes a directory without a name away with all that is below it, and subtracts it from the totals. Its blocks are the
 * caller's. Nothing that is under way can give it names afterwards. May be repeated after any failure.
 */
export async function removeHold(context: HoldContext, ino: bigint): Promise<void> {
  const { store, volume } = context;
  const mark = volume.keyOf({ kind: 'detached', ino });
  for (;;) {
    const stored = (await store.get([mark])).kvs[0];
    if (stored === undefined) return;
    // Whatever relies on the mark has lost from here on.
    const fence = await store.commit({
      compares: [{ key: mark, modRevision: stored.modRevision }],
      ops: [{ type: 'put', key: mark, value: stored.value }],
    });
    if (fence.outcome === 'committed') break;
  }
  const inodes = await inodesBelow(context, ino);
  for (let at = 0; at < inodes.length; at += REMOVED_AT_ONCE) {
    await removeInodes(context, ino, inodes.slice(at, at + REMOVED_AT_ONCE));
  }
}

interface Below {
  readonly ino: bigint;
  readonly isDirectory: boolean;
}

/** All inodes at and below a directory, what is below a directory before it. */
async function inodesBelow({ store, volume }: HoldContext, root: bigint): Promise<Below[]> {
  const found: Below[] = [{ ino: root, isDirectory: true }];
  // A file may have several names.
  const seen = new Set([root]);
  for (let at = 0; at < found.length; at += 1) {
    const above = found[at];
    if (above?.isDirectory !== true) continue;
    const range = dentryRange(above.ino);
    await store.snapshot([{ start: volume.prefix + range.start, end: volume.prefix + range.end }], (kv) => {
      const { ino, type } = decodeDentry(kv.value);
      if (!seen.has(ino)) found.push({ ino, isDirectory: type === 'directory' });
      seen.add(ino);
    });
  }
  return found.reverse();
}

async function removeInodes(
  { store, volume, clock }: HoldContext,
  hold: bigint,
  inodes: readonly Below[],
): Promise<void> {
  const view = new PushView(store, volume.prefix, undefined);
  for (;;) {
    const draft = new Draft(view, volume.prefix);
    const accounting = new Accounting(volume.setting);
    try {
      draft.expect(
        { kind: 'detached', ino: hold },
        ...inodes.map(({ ino }) => ({ kind: 'attr', ino }) as const),
      );
      if (draft.get({ kind: 'detached', ino: hold }) === undefined) return;
      for (const { ino, isDirectory } of inodes) {
        const value = draft.peek({ kind: 'attr', ino });
        if (value !== undefined && ino === hold) accounting.dropUnowned(decodeAttr(value));
        else if (value !== undefined) accounting.drop(decodeAttr(value));
        draft.deleteRange(inodeRange(ino));
        if (isDirectory) draft.delete({ kind: 'dirStat', ino });
        if (ino === hold) draft.delete({ kind: 'detached', ino });
      }
      accounting.settle(draft, clock.nowNs());
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      await view.fetch(error.need);
      continue;
    }
    const result = await store.commit(draft.finish());
    if (result.outcome === 'committed') return;
    // Lost on the counters, or to an attempt of its own: then the mark or the attrs are gone, and are not counted twice.
    view.forget();
    await clock.sleep(JITTER_MS * clock.random());
  }
}
