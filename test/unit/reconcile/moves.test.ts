import { expect } from 'chai';

import type { Path, Tree } from '../../../src/reconcile/entry.ts';
import { findMoves } from '../../../src/reconcile/moves.ts';
import { orderPush } from '../../../src/reconcile/push-order.ts';
import { reconcileTrees, fileEntry, describeEntry, treeOf } from '../../support/trees.ts';

type Lines = Readonly<Record<Path, string>>;

/** The changes that bring the volume from `before` to `after`, with moves; `moves` says where inodes came from. */
function changesOf(before: Tree, after: Tree, moves: Readonly<Record<Path, Path>>): Record<Path, string> {
  const { toRemote } = reconcileTrees(before, after, before);
  const found = findMoves({ changes: toRemote, cameFrom: (path) => moves[path], paths: () => before.keys() });
  return Object.fromEntries(
    found.map(({ path, movedFrom, over, old, new: next }) => {
      const from = movedFrom === undefined ? describeEntry(old) : `${movedFrom} (${describeEntry(old)})`;
      const end = over === undefined ? '' : ` over ${describeEntry(over)}`;
      return [path, `${from} => ${describeEntry(next)}${end}`];
    }),
  );
}

interface Case {
  readonly title: string;
  readonly before: Lines;
  readonly after: Lines;
  /** By new path the old one. */
  readonly moves: Readonly<Record<Path, Path>>;
  readonly changes: Lines;
}

const DIR = { d: 'dir', 'd/f': 'one', 'd/s': 'dir', 'd/s/g': 'two', 'd/l': '-> f' };
const MOVED = { e: 'dir', 'e/f': 'one', 'e/s': 'dir', 'e/s/g': 'two', 'e/l': '-> f' };
const DIR_MOVES = { 'e/f': 'd/f', 'e/s/g': 'd/s/g' };

const CASES: readonly Case[] = [
  {
    title: 'a file under another name',
    before: { f: 'one' },
    after: { g: 'one' },
    moves: { g: 'f' },
    changes: { g: 'f (one) => one' },
  },
  {
    title: 'a file in another directory, with a new mode',
    before: { a: 'dir', 'a/f': 'one', b: 'dir' },
    after: { a: 'dir', b: 'dir', 'b/g': 'one 600' },
    moves: { 'b/g': 'a/f' },
    changes: { 'b/g': 'a/f (one) => one 600' },
  },
  {
    title: 'a file into a new directory',
    before: { f: 'one' },
    after: { d: 'dir', 'd/f': 'one' },
    moves: { 'd/f': 'f' },
    changes: { d: '- => dir', 'd/f': 'f (one) => one' },
  },
  {
    title: 'a file over another one',
    before: { f: 'one', g: 'two' },
    after: { g: 'one' },
    moves: { g: 'f' },
    changes: { g: 'f (one) => one over two' },
  },
  {
    title: 'a file that was edited on the way: no move',
    before: { f: 'one' },
    after: { g: 'two' },
    moves: { g: 'f' },
    changes: { f: 'one => -', g: '- => two' },
  },
  {
    title: 'an inode number that was used again: no move',
    before: { f: 'one', other: 'x' },
    after: { g: 'one', other: 'x' },
    moves: { g: 'other' },
    changes: { f: 'one => -', g: '- => one' },
  },
  {
    title: 'a file whose old name has a new content: no move',
    before: { f: 'one' },
    after: { f: 'two', g: 'one' },
    moves: { g: 'f' },
    changes: { f: 'one => two', g: '- => one' },
  },
  {
    title: 'two files that swap names',
    before: { a: 'one', b: 'two' },
    after: { a: 'two', b: 'one' },
    moves: { a: 'b', b: 'a' },
    changes: { a: 'b (two) => two', b: 'a (one) => one' },
  },
  {
    title: 'a chain: each takes the next name',
    before: { a: 'one', b: 'two' },
    after: { b: 'one', c: 'two' },
    moves: { b: 'a', c: 'b' },
    changes: { b: 'a (one) => one', c: 'b (two) => two' },
  },
  {
    title: 'a chain that ends over another file',
    before: { a: 'one', b: 'two', c: 'three' },
    after: { b: 'one', c: 'two' },
    moves: { b: 'a', c: 'b' },
    changes: { b: 'a (one) => one', c: 'b (two) => two over three' },
  },
  {
    title: 'a chain whose first name has a new content: no move at all',
    before: { a: 'one', b: 'two' },
    after: { a: 'new', b: 'one', c: 'two' },
    moves: { b: 'a', c: 'b' },
    changes: { a: 'one => new', b: 'two => one', c: '- => two' },
  },
  {
    title: 'a whole directory with all below it: one move',
    before: DIR,
    after: MOVED,
    moves: DIR_MOVES,
    changes: { e: 'd (dir) => dir' },
  },
  {
    title: 'a directory below another one',
    before: { a: 'dir', 'a/d': 'dir', 'a/d/f': 'one', 'a/x': 'x', b: 'dir' },
    after: { a: 'dir', 'a/x': 'x', b: 'dir', 'b/e': 'dir', 'b/e/f': 'one' },
    moves: { 'b/e/f': 'a/d/f' },
    changes: { 'b/e': 'a/d (dir) => dir' },
  },
  {
    title: 'a directory into a new directory',
    before: DIR,
    after: {
      n: 'dir',
      ...Object.fromEntries(Object.entries(DIR).map(([path, line]) => [`n/${path}`, line])),
    },
    moves: { 'n/d/f': 'd/f', 'n/d/s/g': 'd/s/g' },
    changes: { n: '- => dir', 'n/d': 'd (dir) => dir' },
  },
  {
    title: 'a directory with another mode',
    before: { d: 'dir', 'd/f': 'one' },
    after: { e: 'dir 700', 'e/f': 'one' },
    moves: { 'e/f': 'd/f' },
    changes: { e: 'd (dir) => dir 700' },
  },
  {
    title: 'a directory where one file was edited: what is whole moves as a whole, the rest file by file',
    before: DIR,
    after: { ...MOVED, 'e/f': 'edited' },
    moves: DIR_MOVES,
    changes: {
      d: 'dir => -',
      'd/f': 'one => -',
      'd/l': '-> f => -',
      e: '- => dir',
      'e/f': '- => edited',
      'e/l': '- => -> f',
      'e/s': 'd/s (dir) => dir',
    },
  },
  {
    title: 'a directory with a file more',
    before: { d: 'dir', 'd/f': 'one' },
    after: { e: 'dir', 'e/f': 'one', 'e/new': 'new' },
    moves: { 'e/f': 'd/f' },
    changes: { d: 'dir => -', e: '- => dir', 'e/f': 'd/f (one) => one', 'e/new': '- => new' },
  },
  {
    title: 'a directory with a file less',
    before: { d: 'dir', 'd/f': 'one', 'd/g': 'two' },
    after: { e: 'dir', 'e/f': 'one' },
    moves: { 'e/f': 'd/f' },
    changes: { d: 'dir => -', 'd/g': 'two => -', e: '- => dir', 'e/f': 'd/f (one) => one' },
  },
  {
    title: 'a directory that was copied, not moved',
    before: { d: 'dir', 'd/f': 'one' },
    after: { d: 'dir', 'd/f': 'one', e: 'dir', 'e/f': 'one' },
    moves: {},
    changes: { e: '- => dir', 'e/f': '- => one' },
  },
  {
    title: 'two directories made one: file by file',
    before: { a: 'dir', 'a/f': 'one', b: 'dir', 'b/g': 'two' },
    after: { c: 'dir', 'c/f': 'one', 'c/g': 'two' },
    moves: { 'c/f': 'a/f', 'c/g': 'b/g' },
    changes: {
      a: 'dir => -',
      b: 'dir => -',
      c: '- => dir',
      'c/f': 'a/f (one) => one',
      'c/g': 'b/g (two) => two',
    },
  },
];

describe('moves', () => {
  for (const { title, before, after, moves, changes } of CASES) {
    it(title, () => {
      const found = changesOf(treeOf(before), treeOf(after), moves);
      expect(Object.fromEntries(Object.entries(found).sort())).to.deep.equal(changes);
    });
  }

  it('swaps are pushed together', () => {
    const before = treeOf({ a: 'one', b: 'two' });
    const { toRemote } = reconcileTrees(before, treeOf({ a: 'two', b: 'one' }), before);
    const cameFrom = (path: Path): Path => (path === 'a' ? 'b' : 'a');
    const found = findMoves({ changes: toRemote, cameFrom, paths: () => before.keys() });
    expect(orderPush(found).map((group) => group.length)).to.deep.equal([2]);
  });

  it('keep the inode, the owner and the special bits of the volume', () => {
    const before = new Map([['f', fileEntry('one', 0o4711, { ino: 7n, uid: 33, gid: 34 })]]);
    const after = new Map([['g', fileEntry('one', 0o600)]]);
    const { toRemote } = reconcileTrees(before, after, before);
    const [move] = findMoves({ changes: toRemote, cameFrom: () => 'f', paths: () => before.keys() });
    expect(move?.new).to.deep.include({ ino: 7n, uid: 33, gid: 34, mode: 0o4600 });
  });

  it('of many files ask for what the volume has once, and look at each path a few times', () => {
    const count = 5000;
    const dirs = 100;
    const [before, after] = ['a', 'b'].map((top) => {
      const tree: Record<Path, string> = { [top]: 'dir' };
      for (let index = 0; index < dirs; index += 1) tree[`${top}/d${index}`] = 'dir';
      for (let index = 0; index < count; index += 1) tree[`${top}/d${index % dirs}/f${index}`] = 'one';
      return tree;
    }) as [Lines, Lines];
    // One file more, so that the whole does not move, and every directory but one does.
    const { toRemote } = reconcileTrees(
      treeOf(before),
      treeOf({ ...after, 'b/d0/new': 'new' }),
      treeOf(before),
    );
    let asked = 0;
    let listed = 0;
    const found = findMoves({
      changes: toRemote,
      cameFrom: (path) => {
        asked += 1;
        return path.endsWith('new') ? undefined : path.replace('b', 'a');
      },
      paths: () => {
        listed += 1;
        return treeOf(before).keys();
      },
    });
    // a and a/d0 go, b and b/d0 come, its 50 files move, one is new, and 99 directories move.
    expect(found).to.have.length(4 + 50 + 1 + 99);
    expect(listed).to.equal(1);
    expect(asked).to.be.lessThan(5 * count);
  });
});
