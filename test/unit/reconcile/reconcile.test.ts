import { expect } from 'chai';

import { NOTHING_HELD } from '../../../src/reconcile/attributes.ts';
import type { Path } from '../../../src/reconcile/entry.ts';
import { reconcile } from '../../../src/reconcile/reconcile.ts';
import {
  applyChanges,
  describeChanges,
  describeTree,
  fileEntry,
  reconcileTrees,
  treeOf,
} from '../../support/trees.ts';

type Lines = Readonly<Record<Path, string>>;

interface Case {
  readonly title: string;
  readonly ancestor: Lines;
  readonly local: Lines;
  readonly remote: Lines;
  readonly toLocal?: Lines;
  readonly toRemote?: Lines;
  /** Paths that are only remembered. */
  readonly agreed?: readonly Path[];
  /** Path and who wins. */
  readonly conflicts?: Lines;
}

const OWNERS = { ...NOTHING_HELD, owners: true };

const DIR = { d: 'dir', 'd/f': 'one', 'd/g': 'one' };

const CASES: readonly Case[] = [
  // One side.
  {
    title: 'nothing changed',
    ancestor: DIR,
    local: DIR,
    remote: DIR,
  },
  {
    title: 'an edit here goes to the volume',
    ancestor: { f: 'one' },
    local: { f: 'two' },
    remote: { f: 'one' },
    toRemote: { f: 'one => two' },
  },
  {
    title: 'an edit in the volume comes here',
    ancestor: { f: 'one' },
    local: { f: 'one' },
    remote: { f: 'two' },
    toLocal: { f: 'one => two' },
  },
  {
    title: 'a removal on either side',
    ancestor: { f: 'one', g: 'one' },
    local: { g: 'one' },
    remote: { f: 'one' },
    toLocal: { g: 'one => -' },
    toRemote: { f: 'one => -' },
  },
  {
    title: 'an addition on either side',
    ancestor: {},
    local: { f: 'one' },
    remote: { d: 'dir', 'd/f': 'two' },
    toLocal: { d: '- => dir', 'd/f': '- => two' },
    toRemote: { f: '- => one' },
  },
  {
    title: 'a mode on either side',
    ancestor: { f: 'one', g: 'one', d: 'dir' },
    local: { f: 'one 600', g: 'one', d: 'dir 700' },
    remote: { f: 'one', g: 'one 640', d: 'dir' },
    toLocal: { g: 'one => one 640' },
    toRemote: { d: 'dir => dir 700', f: 'one => one 600' },
  },
  {
    title: 'a symlink with another target',
    ancestor: { l: '-> a', m: '-> a' },
    local: { l: '-> b', m: '-> a' },
    remote: { l: '-> a', m: '-> c' },
    toLocal: { m: '-> a => -> c' },
    toRemote: { l: '-> a => -> b' },
  },
  {
    title: 'a file that becomes a directory here',
    ancestor: { x: 'one' },
    local: { x: 'dir', 'x/y': 'two' },
    remote: { x: 'one' },
    toRemote: { x: 'one => dir', 'x/y': '- => two' },
  },
  {
    title: 'a symlink that becomes a directory here',
    ancestor: { x: '-> there' },
    local: { x: 'dir', 'x/y': 'two' },
    remote: { x: '-> there' },
    toRemote: { x: '-> there => dir', 'x/y': '- => two' },
  },
  {
    title: 'a directory that becomes a file here',
    ancestor: DIR,
    local: { d: 'file' },
    remote: DIR,
    toRemote: { d: 'dir => file', 'd/f': 'one => -', 'd/g': 'one => -' },
  },
  {
    title: 'a directory that becomes a file in the volume',
    ancestor: DIR,
    local: DIR,
    remote: { d: 'file' },
    toLocal: { d: 'dir => file', 'd/f': 'one => -', 'd/g': 'one => -' },
  },

  // Both sides, and they agree.
  {
    title: 'the same edit on both sides',
    ancestor: { f: 'one' },
    local: { f: 'two' },
    remote: { f: 'two' },
    agreed: ['f'],
  },
  {
    title: 'the same removal on both sides',
    ancestor: DIR,
    local: { d: 'dir', 'd/g': 'one' },
    remote: { d: 'dir', 'd/g': 'one' },
    agreed: ['d/f'],
  },
  {
    title: 'the same addition on both sides',
    ancestor: {},
    local: { d: 'dir', 'd/f': 'one' },
    remote: { d: 'dir', 'd/f': 'one' },
    agreed: ['d', 'd/f'],
  },
  {
    title: 'content here, mode in the volume: both',
    ancestor: { f: 'one' },
    local: { f: 'two' },
    remote: { f: 'one 600' },
    toLocal: { f: 'two => two 600' },
    toRemote: { f: 'one 600 => two 600' },
  },
  {
    title: 'mode here, content in the volume: both',
    ancestor: { f: 'one' },
    local: { f: 'one 600' },
    remote: { f: 'two' },
    toLocal: { f: 'one 600 => two 600' },
    toRemote: { f: 'two => two 600' },
  },
  {
    title: 'the same content with different modes: the mode of the volume',
    ancestor: { f: 'one' },
    local: { f: 'two 600' },
    remote: { f: 'two 640' },
    toLocal: { f: 'two 600 => two 640' },
  },
  {
    title: 'different modes: that of the volume',
    ancestor: { f: 'one', d: 'dir' },
    local: { f: 'one 600', d: 'dir 700' },
    remote: { f: 'one 640', d: 'dir 750' },
    toLocal: { d: 'dir 700 => dir 750', f: 'one 600 => one 640' },
  },

  // Both sides, and they do not.
  {
    title: 'different edits',
    ancestor: { f: 'one' },
    local: { f: 'two' },
    remote: { f: 'three' },
    toLocal: { f: 'two => three' },
    conflicts: { f: 'remote' },
  },
  {
    title: 'different additions',
    ancestor: {},
    local: { f: 'one', l: '-> a' },
    remote: { f: 'two', l: '-> b' },
    toLocal: { f: 'one => two', l: '-> a => -> b' },
    conflicts: { f: 'remote', l: 'remote' },
  },
  {
    title: 'an edit here beats a removal in the volume',
    ancestor: { f: 'one' },
    local: { f: 'two' },
    remote: {},
    toRemote: { f: '- => two' },
    conflicts: { f: 'local' },
  },
  {
    title: 'an edit in the volume beats a removal here',
    ancestor: { f: 'one' },
    local: {},
    remote: { f: 'two' },
    toLocal: { f: '- => two' },
    conflicts: { f: 'remote' },
  },
  {
    title: 'an edit here, a directory in the volume',
    ancestor: { x: 'one' },
    local: { x: 'two' },
    remote: { x: 'dir', 'x/y': 'three' },
    toLocal: { x: 'two => dir', 'x/y': '- => three' },
    conflicts: { x: 'remote' },
  },
  {
    title: 'a directory here, an edit in the volume',
    ancestor: { x: 'one' },
    local: { x: 'dir', 'x/y': 'two' },
    remote: { x: 'three' },
    toLocal: { x: 'dir => three', 'x/y': 'two => -' },
    conflicts: { x: 'remote', 'x/y': 'remote' },
  },
  {
    title: 'a directory of several levels here, a file in the volume',
    ancestor: {},
    local: { x: 'dir', 'x/y': 'dir', 'x/y/z': 'dir', 'x/y/z/f': 'one' },
    remote: { x: 'two' },
    toLocal: { x: 'dir => two', 'x/y': 'dir => -', 'x/y/z': 'dir => -', 'x/y/z/f': 'one => -' },
    conflicts: { x: 'remote', 'x/y': 'remote', 'x/y/z': 'remote', 'x/y/z/f': 'remote' },
  },
  {
    title: 'a symlink here, a file in the volume',
    ancestor: { x: 'one' },
    local: { x: '-> a' },
    remote: { x: 'two' },
    toLocal: { x: '-> a => two' },
    conflicts: { x: 'remote' },
  },

  // Directories that one side removed and the other works in.
  {
    title: 'a directory removed here with a new file in the volume: only that stays',
    ancestor: DIR,
    local: {},
    remote: { ...DIR, 'd/new': 'new' },
    toLocal: { d: '- => dir', 'd/new': '- => new' },
    toRemote: { 'd/f': 'one => -', 'd/g': 'one => -' },
  },
  {
    title: 'a directory removed in the volume with a new file here: only that stays',
    ancestor: DIR,
    local: { ...DIR, 'd/new': 'new' },
    remote: {},
    toLocal: { 'd/f': 'one => -', 'd/g': 'one => -' },
    toRemote: { d: '- => dir', 'd/new': '- => new' },
  },
  {
    title: 'a directory removed here with an edit in the volume',
    ancestor: DIR,
    local: {},
    remote: { ...DIR, 'd/f': 'two' },
    toLocal: { d: '- => dir', 'd/f': '- => two' },
    toRemote: { 'd/g': 'one => -' },
    conflicts: { 'd/f': 'remote' },
  },
  {
    title: 'a directory removed in the volume with an edit here',
    ancestor: DIR,
    local: { ...DIR, 'd/f': 'two' },
    remote: {},
    toLocal: { 'd/g': 'one => -' },
    toRemote: { d: '- => dir', 'd/f': '- => two' },
    conflicts: { 'd/f': 'local' },
  },
  {
    title: 'directories of several levels removed in the volume with a new file here',
    ancestor: { a: 'dir', 'a/b': 'dir', 'a/b/c': 'dir' },
    local: { a: 'dir', 'a/b': 'dir', 'a/b/c': 'dir', 'a/b/c/f': 'one' },
    remote: {},
    toRemote: { a: '- => dir', 'a/b': '- => dir', 'a/b/c': '- => dir', 'a/b/c/f': '- => one' },
  },
  {
    title: 'a directory that became a file here with an edit in the volume: the file is kept elsewhere',
    ancestor: DIR,
    local: { d: 'file' },
    remote: { ...DIR, 'd/f': 'two' },
    toLocal: { d: 'file => dir', 'd/f': '- => two' },
    toRemote: { 'd/g': 'one => -' },
    conflicts: { d: 'remote', 'd/f': 'remote' },
  },
  {
    title: 'a directory that became a file in the volume with an edit here: the edit is kept elsewhere',
    ancestor: DIR,
    local: { ...DIR, 'd/f': 'two' },
    remote: { d: 'file' },
    toLocal: { d: 'dir => file', 'd/f': 'two => -', 'd/g': 'one => -' },
    conflicts: { 'd/f': 'remote' },
  },

  // Without an ancestor.
  {
    title: 'no ancestor: what is equal agrees, what differs conflicts, nothing is removed',
    ancestor: {},
    local: { same: 'one', differs: 'here', here: 'here', d: 'dir', 'd/here': 'here' },
    remote: { same: 'one', differs: 'there', there: 'there', d: 'dir 700', 'd/there': 'there' },
    agreed: ['same'],
    toLocal: {
      d: 'dir => dir 700',
      'd/there': '- => there',
      differs: 'here => there',
      there: '- => there',
    },
    toRemote: { 'd/here': '- => here', here: '- => here' },
    conflicts: { differs: 'remote' },
  },
];

describe('reconcile', () => {
  for (const { title, ancestor, local, remote, ...expected } of CASES) {
    it(title, () => {
      const [a, l, r] = [treeOf(ancestor), treeOf(local), treeOf(remote)];
      const result = reconcileTrees(a, l, r);
      expect(describeChanges(result.toLocal), 'to local').to.deep.equal(expected.toLocal ?? {});
      expect(describeChanges(result.toRemote), 'to remote').to.deep.equal(expected.toRemote ?? {});
      expect([...result.agreed.keys()], 'agreed').to.deep.equal(expected.agreed ?? []);
      const conflicts = Object.fromEntries(result.conflicts.map(({ path, winner }) => [path, winner]));
      expect(conflicts, 'conflicts').to.deep.equal(expected.conflicts ?? {});
      expect(describeTree(applyChanges(l, result.toLocal))).to.deep.equal(
        describeTree(applyChanges(r, result.toRemote)),
      );
    });
  }

  it('names in a conflict what each side had', () => {
    const [conflict] = reconcileTrees(
      treeOf({ f: 'one' }),
      treeOf({ f: 'two' }),
      treeOf({ f: 'three' }),
    ).conflicts;
    expect(conflict).to.deep.equal({
      path: 'f',
      ancestor: fileEntry('one'),
      local: fileEntry('two'),
      remote: fileEntry('three'),
      winner: 'remote',
    });
  });

  it('keeps the owner and special bits of the volume when it pushes', () => {
    const there = fileEntry('one', 0o4755, { ino: 7n, uid: 33, gid: 34 });
    const ancestor = new Map([['f', there]]);
    const local = new Map([['f', fileEntry('two', 0o700)]]);
    const { toRemote } = reconcile({ ancestor, local, remote: new Map(), held: NOTHING_HELD });
    expect(toRemote[0]?.new).to.deep.include({ uid: 33, gid: 34, mode: 0o4700, digest: 'two' });
  });

  it('pushes a new file without special bits', () => {
    const local = new Map([['f', fileEntry('one', 0o6755)]]);
    const { toRemote } = reconcile({ ancestor: new Map(), local, remote: new Map(), held: NOTHING_HELD });
    expect(toRemote[0]?.new).to.deep.include({ mode: 0o755 });
  });

  describe('an owner that changed in the volume', () => {
    const ancestor = new Map([['f', fileEntry('one')]]);
    const remote = new Map([['f', fileEntry('one', 0o644, { uid: 33 })]]);

    it('is a change where owners can be held', () => {
      const result = reconcile({ ancestor, local: new Map(), remote, held: OWNERS });
      expect(result.toLocal.map(({ new: next }) => next?.uid)).to.deep.equal([33]);
      expect(result.agreed.size).to.equal(0);
    });

    it('is only remembered where they cannot', () => {
      const result = reconcile({ ancestor, local: new Map(), remote, held: NOTHING_HELD });
      expect(result.toLocal).to.deep.equal([]);
      expect(result.agreed.get('f')?.uid).to.equal(33);
    });

    it('comes here beside an edit that both sides made', () => {
      const local = new Map([['f', fileEntry('two')]]);
      const both = new Map([['f', fileEntry('two', 0o644, { uid: 33 })]]);
      const result = reconcile({ ancestor, local, remote: both, held: OWNERS });
      expect(result.toLocal.map(({ new: next }) => next?.uid)).to.deep.equal([33]);
      expect(result.toRemote).to.deep.equal([]);
    });
  });
});
