/** Attributes that each side changed by itself: both changes stand. */

import { expect } from 'chai';

import { NOTHING_HELD, sameXattrs, type Held, type Xattrs } from '../../../src/reconcile/attributes.ts';
import { sameEntry, type Entry } from '../../../src/reconcile/entry.ts';
import { reconcile } from '../../../src/reconcile/reconcile.ts';
import { dirEntry, fileEntry, linkEntry } from '../../support/trees.ts';

const ALL: Held = { owners: true, times: true, xattrs: true, acls: true };

interface Attributes {
  readonly content?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly mtimeNs?: bigint;
  readonly xattrs?: Xattrs;
}

function file({ content = 'one', mode = 0o644, ...fields }: Attributes): Entry {
  return fileEntry(content, mode, { ino: 7n, ...fields });
}

/** What both sides have in the end. */
function joined(a: Attributes, l: Attributes, r: Attributes, held = ALL): { local: Entry; remote: Entry } {
  const { toLocal, toRemote, conflicts, agreed } = reconcile({
    ancestor: new Map([['f', file(a)]]),
    local: new Map([['f', file(l)]]),
    remote: new Map([['f', file(r)]]),
    held,
  });
  expect(conflicts).to.deep.equal([]);
  const both = agreed.get('f');
  return {
    local: toLocal[0]?.new ?? both ?? file(l),
    remote: toRemote[0]?.new ?? both ?? file(r),
  };
}

const A = { user: { 'user.a': '1', 'user.b': '1', 'user.c': '1' } };

describe('changes of attributes', () => {
  const rows: [what: string, local: Attributes, remote: Attributes, both: Attributes][] = [
    ['content here, mode there', { content: 'two' }, { mode: 0o600 }, { content: 'two', mode: 0o600 }],
    ['mode here, content there', { mode: 0o600 }, { content: 'two' }, { content: 'two', mode: 0o600 }],
    ['content here, owner there', { content: 'two' }, { uid: 33 }, { content: 'two', uid: 33 }],
    ['owner here, content there', { uid: 33 }, { content: 'two' }, { content: 'two', uid: 33 }],
    ['owner here, mode there', { uid: 33 }, { mode: 0o600 }, { uid: 33, mode: 0o600 }],
    ['time here, owner there', { mtimeNs: 5_000n }, { uid: 33 }, { mtimeNs: 5_000n, uid: 33 }],
    ['owner here, time there', { uid: 33 }, { mtimeNs: 5_000n }, { mtimeNs: 5_000n, uid: 33 }],
    [
      'xattrs here, content there',
      { xattrs: { 'user.k': 'v' } },
      { content: 'two' },
      { content: 'two', xattrs: { 'user.k': 'v' } },
    ],
    [
      'other xattrs on each side',
      { xattrs: { 'user.k': 'v' } },
      { xattrs: { 'user.l': 'w' } },
      { xattrs: { 'user.k': 'v', 'user.l': 'w' } },
    ],
    ['one owner each: the volume has it', { uid: 33 }, { uid: 34 }, { uid: 34 }],
    ['one mode each: the volume has it', { mode: 0o600 }, { mode: 0o640 }, { mode: 0o640 }],
  ];
  for (const [what, local, remote, both] of rows) {
    it(`join: ${what}`, () => {
      const result = joined({}, local, remote);
      for (const side of [result.local, result.remote])
        expect(sameEntry(side, file(both), ALL), JSON.stringify(side, plain)).to.equal(true);
    });
  }

  it('join name by name where both sides changed, added and removed xattrs', () => {
    const result = joined(
      { xattrs: A.user },
      { xattrs: { 'user.a': '2', 'user.b': '1' } },
      { xattrs: { 'user.a': '3', 'user.c': '1', 'user.d': '1' } },
    );
    const both = { 'user.a': '3', 'user.d': '1' };
    for (const { xattrs } of [result.local, result.remote]) expect(xattrs).to.deep.equal(both);
  });

  it('that are not held are the volume’s', () => {
    const was = { xattrs: A.user, uid: 33, mtimeNs: 7_000n };
    const { remote, local } = joined(was, { content: 'two' }, { ...was, mode: 0o600 }, NOTHING_HELD);
    for (const side of [remote, local]) expect(side).to.deep.include({ uid: 33, xattrs: A.user });
  });

  it('join for directories and links too', () => {
    for (const [a, l, r] of [
      [dirEntry(), dirEntry(0o700), dirEntry(0o755, { xattrs: { 'user.k': 'v' } })],
      [linkEntry('t'), { ...linkEntry('t'), uid: 1 }, linkEntry('u')],
    ] as const) {
      const { toLocal, toRemote, conflicts } = reconcile({
        ancestor: new Map([['x', a]]),
        local: new Map([['x', l]]),
        remote: new Map([['x', r]]),
        held: ALL,
      });
      expect(conflicts).to.deep.equal([]);
      expect(toLocal[0]?.new).to.deep.equal(toRemote[0]?.new);
      expect(toLocal[0]?.new).to.deep.include(
        a.type === 'directory' ? { mode: 0o700, xattrs: { 'user.k': 'v' } } : { uid: 1, target: 'u' },
      );
    }
  });

  it('are the volume’s where nobody remembers what was, and make no conflict', () => {
    const { toLocal, toRemote, conflicts } = reconcile({
      ancestor: new Map(),
      local: new Map([['f', file({ uid: 1, mtimeNs: 5_000n })]]),
      remote: new Map([['f', file({ uid: 2, xattrs: { 'user.k': 'v' } })]]),
      held: ALL,
    });
    expect([toRemote, conflicts]).to.deep.equal([[], []]);
    expect(toLocal[0]?.new).to.deep.include({ uid: 2, xattrs: { 'user.k': 'v' } });
  });

  it('take away the last xattr in so many words', () => {
    const { toRemote } = reconcile({
      ancestor: new Map([['f', file({ xattrs: { 'user.k': 'v' } })]]),
      local: new Map([['f', file({})]]),
      remote: new Map(),
      held: ALL,
    });
    expect(toRemote[0]?.new?.xattrs).to.deep.equal({});
  });

  it('of times count to the microsecond, and not for directories', () => {
    expect(sameEntry(file({ mtimeNs: 1_000n }), file({ mtimeNs: 1_999n }), ALL)).to.equal(true);
    expect(sameEntry(file({ mtimeNs: 1_000n }), file({ mtimeNs: 2_000n }), ALL)).to.equal(false);
    expect(sameEntry(dirEntry(), dirEntry(0o755, { mtimeNs: 9_000n }), ALL)).to.equal(true);
  });

  it('of xattrs are told by value', () => {
    expect(sameXattrs({ a: '1' }, { a: '1' })).to.equal(true);
    expect(sameXattrs(undefined, {})).to.equal(true);
    expect(sameXattrs({ a: '1' }, { b: '1' })).to.equal(false);
    expect(sameXattrs({ a: '' }, {})).to.equal(false);
  });
});

function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
