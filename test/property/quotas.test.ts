/** Whatever is pushed, quotas hold what a count of the whole volume says. */

import { expect } from 'chai';
import fc from 'fast-check';
import type { Path } from '../../src/reconcile/entry.ts';
import { isAtOrBelow, type PushChange } from '../../src/reconcile/push-change.ts';
import { MemoryVolume } from '../support/memory-volume.ts';
import { seeded } from '../support/seed.ts';

const base = { ino: 0n, gid: 0, mtimeNs: 1_700_000_000_000_000_000n };

/** One wish; numbers pick among what there is. */
interface Wish {
  readonly what: 'file' | 'directory' | 'link' | 'remove' | 'resize' | 'move' | 'chown' | 'limit';
  readonly which: number;
  readonly where: number;
  readonly pages: number;
}

const wish: fc.Arbitrary<Wish> = fc.record({
  what: fc.constantFrom(
    'file',
    'link',
    'link',
    'directory',
    'directory',
    'remove',
    'resize',
    'move',
    'move',
    'chown',
    'limit',
  ),
  which: fc.nat(1000),
  where: fc.nat(1000),
  pages: fc.nat(9),
});

function pick<T>(list: readonly T[], which: number): T | undefined {
  return list.length === 0 ? undefined : list[which % list.length];
}

function below(directory: Path, name: string): Path {
  return directory === '' ? name : `${directory}/${name}`;
}

/** The change that a wish means, if it can be had beside those that are in the push already. */
function changeFor(
  volume: MemoryVolume,
  { what, which, where, pages }: Wish,
  count: number,
): PushChange | undefined {
  const entries = [...volume.tree];
  const directories = [
    '',
    ...entries.filter(([, entry]) => entry.type === 'directory').map(([path]) => path),
  ];
  const to = below(pick(directories, where) ?? '', `n${count}`);
  const [path, entry] = pick(entries, which) ?? [];
  switch (what) {
    case 'file': {
      const size = BigInt(pages) * 4096n;
      const fields = { mode: 0o644, uid: which % 3, size, digest: `${size}`, nlink: 1 };
      return volume.make(to, { ...base, ...fields, type: 'file' });
    }
    case 'directory':
      return volume.make(to, { ...base, type: 'directory', mode: 0o755, uid: which % 3 });
    case 'remove': {
      if (path === undefined) return undefined;
      const isEmpty = entries.every(([one]) => one === path || !isAtOrBelow(one, path));
      return isEmpty ? volume.remove(path) : undefined;
    }
    case 'resize': {
      if (path === undefined || entry?.type !== 'file') return undefined;
      const size = BigInt(pages) * 4096n + 1n;
      const change = volume.edit(path, { size, digest: `${size}` });
      // A file with several names may get its contents in place, or leave the others.
      return where % 2 === 0 ? { ...change, link: { kind: 'in-place' } } : change;
    }
    case 'link':
      if (path === undefined || entry?.type !== 'file') return undefined;
      return { ...volume.make(to, entry), link: { kind: 'name', ino: entry.ino } };
    case 'chown':
      return path === undefined ? undefined : volume.edit(path, { uid: where % 3 });
    case 'move':
      if (path === undefined || isAtOrBelow(to, path)) return undefined;
      return volume.move(path, to);
    case 'limit':
      return undefined;
  }
}

function touched(change: PushChange): Path[] {
  return change.movedFrom === undefined ? [change.path] : [change.path, change.movedFrom];
}

describe('quotas under any pushes', () => {
  for (const trashDays of [0, 1]) {
    it(`are exact, trash ${trashDays > 0 ? 'on' : 'off'}`, () => {
      fc.assert(
        fc.property(fc.array(fc.array(wish, { minLength: 1, maxLength: 6 }), { maxLength: 25 }), (pushes) => {
          const volume = new MemoryVolume();
          volume.setting = { ...volume.setting, trashDays, userGroupQuota: true };
          volume.request = { owners: true };
          let count = 0;
          for (const wishes of pushes) {
            const changes: PushChange[] = [];
            const inodes = new Set<bigint>();
            for (const one of wishes) {
              if (one.what === 'limit') {
                const directories = [...volume.tree].filter(([, { type }]) => type === 'directory');
                const [path] = pick(directories, one.which) ?? [];
                if (path !== undefined && changes.length === 0) volume.limitAsCounted(path);
                continue;
              }
              const change = changeFor(volume, one, (count += 1));
              if (change === undefined) continue;
              const inode = change.old?.ino ?? change.new?.ino ?? 0n;
              const isFree =
                (inode === 0n || !inodes.has(inode)) &&
                touched(change).every((a) =>
                  changes.flatMap(touched).every((b) => !isAtOrBelow(a, b) && !isAtOrBelow(b, a)),
                );
              if (!isFree) continue;
              changes.push(change);
              inodes.add(inode);
              // Something new in a directory that moves in the same push.
              if (one.what === 'move' && change.new?.type === 'directory') {
                changes.push(
                  volume.make(`${change.path}/in${count}`, {
                    ...base,
                    type: 'directory',
                    mode: 0o755,
                    uid: 1,
                  }),
                );
              }
            }
            expect(volume.push(...changes)).to.deep.equal([]);
            expect(volume.wrongQuotas()).to.deep.equal([]);
          }
        }),
        seeded({ numRuns: 60 }),
      );
    });
  }
});
