import { expect } from 'chai';
import type { Entry } from '../../../src/reconcile/entry.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';
import { orderPush } from '../../../src/reconcile/push-order.ts';

const BASE = { ino: 7n, mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n };
const DIR: Entry = { ...BASE, type: 'directory' };
const FILE: Entry = { ...BASE, type: 'file', size: 1n, digest: 'one', nlink: 1 };
const OTHER: Entry = { ...FILE, digest: 'two' };

/** `+d/` makes a directory, `+f` a file, `-f` and `-d/` remove, `*f` edits, `a>b` and `a/>b` move, `f!d/` changes type. */
function change(text: string): PushChange {
  const isDir = text.endsWith('/') || text.includes('/>');
  const entry = isDir ? DIR : FILE;
  const path = text.replace(/^[-+*]/, '').replace(/\/$/, '');
  if (text.includes('>')) {
    const [from = '', to = ''] = path.split('>');
    return { path: to, movedFrom: from.replace(/\/$/, ''), old: entry, new: entry };
  }
  if (text.startsWith('~')) return { path: path.slice(1), old: DIR, new: FILE };
  if (text.startsWith('^')) return { path: path.slice(1), old: FILE, new: DIR };
  switch (text[0]) {
    case '+':
      return { path, old: undefined, new: entry };
    case '-':
      return { path, old: entry, new: undefined };
    default:
      return { path, old: FILE, new: OTHER };
  }
}

function told({ path, movedFrom, old, over, new: now }: PushChange): string {
  if (movedFrom !== undefined) return `${movedFrom}>${path}${over === undefined ? '' : ' over'}`;
  if (now === undefined) return `-${path}`;
  return (old === undefined ? '+' : '*') + path;
}

const cases: readonly (readonly [
  what: string,
  changes: readonly string[],
  groups: readonly (readonly string[])[],
])[] = [
  ['parents come before what is in them', ['+a/b/c', '+a/b/', '+a/'], [['+a'], ['+a/b'], ['+a/b/c']]],
  [
    'removals come last, deepest first',
    ['-a/', '-a/b', '+z', '-a/c/d', '-a/c/'],
    [['+z'], ['-a/c/d'], ['-a/b'], ['-a/c'], ['-a']],
  ],
  ['an entry leaves a directory before the directory goes', ['-a/', 'a/f>b/f'], [['a/f>b/f'], ['-a']]],
  ['a name is free before something new takes it', ['+a', 'a>b'], [['a>b'], ['+a']]],
  ['a chain of moves goes from its end', ['a>b', 'b>c', 'c>d'], [['c>d'], ['b>c'], ['a>b']]],
  ['two files that swap names are one group', ['a>b', 'b>a', '+c'], [['b>a', 'a>b'], ['+c']]],
  ['a removal and a move to its path are one move', ['-b', 'a>b'], [['a>b over']]],
  ['an edit below a moved directory comes after the move', ['*e/f', 'd/>e'], [['d>e'], ['*e/f']]],
  ['what moves out of a moved directory moves first', ['d/>e', 'd/x>y'], [['d/x>y'], ['d>e']]],
  ['a move into a directory that moves comes after it', ['d/>e', 'x>e/x'], [['d>e'], ['x>e/x']]],
  [
    'out of a moved directory and back into it is one group',
    ['d/>e', 'd/x>e/s/x', '+e/s/'],
    [['d>e', '+e/s', 'd/x>e/s/x']],
  ],
  ['a directory is emptied before a file takes its place', ['~a', '-a/b'], [['-a/b'], ['*a']]],
  ['a file becomes a directory before it gets entries', ['+a/b', '^a'], [['*a'], ['+a/b']]],
  ['a new directory takes the name of one that moved', ['+d/', 'd/>e', '+d/f'], [['d>e'], ['+d'], ['+d/f']]],
];

describe('orderPush', () => {
  for (const [what, changes, groups] of cases) {
    it(what, () => {
      const ordered = orderPush(changes.map(change)).map((group) => group.map(told));
      expect(ordered).to.deep.equal(groups);
    });

    it(`${what}, in whatever order the changes come`, () => {
      const ordered = orderPush([...changes].reverse().map(change)).map((group) => group.map(told).sort());
      expect(ordered).to.deep.equal(groups.map((group) => [...group].sort()));
    });
  }
});
