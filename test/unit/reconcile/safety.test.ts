import { expect } from 'chai';

import type { Change } from '../../../src/reconcile/change.ts';
import { guardAgainstMassDelete } from '../../../src/reconcile/safety.ts';
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
      const here = guardAgainstMassDelete({ files, toLocal: changes, toRemote: [], maxPercent });
      const there = guardAgainstMassDelete({ files, toLocal: [], toRemote: changes, maxPercent });
      expect([here !== undefined, there !== undefined]).to.deep.equal([trips, trips]);
    });
  }

  it('says how many, where, and what to do', () => {
    const input = { files: 100, maxPercent: 50 };
    expect(guardAgainstMassDelete({ ...input, toLocal: removals(60), toRemote: [] })).to.equal(
      '60 of 100 files would be removed here, because the volume has lost them: if that is meant, start once with --max-delete 100',
    );
    expect(guardAgainstMassDelete({ ...input, toLocal: [], toRemote: removals(60) })).to.match(
      /^60 of 100 files would be removed in the volume, because this directory has lost them/,
    );
  });
});
