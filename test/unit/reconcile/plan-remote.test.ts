import { expect } from 'chai';
import { decodeAttr, encodeAttr, type Attr } from '../../../src/codec/attr.ts';
import { encodeDentry } from '../../../src/codec/dentry.ts';
import { encodeKey, xattrRange, type MetaKey } from '../../../src/codec/key.ts';
import type { ByteString } from '../../../src/codec/kv.ts';
import { decodeSlices, encodeSlices, type SliceRecord } from '../../../src/codec/slice.ts';
import type { Entry } from '../../../src/reconcile/entry.ts';
import type { Content } from '../../../src/reconcile/operations.ts';
import type { MetaKv, MetaView } from '../../../src/reconcile/meta-view.ts';
import { trashHourName, trashName } from '../../../src/reconcile/trash.ts';
import { LIMITS } from '../../../src/reconcile/limits.ts';
import { planPush, type Plan, type PlanRequest } from '../../../src/reconcile/plan-remote.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';
import { attrOf } from '../../support/meta.ts';

const NOW = 1_800_000_000_000_000_000n;
const FILE = {
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtimeNs: 1n,
  type: 'file',
  size: 1n,
  digest: 'x',
  nlink: 1,
} as const;
const SETTING = { trashDays: 0, dirStats: true, userGroupQuota: false, capacity: 0n, inodes: 0n };
const DIR = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 1n, type: 'directory' } as const;

/** A view that knows these keys; what it does not know is absent, or unknown. */
function viewOf(
  kvs: readonly (readonly [MetaKey, Uint8Array, bigint?])[],
  rest: 'absent' | 'unknown',
): MetaView {
  const known = new Map<ByteString, MetaKv>(
    kvs.map(([key, value, modRevision = 5n]) => {
      const name = encodeKey(key);
      return [name, { key: name, value, modRevision }];
    }),
  );
  return {
    get: (key) => known.get(key) ?? rest,
    range: ({ start, end }) =>
      rest === 'unknown' ? 'unknown' : [...known.values()].filter(({ key }) => key >= start && key < end),
  };
}

const ROOT: readonly [MetaKey, Uint8Array] = [
  { kind: 'attr', ino: 1n },
  encodeAttr(attrOf('directory', { nlink: 2, length: 4096n })),
];

function named(name: string, ino: bigint, fields = {}): (readonly [MetaKey, Uint8Array, bigint?])[] {
  return [
    [{ kind: 'dentry', parent: 1n, name }, encodeDentry({ type: 'file', ino }), 11n],
    [{ kind: 'attr', ino }, encodeAttr(attrOf('file', { length: 1n, ...fields })), 12n],
  ];
}

function oneByte(id: bigint): Content {
  return { length: 1n, chunks: [{ index: 0, records: [{ pos: 0, id, size: 1, off: 0, len: 1 }] }] };
}

function plan(view: MetaView, changes: readonly PushChange[], fields: Partial<PlanRequest> = {}): Plan {
  return planPush({
    view,
    prefix: 'P',
    root: 1n,
    groups: changes.map((change) => [change]),
    prepared: new Map(
      changes.map((change, i) => [change, { ino: BigInt(100 + i), content: oneByte(BigInt(i + 1)) }]),
    ),
    refused: [],
    owners: false,
    times: false,
    xattrs: false,
    setting: SETTING,
    nowNs: NOW,
    limits: LIMITS,
    ...fields,
  });
}

function planOf(result: Plan): Extract<Plan, { status: 'plan' }> {
  if (result.status !== 'plan') throw new Error('the plan needs more');
  return result;
}

const create = (path: string, entry: Entry = { ...FILE, ino: 0n }): PushChange => ({
  path,
  old: undefined,
  new: entry,
});
const key = (one: MetaKey): ByteString => `P${encodeKey(one)}`;

describe('planPush', () => {
  it('asks at once for all that several changes need', () => {
    const needed = plan(viewOf([], 'unknown'), [create('a'), create('b')]);
    expect(needed).to.deep.equal({
      status: 'need',
      keys: [
        { kind: 'attr', ino: 1n } as const,
        { kind: 'dentry', parent: 1n, name: 'a' } as const,
        { kind: 'dentry', parent: 1n, name: 'b' } as const,
      ].map(encodeKey),
      ranges: [],
    });
  });

  it('asks for the xattrs of a file whose contents it replaces', () => {
    const view = { ...viewOf([ROOT, ...named('f', 9n)], 'absent'), range: () => 'unknown' as const };
    const change = { path: 'f', old: { ...FILE, ino: 9n }, new: { ...FILE, ino: 9n, digest: 'y' } };
    expect(plan(view, [change])).to.deep.equal({ status: 'need', keys: [], ranges: [xattrRange(9n)] });
  });

  it('gives the same plan for the same request', () => {
    const view = viewOf([ROOT, ...named('f', 9n)], 'absent');
    const changes = [create('a'), { path: 'f', old: { ...FILE, ino: 9n }, new: undefined }];
    expect(plan(view, changes)).to.deep.equal(plan(view, changes));
  });

  it('compares every key that it read, and the absent ones with 0', () => {
    const { transaction } = planOf(plan(viewOf([ROOT], 'absent'), [create('a')]));
    expect(transaction.compares).to.deep.equal([
      { key: key({ kind: 'attr', ino: 1n }), modRevision: 5n },
      { key: key({ kind: 'dentry', parent: 1n, name: 'a' }), modRevision: 0n },
      { key: key({ kind: 'dirQuota', ino: 1n }), modRevision: 0n },
      { key: key({ kind: 'dirStat', ino: 1n }), modRevision: 0n },
      { key: key({ kind: 'counter', name: 'usedSpace' }), modRevision: 0n },
      { key: key({ kind: 'counter', name: 'totalInodes' }), modRevision: 0n },
    ]);
  });

  it('compares nothing below a directory that it makes', () => {
    const changes = [create('d', { ...DIR, ino: 0n }), create('d/f')];
    const { transaction, planned } = planOf(plan(viewOf([ROOT], 'absent'), changes));
    expect(planned).to.have.length(2);
    expect(transaction.compares).to.have.length(6);
  });

  it('names no key twice', () => {
    const view = viewOf([ROOT, ...named('f', 9n), ...named('g', 10n)], 'absent');
    const changes: PushChange[] = [
      {
        path: 'f',
        movedFrom: 'g',
        old: { ...FILE, ino: 10n },
        new: { ...FILE, ino: 10n },
        over: { ...FILE, ino: 9n },
      },
      create('g'),
    ];
    const { transaction, planned } = planOf(plan(view, changes));
    expect(planned).to.have.length(2);
    const keys = transaction.ops.map((op) => (op.type === 'deleteRange' ? op.range.start : op.key));
    expect(new Set(keys).size).to.equal(keys.length);
  });

  it('cuts what does not fit, accounts included, and goes on from there', () => {
    const changes = Array.from({ length: 100 }, (_, i) => create(`f${i}`));
    const { transaction, planned, rest } = planOf(plan(viewOf([ROOT], 'absent'), changes));
    expect(transaction.ops.length).to.be.within(120, 128);
    expect(transaction.compares.length).to.be.at.most(128);
    expect(planned.length + rest.length).to.equal(100);
    expect(rest[0]).to.deep.equal([changes[planned.length]]);
  });

  it('cuts by bytes where blocks go into the transaction', () => {
    const changes = [create('a'), create('b')];
    const prepared = new Map(
      changes.map((change, i) => [
        change,
        {
          ino: BigInt(100 + i),
          content: { length: 1n, chunks: [] },
          blocks: [{ key: `block-${i}`, value: new Uint8Array(60_000) }],
        },
      ]),
    );
    const limits = { ...LIMITS, bytes: 100_000 };
    const { transaction, planned, rest } = planOf(
      plan(viewOf([ROOT], 'absent'), changes, { prepared, limits }),
    );
    expect([planned.length, rest.length]).to.deep.equal([1, 1]);
    expect(transaction.ops.filter((op) => op.type === 'put' && op.key.startsWith('block-'))).to.have.length(
      1,
    );
  });

  it('refuses what no transaction can hold, and goes on with the rest', () => {
    const limits = { ...LIMITS, compares: 4 };
    const { planned, givenUp, rest } = planOf(
      plan(viewOf([ROOT], 'absent'), [create('a'), create('b')], { limits }),
    );
    expect(planned).to.deep.equal([]);
    expect(rest).to.deep.equal([]);
    expect(givenUp.map(({ outcome }) => outcome)).to.deep.equal(['refused', 'refused']);
  });

  it('moves mtime on by a nanosecond where the clock stands still or went back', () => {
    const [rootKey] = ROOT;
    const future = encodeAttr(attrOf('directory', { mtimeNs: NOW + 7n, nlink: 2 }));
    const { transaction } = planOf(plan(viewOf([[rootKey, future]], 'absent'), [create('a')]));
    const op = transaction.ops.find((one) => one.type === 'put' && one.key === key(rootKey));
    const value = op?.type === 'put' ? op.value : undefined;
    expect(value).to.deep.equal(
      encodeAttr(attrOf('directory', { mtimeNs: NOW + 8n, ctimeNs: NOW + 8n, nlink: 2 })),
    );
  });

  it('never gives a file the same mtime and ctime, by which followers tell what a mount has yet to fill', () => {
    const { transaction } = planOf(
      plan(viewOf([ROOT], 'absent'), [create('a', { ...FILE, ino: 0n, mtimeNs: NOW })]),
    );
    const put = transaction.ops.find(
      (op) => op.type === 'put' && op.key === key({ kind: 'attr', ino: 100n }),
    );
    if (put?.type !== 'put') throw new Error('no attr was put');
    const { mtimeNs, ctimeNs } = decodeAttr(put.value);
    expect(mtimeNs).to.equal(NOW);
    expect(ctimeNs).to.equal(NOW + 1n);
  });

  it('keeps flags, owner, special bits and tier of a file whose contents it replaces', () => {
    const fields = { mode: 0o4755, uid: 33, gid: 34, tier: 2, flags: 4, parent: 1n };
    const view = viewOf([ROOT, ...named('f', 9n, fields)], 'absent');
    const old: Entry = { ...FILE, ino: 9n, mode: 0o4755 };
    const change = {
      path: 'f',
      old,
      new: { ...old, digest: 'y', mode: 0o700, uid: 99, gid: 99, mtimeNs: 77n },
    };
    const { transaction, planned } = planOf(plan(view, [change]));
    const put = transaction.ops.find(
      (op) => op.type === 'put' && op.key === key({ kind: 'attr', ino: 100n }),
    );
    const times = { atimeNs: NOW, mtimeNs: 77n, ctimeNs: NOW };
    expect(put?.type === 'put' ? put.value : undefined).to.deep.equal(
      encodeAttr(attrOf('file', { ...fields, ...times, mode: 0o4700, length: 1n })),
    );
    expect(planned[0]?.entry).to.include({ ino: 100n, mode: 0o4700, uid: 33 });
  });

  it('leaves a file alone that was written into since, at the same length, when that was relied on', () => {
    const old: Entry = { ...FILE, ino: 9n, mtimeNs: 5n };
    const outcomes = [5n, 6n].map((mtimeNs) => {
      const view = viewOf([ROOT, ...named('f', 9n, { mtimeNs })], 'absent');
      return [{ ...old, digest: 'y' }, undefined].map((next) => {
        const change = { path: 'f', old, new: next, expect: { isUntouched: true } };
        const { planned, givenUp } = planOf(plan(view, [change]));
        return `${planned.length} ${givenUp.map(({ outcome }) => outcome).join('')}`;
      });
    });
    expect(outcomes).to.deep.equal([
      ['1 ', '1 '],
      ['0 stale', '0 stale'],
    ]);
  });

  it('copies the xattrs of a file whose contents it replaces', () => {
    const xattr = { kind: 'xattr', ino: 9n, name: 'user.k' } as const;
    const value = new Uint8Array([1, 2]);
    const view = viewOf([ROOT, ...named('f', 9n), [xattr, value, 13n]], 'absent');
    const change = { path: 'f', old: { ...FILE, ino: 9n }, new: { ...FILE, ino: 9n, digest: 'y' } };
    const { transaction } = planOf(plan(view, [change]));
    expect(transaction.ops).to.deep.include({ type: 'put', key: key({ ...xattr, ino: 100n }), value });
    expect(transaction.compares).to.deep.include({ key: key(xattr), modRevision: 13n });
    const { start, end } = xattrRange(9n);
    const range = { start: `P${start}`, end: `P${end}` };
    expect(transaction.compares).to.deep.include({ range, maxModRevision: 13n });
  });

  it('writes nothing for a change that changes nothing, and still compares', () => {
    const view = viewOf([ROOT, ...named('f', 9n)], 'absent');
    const change = { path: 'f', old: { ...FILE, ino: 9n }, new: { ...FILE, ino: 9n, mtimeNs: 99n } };
    const { transaction, planned } = planOf(plan(view, [change]));
    expect(planned).to.have.length(1);
    expect(transaction.ops).to.deep.equal([]);
    expect(transaction.compares).to.have.length(2);
  });

  it('compares all directories above the target of a directory that moves, also above the root of the view', () => {
    const dir = (parent: bigint): Uint8Array => encodeAttr(attrOf('directory', { parent, nlink: 2 }));
    const view = viewOf(
      [
        [{ kind: 'attr', ino: 20n }, dir(1n), 20n],
        [{ kind: 'attr', ino: 21n }, dir(20n), 21n],
        [{ kind: 'attr', ino: 22n }, dir(21n), 22n],
        [{ kind: 'attr', ino: 23n }, dir(21n), 23n],
        [{ kind: 'dentry', parent: 21n, name: 'to' }, encodeDentry({ type: 'directory', ino: 22n })],
        [{ kind: 'dentry', parent: 21n, name: 'moved' }, encodeDentry({ type: 'directory', ino: 23n })],
      ],
      'absent',
    );
    const moved: Entry = { ...DIR, ino: 23n };
    const change = { path: 'to/moved', movedFrom: 'moved', old: moved, new: moved };
    const { transaction, planned } = planOf(plan(view, [change], { root: 21n }));
    expect(planned).to.have.length(1);
    for (const ino of [20n, 21n, 22n, 23n]) {
      expect(transaction.compares).to.deep.include({ key: key({ kind: 'attr', ino }), modRevision: ino });
    }
  });

  it('calls damage by its name', () => {
    const view = viewOf([ROOT, [{ kind: 'dentry', parent: 1n, name: 'f' }, new Uint8Array(3)]], 'absent');
    const { givenUp } = planOf(plan(view, [{ path: 'f', old: { ...FILE, ino: 9n }, new: undefined }]));
    expect(givenUp[0]?.reason).to.match(/^the volume's metadata are damaged here \(dentry: /);
  });
});

describe('planPush of what is appended', () => {
  /** `pos+len`, and the slice where it is not zeros. */
  const shape = (value: Uint8Array): string[] =>
    decodeSlices(value).map(({ pos, len, id }) => `${pos}+${len}${id === 0n ? '' : ` of ${id}`}`);
  const record = (pos: number, len: number, id: bigint): SliceRecord => ({
    ...{ pos, id, size: id === 0n ? 0 : len, off: 0, len },
  });

  function appended(
    chunk: readonly SliceRecord[],
    records: readonly SliceRecord[],
    fields: Partial<Attr> = {},
  ): Plan {
    const old = { ...FILE, ino: 7n, size: 100n, mtimeNs: 5n };
    const change: PushChange = { path: 'f', old, new: { ...old, size: 200n, digest: 'y', mtimeNs: 1n } };
    const content = { length: 200n, appendTo: 100n, chunks: [{ index: 0, records }] };
    const known = [
      ROOT,
      ...named('f', 7n, { length: 100n, mtimeNs: 5n, ...fields }),
      [{ kind: 'chunk', ino: 7n, index: 0 }, encodeSlices(chunk)] as const,
    ];
    return plan(viewOf(known, 'absent'), [change], { prepared: new Map([[change, { content }]]) });
  }

  function chunkOf(plan: Plan): string[] {
    const key = `P${encodeKey({ kind: 'chunk', ino: 7n, index: 0 })}`;
    const op = planOf(plan).transaction.ops.find((one) => one.type === 'put' && one.key === key);
    if (op?.type !== 'put') throw new Error('the chunk is not put');
    expect(planOf(plan).transaction.compares).to.deep.include({ key, modRevision: 5n });
    return shape(op.value);
  }

  const whole = [record(0, 100, 1n)];
  const cases: readonly [what: string, chunk: SliceRecord[], records: SliceRecord[], result: string[]][] = [
    ['a record more', whole, [record(100, 100, 2n)], ['0+100 of 1', '100+100 of 2']],
    ['zeros in between', whole, [record(150, 50, 2n)], ['0+100 of 1', '150+50 of 2']],
    [
      'what a cut left, covered',
      [record(0, 180, 1n)],
      [record(100, 100, 2n)],
      ['0+180 of 1', '100+100 of 2'],
    ],
    [
      'what a cut left, where zeros are to be',
      [record(0, 180, 1n)],
      [record(150, 50, 2n)],
      ['0+180 of 1', '100+80', '150+50 of 2'],
    ],
    [
      'zeros of a truncation',
      [record(0, 180, 1n), record(100, 80, 0n)],
      [],
      ['0+180 of 1', '100+80', '100+80'],
    ],
  ];
  for (const [what, chunk, records, result] of cases) {
    it(what, () => expect(chunkOf(appended(chunk, records))).to.deep.equal(result));
  }

  it('moves length and mtime on, and the accounts with them', () => {
    const { ops } = planOf(appended(whole, [record(100, 100, 2n)])).transaction;
    const key = `P${encodeKey({ kind: 'attr', ino: 7n })}`;
    const op = ops.find((one) => one.type === 'put' && one.key === key);
    expect(decodeAttr(op?.type === 'put' ? op.value : new Uint8Array())).to.include({
      length: 200n,
      mtimeNs: 6n,
    });
  });

  it('is allowed on a file that is append-only, and refused on one that is immutable', () => {
    const records = [record(100, 100, 2n)];
    expect(planOf(appended(whole, records, { flags: 2 })).planned).to.have.length(1);
    expect(planOf(appended(whole, records, { flags: 1 })).givenUp[0]).to.include({ outcome: 'refused' });
  });

  it('is stale where the file has another length, another mtime or another name', () => {
    const records = [record(100, 100, 2n)];
    for (const fields of [{ length: 101n }, { mtimeNs: 6n }, { nlink: 2 }, { parent: 0n }])
      expect(planOf(appended(whole, records, fields)).givenUp[0]).to.include({ outcome: 'stale' });
  });
});

describe('names in the trash', () => {
  it('are parent, inode and name, cut to 255 bytes', () => {
    expect(trashName({ parent: 1n, name: 'gone' }, 6n)).to.equal('1-6-gone');
    expect(trashName({ parent: 1n, name: 'n'.repeat(255) }, 6n)).to.have.length(255);
  });

  it('stand in the directory of the UTC hour', () => {
    expect(trashHourName(BigInt(Date.UTC(2026, 10, 22, 15, 59, 59)) * 1_000_000n)).to.equal('2026-11-22-15');
  });
});
