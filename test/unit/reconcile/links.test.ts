import { expect } from 'chai';

import type { FileEntry, Path } from '../../../src/reconcile/entry.ts';
import { findLinks } from '../../../src/reconcile/links.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';
import { orderPush } from '../../../src/reconcile/push-order.ts';
import { fileEntry } from '../../support/trees.ts';

/** A file of the volume or on disk: contents, inode and number of names. */
function file(content: string, ino: bigint, nlink: number): FileEntry {
  return fileEntry(content, 0o644, { ino, nlink });
}

interface Case {
  readonly title: string;
  readonly changes: readonly PushChange[];
  /** Inodes on disk by path. */
  readonly disk?: Readonly<Record<Path, bigint>>;
  /** Files of the volume by inode. */
  readonly volume?: readonly FileEntry[];
  /** What was agreed on about the inode of each path. */
  readonly agreed?: Readonly<Record<Path, FileEntry>>;
  /** What each path comes to mean; `-`: nothing special. */
  readonly links: Readonly<Record<Path, string>>;
}

const OLD = file('old', 7n, 2);

const CASES: readonly Case[] = [
  {
    title: 'new contents of a file with one name: a new inode',
    changes: [{ path: 'a', old: file('old', 7n, 1), new: file('new', 7n, 1) }],
    links: { a: '-' },
  },
  {
    title: 'new contents in place, seen under two names: once',
    changes: [
      { path: 'b', old: OLD, new: file('new', 7n, 2) },
      { path: 'a', old: OLD, new: file('new', 7n, 2) },
    ],
    links: { a: 'in-place', b: 'follow a' },
  },
  {
    title: 'another mode of a file with several names: the inode has it anyway',
    changes: [{ path: 'a', old: OLD, new: fileEntry('old', 0o600, { ino: 7n, nlink: 2 }) }],
    links: { a: '-' },
  },
  {
    title: 'one name replaced by another inode',
    changes: [{ path: 'a', old: OLD, new: file('new', 0n, 1) }],
    disk: { a: 1n },
    links: { a: 'apart' },
  },
  {
    title: 'one name replaced by another inode with the same contents',
    changes: [{ path: 'a', old: OLD, new: file('old', 0n, 1) }],
    disk: { a: 1n },
    links: { a: 'apart' },
  },
  {
    title: 'one more name',
    changes: [{ path: 'c', old: undefined, new: file('old', 7n, 3) }],
    volume: [OLD],
    links: { c: 'name 7' },
  },
  {
    title: 'one more name of a file that gets new contents at once, which had one name',
    changes: [
      { path: 'c', old: undefined, new: file('new', 7n, 2) },
      { path: 'a', old: file('old', 7n, 1), new: file('new', 7n, 2) },
    ],
    volume: [file('old', 7n, 1)],
    links: { a: 'in-place', c: 'name 7' },
  },
  {
    title: 'one more name over a file',
    changes: [{ path: 'c', old: file('c', 8n, 1), new: file('old', 7n, 3) }],
    volume: [OLD],
    links: { c: 'name 7' },
  },
  {
    title: 'one more name of a file that the volume has changed meanwhile: a file of its own',
    changes: [{ path: 'c', old: undefined, new: file('old', 7n, 2) }],
    disk: { c: 1n },
    volume: [file('theirs', 7n, 1)],
    links: { c: '-' },
  },
  {
    title: 'two more names of a file that was edited, and whose old name has not settled',
    changes: [
      { path: 'c', old: undefined, new: file('new', 7n, 3) },
      { path: 'e', old: file('e', 8n, 1), new: file('new', 7n, 3) },
    ],
    disk: { c: 1n, e: 1n },
    volume: [file('old', 7n, 1)],
    agreed: { c: file('old', 7n, 1), e: file('old', 7n, 1) },
    links: { c: 'name-in-place 7', e: 'name 7' },
  },
  {
    title: 'a new file with three names',
    changes: [
      { path: 'b', old: undefined, new: file('new', 0n, 3) },
      { path: 'a', old: undefined, new: file('new', 0n, 3) },
      { path: 'c', old: file('c', 8n, 1), new: file('new', 0n, 3) },
    ],
    disk: { a: 1n, b: 1n, c: 1n },
    links: { a: '-', b: 'name-of-new a', c: 'name-of-new a' },
  },
  {
    title: 'two names of a file that the volume removed: made anew, once',
    changes: [
      { path: 'a', old: undefined, new: file('new', 7n, 2) },
      { path: 'b', old: undefined, new: file('new', 7n, 2) },
    ],
    disk: { a: 1n, b: 1n },
    links: { a: '-', b: 'name-of-new a' },
  },
  {
    title: 'a name that left a file with one name, whose old name is used again: a file of its own',
    changes: [
      { path: 'a', old: file('old', 7n, 1), new: file('new', 0n, 1) },
      { path: 'a.old', old: undefined, new: file('old', 7n, 1) },
    ],
    disk: { a: 2n, 'a.old': 1n },
    volume: [file('old', 7n, 1)],
    links: { a: '-', 'a.old': '-' },
  },
];

function find({ changes, disk = {}, volume = [], agreed = {} }: Case): PushChange[] {
  return findLinks({
    changes,
    diskInode: (path) => disk[path],
    agreedFile: (path) => agreed[path],
    volumeFile: (ino) => volume.find((entry) => entry.ino === ino),
  });
}

function describeLink({ link }: PushChange): string {
  if (link === undefined) return '-';
  switch (link.kind) {
    case 'follow':
      return `follow ${link.leader}`;
    case 'name':
    case 'name-in-place':
      return `${link.kind} ${link.ino}`;
    case 'name-of-new':
      return `name-of-new ${link.maker}`;
    default:
      return link.kind;
  }
}

describe('findLinks', () => {
  for (const one of CASES) {
    it(one.title, () => {
      const links = Object.fromEntries(find(one).map((change) => [change.path, describeLink(change)]));
      expect(links).to.deep.equal(one.links);
    });
  }
});

describe('orderPush, with files of several names', () => {
  const paths = (changes: readonly PushChange[]): Path[][] =>
    orderPush(changes).map((group) => group.map(({ path }) => path));

  it('makes a file and its other names at once', () => {
    const changes: PushChange[] = [
      { path: 'b', old: undefined, new: file('new', 0n, 2), link: { kind: 'name-of-new', maker: 'd/a' } },
      { path: 'd/a', old: undefined, new: file('new', 0n, 2) },
    ];
    expect(paths(changes)).to.deep.equal([['b', 'd/a']]);
  });

  it('gives a file its new contents and a new name in one step, and before an old name goes', () => {
    const changes: PushChange[] = [
      { path: 'a', old: OLD, new: file('other', 0n, 1), link: { kind: 'apart' } },
      { path: 'b', old: OLD, new: undefined },
      { path: 'c', old: undefined, new: file('new', 7n, 2), link: { kind: 'name', ino: 7n } },
      { path: 'e', old: OLD, new: file('new', 7n, 2), link: { kind: 'in-place' } },
    ];
    expect(paths(changes)).to.deep.equal([['c', 'e'], ['a'], ['b']]);
  });
});
