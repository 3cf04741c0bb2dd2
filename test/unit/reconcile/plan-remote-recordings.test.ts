/** Our transactions against those of the real client: the same keys, and the same values but for times. */

import { expect } from 'chai';
import { decodeAttr, encodeAttr, type Attr } from '../../../src/codec/attr.ts';
import { decodeDentry, encodeDentry } from '../../../src/codec/dentry.ts';
import { decodeKey, encodeKey, ROOT_INO, TRASH_INO, type MetaKey } from '../../../src/codec/key.ts';
import type { ByteString } from '../../../src/codec/kv.ts';
import type { Entry } from '../../../src/reconcile/entry.ts';
import type { MetaKv, MetaView } from '../../../src/reconcile/meta-view.ts';
import { trashHourName } from '../../../src/reconcile/trash.ts';
import { LIMITS } from '../../../src/reconcile/limits.ts';
import { planPush, type Prepared } from '../../../src/reconcile/plan-remote.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';
import { attrOf } from '../../support/meta.ts';
import { loadRecording, metaEvents, metaKvs } from '../../support/fixture.ts';

/** What one key became; `undefined` is a delete. */
type Result = Map<ByteString, Uint8Array | undefined>;

/** What the real client did, as far as a transaction of ours does it: not the data of deleted files, not sessions. */
function recorded(name: string): { start: Map<ByteString, MetaKv>; result: Result; nowNs: bigint } {
  const recording = loadRecording(name);
  const start = new Map<ByteString, MetaKv>();
  for (const kv of metaKvs({ kvs: recording.start, metaPrefix: recording.metaPrefix })) start.set(kv.key, kv);
  const result: Result = new Map();
  let nowNs = 0n;
  for (const { events } of recording.revisions) {
    for (const event of metaEvents(events, recording.metaPrefix)) {
      const name_ = event.type === 'put' ? event.kv.key : event.key;
      const key = decodeKey(name_);
      if (key.kind === 'sessionExpire' || key.kind === 'chunk' || key.kind === 'sliceRef') continue;
      if (key.kind === 'counter' && key.name.startsWith('last')) continue;
      // Put by the operation, deleted by the job that comes after it.
      if (key.kind === 'deletedFile' && event.type === 'delete') continue;
      if (key.kind === 'attr' && event.type === 'put') {
        const { ctimeNs } = decodeAttr(event.kv.value);
        if (ctimeNs > nowNs) nowNs = ctimeNs;
      }
      result.set(name_, event.type === 'put' ? event.kv.value : undefined);
    }
  }
  return { start, result, nowNs };
}

/** The recorded operation's state before it, as far as it matters, with this hour's trash directory if it used one. */
function viewOf(start: Map<ByteString, MetaKv>, result: Result, nowNs: bigint): MetaView {
  const known = new Map(start);
  for (const key of result.keys()) {
    const decoded = decodeKey(key);
    if (decoded.kind !== 'dentry' || decoded.parent <= TRASH_INO) continue;
    const hour = encodeKey({ kind: 'dentry', parent: TRASH_INO, name: trashHourName(nowNs) });
    const value = encodeDentry({ type: 'directory', ino: decoded.parent });
    known.set(hour, { key: hour, value, modRevision: 1n });
  }
  return {
    get: (key) => known.get(key) ?? 'absent',
    range: ({ start: from, end }) => [...known.values()].filter(({ key }) => key >= from && key < end),
  };
}

function attrIn(kvs: ReadonlyMap<ByteString, MetaKv>, ino: bigint): Attr {
  const kv = kvs.get(encodeKey({ kind: 'attr', ino }));
  if (kv === undefined) throw new Error(`the recording has no attr of ${ino}`);
  return decodeAttr(kv.value);
}

function entryOf(ino: bigint, attr: Attr, target = ''): Entry {
  const base = { ino, mode: attr.mode, uid: attr.uid, gid: attr.gid, mtimeNs: attr.mtimeNs };
  if (attr.type === 'directory') return { ...base, type: 'directory' };
  if (attr.type === 'symlink') return { ...base, type: 'symlink', target };
  return { ...base, type: 'file', size: attr.length, digest: 'same', nlink: attr.nlink };
}

interface Name {
  readonly parent: bigint;
  readonly name: ByteString;
  readonly ino: bigint;
}

/** The dentries outside the trash that the operation deleted or put, each with the inode that it led or leads to. */
function namesIn(values: Iterable<readonly [ByteString, Uint8Array | undefined]>): Name[] {
  const names: Name[] = [];
  for (const [key, value] of values) {
    const decoded = decodeKey(key);
    if (decoded.kind !== 'dentry' || decoded.parent >= TRASH_INO || value === undefined) continue;
    names.push({ parent: decoded.parent, name: decoded.name, ino: decodeDentry(value).ino });
  }
  return names;
}

/** Plans one change and returns what its transaction writes. */
function planned(
  view: MetaView,
  change: PushChange,
  options: { root: bigint; trashDays: number; nowNs: bigint; prepared?: Prepared },
): Result {
  const plan = planPush({
    view,
    prefix: '',
    root: options.root,
    groups: [[change]],
    prepared: new Map(options.prepared === undefined ? [] : [[change, options.prepared]]),
    refused: [],
    owners: true,
    times: true,
    xattrs: true,
    setting: {
      trashDays: options.trashDays,
      dirStats: true,
      userGroupQuota: false,
      capacity: 0n,
      inodes: 0n,
    },
    nowNs: options.nowNs,
    limits: LIMITS,
  });
  if (plan.status !== 'plan') throw new Error('the plan needs more than the recording has');
  expect(plan.givenUp, 'given up').to.deep.equal([]);
  const result: Result = new Map();
  for (const op of plan.transaction.ops) {
    // Ranges of xattrs and parents: empty in all recordings.
    if (op.type !== 'deleteRange') result.set(op.key, op.type === 'put' ? op.value : undefined);
  }
  return result;
}

/** A result in words, without times. */
function described(result: Result): Record<string, unknown> {
  const lines: [string, unknown][] = [...result].map(([name, value]) => {
    const key = decodeKey(name);
    const label = JSON.stringify(key, (_k, v: unknown) => (typeof v === 'bigint' ? String(v) : v));
    return [label, value === undefined ? 'deleted' : valueOf(key, value)];
  });
  return Object.fromEntries(lines);
}

function valueOf(key: MetaKey, value: Uint8Array): unknown {
  if (key.kind === 'deletedFile') return 'a time';
  if (key.kind !== 'attr') return Buffer.from(value).toString('hex');
  return { ...decodeAttr(value), atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n };
}

describe('planPush, next to recordings of the real client', () => {
  function compare(
    recording: string,
    trashDays: number,
    changeOf: (facts: { start: Map<ByteString, MetaKv>; result: Result; view: MetaView }) => {
      readonly change: PushChange;
      readonly root: bigint;
      readonly prepared?: Prepared;
      readonly view?: MetaView;
    },
  ): void {
    const { start, result, nowNs } = recorded(recording);
    const view = viewOf(start, result, nowNs);
    const made = changeOf({ start, result, view });
    const ours = planned(made.view ?? view, made.change, {
      root: made.root,
      trashDays,
      nowNs,
      ...(made.prepared === undefined ? {} : { prepared: made.prepared }),
    });
    expect(described(ours)).to.deep.equal(described(result));
  }

  function only<T>(list: readonly T[]): T {
    const [one] = list;
    if (one === undefined || list.length !== 1) throw new Error(`${list.length} where one was expected`);
    return one;
  }

  for (const recording of ['create', 'mkdir', 'symlink', 'write-new']) {
    it(`makes an entry as in ${recording}`, () => {
      compare(recording, 1, ({ result }) => {
        const { parent, name, ino } = only(namesIn(result));
        const attr = decodeAttr(result.get(encodeKey({ kind: 'attr', ino })) ?? new Uint8Array());
        const target = result.get(encodeKey({ kind: 'symlink', ino }));
        const entry = entryOf(ino, attr, target === undefined ? '' : Buffer.from(target).toString('latin1'));
        const content = { length: attr.length, chunks: [] };
        return {
          root: parent,
          change: { path: name, old: undefined, new: entry },
          prepared: { ino, content },
        };
      });
    });
  }

  it('makes one more name as in link', () => {
    compare('link', 1, ({ start, result, view }) => {
      const to = only(namesIn(result));
      // The recording has no name of the file, which stays as it is.
      const entry = entryOf(to.ino, attrIn(start, to.ino));
      return {
        root: to.parent,
        change: { path: to.name, old: undefined, new: entry, link: { kind: 'name', ino: to.ino } },
        view,
      };
    });
  });

  for (const [recording, trashDays] of [
    ['unlink', 1],
    ['unlink-second', 1],
    ['unlink-one-of-two-links', 1],
    ['unlink-trash0', 0],
    ['rmdir', 1],
  ] as const) {
    it(`removes an entry as in ${recording}`, () => {
      compare(recording, trashDays, ({ start }) => {
        const { parent, name, ino } = only(namesIn([...start].map(([key, { value }]) => [key, value])));
        const old = entryOf(ino, attrIn(start, ino));
        return { root: parent, change: { path: name, old, new: undefined } };
      });
    });
  }

  for (const [recording, trashDays] of [
    ['rename', 1],
    ['rename-dir', 1],
    ['rename-over', 1],
    ['rename-over-trash0', 0],
  ] as const) {
    it(`moves within a directory as in ${recording}`, () => {
      compare(recording, trashDays, ({ start, result }) => {
        const before = namesIn([...start].map(([key, { value }]) => [key, value]));
        const to = only(namesIn(result));
        const from = only(before.filter(({ ino }) => ino === to.ino));
        const entry = entryOf(to.ino, attrIn(start, to.ino));
        const replaced = before.find(({ name }) => name === to.name);
        const over =
          replaced === undefined ? {} : { over: entryOf(replaced.ino, attrIn(start, replaced.ino)) };
        return {
          root: to.parent,
          change: { path: to.name, movedFrom: from.name, old: entry, new: entry, ...over },
        };
      });
    });
  }

  it('moves across directories as in rename-across-dirs', () => {
    compare('rename-across-dirs', 1, ({ start, result, view }) => {
      const from = only(namesIn([...start].map(([key, { value }]) => [key, value])));
      const to = only(namesIn(result));
      const entry = entryOf(to.ino, attrIn(start, to.ino));
      // The recording has neither names of the two directories nor what is above them, all of which stays as it is.
      const root = attrIn(start, from.parent).parent;
      const names = new Map(
        [from, to].map(({ parent }, i) => {
          const key = encodeKey({ kind: 'dentry', parent: root, name: i === 0 ? 'a' : 'b' });
          return [key, { key, value: encodeDentry({ type: 'directory', ino: parent }), modRevision: 1n }];
        }),
      );
      const above = encodeKey({ kind: 'attr', ino: root });
      const value = encodeAttr({ ...attrIn(start, from.parent), parent: ROOT_INO });
      names.set(above, { key: above, value, modRevision: 1n });
      return {
        root,
        change: { path: `b/${to.name}`, movedFrom: `a/${from.name}`, old: entry, new: entry },
        view: { ...view, get: (key) => names.get(key) ?? view.get(key) },
      };
    });
  });

  const attributes: readonly [
    what: string,
    recording: string,
    wanted: Partial<Entry>,
    before?: Partial<Entry>,
  ][] = [
    ['a mode', 'chmod', { mode: 0o600 }],
    ['an owner', 'chown', { uid: 33, gid: 33 }],
    ['a time', 'utimes', { mtimeNs: 1_600_000_000_987_654_321n }],
    ['an extended attribute for the first time', 'setxattr', { xattrs: { 'user.k': 'v' } }],
    [
      'an extended attribute',
      'setxattr-replace',
      { xattrs: { 'user.k': 'v2' } },
      { xattrs: { 'user.k': 'v' } },
    ],
    ['an extended attribute to none', 'removexattr', { xattrs: {} }, { xattrs: { 'user.k': 'v' } }],
  ];
  for (const [what, recording, wanted, before] of attributes) {
    it(`changes ${what} as in ${recording}`, () => {
      compare(recording, 1, ({ start, result, view }) => {
        const key = decodeKey(only([...result.keys()]));
        if (key.kind !== 'attr' && key.kind !== 'xattr')
          throw new Error('the recording wrote something else');
        // A recording of xattrs has no attr, for none is written.
        const attr = key.kind === 'attr' ? attrIn(start, key.ino) : attrOf('file', { length: 2n });
        const old = { ...entryOf(key.ino, attr), ...before } as Entry;
        const known = new Map(
          (
            [
              [
                { kind: 'dentry', parent: attr.parent, name: 'f' },
                encodeDentry({ type: 'file', ino: key.ino }),
              ],
              [{ kind: 'attr', ino: key.ino }, encodeAttr(attr)],
            ] as const
          ).map(([one, value]) => [encodeKey(one), value]),
        );
        return {
          root: attr.parent,
          change: { path: 'f', old, new: { ...old, ...wanted } as Entry },
          view: {
            ...view,
            get: (one) => {
              const value = known.get(one);
              return value === undefined ? view.get(one) : { key: one, value, modRevision: 1n };
            },
          },
        };
      });
    });
  }
});
