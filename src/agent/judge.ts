/** What of both sides is compared in a turn, and what comes of it: the step between observing and acting. */

import type { ConflictPolicy } from '../reconcile/conflict.ts';
import { isHeldByMoves, type CrossMoves } from '../reconcile/cross-moves.ts';
import type { Entry, Path } from '../reconcile/entry.ts';
import { ancestorsOf } from '../reconcile/push-change.ts';
import { reconcile, type Reconciled } from '../reconcile/reconcile.ts';
import type { Merger } from './conflict/merger.ts';
import type { Abilities } from './disk/abilities.ts';
import type { RemoteNews } from './follow/remote-news.ts';
import type { Remote } from './follow/remote.ts';
import type { Local } from './look/local.ts';
import type { Connection, Outbox } from './push/outbox.ts';
import { agreedAt, sameFields, type AncestorEntry } from './state/ancestor-entry.ts';
import type { Ledger } from './state/ledger.ts';
import type { Unadopted } from './unadopted.ts';

interface Options {
  readonly ledger: Ledger;
  readonly local: Local;
  readonly news: RemoteNews;
  readonly outbox: Outbox;
  readonly merger: Merger;
  readonly unadopted: Unadopted;
  readonly held: Abilities['held'];
  readonly conflict: ConflictPolicy;
  /** Whether local edits are pushed at all. */
  readonly isTwoWay: () => boolean;
}

export class Judge {
  readonly #o: Options;

  constructor(options: Options) {
    this.#o = options;
  }

  /** Whether a path is in the middle of something: it changes, is being pushed, or the volume has just refused it. */
  isBlocked(path: Path): boolean {
    const { local, outbox, news } = this.#o;
    if (local.busy.has(path) || outbox.isPushing(path)) return true;
    return outbox.isRefused(path, news.has(path));
  }

  /** Whether what was found somewhere stays there. In the idle tree it cannot, whatever goes on: the next flip needs that. */
  hasToWait(path: Path): boolean {
    const { local } = this.#o;
    return local.tops.has(path) ? this.isBlocked(path) : local.busy.has(path);
  }

  /** What is to be done, once all that can be merged has been tried; `moves` come before, and what they are about waits. */
  async decide(connection: Connection, moves: CrossMoves, signal: AbortSignal): Promise<Reconciled> {
    const { merger, news, ledger } = this.#o;
    const plan = this.#reconcile(connection.remote, moves);
    if (plan.untried.length + plan.merged.length + plan.conflicts.length === 0) merger.clear();
    if (plan.untried.length === 0) return plan;
    const revision = (path: Path): bigint => news.since(path) ?? ledger.state.revision;
    await merger.attempt(plan.untried, connection, revision, signal);
    return this.#reconcile(connection.remote, moves);
  }

  /** Notes what both sides turned out to have in common. */
  agree({ agreed }: Reconciled, revision: bigint): void {
    const { ledger, local, news } = this.#o;
    const { ancestor, replaced } = ledger.state;
    const entries: [Path, AncestorEntry | null][] = [];
    for (const [path, entry] of agreed) {
      if (!sameFields(ancestor.get(path), entry) || replaced.has(path))
        entries.push([path, entry === undefined ? null : agreedAt(entry, revision)]);
      news.settle(path);
    }
    if (entries.length > 0) ledger.write([{ t: 'ancestor', entries }], false);
    for (const path of agreed.keys()) local.settle(path);
  }

  #reconcile(remote: Remote, moves: CrossMoves): Reconciled {
    const { ledger, local: side, news, outbox, merger, unadopted, held, conflict, isTwoWay } = this.#o;
    const { ancestor, revision } = ledger.state;
    const local = new Map<Path, Entry | undefined>();
    const changed = new Map<Path, Entry | undefined>();
    const here = [...side.dirty, ...side.adoptions.keys()];
    unadopted.noteBelow(here, remote);
    for (const path of here) {
      if (this.isBlocked(path) || this.#isBelowBlocked(path) || ledger.state.unadopted.has(path)) continue;
      if (isHeldByMoves(moves, path, ancestor) || side.arrivesEarly(path)) continue;
      local.set(path, side.entryAt(path));
    }
    for (const path of news.paths) {
      if (side.busy.has(path) || outbox.isPushing(path) || this.#isBelowBlocked(path)) continue;
      if (isHeldByMoves(moves, path, ancestor)) continue;
      changed.set(path, remote.tree.get(path));
      // What is not known to differ is as the ancestor has it, but for paths that have none: there disk decides.
      if (!ancestor.has(path) && !local.has(path)) local.set(path, side.entryAt(path));
    }
    // A directory that nothing was published into knows of no edits: what it holds is not known to be newer.
    const decidesAlone = !isTwoWay() || revision === 0n;
    return reconcile({
      ancestor,
      local,
      remote: changed,
      held,
      policy: decidesAlone ? 'remote' : conflict,
      merged: (versions) => merger.result(versions),
    });
  }

  /** Whether a directory above is new, or not there any more, and has to wait: what is below it waits with it. */
  #isBelowBlocked(path: Path): boolean {
    const { ledger, local } = this.#o;
    for (const dir of ancestorsOf(path)) {
      if (!this.isBlocked(dir)) continue;
      // Whoever removed it at the top has not seen what comes below it from now on.
      if (local.leaving.has(dir)) return true;
      const entries = [ledger.state.ancestor.get(dir), local.entryAt(dir)];
      if (entries.some((entry) => entry?.type !== 'directory')) return true;
    }
    return false;
  }
}
