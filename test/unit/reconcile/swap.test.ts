/** What a transaction writes that gives a file with several names new contents or one more name. */

import { expect } from 'chai';
import { decodeAttr, encodeAttr } from '../../../src/codec/attr.ts';
import { encodeCounter, encodeDirStat } from '../../../src/codec/counter.ts';
import { decodeDelayedSlices } from '../../../src/codec/delayed-slices.ts';
import { encodeDentry } from '../../../src/codec/dentry.ts';
import { decodeKey, encodeKey, type MetaKey } from '../../../src/codec/key.ts';
import type { ByteString } from '../../../src/codec/kv.ts';
import { decodeSlices, encodeSlices } from '../../../src/codec/slice.ts';
import type { MetaKv, MetaView } from '../../../src/reconcile/meta-view.ts';
import type { Content } from '../../../src/reconcile/operations.ts';
import { LIMITS } from '../../../src/reconcile/limits.ts';
import { planPush } from '../../../src/reconcile/plan-remote.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';
import { attrOf } from '../../support/meta.ts';
import { fileEntry } from '../../support/trees.ts';

const NOW = 1_800_000_000_000_000_000n;
const SECONDS = NOW / 1_000_000_000n;
const OLD_MTIME = NOW + 5n;
/** The file: inode 7 with 5000 bytes, called f and g in directory 1, with two slices in a chunk and one in another. */
const INO = 7n;
const record = (
  id: bigint,
  size: number,
): { pos: number; id: bigint; size: number; off: number; len: number } => ({
  pos: 0,
  id,
  size,
  off: 0,
  len: size,
});

const STORED: readonly (readonly [MetaKey, Uint8Array])[] = [
  [{ kind: 'attr', ino: 1n }, encodeAttr(attrOf('directory', { nlink: 2, length: 4096n }))],
  [{ kind: 'dirStat', ino: 1n }, encodeDirStat({ length: 10_000n, space: 16_384n, inodes: 2n })],
  [{ kind: 'counter', name: 'usedSpace' }, encodeCounter(8192n)],
  [{ kind: 'dentry', parent: 1n, name: 'f' }, encodeDentry({ type: 'file', ino: INO })],
  [{ kind: 'dentry', parent: 1n, name: 'g' }, encodeDentry({ type: 'file', ino: INO })],
  [
    { kind: 'attr', ino: INO },
    encodeAttr(attrOf('file', { length: 5000n, nlink: 2, parent: 0n, mtimeNs: OLD_MTIME })),
  ],
  [{ kind: 'parent', ino: INO, parent: 1n }, encodeCounter(2n)],
  [
    { kind: 'chunk', ino: INO, index: 0 },
    encodeSlices([record(21n, 4000), record(0n, 0), record(22n, 5000)]),
  ],
  [{ kind: 'chunk', ino: INO, index: 3 }, encodeSlices([record(23n, 10)])],
];

function viewOf(kvs: readonly (readonly [MetaKey, Uint8Array])[]): MetaView {
  const known = new Map<ByteString, MetaKv>(
    kvs.map(([key, value]) => [encodeKey(key), { key: encodeKey(key), value, modRevision: 5n }]),
  );
  return {
    get: (key) => known.get(key) ?? 'absent',
    range: ({ start, end }) => [...known.values()].filter(({ key }) => key >= start && key < end),
  };
}

/** What the planned transaction writes, in words. */
function written(
  changes: readonly PushChange[],
  content: Content,
  trashDays: number,
  more: readonly (readonly [MetaKey, Uint8Array])[] = [],
): Record<string, unknown> {
  const plan = planPush({
    view: viewOf([...STORED, ...more]),
    prefix: '',
    root: 1n,
    groups: [changes],
    prepared: new Map(changes.map((change) => [change, { ino: 100n, content }])),
    refused: [],
    owners: false,
    times: false,
    xattrs: false,
    setting: { trashDays, dirStats: true, userGroupQuota: false, capacity: 0n, inodes: 0n },
    nowNs: NOW,
    limits: LIMITS,
  });
  if (plan.status !== 'plan') throw new Error('the plan needs more');
  expect(plan.givenUp).to.deep.equal([]);
  const names = plan.transaction.ops.map((op) => (op.type === 'deleteRange' ? op.range.start : op.key));
  expect(new Set(names).size, 'keys named twice').to.equal(names.length);
  return Object.fromEntries(
    plan.transaction.ops.map((op) => {
      if (op.type === 'deleteRange') return [op.range.start, 'a range'];
      const key = decodeKey(op.key);
      const label = Object.values(key).map(String).join(' ');
      return [label, op.type === 'put' ? valueOf(key, op.value) : 'deleted'];
    }),
  );
}

function valueOf(key: MetaKey, value: Uint8Array): unknown {
  switch (key.kind) {
    case 'chunk':
      return decodeSlices(value).map(({ id, len }) => `${id}/${len}`);
    case 'delayedSlices':
      return decodeDelayedSlices(value).map(({ id, size }) => `${id}/${size}`);
    case 'attr': {
      const { nlink, length, parent, mtimeNs } = decodeAttr(value);
      return key.ino === 1n
        ? 'touched'
        : `${nlink} names, ${length} bytes, in ${parent}, ${mtimeNs - OLD_MTIME} ns later`;
    }
    case 'deletedFile':
      return 'a time';
    default:
      return Buffer.from(value).toString('hex').replace(/^0+/, '');
  }
}

const LINKED = fileEntry('x'.repeat(5000), 0o644, { ino: INO, nlink: 2 });
const EDIT: PushChange = {
  path: 'f',
  old: LINKED,
  new: fileEntry('y', 0o644, { ino: INO, nlink: 2 }),
  link: { kind: 'in-place' },
};
const FOLLOW: PushChange = { ...EDIT, path: 'g', link: { kind: 'follow', leader: 'f' } };
const ONE: Content = { length: 1n, chunks: [{ index: 0, records: [record(31n, 1)] }] };
const EMPTY: Content = { length: 0n, chunks: [] };

describe('new contents of a file with several names', () => {
  const stat = (length: number, space: number, inodes: number): string =>
    Buffer.from(encodeDirStat({ length: BigInt(length), space: BigInt(space), inodes: BigInt(inodes) }))
      .toString('hex')
      .replace(/^0+/, '');
  const space = (bytes: bigint): string =>
    Buffer.from(encodeCounter(bytes)).toString('hex').replace(/^0+/, '');

  it('take the place of its chunks, and the trash gets the old slices', () => {
    expect(written([EDIT, FOLLOW], ONE, 1)).to.deep.equal({
      'chunk 7 0': ['31/1'],
      'chunk 7 3': 'deleted',
      [`delayedSlices ${SECONDS} 31`]: ['21/4000', '22/5000', '23/10'],
      'attr 7': '2 names, 1 bytes, in 0, 1 ns later',
      'dirStat 1': stat(2, 8192, 2),
      'counter usedSpace': space(4096n),
    });
  });

  it('leave the old slices to a number without an attr where there is no trash', () => {
    expect(written([EDIT, FOLLOW], ONE, 0)).to.deep.equal({
      'chunk 7 0': ['31/1'],
      'chunk 7 3': 'deleted',
      'chunk 100 0': ['21/4000', '0/0', '22/5000'],
      'chunk 100 3': ['23/10'],
      'deletedFile 100 5000': 'a time',
      'attr 7': '2 names, 1 bytes, in 0, 1 ns later',
      'dirStat 1': stat(2, 8192, 2),
      'counter usedSpace': space(4096n),
    });
  });

  it('that are none leave no chunk, and add to what the trash got in the same second', () => {
    const before: readonly [MetaKey, Uint8Array] = [
      { kind: 'delayedSlices', seconds: SECONDS, id: 21n },
      Buffer.from('00000000000000090000000a', 'hex'),
    ];
    expect(written([EDIT, FOLLOW], EMPTY, 1, [before])).to.deep.equal({
      'chunk 7 0': 'deleted',
      'chunk 7 3': 'deleted',
      [`delayedSlices ${SECONDS} 21`]: ['9/10', '21/4000', '22/5000', '23/10'],
      'attr 7': '2 names, 0 bytes, in 0, 1 ns later',
      'dirStat 1': stat(0, 8192, 2),
      'counter usedSpace': space(4096n),
    });
  });

  it('count for a name that the same transaction makes', () => {
    const name: PushChange = {
      path: 'h',
      old: undefined,
      new: fileEntry('y', 0o644, { ino: INO, nlink: 3 }),
      link: { kind: 'name-in-place', ino: INO, size: 5000n },
    };
    expect(written([name], ONE, 1)).to.deep.include({
      'dentry 1 h': '10000000000000007',
      'parent 7 1': '300000000000000',
      'attr 7': '3 names, 1 bytes, in 0, 1 ns later',
      'dirStat 1': stat(3, 12_288, 3),
      'counter usedSpace': space(4096n),
    });
  });
});
