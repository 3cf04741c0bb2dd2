import { expect } from 'chai';

import type { Change } from '../../../src/reconcile/change.ts';
import { guardHere, guardVolume } from '../../../src/reconcile/safety.ts';
import { dirEntry, fileEntry } from '../../support/trees.ts';

function removals(count: number): Change[] {
  return Array.from({ length: count }, (_, index) => ({
    path: `f${index}`,
    old: fileEntry('one'),
    new: undefined,
  }));
}

function additions(count: number): Change[] {
  return removals(count).map(({ path, old }) => ({ path: `new/${path}`, old: undefined, new: old }));
}

const CASES: readonly {
  readonly title: string;
  readonly files: number;
  readonly changes: readonly Change[];
  readonly maxPercent?: number;
  readonly trips: boolean;
}[] = [
  { title: 'nothing', files: 100, changes: [], trips: false },
  { title: 'exactly the share', files: 100, changes: removals(50), trips: false },
  { title: 'one more than the share', files: 100, changes: removals(51), trips: true },
  { title: 'nearly all of a small tree', files: 9, changes: removals(8), trips: false },
  { title: 'all of a small tree', files: 9, changes: removals(9), trips: true },
  { title: 'the one file there is', files: 1, changes: removals(1), trips: false },
  { title: 'all of a small tree, with 100 %', files: 9, changes: removals(9), maxPercent: 100, trips: false },
  { title: 'all of ten', files: 10, changes: removals(10), trips: true },
  { title: 'all, with 100 %', files: 100, changes: removals(100), maxPercent: 100, trips: false },
  { title: 'ten, with 0 %', files: 1000, changes: removals(10), maxPercent: 0, trips: true },
  { title: 'nine, with 0 %', files: 1000, changes: removals(9), maxPercent: 0, trips: false },
  {
    title: 'a directory of 100 files that was renamed',
    files: 100,
    changes: [...removals(100), ...additions(100)],
    trips: false,
  },
  {
    title: 'a rename of some, and too many that only went',
    files: 100,
    changes: [...removals(80), ...additions(20)],
    trips: true,
  },
  {
    title: 'directories do not count',
    files: 10,
    changes: removals(20).map((change) => ({ ...change, old: dirEntry() })),
    trips: false,
  },
  {
    title: 'edits do not count',
    files: 20,
    changes: removals(20).map((change) => ({ ...change, new: fileEntry('two') })),
    trips: false,
  },
];

describe('the guard against mass deletes', () => {
  for (const { title, files, changes, maxPercent = 50, trips } of CASES) {
    it(`${title}: ${trips ? 'waits' : 'runs'}, in both directions`, () => {
      const removals = { files, changes, maxPercent };
      expect([guardHere(removals), guardVolume(removals)].map((trip) => trip !== undefined)).to.deep.equal([
        trips,
        trips,
      ]);
    });
  }

  it('says how many and where, and which they are', () => {
    const some = { files: 100, maxPercent: 50, changes: removals(60) };
    expect(guardHere(some)).to.include({
      guard: 'delete',
      reason: '60 of 100 files would be removed here, because the volume has lost them',
    });
    expect(guardVolume(some)).to.include({
      guard: 'delete',
      reason: '60 of 100 files would be removed in the volume, because this directory has lost them',
    });
    expect(guardHere(some)?.facts).to.not.deep.equal(guardVolume(some)?.facts);
    expect(guardHere({ ...some, changes: removals(61) })?.facts).to.not.deep.equal(guardHere(some)?.facts);
    expect(guardHere({ ...some, changes: removals(60).reverse() })?.facts).to.deep.equal(
      guardHere(some)?.facts,
    );
  });

  it('is another one when nothing would be left', () => {
    const all = { files: 60, maxPercent: 50, changes: removals(60) };
    expect(guardHere(all)?.guard).to.equal('empty');
    // Nobody empties a directory to empty the volume: it is put back.
    expect(guardVolume(all)?.guard).to.equal('directory');
  });

  it('counts what went a moment ago', () => {
    const portion = { files: 60, maxPercent: 50, changes: removals(20) };
    expect(guardHere(portion)).to.equal(undefined);
    expect(guardHere({ ...portion, before: 40 })?.reason).to.match(/^60 of 100 files/);
    expect(guardHere({ ...portion, changes: additions(20), before: 60 })).to.equal(undefined);
  });

  it('counts one file of one only when the directory that is shown went with it', () => {
    const one = { files: 1, maxPercent: 50, changes: removals(1) };
    expect(guardHere(one)).to.equal(undefined);
    expect(guardHere({ ...one, isRootGone: true })?.guard).to.equal('empty');
  });
});
