/** Laws of moves that cross changes: two sides with random edits, moves, removals and additions come together. */

import { expect } from 'chai';
import fc from 'fast-check';

import { NOTHING_HELD } from '../../src/reconcile/attributes.ts';
import { parentOf, sameEntry, type Entry, type Path, type Tree } from '../../src/reconcile/entry.ts';
import type { Change } from '../../src/reconcile/change.ts';
import {
  findCrossMoves,
  isHeldByMoves,
  type CrossMoves,
  type Move,
} from '../../src/reconcile/cross-moves.ts';
import { isAtOrBelow } from '../../src/reconcile/push-change.ts';
import { reconcile, type Delta } from '../../src/reconcile/reconcile.ts';
import { seeded } from '../support/seed.ts';
import { describeTree, dirEntry, fileEntry } from '../support/trees.ts';

/** What a side does; numbers pick among the paths that are there. */
type Op =
  | { readonly kind: 'edit'; readonly at: number }
  | { readonly kind: 'move'; readonly at: number; readonly to: number; readonly name: string }
  | { readonly kind: 'remove'; readonly at: number }
  | { readonly kind: 'add'; readonly at: number; readonly name: string; readonly isDirectory: boolean };

const pick = fc.nat(30);
const name = fc.constantFrom('a', 'b', 'c', 'd');
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ kind: fc.constant('edit' as const), at: pick }),
  fc.record({ kind: fc.constant('move' as const), at: pick, to: pick, name }),
  fc.record({ kind: fc.constant('move' as const), at: pick, to: pick, name }),
  fc.record({ kind: fc.constant('remove' as const), at: pick }),
  fc.record({ kind: fc.constant('add' as const), at: pick, name, isDirectory: fc.boolean() }),
);

let nextIno = 1n;
const freshIno = (): bigint => (nextIno += 1n);

const join = (dir: Path, last: string): Path => (dir === '' ? last : `${dir}/${last}`);

function renamed(tree: Tree, from: Path, to: Path): Map<Path, Entry> {
  return new Map(
    [...tree].map(([path, entry]) => [isAtOrBelow(path, from) ? to + path.slice(from.length) : path, entry]),
  );
}

/** Every content that is written is one of its own: `who` and a number. */
function perform(tree: Tree, ops: readonly Op[], who: string): Map<Path, Entry> {
  let now = new Map(tree);
  for (const [n, one] of ops.entries()) {
    const paths = [...now.keys()].sort();
    const dirs = ['', ...paths.filter((path) => now.get(path)?.type === 'directory')];
    const dirOf = (index: number): Path => dirs[index % dirs.length] ?? '';
    const path = paths[one.at % Math.max(1, paths.length)];
    const entry = path === undefined ? undefined : now.get(path);
    switch (one.kind) {
      case 'edit':
        if (path !== undefined && entry?.type === 'file')
          now.set(path, fileEntry(`${who}${n}`, 0o644, { ino: entry.ino }));
        break;
      case 'remove':
        if (path !== undefined) now = new Map([...now].filter(([other]) => !isAtOrBelow(other, path)));
        break;
      case 'move': {
        const to = join(dirOf(one.to), one.name);
        if (path !== undefined && !now.has(to) && !isAtOrBelow(to, path)) now = renamed(now, path, to);
        break;
      }
      case 'add': {
        const at = join(dirOf(one.at), one.name);
        if (!now.has(at))
          now.set(
            at,
            one.isDirectory
              ? dirEntry(0o755, { ino: freshIno() })
              : fileEntry(`${who}${n}`, 0o644, { ino: freshIno() }),
          );
        break;
      }
    }
  }
  return now;
}

const START: Tree = new Map<Path, Entry>(
  Object.entries({
    a: 'dir',
    'a/a': 'one',
    'a/b': 'two',
    'a/c': 'dir',
    'a/c/a': 'three',
    b: 'dir',
    'b/a': 'four',
    c: 'five',
  }).map(([path, what], index) => {
    const ino = BigInt(index + 1) * -1n;
    return [path, what === 'dir' ? dirEntry(0o755, { ino }) : fileEntry(what, 0o644, { ino })];
  }),
);

function deltaOf(ancestor: Tree, tree: Tree): Map<Path, Entry | undefined> {
  const paths = [...new Set([...ancestor.keys(), ...tree.keys()])];
  const isSame = (path: Path): boolean =>
    sameEntry(ancestor.get(path), tree.get(path)) && ancestor.get(path)?.ino === tree.get(path)?.ino;
  return new Map(paths.filter((path) => !isSame(path)).map((path) => [path, tree.get(path)]));
}

function applied(tree: Tree, changes: readonly Change[]): Map<Path, Entry> {
  const result = new Map(tree);
  for (const { path, old, new: next } of changes) {
    if (!sameEntry(tree.get(path), old)) throw new Error(`${path} is not what the change was made for`);
    if (next === undefined) result.delete(path);
    else result.set(path, next);
  }
  return result;
}

interface Outcome {
  readonly local: Tree;
  readonly remote: Tree;
  readonly lost: readonly string[];
  readonly turns: number;
}

/** As the loop does it: moves first, then what is not waiting, until nothing is left to do. */
function settle(start: Tree, mine: Tree, theirs: Tree): Outcome {
  let [ancestor, local, remote] = [new Map(start), new Map(mine), new Map(theirs)];
  const lost: string[] = [];
  for (let turns = 1; turns <= 30; turns += 1) {
    const moves = crossMoves(ancestor, local, remote);
    checkMoves(moves, local, remote);
    for (const { base, from, to } of moves.toLocal) {
      local = renamed(local, from, to);
      ancestor = renamed(ancestor, base, to);
    }
    for (const { base, from, to } of moves.toRemote) {
      remote = renamed(remote, from, to);
      ancestor = renamed(ancestor, base, to);
    }
    const agreedNow = ancestor;
    const judged = (delta: Delta): Delta =>
      new Map([...delta].filter(([path]) => !isHeldByMoves(moves, path, agreedNow)));
    const plan = reconcile({
      ancestor,
      local: judged(deltaOf(ancestor, local)),
      remote: judged(deltaOf(ancestor, remote)),
      held: NOTHING_HELD,
    });
    const { toLocal, toRemote, conflicts, agreed } = plan;
    for (const { local: loser, winner } of conflicts)
      if (loser?.type === 'file' && winner === 'remote') lost.push(loser.digest);
    local = applied(local, toLocal);
    remote = applied(remote, toRemote);
    // A push makes new inodes, and both sides know them then.
    for (const { path, new: entry } of toRemote) {
      const made = entry === undefined ? undefined : { ...entry, ino: freshIno() };
      for (const tree of [local, remote]) if (made !== undefined && tree.has(path)) tree.set(path, made);
    }
    for (const path of [...toLocal, ...toRemote].map((change) => change.path).concat([...agreed.keys()])) {
      const entry = remote.get(path);
      if (entry === undefined) ancestor.delete(path);
      else ancestor.set(path, entry);
      if (entry !== undefined && local.has(path)) local.set(path, entry);
    }
    const isDone = moves.waiting.length + toLocal.length + toRemote.length === 0;
    if (isDone) return { local, remote, lost, turns };
  }
  throw new Error('it does not come to an end');
}

function crossMoves(ancestor: Tree, local: Tree, remote: Tree): CrossMoves {
  const at = new Map([...ancestor].map(([path, { ino }]) => [ino, path]));
  return findCrossMoves({
    ancestor,
    local: deltaOf(ancestor, local),
    remote: deltaOf(ancestor, remote),
    held: NOTHING_HELD,
    cameFrom: (path) => {
      const ino = local.get(path)?.ino;
      const from = ino === undefined ? undefined : at.get(ino);
      return from === undefined || from === path || local.get(from)?.ino === ino ? undefined : from;
    },
    unsettled: new Set(),
  });
}

/** What a file system would refuse. */
function checkMoves({ toLocal, toRemote }: CrossMoves, local: Tree, remote: Tree): void {
  const check = (tree: Tree, { from, to }: Move): void => {
    if (from === to) return;
    expect(tree.has(from), `${from} is there`).to.equal(true);
    expect(tree.has(to), `${to} is free`).to.equal(false);
    expect(isAtOrBelow(to, from), `${to} is not in ${from}`).to.equal(false);
    const dir = parentOf(to) ?? '';
    if (dir !== '') expect(tree.get(dir)?.type, `${dir} is a directory`).to.equal('directory');
  };
  for (const move of toLocal) check(local, move);
  for (const move of toRemote) check(remote, move);
}

const contentsOf = (tree: Tree): string[] =>
  [...tree.values()].flatMap((entry) => (entry.type === 'file' ? [entry.digest] : []));

function law(title: string, check: (mine: Tree, theirs: Tree) => void, maxLength = 5): void {
  it(title, () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength }), fc.array(op, { maxLength }), (here, there) =>
        check(perform(START, here, 'here '), perform(START, there, 'there ')),
      ),
      seeded({ numRuns: maxLength === 1 ? 500 : 4000 }),
    );
  });
}

describe('moves that cross changes', () => {
  law('come to an end, with equal trees on both sides', (mine, theirs) => {
    const after = settle(START, mine, theirs);
    expect(describeTree(after.local)).to.deep.equal(describeTree(after.remote));
    for (const path of after.local.keys()) {
      const dir = parentOf(path) ?? '';
      if (dir !== '') expect(after.local.get(dir)?.type, path).to.equal('directory');
    }
  });

  law('lose no content that a side wrote and left', (mine, theirs) => {
    const { local, lost } = settle(START, mine, theirs);
    const kept = new Set([...contentsOf(local), ...lost]);
    for (const content of [...contentsOf(mine), ...contentsOf(theirs)])
      if (/here|there/.test(content)) expect([...kept], content).to.include(content);
  });

  law('bring nothing back that one side removed and the other left alone', (mine, theirs) => {
    const { local } = settle(START, mine, theirs);
    const inoOf = (tree: Tree): Map<bigint, Entry> =>
      new Map([...tree.values()].map((entry) => [entry.ino, entry]));
    const [here, there] = [inoOf(mine), inoOf(theirs)];
    const contents = contentsOf(local);
    for (const [path, entry] of START) {
      if (entry.type !== 'file') continue;
      const [a, b] = [here.get(entry.ino), there.get(entry.ino)];
      if (a !== undefined || b === undefined || !sameEntry(theirs.get(path), entry)) continue;
      expect(contents, path).not.to.include(entry.digest);
    }
  });

  law(
    'take an edit along: it is where the file is now, and nothing is left behind',
    (mine) => {
      for (const [path, entry] of START) {
        const [now] = [...mine].find(([, other]) => other.ino === entry.ino) ?? [];
        if (entry.type !== 'file' || now === undefined || !sameEntry(mine.get(now), entry)) continue;
        const edited = new Map(START).set(path, fileEntry('edited', 0o644, { ino: entry.ino }));
        for (const { local } of [settle(START, mine, edited), settle(START, edited, mine)]) {
          expect(local.get(now), `${path} -> ${now}`).to.include({ digest: 'edited' });
          expect(describeTree(new Map(local).set(now, entry))).to.deep.equal(describeTree(mine));
        }
      }
    },
    1,
  );

  law(
    'take an addition along: it is where its directory is now',
    (mine) => {
      for (const [path, entry] of START) {
        const [now] = [...mine].find(([, other]) => other.ino === entry.ino) ?? [];
        if (
          entry.type !== 'directory' ||
          now === undefined ||
          [...START.keys()].every((below) => parentOf(below) !== path)
        )
          continue;
        const added = new Map(START).set(`${path}/new`, fileEntry('added', 0o644, { ino: freshIno() }));
        for (const { local } of [settle(START, mine, added), settle(START, added, mine)]) {
          expect(local.get(`${now}/new`), `${path} -> ${now}`).to.include({ digest: 'added' });
          expect(contentsOf(local).filter((content) => content === 'added')).to.have.length(1);
        }
      }
    },
    1,
  );
});
