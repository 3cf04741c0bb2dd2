import { expect } from 'chai';
import { encodeKey } from '../../../src/codec/key.ts';
import type { Entry } from '../../../src/reconcile/entry.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';
import { MemoryVolume } from '../../support/memory-volume.ts';

const MTIME = 1_700_000_000_000_000_000n;
const base = { ino: 0n, uid: 0, gid: 0, mtimeNs: MTIME };
const DIR: Entry = { ...base, type: 'directory', mode: 0o755 };

/** A file of so many pages of 4096 bytes. */
function file(pages: number, fields: Partial<Entry> = {}): Entry {
  const size = BigInt(pages) * 4096n;
  return {
    ...base,
    type: 'file',
    mode: 0o644,
    size,
    digest: `${size}`,
    nlink: 1,
    ...fields,
  } as Entry;
}

/** `q` with a quota and 3 pages in it, `q/in` with one of its own, `free` without. */
function volumeWithQuotas(trashDays: number): MemoryVolume {
  const volume = new MemoryVolume();
  volume.setting = { ...volume.setting, trashDays };
  volume.push(volume.make('q', DIR), volume.make('q/in', DIR), volume.make('free', DIR));
  volume.limit('q', { usedSpace: 4096n, usedInodes: 1n });
  volume.limit('q/in', {});
  volume.push(volume.make('q/two', file(2)), volume.make('free/f', file(5)));
  return volume;
}

interface Case {
  readonly what: string;
  /** One push each, on what those before left. */
  readonly pushes: readonly ((volume: MemoryVolume) => readonly PushChange[])[];
  /** Pages and inodes below `q`, and below `q/in` if it is still there. */
  readonly q: readonly [number, number];
  readonly inner?: readonly [number, number];
}

const TREE = (v: MemoryVolume): PushChange[] => [
  v.make('free/t', DIR),
  v.make('free/t/a', file(3)),
  v.make('free/t/sub', DIR),
  v.make('free/t/sub/b', file(4)),
];

const cases: readonly Case[] = [
  { what: 'starts with what it has', pushes: [], q: [3, 2], inner: [0, 0] },
  {
    what: 'counts a new file in all directories above it',
    pushes: [(v) => [v.make('q/in/f', file(2))]],
    q: [5, 3],
    inner: [2, 1],
  },
  {
    what: 'counts new directories and what is in them',
    pushes: [(v) => [v.make('q/d', DIR), v.make('q/d/e', DIR), v.make('q/d/e/f', file(0))]],
    q: [6, 5],
  },
  { what: 'counts no file elsewhere', pushes: [(v) => [v.make('free/g', file(9))]], q: [3, 2] },
  { what: 'gives back what a removal frees', pushes: [(v) => [v.remove('q/two')]], q: [1, 1] },
  {
    what: 'counts the new size of replaced contents',
    pushes: [(v) => [v.edit('q/two', { size: 4096n * 7n, digest: 'other' })]],
    q: [8, 2],
  },
  { what: 'does not count a rename within', pushes: [(v) => [v.move('q/two', 'q/three')]], q: [3, 2] },
  {
    what: 'counts a rename into a quota inside',
    pushes: [(v) => [v.move('q/two', 'q/in/two')]],
    q: [3, 2],
    inner: [2, 1],
  },
  { what: 'counts a file that moves in', pushes: [(v) => [v.move('free/f', 'q/f')]], q: [8, 3] },
  { what: 'counts a file that moves out', pushes: [(v) => [v.move('q/two', 'free/two')]], q: [1, 1] },
  {
    what: 'counts what a rename replaces',
    pushes: [(v) => [v.move('free/f', 'q/two', { over: v.at('q/two') })]],
    q: [6, 2],
  },
  {
    what: 'counts a tree that moves in, with all below it',
    pushes: [TREE, (v) => [v.move('free/t', 'q/in/t')]],
    q: [12, 6],
    inner: [9, 4],
  },
  {
    what: 'counts a tree that moves in and gets entries in the same transaction',
    pushes: [
      TREE,
      (v) => [
        v.move('free/t', 'q/t'),
        v.make('q/t/c', file(1)),
        { path: 'q/t/sub/b', old: v.at('free/t/sub/b'), new: undefined },
      ],
    ],
    q: [9, 6],
  },
  {
    what: 'counts two trees, one of which was in the other',
    pushes: [TREE, (v) => [v.move('free/t', 'q/t'), v.move('free/t/sub', 'q/in/sub')]],
    q: [12, 6],
    inner: [5, 2],
  },
  {
    what: 'counts a tree that moves out and takes its quota along',
    pushes: [(v) => [v.make('q/in/f', file(2))], (v) => [v.move('q/in', 'free/in')]],
    q: [2, 1],
  },
  {
    what: 'counts two directories that trade places',
    pushes: [
      (v) => [v.make('free/t', DIR), v.make('free/t/a', file(3)), v.make('q/in/f', file(8))],
      (v) => [v.move('free/t', 'q/in'), v.move('q/in', 'free/t')],
    ],
    q: [6, 3],
  },
  {
    what: 'counts a tree that moves over an empty directory, which takes its quota away',
    pushes: [TREE, (v) => [v.move('free/t', 'q/in', { over: v.at('q/in') })]],
    q: [11, 5],
  },
  {
    what: 'counts a directory that leaves a tree which goes',
    pushes: [
      (v) => [v.make('q/in/deep', DIR), v.make('q/in/deep/f', file(2))],
      (v) => [v.move('q/in/deep', 'free/deep'), v.remove('q/in')],
    ],
    q: [2, 1],
  },
  {
    what: 'counts a directory that goes, with its quota and all in it',
    pushes: [(v) => [v.make('q/in/f', file(2))], (v) => [v.remove('q/in/f'), v.remove('q/in')]],
    q: [2, 1],
  },
  {
    what: 'counts what moves out of a directory that goes',
    pushes: [(v) => [v.make('q/in/f', file(2))], (v) => [v.move('q/in/f', 'q/f'), v.remove('q/in')]],
    q: [4, 2],
  },
];

describe('directory quotas', () => {
  for (const trashDays of [0, 1]) {
    for (const { what, pushes, q, inner } of cases) {
      it(`a quota ${what}, trash ${trashDays > 0 ? 'on' : 'off'}`, () => {
        const volume = volumeWithQuotas(trashDays);
        for (const changes of pushes) expect(volume.push(...changes(volume))).to.deep.equal([]);
        expect(volume.usedBelow('q')).to.deep.equal(q);
        if (inner !== undefined) expect(volume.usedBelow('q/in')).to.deep.equal(inner);
      });
    }
  }

  it('a quota goes with its directory', () => {
    const volume = volumeWithQuotas(1);
    const ino = volume.ino('q/in');
    volume.push(volume.remove('q/in'));
    expect(volume.used({ kind: 'dirQuota', ino })).to.equal(undefined);
  });

  it('of a volume without statistics are not kept, as the real client keeps none', () => {
    const volume = volumeWithQuotas(0);
    volume.setting = { ...volume.setting, dirStats: false };
    volume.push(volume.make('q/f', file(1)));
    expect(volume.usedBelow('q')).to.deep.equal([3, 2]);
  });

  it('compare all directories above, so that a move of one of them is not missed', () => {
    const volume = volumeWithQuotas(0);
    const { transaction } = volume.plan([volume.make('q/in/f', file(1))]);
    const compared = transaction.compares.map((compare) => ('key' in compare ? compare.key : ''));
    const [q, inner] = [volume.ino('q'), volume.ino('q/in')];
    const attrs = [q, inner].map((ino) => encodeKey({ kind: 'attr', ino }));
    const quotas = [1n, q, inner].map((ino) => encodeKey({ kind: 'dirQuota', ino }));
    expect(compared).to.include.members([...attrs, ...quotas]);
  });
});

describe('a quota without room', () => {
  it('refuses in a sentence that says whose it is and what is used, and the rest goes on', () => {
    const volume = volumeWithQuotas(0);
    volume.limit('q', { maxSpace: 4n * 4096n, usedSpace: 3n * 4096n, usedInodes: 2n });
    const givenUp = volume.push(volume.make('q/in/big', file(2)), volume.make('free/g', file(1)));
    expect(givenUp.map(({ change, outcome, reason }) => [change.path, outcome, reason])).to.deep.equal([
      [
        'q/in/big',
        'refused',
        'the quota of /q has no room: 12.0 KiB of 16.0 KiB are used, and the push needs 8.0 KiB more',
      ],
    ]);
    expect(volume.at('free/g').type).to.equal('file');
    expect(volume.usedBelow('q')).to.deep.equal([3, 2]);
  });

  it('refuses by the number of entries too', () => {
    const volume = volumeWithQuotas(0);
    volume.limit('q/in', { maxInodes: 1n });
    const givenUp = volume.push(volume.make('q/in/a', file(0)), volume.make('q/in/b', file(0)));
    expect(givenUp.map(({ change, reason }) => [change.path, reason])).to.deep.equal([
      [
        'q/in/b',
        'the quota of /q/in has no room: 0 of 1 files and directories are used, and the push needs 2 more',
      ],
    ]);
  });

  it('refuses what is below a directory that it refuses', () => {
    const volume = volumeWithQuotas(0);
    volume.limit('q/in', { maxInodes: 1n, usedInodes: 1n });
    const givenUp = volume.push(volume.make('q/in/d', DIR), volume.make('q/in/d/f', file(0)));
    expect(givenUp.map(({ change, outcome }) => [change.path, outcome])).to.deep.equal([
      ['q/in/d', 'refused'],
      ['q/in/d/f', 'refused'],
    ]);
  });

  it('lets in what the same push makes room for', () => {
    const volume = volumeWithQuotas(1);
    volume.limit('q', { maxSpace: 3n * 4096n, usedSpace: 3n * 4096n, usedInodes: 2n });
    const changes = [volume.make('q/d', DIR), volume.make('q/d/f', file(1)), volume.remove('q/two')];
    expect(volume.push(...changes)).to.deep.equal([]);
    expect(volume.usedBelow('q')).to.deep.equal([3, 3]);
  });

  it('does not stop what needs no more than before', () => {
    const volume = volumeWithQuotas(0);
    volume.limit('q', { maxSpace: 4096n, usedSpace: 3n * 4096n, usedInodes: 2n, maxInodes: 1n });
    const changes = [volume.edit('q/two', { size: 4096n, digest: 'less' }), volume.remove('q/in')];
    expect(volume.push(...changes)).to.deep.equal([]);
    expect(volume.usedBelow('q')).to.deep.equal([1, 1]);
  });

  for (const [what, limit] of [
    ['number', { maxInodes: 22n }],
    ['size', { maxSpace: 23n * 4096n }],
  ] as const) {
    it(`refuses by ${what} the very entry that is one too many of a push that is made ahead`, () => {
      const volume = volumeWithQuotas(0);
      volume.limit('q', { ...limit, usedSpace: 3n * 4096n, usedInodes: 2n });
      volume.request = { hold: 'survey' };
      const files = Array.from({ length: 40 }, (_, i) => volume.make(`q/new/${i}`, file(1)));
      const { planned, givenUp } = volume.plan([volume.make('q/new', DIR), ...files]);
      expect([planned.length, givenUp.length]).to.deep.equal([20, 21]);
    });
  }

  it('refuses a tree that moves in', () => {
    const volume = volumeWithQuotas(0);
    volume.push(...TREE(volume));
    volume.limit('q', { maxSpace: 10n * 4096n, usedSpace: 3n * 4096n, usedInodes: 2n });
    const [givenUp] = volume.push(volume.move('free/t', 'q/t'));
    expect(givenUp?.reason).to.match(/^the quota of \/q has no room: 12\.0 KiB of 40\.0 KiB are used/);
  });
});

describe('limits of the volume', () => {
  it('refuse by size', () => {
    const volume = volumeWithQuotas(0);
    const used = 10n * 4096n;
    volume.setting = { ...volume.setting, capacity: used + 4096n };
    const givenUp = volume.push(volume.make('a', file(1)), volume.make('b', file(1)));
    expect(givenUp.map(({ change, reason }) => [change.path, reason])).to.deep.equal([
      ['b', "the volume's limit has no room: 40.0 KiB of 44.0 KiB are used, and the push needs 8.0 KiB more"],
    ]);
  });

  it('refuse by number', () => {
    const volume = volumeWithQuotas(0);
    volume.setting = { ...volume.setting, inodes: 5n };
    const [givenUp] = volume.push(volume.make('a', file(1)));
    expect(givenUp?.reason).to.equal(
      "the volume's limit has no room: 5 of 5 files and directories are used, and the push needs 1 more",
    );
  });
});

describe('quotas of users and groups', () => {
  function volumeOfOwners(trashDays = 0): MemoryVolume {
    const volume = new MemoryVolume();
    volume.setting = { ...volume.setting, trashDays, userGroupQuota: true };
    volume.push(volume.make('f', file(2, { uid: 7, gid: 8 })), volume.make('d', { ...DIR, uid: 7 }));
    return volume;
  }
  const user = (uid: number) => ({ kind: 'userQuota', uid: BigInt(uid) }) as const;
  const group = (gid: number) => ({ kind: 'groupQuota', gid: BigInt(gid) }) as const;

  it('are made with the first use, without limits', () => {
    const volume = volumeOfOwners();
    expect([volume.used(user(7)), volume.used(group(8)), volume.used(group(0))]).to.deep.equal([
      [3, 2],
      [2, 1],
      [1, 1],
    ]);
  });

  it('get back what is deleted for good', () => {
    const volume = volumeOfOwners();
    volume.push(volume.remove('f'));
    expect([volume.used(user(7)), volume.used(group(8))]).to.deep.equal([
      [1, 1],
      [0, 0],
    ]);
  });

  it('still count what is in the trash, and nobody the trash itself', () => {
    const volume = volumeOfOwners(1);
    volume.push(volume.remove('f'));
    expect([volume.used(user(7)), volume.used(user(0))]).to.deep.equal([[3, 2], undefined]);
  });

  it('refuse when they have no room', () => {
    const volume = volumeOfOwners();
    volume.limit(user(7), { maxInodes: 2n, usedInodes: 2n, usedSpace: 3n * 4096n });
    const [givenUp] = volume.push(volume.make('g', file(1, { uid: 7 })));
    expect(givenUp?.reason).to.equal(
      'the quota of user 7 has no room: 2 of 2 files and directories are used, and the push needs 1 more',
    );
  });
});
