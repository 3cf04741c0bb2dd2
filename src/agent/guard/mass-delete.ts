/** Judges the removals of a turn: which may run, which wait for a person, and when DIR has to be put back (design 4.6). */

import type { Change } from '../../reconcile/change.ts';
import type { Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import { guardHere, guardVolume, removedFiles, type GuardName, type Trip } from '../../reconcile/safety.ts';
import type { Guards } from './guards.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Clock, FsPort } from '../base/ports.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** Removals that come one after the other within this time count as one; milliseconds. */
const AT_ONCE_MS = 10_000;
/** So many files that are going are waited for before any of them is pushed as gone. */
const MANY_GOING = 10;

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly guards: Guards;
  readonly maxPercent: number;
}

export interface Turn {
  readonly toLocal: readonly Change[];
  readonly toRemote: readonly Change[];
  /** Local paths that have not settled. */
  readonly busy: ReadonlySet<Path>;
  /** Whether the directory of the volume that is shown is there no more. */
  readonly isRootGone: boolean;
}

/**
 * `pass`: all of it may run. `held`: nothing is published and nothing pushed. `later`: removals are not pushed yet, more
 * are under way. `restore`: what is gone from DIR is put back, and not removed from the volume.
 */
export type MassDeleteVerdict = 'pass' | 'held' | 'later' | 'restore';

type Side = 'here' | 'volume';

/** Remembers what went lately, so that a removal in small portions is seen for what it is. */
export class MassDelete {
  readonly #o: Options;
  readonly #lately: Record<Side, Map<Path, { readonly ms: number; readonly count: 1 | -1 }>> = {
    here: new Map(),
    volume: new Map(),
  };
  /** What a person has let go. */
  readonly #accepted: Record<Side, Set<Path>> = { here: new Set(), volume: new Set() };
  #waitingSinceMs: number | undefined;

  constructor(options: Options) {
    this.#o = options;
  }

  judge(turn: Turn): MassDeleteVerdict {
    const { guards, ledger, maxPercent } = this.#o;
    const isRemoval = ({ new: next }: Change): boolean => next === undefined;
    if (!turn.toLocal.some(isRemoval) && !turn.toRemote.some(isRemoval)) {
      this.#waitingSinceMs = undefined;
      return this.#passed(turn);
    }
    const files = this.#files();
    const plan = (side: Side, changes: readonly Change[]): Parameters<typeof guardHere>[0] => {
      const asked = changes.filter(({ path }) => !this.#accepted[side].has(path));
      return { files, changes: asked, maxPercent, before: this.#before(side, changes) };
    };
    const trips: [Side, Trip | undefined][] = [
      ['here', guardHere({ ...plan('here', turn.toLocal), isRootGone: turn.isRootGone })],
      ['volume', guardVolume(plan('volume', turn.toRemote))],
    ];
    const tripped = new Set<GuardName>();
    let verdict: MassDeleteVerdict = 'pass';
    for (const [side, trip] of trips) {
      if (trip === undefined) continue;
      tripped.add(trip.guard);
      const answer = guards.judge(ledger, trip.guard, trip);
      if (trip.guard === 'directory') {
        if (verdict === 'pass') verdict = 'restore';
      } else if (answer === 'held') verdict = 'held';
      else this.#accept(side, side === 'here' ? turn.toLocal : turn.toRemote);
    }
    this.#release(tripped);
    if (verdict !== 'pass') return verdict;
    if (this.#isMoreGoing(turn, files)) return 'later';
    return this.#passed(turn);
  }

  #release(tripped: ReadonlySet<GuardName>): void {
    const { guards, ledger } = this.#o;
    for (const guard of ['empty', 'delete', 'directory'] as const)
      if (!tripped.has(guard)) guards.judge(ledger, guard, undefined);
  }

  #passed({ toLocal, toRemote }: Turn): MassDeleteVerdict {
    this.#release(new Set());
    this.#note('here', toLocal);
    this.#note('volume', toRemote);
    return 'pass';
  }

  #files(): number {
    let files = 0;
    for (const { type } of this.#o.ledger.state.ancestor.values()) if (type === 'file') files += 1;
    return files;
  }

  #accept(side: Side, changes: readonly Change[]): void {
    for (const path of removedFiles(changes)) this.#accepted[side].add(path);
  }

  #note(side: Side, changes: readonly Change[]): void {
    const ms = this.#o.clock.monotonicMs();
    const lately = this.#lately[side];
    const accepted = this.#accepted[side];
    for (const { path, old, new: next } of changes) {
      if (old?.type === 'file' && next === undefined && !accepted.has(path))
        lately.set(path, { ms, count: 1 });
      else if (old === undefined && next?.type === 'file') lately.set(path, { ms, count: -1 });
      // It is there again: a later removal is another one.
      if (next !== undefined) accepted.delete(path);
    }
    const { ancestor } = this.#o.ledger.state;
    for (const path of accepted) if (!ancestor.has(path)) accepted.delete(path);
  }

  /** How many files fewer there are because of what ran a moment ago. */
  #before(side: Side, now: readonly Change[]): number {
    const lately = this.#lately[side];
    const sinceMs = this.#o.clock.monotonicMs() - AT_ONCE_MS;
    const again = new Set(now.map(({ path }) => path));
    let gone = 0;
    for (const [path, { ms, count }] of lately) {
      if (ms < sinceMs) lately.delete(path);
      else if (!again.has(path)) gone += count;
    }
    return Math.max(0, gone);
  }

  /**
   * Whether so much more of DIR is going that a removal must not be pushed before all of it is known. Waits no longer
   * than removals count as one.
   */
  #isMoreGoing(turn: Turn, files: number): boolean {
    const { clock, maxPercent } = this.#o;
    const removed = new Set(removedFiles(turn.toRemote));
    const going = removed.size === 0 ? [] : this.#going(turn.busy).filter(({ path }) => !removed.has(path));
    const changes = [...turn.toRemote, ...going];
    const isMany =
      going.length >= MANY_GOING ||
      (going.length > 0 && guardVolume({ files, changes, maxPercent }) !== undefined);
    if (!isMany) {
      this.#waitingSinceMs = undefined;
      return false;
    }
    this.#waitingSinceMs ??= clock.monotonicMs();
    return clock.monotonicMs() - this.#waitingSinceMs < AT_ONCE_MS;
  }

  /** Files that are gone from DIR and have not been so for long enough to count. */
  #going(busy: ReadonlySet<Path>): Change[] {
    const { fs, layout, ledger } = this.#o;
    const { active, ancestor } = ledger.state;
    if (active === undefined) return [];
    const gone = [...busy].filter((path) => {
      const top = path.split('/', 1)[0] ?? path;
      return (
        fs.lstat('look again', layout.top(top)) === undefined ||
        statInTree(fs, 'look again', layout, active, path) === undefined
      );
    });
    if (gone.length === 0) return [];
    const isGone = new Set(gone);
    return [...ancestor].flatMap(([path, old]) =>
      old.type === 'file' && (isGone.has(path) || gone.some((above) => isAtOrBelow(path, above)))
        ? [{ path, old, new: undefined }]
        : [],
    );
  }
}
