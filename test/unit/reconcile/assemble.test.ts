import { expect } from 'chai';
import { toBytes } from '../../../src/codec/bytes.ts';
import { ROOT_INO, TRASH_INO } from '../../../src/codec/key.ts';
import type { StoreEvent } from '../../../src/codec/kv.ts';
import { RemoteView } from '../../../src/reconcile/assemble.ts';
import { InodeIndex } from '../../../src/reconcile/inode-index.ts';
import { del, delDentry, make, put, putAttr, putChunk, putDentry } from '../../support/meta.ts';
import { viewOf } from '../../support/remote.ts';

const ROOT = putAttr(ROOT_INO, 'directory');
const SLICE = { pos: 0, id: 7n, size: 3, off: 0, len: 3 };

/** A root with the directory `d` (2), in it the directory `sub` (3) and the file `sub/f` (4); and the file `top` (5). */
const SAMPLE = [
  ROOT,
  ...make(1n, 'd', 2n, 'directory'),
  ...make(2n, 'sub', 3n, 'directory'),
  ...make(3n, 'f', 4n, 'file', { length: 3n }),
  putChunk(4n, 0, [SLICE]),
  ...make(1n, 'top', 5n, 'file'),
];
const SAMPLE_PATHS = ['d', 'd/sub', 'd/sub/f', 'top'];

function indexOfEvents(events: readonly StoreEvent[]): InodeIndex {
  const index = new InodeIndex();
  index.apply(events);
  return index;
}

function pathsIn(view: RemoteView): string[] {
  return [...view.entries.keys()].sort();
}

function problemsIn(view: RemoteView): string[] {
  return [...view.problems.values()].map(({ path, kind }) => `${path}: ${kind}`).sort();
}

describe('RemoteView: entries', () => {
  const fields = { mode: 0o4750, uid: 33, gid: 44, mtimeNs: -5n };
  const shown = (events: readonly StoreEvent[]): unknown =>
    viewOf(indexOfEvents([ROOT, ...events])).entries.get('x');

  it('a file', () => {
    const events = [
      ...make(1n, 'x', 2n, 'file', { ...fields, length: 3n, nlink: 2 }),
      putChunk(2n, 0, [SLICE]),
    ];
    expect(shown(events)).to.deep.equal({
      type: 'file',
      ino: 2n,
      ...fields,
      size: 3n,
      nlink: 2,
      contentKey: '3 0=7/3@0+3',
    });
  });

  it('a directory', () => {
    const entry = { type: 'directory', ino: 2n, ...fields };
    expect(shown(make(1n, 'x', 2n, 'directory', fields))).to.deep.equal(entry);
  });

  it('a symlink, its target any bytes', () => {
    const events = [
      ...make(1n, 'x', 2n, 'symlink', fields),
      put({ kind: 'symlink', ino: 2n }, toBytes('/a/../\xff')),
    ];
    expect(shown(events)).to.deep.equal({ type: 'symlink', ino: 2n, ...fields, target: '/a/../\xff' });
  });

  for (const kind of ['fifo', 'block', 'char', 'socket'] as const) {
    it(`a special file: ${kind}`, () => {
      const entry = { type: 'special', ino: 2n, ...fields, kind, rdev: 0x501 };
      expect(shown(make(1n, 'x', 2n, kind, { ...fields, rdev: 0x501 }))).to.deep.equal(entry);
    });
  }

  it("the attr's type counts, not the dentry's", () => {
    const view = viewOf(
      indexOfEvents([
        ROOT,
        putAttr(2n, 'directory'),
        putDentry(1n, 'd', 2n, 'file'),
        ...make(2n, 'f', 3n, 'file'),
        putAttr(4n, 'file'),
        putDentry(1n, 'f', 4n, 'directory'),
      ]),
    );
    expect(pathsIn(view)).to.deep.equal(['d', 'd/f', 'f']);
    expect(view.entries.get('d')?.type).to.equal('directory');
    expect(view.entries.get('f')?.type).to.equal('file');
  });

  it('a hard linked file at each of its names, told by pathsOf', () => {
    const index = indexOfEvents([
      ...SAMPLE,
      putDentry(1n, 'link', 4n, 'file'),
      putDentry(9n, 'lost', 4n, 'file'),
    ]);
    const view = viewOf(index);
    expect(view.pathsOf(4n).sort()).to.deep.equal(['d/sub/f', 'link']);
    expect(view.entries.get('link')).to.deep.equal(view.entries.get('d/sub/f'));
    expect(view.pathsOf(1n)).to.deep.equal(['']);
    expect(view.pathsOf(9n)).to.deep.equal([]);
  });

  it('nothing that no name leads to', () => {
    const view = viewOf(
      indexOfEvents([...SAMPLE, putAttr(8n, 'file', { nlink: 0 }), putChunk(9n, 0, [SLICE])]),
    );
    expect(pathsIn(view)).to.deep.equal(SAMPLE_PATHS);
    expect(problemsIn(view)).to.deep.equal([]);
  });

  it('nothing before the first refresh', () => {
    const view = new RemoteView(indexOfEvents(SAMPLE), { subdir: [], hidden: () => false });
    expect([view.entries.size, view.root]).to.deep.equal([0, undefined]);
    expect([...view.refresh()].sort()).to.deep.equal(SAMPLE_PATHS);
    expect(view.root).to.equal(1n);
    expect([...view.refresh()]).to.deep.equal([]);
  });
});

describe('RemoteView: problems', () => {
  const rows: readonly [what: string, events: StoreEvent[], problems: string[]][] = [
    ['a name with a slash', make(1n, 'd/sub', 10n, 'file'), ['d\0ssub: unsafe-name']],
    ['a name with a slash and a NUL', make(1n, 'a/\0', 10n, 'file'), ['a\0s\0' + '0: unsafe-name']],
    ['a name that is a dot', make(2n, '.', 10n, 'file'), ['d/.: unsafe-name']],
    ['a name that is two dots', make(2n, '..', 10n, 'directory'), ['d/..: unsafe-name']],
    ['a name with a NUL', make(2n, 'a\0b', 10n, 'file'), ['d/a\0' + '0b: unsafe-name']],
    ['a name of 256 bytes', make(1n, 'n'.repeat(256), 10n, 'file'), [`${'n'.repeat(256)}: unsafe-name`]],
    ['a real .trash in the root', make(1n, '.trash', 10n, 'directory'), ['.trash: unsafe-name']],
    [
      'a dentry that is none',
      [put({ kind: 'dentry', parent: 1n, name: 'x' }, toBytes('?'))],
      ['x: bad-dentry'],
    ],
    ['a name without an inode', [putDentry(1n, 'x', 10n, 'file')], ['x: dangling']],
    ['a name of inode 0', [putDentry(1n, 'x', 0n, 'file')], ['x: dangling']],
    [
      'a name of the trash',
      [putAttr(TRASH_INO, 'directory'), putDentry(1n, 'x', TRASH_INO, 'directory')],
      ['x: reserved-inode'],
    ],
    [
      'a name of a trash hour',
      [putDentry(2n, 'x', TRASH_INO + 1n, 'directory'), ...make(TRASH_INO + 1n, 'f', 10n, 'file')],
      ['d/x: reserved-inode'],
    ],
    ['a name of the root', [putDentry(3n, 'x', 1n, 'directory')], ['d/sub/x: cycle']],
    ['a name of a directory above', [putDentry(3n, 'x', 2n, 'directory')], ['d/sub/x: cycle']],
    ['a directory in itself', [putDentry(3n, 'x', 3n, 'directory')], ['d/sub/x: cycle']],
    [
      'two directories in each other, out of reach',
      [...make(20n, 'a', 21n, 'directory'), ...make(21n, 'b', 20n, 'directory')],
      [],
    ],
    ['a second name of a directory', [putDentry(1n, 'again', 3n, 'directory')], ['again: second-name']],
    [
      'an attr that is none',
      [...make(1n, 'x', 10n, 'file'), put({ kind: 'attr', ino: 10n }, toBytes('?'))],
      ['x: bad-attr'],
    ],
    [
      'a chunk that is no slice records',
      [
        ...make(1n, 'x', 10n, 'file', { length: 1n }),
        put({ kind: 'chunk', ino: 10n, index: 0 }, new Uint8Array(25)),
      ],
      ['x: bad-chunk'],
    ],
    [
      'a chunk with a record out of range',
      [...make(1n, 'x', 10n, 'file', { length: 1n }), putChunk(10n, 0, [{ ...SLICE, off: 1 }])],
      ['x: bad-chunk'],
    ],
    ['a symlink without a target', make(1n, 'x', 10n, 'symlink'), ['x: bad-symlink']],
    [
      'a symlink with an empty target',
      [...make(1n, 'x', 10n, 'symlink'), put({ kind: 'symlink', ino: 10n }, new Uint8Array())],
      ['x: bad-symlink'],
    ],
    [
      'a symlink with a NUL',
      [...make(1n, 'x', 10n, 'symlink'), put({ kind: 'symlink', ino: 10n }, toBytes('a\0b'))],
      ['x: bad-symlink'],
    ],
    [
      'a symlink with 4097 bytes',
      [...make(1n, 'x', 10n, 'symlink'), put({ kind: 'symlink', ino: 10n }, new Uint8Array(4097).fill(97))],
      ['x: bad-symlink'],
    ],
  ];
  for (const [what, events, problems] of rows) {
    it(`${what}: is left out, the rest goes on`, () => {
      const view = viewOf(indexOfEvents([...SAMPLE, ...events]));
      expect(problemsIn(view)).to.deep.equal(problems);
      expect(pathsIn(view)).to.deep.equal(SAMPLE_PATHS);
      for (const problem of view.problems.values()) expect(problem.message).to.match(/\w+ \w+/);
    });
  }

  it('a chunk that is no slice records but lies past the length: is not seen', () => {
    const view = viewOf(
      indexOfEvents([
        ...SAMPLE,
        ...make(1n, 'x', 10n, 'file', { length: 0n }),
        put({ kind: 'chunk', ino: 10n, index: 0 }, new Uint8Array(25)),
      ]),
    );
    expect(problemsIn(view)).to.deep.equal([]);
    expect(view.entries.get('x')).to.include({ size: 0n });
  });

  it('an empty name never gets that far: the key is not one of a dentry', () => {
    const view = viewOf(indexOfEvents([...SAMPLE, ...make(1n, '', 10n, 'file')]));
    expect([pathsIn(view), problemsIn(view)]).to.deep.equal([SAMPLE_PATHS, []]);
  });

  it('of two names in the directory that the attr tells, the least counts', () => {
    const view = viewOf(indexOfEvents([...SAMPLE, putDentry(1n, 'c', 2n, 'directory')]));
    expect(problemsIn(view)).to.deep.equal(['d: second-name']);
    expect(pathsIn(view)).to.deep.equal(['c', 'c/sub', 'c/sub/f', 'top']);
  });

  it('of two names where the attr tells neither, the least counts', () => {
    const events = [putAttr(3n, 'directory', { parent: 99n }), putDentry(1n, 'again', 3n, 'directory')];
    const view = viewOf(indexOfEvents([...SAMPLE, ...events]));
    expect(problemsIn(view)).to.deep.equal(['d/sub: second-name']);
    expect(pathsIn(view)).to.deep.equal(['again', 'again/f', 'd', 'top']);
  });

  it('a path of more than 4095 bytes, however deep it goes on', () => {
    const depth = 10_000;
    const events = [...SAMPLE];
    for (let i = 100; i < 100 + depth; i++) events.push(...make(BigInt(i), 'x', BigInt(i + 1), 'directory'));
    events.push(...make(1n, 'x', 100n, 'directory'));
    const index = indexOfEvents(events);
    const view = viewOf(index);
    expect(Math.max(...[...view.entries.keys()].map((path) => path.length))).to.equal(4095);
    expect([...view.problems.values()]).to.have.length(1);
    expect([...view.problems.values()][0]).to.include({ kind: 'long-path' });
    view.refresh(index.apply([delDentry(1n, 'x')]));
    expect([pathsIn(view), problemsIn(view)]).to.deep.equal([SAMPLE_PATHS, []]);
  });

  it('all below a problem is left out with it', () => {
    const index = indexOfEvents([...SAMPLE, put({ kind: 'attr', ino: 2n }, toBytes('?'))]);
    const view = viewOf(index);
    expect([pathsIn(view), problemsIn(view)]).to.deep.equal([['top'], ['d: bad-attr']]);
    const back = view.refresh(index.apply([putAttr(2n, 'directory')]));
    expect([...back].sort()).to.deep.equal(['d', 'd/sub', 'd/sub/f']);
    expect([pathsIn(view), problemsIn(view)]).to.deep.equal([SAMPLE_PATHS, []]);
  });

  it('a name with a slash never stands in the way of a path', () => {
    const index = indexOfEvents([...SAMPLE, ...make(1n, 'd/sub', 10n, 'file')]);
    const view = viewOf(index);
    expect([...view.refresh(index.apply([delDentry(1n, 'd/sub')]))]).to.deep.equal([]);
    expect([pathsIn(view), problemsIn(view)]).to.deep.equal([SAMPLE_PATHS, []]);
  });
});

describe('RemoteView: changes', () => {
  const rows: readonly [what: string, events: StoreEvent[], changed: string[], paths: string[]][] = [
    ['nothing', [], [], SAMPLE_PATHS],
    ['a file is written', [putAttr(4n, 'file', { parent: 3n, length: 2n })], ['d/sub/f'], SAMPLE_PATHS],
    ['a chunk is replaced', [putChunk(4n, 0, [{ ...SLICE, id: 8n }])], ['d/sub/f'], SAMPLE_PATHS],
    [
      'an xattr is set',
      [put({ kind: 'xattr', ino: 4n, name: 'user.k' }, toBytes('v'))],
      ['d/sub/f'],
      SAMPLE_PATHS,
    ],
    [
      'an xattr of another namespace is set',
      [put({ kind: 'xattr', ino: 4n, name: 'security.k' }, toBytes('v'))],
      [],
      SAMPLE_PATHS,
    ],
    ['the same attr again', [putAttr(5n, 'file', {}, 9n)], [], SAMPLE_PATHS],
    ['a directory is chmodded', [putAttr(2n, 'directory', { mode: 0o700 })], ['d'], SAMPLE_PATHS],
    ['a name is added', make(2n, 'new', 10n, 'file'), ['d/new'], [...SAMPLE_PATHS, 'd/new']],
    ['a name goes', [delDentry(3n, 'f')], ['d/sub/f'], ['d', 'd/sub', 'top']],
    ['an attr goes', [del({ kind: 'attr', ino: 4n })], ['d/sub/f'], ['d', 'd/sub', 'top']],
    [
      'a directory moves with all below it',
      [
        delDentry(2n, 'sub'),
        putDentry(1n, 'moved', 3n, 'directory'),
        putAttr(3n, 'directory', { parent: 1n }),
      ],
      ['d/sub', 'd/sub/f', 'moved', 'moved/f'],
      ['d', 'moved', 'moved/f', 'top'],
    ],
    [
      'a directory is renamed and its file in the same revision',
      [
        delDentry(1n, 'd'),
        putDentry(1n, 'e', 2n, 'directory'),
        delDentry(3n, 'f'),
        putDentry(3n, 'g', 4n, 'file'),
      ],
      ['d', 'd/sub', 'd/sub/f', 'e', 'e/sub', 'e/sub/g'],
      ['e', 'e/sub', 'e/sub/g', 'top'],
    ],
    [
      'two directories swap places',
      [
        putDentry(1n, 'd', 3n, 'directory'),
        putAttr(3n, 'directory', { parent: 1n }),
        putDentry(3n, 'sub', 2n, 'directory'),
        putAttr(2n, 'directory', { parent: 3n }),
        delDentry(2n, 'sub'),
      ],
      ['d', 'd/f', 'd/sub', 'd/sub/f'],
      ['d', 'd/f', 'd/sub', 'top'],
    ],
    [
      'a directory becomes a file',
      [putAttr(3n, 'file', { parent: 2n })],
      ['d/sub', 'd/sub/f'],
      ['d', 'd/sub', 'top'],
    ],
    [
      'a file is replaced by a directory',
      make(1n, 'top', 10n, 'directory').concat(make(10n, 'in', 11n, 'file')),
      ['top', 'top/in'],
      [...SAMPLE_PATHS, 'top/in'],
    ],
    [
      'a directory is taken to the trash',
      [delDentry(2n, 'sub'), putDentry(TRASH_INO + 1n, '2-3-sub', 3n, 'directory')],
      ['d/sub', 'd/sub/f'],
      ['d', 'top'],
    ],
    [
      'a directory gets a second name that wins: the first one goes',
      [putDentry(1n, 'e', 3n, 'directory'), putAttr(3n, 'directory', { parent: 1n })],
      ['d/sub', 'd/sub/f', 'e', 'e/f'],
      ['d', 'e', 'e/f', 'top'],
    ],
    ['the root goes', [del({ kind: 'attr', ino: 1n })], SAMPLE_PATHS, []],
  ];
  for (const [what, events, changed, paths] of rows) {
    it(`${what}: the paths of the change and no other`, () => {
      const index = indexOfEvents(SAMPLE);
      const view = viewOf(index);
      expect([...view.refresh(index.apply(events))].sort()).to.deep.equal(changed);
      expect(pathsIn(view)).to.deep.equal([...paths].sort());
      expect([...view.entries].sort()).to.deep.equal([...viewOf(index).entries].sort());
    });
  }
});

describe('RemoteView: hidden paths', () => {
  it('are left out with all below them, and asked about once they are known to be safe', () => {
    const asked: string[] = [];
    const index = indexOfEvents([
      ...SAMPLE,
      ...make(1n, '..', 10n, 'file'),
      putDentry(1n, 'gone', 11n, 'directory'),
      put({ kind: 'dentry', parent: 1n, name: 'bad' }, toBytes('?')),
    ]);
    const view = new RemoteView(index, {
      subdir: [],
      hidden: (path, isDirectory) => {
        asked.push(`${path}${isDirectory ? '/' : ''}`);
        return path !== 'd' && path !== 'top';
      },
    });
    view.refresh();
    expect(asked.sort()).to.deep.equal(['bad', 'd/', 'd/sub/', 'gone/', 'top']);
    expect([pathsIn(view), problemsIn(view)]).to.deep.equal([['d', 'top'], ['..: unsafe-name']]);
    expect([
      ...view.refresh(index.apply([putAttr(4n, 'file'), ...make(3n, 'g', 12n, 'file')])),
    ]).to.deep.equal([]);
  });
});

describe('RemoteView: subdirectory', () => {
  function subdirView(index: InodeIndex): RemoteView {
    return viewOf(index, ['d', 'sub']);
  }

  it('is the root of the view', () => {
    const view = subdirView(indexOfEvents(SAMPLE));
    expect([view.root, pathsIn(view)]).to.deep.equal([3n, ['f']]);
    expect([view.pathsOf(3n), view.pathsOf(4n), view.pathsOf(5n)]).to.deep.equal([[''], ['f'], []]);
  });

  const rows: readonly [what: string, events: StoreEvent[], root: bigint | undefined, changed: string[]][] = [
    ['it goes', [delDentry(2n, 'sub')], undefined, ['f']],
    ['a directory above it goes', [delDentry(1n, 'd')], undefined, ['f']],
    ['it becomes a file', [putAttr(3n, 'file')], undefined, ['f']],
    ['its dentry breaks', [put({ kind: 'dentry', parent: 2n, name: 'sub' }, toBytes('?'))], undefined, ['f']],
    ['its attr goes', [del({ kind: 'attr', ino: 3n })], undefined, ['f']],
    [
      'it is the trash',
      [putDentry(2n, 'sub', TRASH_INO, 'directory'), putAttr(TRASH_INO, 'directory')],
      undefined,
      ['f'],
    ],
    [
      'it is another directory',
      [putDentry(2n, 'sub', 10n, 'directory'), putAttr(10n, 'directory'), ...make(10n, 'g', 11n, 'file')],
      10n,
      ['f', 'g'],
    ],
    [
      'a directory above it is exchanged',
      [
        putDentry(1n, 'd', 20n, 'directory'),
        putAttr(20n, 'directory'),
        ...make(20n, 'sub', 21n, 'directory'),
        putDentry(21n, 'f', 4n, 'file'),
      ],
      21n,
      [],
    ],
    ['something beside it changes', make(2n, 'other', 10n, 'file'), 3n, []],
    ['something in it changes', make(3n, 'other', 10n, 'file'), 3n, ['other']],
  ];
  for (const [what, events, root, changed] of rows) {
    it(`${what}, and comes back`, () => {
      const index = indexOfEvents(SAMPLE);
      const view = subdirView(index);
      expect([...view.refresh(index.apply(events))].sort()).to.deep.equal(changed);
      expect(view.root).to.equal(root);
      view.refresh(index.apply(SAMPLE));
      expect(view.root).to.equal(3n);
      expect([...view.entries].sort()).to.deep.equal([...subdirView(index).entries].sort());
    });
  }

  it('that does not exist is shown empty until it does', () => {
    const index = indexOfEvents([ROOT]);
    const view = subdirView(index);
    expect([view.root, view.entries.size]).to.deep.equal([undefined, 0]);
    expect([...view.refresh(index.apply(SAMPLE))]).to.deep.equal(['f']);
  });

  it('never leads back to itself or above', () => {
    const view = subdirView(
      indexOfEvents([
        ...SAMPLE,
        putDentry(3n, 'root', 1n, 'directory'),
        putDentry(3n, 'above', 2n, 'directory'),
        putDentry(3n, 'self', 3n, 'directory'),
      ]),
    );
    expect(pathsIn(view)).to.deep.equal(['f']);
    expect(problemsIn(view)).to.deep.equal(['above: second-name', 'root: cycle', 'self: cycle']);
  });
});
