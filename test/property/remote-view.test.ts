/** A view that is refreshed by changes is the same as one made afresh, whatever the changes. */

import { expect } from 'chai';
import fc from 'fast-check';
import { toBytes } from '../../src/codec/bytes.ts';
import { TRASH_INO } from '../../src/codec/key.ts';
import type { ByteString, Kv, StoreEvent } from '../../src/codec/kv.ts';
import { RemoteView, sameRemoteEntry, type RemoteEntry } from '../../src/reconcile/assemble.ts';
import { InodeIndex, mergeTouched, type Touched } from '../../src/reconcile/inode-index.ts';
import { del, delDentry, put, putAttr, putChunk, putDentry } from '../support/meta.ts';
import { indexOf } from '../support/remote.ts';
import { contentsOf } from '../support/same-index.ts';
import { seeded } from '../support/seed.ts';

/** Few inodes and names, so that cycles, second names and dangling dentries are common. */
const ino = fc.constantFrom(1n, 2n, 3n, 4n, 5n, 6n, TRASH_INO, TRASH_INO + 1n);
const name = fc.constantFrom('a', 'b', 'c', 'a/b', '..', '.trash', 'hidden');
const type = fc.constantFrom('directory', 'directory', 'directory', 'file', 'symlink', 'fifo');

const event: fc.Arbitrary<StoreEvent> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(ino, name, ino, type).map((args) => putDentry(...args)) },
  { weight: 3, arbitrary: fc.tuple(ino, name).map((args) => delDentry(...args)) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(ino, type, ino, fc.constantFrom(0o755, 0o700), fc.bigInt(0n, 6n))
      .map(([of, kind, parent, mode, length]) => putAttr(of, kind, { parent, mode, length })),
  },
  { weight: 1, arbitrary: ino.map((of) => del({ kind: 'attr', ino: of })) },
  { weight: 1, arbitrary: ino.map((of) => put({ kind: 'attr', ino: of }, toBytes('no attr'))) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(ino, fc.bigInt(0n, 3n))
      .map(([of, id]) => putChunk(of, 0, [{ pos: 1, id, size: id === 0n ? 0 : 3, off: 0, len: 3 }])),
  },
  { weight: 1, arbitrary: ino.map((of) => put({ kind: 'chunk', ino: of, index: 0 }, toBytes('bad'))) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(ino, fc.constantFrom('', 'target', 'x\0'))
      .map(([of, target]) => put({ kind: 'symlink', ino: of }, toBytes(target))),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(ino, name).map(([p, n]) => put({ kind: 'dentry', parent: p, name: n }, toBytes('?'))),
  },
);

/** One revision: a key occurs in it once. */
const revision = fc.uniqueArray(event, { minLength: 1, maxLength: 5, selector: keyOf });

function keyOf(of: StoreEvent): ByteString {
  return of.type === 'put' ? of.kv.key : of.key;
}

/** A root with two directories, one in the other, so that there is something from the start. */
const START = [
  putAttr(1n, 'directory'),
  putAttr(2n, 'directory', { parent: 1n }),
  putDentry(1n, 'a', 2n, 'directory'),
  putAttr(3n, 'directory', { parent: 2n }),
  putDentry(2n, 'b', 3n, 'directory'),
  putAttr(4n, 'file', { parent: 3n, length: 4n }),
  putDentry(3n, 'c', 4n, 'file'),
];

function newView(index: InodeIndex, subdir: readonly ByteString[]): RemoteView {
  return new RemoteView(index, { subdir, hidden: (path) => /(^|\/)hidden$/.test(path) });
}

function expectSameView(view: RemoteView, fresh: RemoteView): void {
  expect(view.root).to.equal(fresh.root);
  expect(new Map(view.entries)).to.deep.equal(new Map(fresh.entries));
  expect(new Map(view.problems)).to.deep.equal(new Map(fresh.problems));
  for (const of of [1n, 2n, 3n, 4n, 5n, 6n]) {
    expect(view.pathsOf(of).sort()).to.deep.equal(fresh.pathsOf(of).sort());
    const shown = [...view.entries].flatMap(([path, entry]) => (entry.ino === of ? [path] : []));
    expect(
      view
        .pathsOf(of)
        .filter((path) => path !== '')
        .sort(),
    ).to.deep.equal(shown.sort());
  }
}

function changesBetween(
  before: ReadonlyMap<string, RemoteEntry>,
  after: ReadonlyMap<string, RemoteEntry>,
): Set<string> {
  const paths = [...before.keys(), ...after.keys()];
  return new Set(paths.filter((path) => !sameRemoteEntry(before.get(path), after.get(path))));
}

/** What any view keeps: a parent is a directory, a directory is shown once, an entry has no problem. */
function expectTree(view: RemoteView): void {
  const directories = new Set<bigint>();
  for (const [path, entry] of view.entries) {
    const slash = path.lastIndexOf('/');
    if (slash >= 0) expect(view.entries.get(path.slice(0, slash))?.type).to.equal('directory');
    expect(path.split('/')).to.not.include.members(['..']);
    expect(view.problems.has(path)).to.equal(false);
    if (entry.type !== 'directory') continue;
    expect(directories.has(entry.ino), path).to.equal(false);
    directories.add(entry.ino);
  }
}

for (const subdir of [[], ['a'], ['a', 'b']]) {
  describe(`a view of /${subdir.join('/')}`, () => {
    it('refreshed by changes is the same as made afresh', () => {
      fc.assert(
        fc.property(fc.array(revision, { maxLength: 15 }), (revisions) => {
          const index = new InodeIndex();
          index.apply(START);
          const view = newView(index, subdir);
          view.refresh();
          for (const events of revisions) {
            const before = new Map(view.entries);
            const changed = view.refresh(index.apply(events));
            expect(changed).to.deep.equal(changesBetween(before, view.entries));
            const fresh = newView(index, subdir);
            fresh.refresh();
            expectSameView(view, fresh);
            expectTree(view);
          }
        }),
        seeded({ numRuns: 300 }),
      );
    });

    it('refreshed by several revisions at once is the same as made afresh', () => {
      fc.assert(
        fc.property(fc.array(fc.array(revision, { maxLength: 4 }), { maxLength: 6 }), (batches) => {
          const index = new InodeIndex();
          index.apply(START);
          const view = newView(index, subdir);
          view.refresh();
          for (const batch of batches) {
            const touched: Touched[] = batch.map((events) => index.apply(events));
            view.refresh(mergeTouched(touched));
            const fresh = newView(index, subdir);
            fresh.refresh();
            expectSameView(view, fresh);
          }
        }),
        seeded({ numRuns: 200 }),
      );
    });
  });
}

describe('an index', () => {
  it('fed by revisions is the same as loaded afresh', () => {
    fc.assert(
      fc.property(fc.array(revision, { maxLength: 15 }), (revisions) => {
        const index = new InodeIndex();
        const state = new Map<ByteString, Kv>();
        for (const events of revisions) {
          index.apply(events);
          for (const of of events) {
            if (of.type === 'put') state.set(of.kv.key, of.kv);
            else state.delete(of.key);
          }
        }
        const afresh = indexOf(state.values());
        expect(contentsOf(index)).to.deep.equal(contentsOf(afresh));
        for (const [key, kv] of state) {
          expect(index.lookup(key)).to.deep.equal({ value: kv.value, modRevision: kv.modRevision });
        }
      }),
      seeded({ numRuns: 300 }),
    );
  });
});
