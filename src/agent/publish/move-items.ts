/** What a publish makes of moves that the other side made: the same inodes at other paths, edits and additions included. */

import type { Move } from '../../reconcile/cross-moves.ts';
import type { Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import { wantedForAdoption } from './items.ts';
import type { Layout } from '../disk/layout.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Wanted } from './wanted.ts';

export interface MoveItems {
  readonly items: Map<Path, Wanted | undefined>;
  /** What both sides agreed on, at the paths where it is then. */
  readonly ancestor: [Path, AncestorEntry | null][];
}

export function itemsOfMoves(state: LedgerState, layout: Layout, moves: readonly Move[]): MoveItems {
  const items = new Map<Path, Wanted | undefined>();
  const left: [Path, null][] = [];
  const arrived: [Path, AncestorEntry][] = [];
  for (const { base, from, to } of moves) {
    for (const [path, entry] of state.ancestor) {
      if (base === to || !isAtOrBelow(path, base)) continue;
      left.push([path, null]);
      arrived.push([to + path.slice(base.length), entry]);
    }
    if (from === to || state.active === undefined) continue;
    for (const path of state.slots.below(from)) {
      const slot = state.slots.get(path);
      if (slot === undefined) continue;
      const source = layout.inTree(state.active, path);
      items.set(path, undefined);
      items.set(to + path.slice(from.length), wantedForAdoption({ slot, source }));
    }
  }
  return { items, ancestor: [...left, ...arrived] };
}
