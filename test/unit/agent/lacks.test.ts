/** Which attributes on disk are somebody's will, and which were lost on the way. */

import { expect } from 'chai';

import { asAgreed, withLacks } from '../../../src/agent/disk/lacks.ts';
import { entryOfSlot, type FileSlot, type Slot } from '../../../src/agent/disk/slot.ts';
import { NOTHING_HELD } from '../../../src/reconcile/attributes.ts';
import { fileEntry } from '../../support/trees.ts';

type Fields = Partial<FileSlot['signature']> & Pick<FileSlot, 'xattrs' | 'lacks'>;

function slot({ xattrs, lacks, ...signature }: Fields = {}): Slot {
  return {
    type: 'file',
    digest: 'd',
    signature: { ino: 1n, size: 1n, mtimeNs: 1n, ctimeNs: 1n, mode: 0o644, uid: 33, gid: 33, ...signature },
    ...(xattrs === undefined ? {} : { xattrs }),
    ...(lacks === undefined ? {} : { lacks }),
  };
}

const K = { 'user.k': 'v' };
const BIG = { 'user.big': 'too large for this disk' };

describe('what a slot lacks', () => {
  const rows: [what: string, before: Fields, now: Fields, owner: number, xattrs: object | undefined][] = [
    ['nothing, when it is as it was', { xattrs: K }, { xattrs: K }, 33, K],
    ['nothing, when somebody gave it away', { xattrs: K }, { uid: 5, gid: 5, xattrs: K }, 5, K],
    ['nothing, when somebody took its xattrs', { xattrs: K }, { xattrs: {} }, 33, {}],
    ['what a save by root dropped', { xattrs: K }, { ino: 2n, uid: 0, gid: 0, xattrs: {} }, 33, K],
    ['no owner, when the new file has one of its own', { xattrs: K }, { ino: 2n, uid: 5, gid: 5 }, 5, K],
    [
      'nothing, when the new file has xattrs',
      { xattrs: K },
      { ino: 2n, xattrs: { 'user.l': 'w' } },
      33,
      { 'user.l': 'w' },
    ],
    [
      'what it lacked before',
      { xattrs: K, lacks: { xattrs: BIG } },
      { ctimeNs: 2n, xattrs: K },
      33,
      { ...K, ...BIG },
    ],
    [
      'what it lacked before, saved with the others',
      { xattrs: K, lacks: { xattrs: BIG } },
      { ino: 2n, xattrs: K },
      33,
      { ...K, ...BIG },
    ],
    [
      'its owner still',
      { uid: 0, gid: 0, lacks: { owner: { uid: 7, gid: 7 } } },
      { uid: 0, gid: 0, ctimeNs: 2n },
      7,
      undefined,
    ],
    [
      'its owner no more once it was given away',
      { uid: 0, gid: 0, lacks: { owner: { uid: 7, gid: 7 } } },
      { uid: 9, gid: 0 },
      9,
      undefined,
    ],
    [
      'what somebody set since no more',
      { xattrs: {}, lacks: { xattrs: K } },
      { xattrs: { 'user.k': 'mine' } },
      33,
      { 'user.k': 'mine' },
    ],
  ];
  for (const [what, before, now, owner, xattrs] of rows) {
    it(`is ${what}`, () => {
      const entry = entryOfSlot(withLacks(slot(now), slot(before)));
      expect(entry?.uid).to.equal(owner);
      expect(entry?.xattrs).to.deep.equal(xattrs);
    });
  }

  it('is nothing for what is new', () => {
    expect(withLacks(slot({ uid: 0 }), undefined)).to.deep.equal(slot({ uid: 0 }));
  });

  it('is all that differs in what was not held until now, and only in that', () => {
    const agreed = fileEntry('d', 0o644, { uid: 1, gid: 1, mtimeNs: 9n, xattrs: K });
    const found = slot({ uid: 0, gid: 0, xattrs: { 'user.l': 'w' } });
    expect(asAgreed(found, agreed, NOTHING_HELD)).to.deep.equal(found);
    const entry = entryOfSlot(
      asAgreed(found, agreed, { owners: true, times: true, xattrs: true, acls: true }),
    );
    expect(entry).to.deep.include({ uid: 1, gid: 1, mtimeNs: 9n, xattrs: { ...K, 'user.l': 'w' } });
  });
});
