/** Moves of one side that changes of the other side cross: each is made on that side by itself, and edits follow (design 4.4). */

import { findCrossMoves, NO_MOVES, type CrossMoves, type Move } from '../../reconcile/cross-moves.ts';
import type { Entry, Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import type { Abilities } from '../disk/abilities.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Local } from '../look/local.ts';
import { log } from '../base/log.ts';
import { itemsOfMoves } from '../publish/move-items.ts';
import type { Outbox } from '../push/outbox.ts';
import type { PathProblems } from '../disk/path-problems.ts';
import type { FsPort } from '../base/ports.ts';
import type { Publisher } from '../publish/publisher.ts';
import type { RemoteNews } from '../follow/remote-news.ts';
import type { Remote } from '../follow/remote.ts';
import { statInTree } from '../disk/tree-stat.ts';

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly local: Local;
  readonly abilities: Abilities;
  readonly outbox: Outbox;
  readonly publisher: Publisher;
  readonly problems: PathProblems;
  /** Local edits are carried and not pushed. */
  readonly carryOnly: boolean;
  /** Whether local edits are pushed at all. */
  readonly isTwoWay: () => boolean;
  readonly news: RemoteNews;
}

export class Crossing {
  readonly #o: Options;

  constructor(options: Options) {
    this.#o = options;
  }

  /** Nothing is known of moves in a directory without a past. */
  find(remote: Remote): CrossMoves {
    const { ledger, local: side, abilities, outbox, carryOnly, isTwoWay, news } = this.#o;
    const { ancestor, revision, unadopted } = ledger.state;
    const { dirty, adoptions, busy } = side;
    const isQuiet = dirty.size + adoptions.size + busy.size === 0;
    if (isQuiet || news.size === 0 || revision === 0n || !isTwoWay()) return NO_MOVES;
    const paths = [...new Set([...dirty, ...adoptions.keys()])].filter((path) => !unadopted.has(path));
    const local = new Map(paths.map((path) => [path, side.entryAt(path)]));
    const arriving = this.#arriving();
    for (const [path, { entry }] of arriving) local.set(path, entry);
    return findCrossMoves({
      ancestor,
      local,
      remote: new Map([...news.paths].map((path) => [path, remote.tree.get(path)])),
      held: abilities.held,
      cameFrom: (path) => arriving.get(path)?.from ?? side.cameFrom(path),
      // What was found beside the trees comes into them first.
      unsettled: new Set([...busy, ...adoptions.keys(), ...outbox.pushing]),
      isRefused: (move) => carryOnly || outbox.isMoveRefused(move),
    });
  }

  /** What was moved to a path where it has not settled yet: its old path is not to be taken for removed. */
  #arriving(): Map<Path, { readonly from: Path; readonly entry: Entry }> {
    const { fs, ledger, layout, local } = this.#o;
    const { active, ancestor } = ledger.state;
    const found = new Map<Path, { readonly from: Path; readonly entry: Entry }>();
    for (const path of local.busy) {
      if (active === undefined || ancestor.has(path)) continue;
      const stat = statInTree(fs, 'look for moves', layout, active, path);
      const from = stat?.type === 'file' ? local.leftBy(stat.ino, path) : undefined;
      const entry = from === undefined ? undefined : ancestor.get(from);
      if (from !== undefined && entry !== undefined) found.set(path, { from, entry });
    }
    return found;
  }

  /** Moves made in the volume, here: in a flip of their own, so that what crosses them is compared where it is then. */
  async publish(moves: readonly Move[], remote: Remote): Promise<void> {
    const { ledger, layout, local, publisher, problems, news } = this.#o;
    const { items, ancestor } = itemsOfMoves(ledger.state, layout, moves);
    const { revision } = ledger.state;
    const result =
      items.size === 0 ? undefined : await publisher.flip(items, ancestor, revision, local.tops, remote);
    if (result?.outcome === 'edited') return;
    if (result === undefined) ledger.write([{ t: 'ancestor', entries: ancestor }], false);
    const places = moves.flatMap(({ base, from, to }) => [base, from, to]);
    const isMoved = (path: Path): boolean => places.some((place) => isAtOrBelow(path, place));
    for (const path of [...items.keys(), ...ancestor.map(([moved]) => moved)]) {
      local.dirty.add(path);
      news.note(path, remote.revision);
      problems.set(path, result?.problems.get(path));
    }
    for (const path of remote.tree.keys()) if (isMoved(path)) news.note(path, remote.revision);
    for (const { base, from, to } of moves) {
      const reason = 'moved here and in the volume: it has the name that the volume gave it';
      if (from !== base && from !== to) log('warn', 'conflict decided', { path: to, reason });
      log('info', 'moved', { path: to, from });
    }
  }
}
