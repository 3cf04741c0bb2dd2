/** What a clean-up would do: a table of what is there and the jobs it makes. */

import { expect } from 'chai';
import { encodeAttr, type Attr } from '../../../src/codec/attr.ts';
import { encodeCounter, encodeTimeCounter } from '../../../src/codec/counter.ts';
import { encodeDelayedSlices } from '../../../src/codec/delayed-slices.ts';
import { encodeDentry } from '../../../src/codec/dentry.ts';
import { encodeKey, TRASH_INO, type MetaKey } from '../../../src/codec/key.ts';
import { encodeSlices } from '../../../src/codec/slice.ts';
import { planCleanup, planSlices, unnamedBlocks, type Job } from '../../../src/reconcile/cleanup.ts';
import { VolumeFacts } from '../../../src/reconcile/volume-facts.ts';
import { attrOf } from '../../support/meta.ts';

const HOUR = 3600n;
const DAY = 24n * HOUR;
/** 2027-01-15T08:00:00Z. */
const NOW = 1_800_000_000n;
const SAFE = 100n;
const OLD = 100n;
const YOUNG = 101n;

type Stored = readonly [key: MetaKey, value: Uint8Array, modRevision?: bigint];

function factsOf(...stored: readonly Stored[]): VolumeFacts {
  const facts = new VolumeFacts();
  for (const [key, value, modRevision = OLD] of stored) {
    facts.add({ key: encodeKey(key), value, modRevision });
  }
  return facts;
}

const seconds = encodeTimeCounter;
const attr = (ino: bigint, type: Attr['type'], fields: Partial<Attr> = {}, modRevision = OLD): Stored => [
  { kind: 'attr', ino },
  encodeAttr(attrOf(type, fields)),
  modRevision,
];
const dentry = (parent: bigint, name: string, ino: bigint, type: Attr['type']): Stored => [
  { kind: 'dentry', parent, name },
  encodeDentry({ type, ino }),
];
const expiry = (sid: bigint, at: bigint, modRevision = OLD): Stored => [
  { kind: 'sessionExpire', sid },
  seconds(at),
  modRevision,
];
const chunk = (ino: bigint, id: bigint): Stored => [
  { kind: 'chunk', ino, index: 0 },
  encodeSlices([{ pos: 0, id, size: 5, off: 0, len: 5 }]),
];
const count = (id: bigint, value: bigint, modRevision = OLD): Stored => [
  { kind: 'sliceRef', id, size: 5 },
  encodeCounter(value),
  modRevision,
];

/** A job in a few words. */
function shown(job: Job): string {
  switch (job.kind) {
    case 'held':
      return `held ${job.ino} by ${job.sid}`;
    case 'session':
      return `session ${job.sid}`;
    case 'trash':
      return `trash ${job.names.map(({ ino }) => ino).join(' ')}`;
    case 'hour':
      return `hour ${job.name}`;
    case 'detached':
      return `detached ${job.root}: ${job.names.map(({ ino }) => ino).join(' ')}`;
    case 'unnamed':
      return `unnamed ${job.ino}`;
    case 'delayed':
      return `delayed ${job.id}`;
    case 'data':
      return `data ${job.ino}`;
  }
}

interface Case {
  readonly what: string;
  readonly stored: readonly Stored[];
  readonly trashDays?: number;
  readonly jobs: readonly string[];
}

const hour = (ino: bigint, name: string): readonly Stored[] => [
  attr(TRASH_INO + ino, 'directory'),
  dentry(TRASH_INO, name, TRASH_INO + ino, 'directory'),
];

const CASES: readonly Case[] = [
  {
    what: 'a session whose time is not over',
    stored: [expiry(1n, NOW + 1n)],
    jobs: [],
  },
  {
    what: 'a session whose time has just passed, which its mount may yet renew',
    stored: [expiry(1n, NOW - 299n, YOUNG)],
    jobs: [],
  },
  {
    what: 'a session whose time has just passed and of which nothing was written for long',
    stored: [expiry(1n, NOW - 1n, OLD)],
    jobs: ['session 1'],
  },
  {
    what: 'a session that has been over for minutes, with the files that it held open',
    stored: [
      expiry(1n, NOW - 301n, YOUNG),
      [{ kind: 'sustained', sid: 1n, ino: 9n }, new Uint8Array([1])],
      attr(9n, 'file', { nlink: 0 }),
    ],
    jobs: ['held 9 by 1', 'session 1'],
  },
  {
    what: 'what a half cleaned session left, old and young',
    stored: [
      [{ kind: 'sessionInfo', sid: 1n }, new Uint8Array(2), OLD],
      [{ kind: 'sessionInfo', sid: 2n }, new Uint8Array(2), YOUNG],
    ],
    jobs: ['session 1'],
  },
  {
    what: 'hours of the trash: this one, one within a day and two hours, one that is older',
    stored: [
      ...hour(1n, '2027-01-15-08'),
      ...hour(2n, '2027-01-14-06'),
      ...hour(3n, '2027-01-14-05'),
      dentry(TRASH_INO + 3n, '1-9-f', 9n, 'file'),
      attr(9n, 'file'),
    ],
    jobs: ['trash 9', 'hour 2027-01-14-05'],
  },
  {
    what: 'a trash that was switched off: the hours before the last two',
    stored: [...hour(1n, '2027-01-15-08'), ...hour(2n, '2027-01-15-06'), ...hour(3n, '2027-01-15-05')],
    trashDays: 0,
    jobs: ['trash ', 'hour 2027-01-15-05'],
  },
  {
    what: 'a tree in the trash, what is below a directory before it',
    stored: [
      ...hour(1n, '2020-01-01-00'),
      dentry(TRASH_INO + 1n, '1-20-d', 20n, 'directory'),
      attr(20n, 'directory'),
      dentry(20n, 'e', 21n, 'directory'),
      attr(21n, 'directory'),
      dentry(21n, 'f', 22n, 'file'),
      attr(22n, 'file'),
    ],
    jobs: ['trash 22 21 20', 'hour 2020-01-01-00'],
  },
  {
    what: 'a name in the trash that is no hour',
    stored: [...hour(1n, 'noon')],
    jobs: [],
  },
  {
    what: 'trees that were never attached, of an hour and of two days ago',
    stored: [
      [{ kind: 'detached', ino: 30n }, seconds(NOW - HOUR)],
      attr(30n, 'directory'),
      [{ kind: 'detached', ino: 31n }, seconds(NOW - 2n * DAY)],
      attr(31n, 'directory'),
      dentry(31n, 'f', 32n, 'file'),
      attr(32n, 'file'),
    ],
    jobs: ['detached 31: 32'],
  },
  {
    what: 'a tree whose mark was left behind after it got its name',
    stored: [
      [{ kind: 'detached', ino: 31n }, seconds(NOW - 2n * DAY)],
      attr(31n, 'directory'),
      dentry(1n, 'd', 31n, 'directory'),
    ],
    jobs: [],
  },
  {
    what: 'inodes without names: old, young, held open, the root, one with entries',
    stored: [
      attr(1n, 'directory'),
      attr(40n, 'file'),
      attr(41n, 'file', {}, YOUNG),
      attr(42n, 'file', { nlink: 0 }),
      expiry(1n, NOW + 9n),
      [{ kind: 'sustained', sid: 1n, ino: 42n }, new Uint8Array([1])],
      attr(43n, 'directory'),
      dentry(43n, 'f', 44n, 'file'),
      attr(44n, 'file'),
    ],
    jobs: ['unnamed 40'],
  },
  {
    what: 'delayed slices of an hour ago and of two days ago',
    stored: [
      [{ kind: 'delayedSlices', seconds: NOW - HOUR, id: 1n }, encodeDelayedSlices([{ id: 5n, size: 5 }])],
      [
        { kind: 'delayedSlices', seconds: NOW - 2n * DAY, id: 2n },
        encodeDelayedSlices([{ id: 6n, size: 5 }]),
      ],
    ],
    jobs: ['delayed 2'],
  },
  {
    what: 'data of files removed a minute and two hours ago, and of one that is there all the same',
    stored: [
      [{ kind: 'deletedFile', ino: 50n, length: 1n }, seconds(NOW - 60n)],
      [{ kind: 'deletedFile', ino: 51n, length: 1n }, seconds(NOW - 2n * HOUR)],
      [{ kind: 'deletedFile', ino: 52n, length: 1n }, seconds(NOW - 2n * HOUR)],
      attr(52n, 'file'),
      dentry(1n, 'f', 52n, 'file'),
    ],
    jobs: ['data 51'],
  },
];

describe('planCleanup', () => {
  for (const { what, stored, trashDays = 1, jobs } of CASES) {
    it(what, () => {
      const facts = factsOf(...stored);
      const planned = planCleanup({ facts, nowNs: NOW * 1_000_000_000n, trashDays, safeRevision: SAFE });
      expect(planned.map(shown)).to.deep.equal(jobs);
    });
  }
});

describe('planSlices', () => {
  it('tells the dead, the redundant, those counted too low and the forgotten apart', () => {
    const facts = factsOf(
      ...[count(1n, -1n), count(2n, 0n), chunk(20n, 2n), count(3n, -1n), chunk(30n, 3n)],
      ...[count(4n, 2n, OLD), count(5n, 2n, YOUNG), count(6n, 1n), chunk(60n, 6n), chunk(61n, 6n)],
      // Zero, and named twice: not redundant, and fsck's to repair.
      ...[count(7n, 0n), chunk(70n, 7n), chunk(71n, 7n)],
    );
    const jobs = Object.entries(planSlices(facts, SAFE)).map(([kind, slices]) => [
      kind,
      (slices as readonly { readonly id: bigint }[]).map(({ id }) => id),
    ]);
    expect(Object.fromEntries(jobs)).to.deep.equal({
      dead: [1n],
      redundant: [2n],
      tooLow: [3n],
      forgotten: [4n],
    });
  });

  it('deletes nothing while a chunk cannot be read: what it names is not known', () => {
    const facts = factsOf(count(1n, -1n), count(4n, 2n), [
      { kind: 'chunk', ino: 9n, index: 0 },
      new Uint8Array(7),
    ]);
    expect(planSlices(facts, SAFE)).to.deep.include({ dead: [], forgotten: [] });
    const block = { key: 'x', id: 8n, modRevision: OLD, shard: 0 };
    expect(unnamedBlocks(facts, [block], [SAFE])).to.deep.equal({ old: [], young: 0 });
  });
});

describe('unnamedBlocks', () => {
  it('leaves what a chunk, a delayed slice or a count names, and what is young', () => {
    const facts = factsOf(
      chunk(10n, 1n),
      [{ kind: 'delayedSlices', seconds: NOW, id: 9n }, encodeDelayedSlices([{ id: 2n, size: 5 }])],
      count(3n, -1n),
    );
    const block = (id: bigint, modRevision = OLD) => ({ key: `${id}`, id, modRevision, shard: 0 });
    const blocks = [block(1n), block(2n), block(3n), block(4n), block(5n, YOUNG)];
    expect(unnamedBlocks(facts, blocks, [SAFE])).to.deep.equal({ old: [block(4n)], young: 1 });
  });
});
