import { expect } from 'chai';
import { ACL_UNSET, type AclRule } from '../../../src/codec/acl.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { decodePosixAcl, encodePosixAcl } from '../../../src/codec/posix-acl.ts';
import { aclsOf, aclText } from '../../../src/reconcile/acl-text.ts';

const NAMED: AclRule = {
  owner: 6,
  group: 4,
  mask: 4,
  other: 0,
  users: [{ id: 1001, perm: 7 }],
  groups: [{ id: 2001, perm: 6 }],
};
const MINIMAL: AclRule = { owner: 7, group: 5, mask: ACL_UNSET, other: 1, users: [], groups: [] };

/** As `getfattr` shows a file of the captured volume `acl`, in base64. */
const CAPTURED = 'AgAAAAEABgD/////AgAHAOkDAAAEAAQA/////wgABgDRBwAAEAAEAP////8gAAAA/////w==';

describe('POSIX ACLs', () => {
  it('are what the kernel has', () => {
    const captured = Buffer.from(CAPTURED, 'base64').toString('latin1');
    expect(decodePosixAcl(captured)).to.deep.equal(NAMED);
    expect(encodePosixAcl(NAMED)).to.equal(captured);
  });

  it('without names or mask', () => {
    expect(decodePosixAcl(encodePosixAcl(MINIMAL))).to.deep.equal(MINIMAL);
  });

  it('are in the order of the kernel', () => {
    const users = [
      { id: 3, perm: 1 },
      { id: 2, perm: 2 },
    ];
    const { users: sorted } = decodePosixAcl(encodePosixAcl({ ...NAMED, users }));
    expect(sorted.map(({ id }) => id)).to.deep.equal([2, 3]);
  });

  for (const [what, value] of [
    ['nothing', ''],
    ['another version', '\x01\0\0\0'],
    ['half an entry', '\x02\0\0\0\x01\0\x07\0'],
    ['an unknown tag', '\x02\0\0\0\x03\0\x07\0\0\0\0\0'],
  ] as const) {
    it(`are not ${what}`, () => {
      expect(() => decodePosixAcl(value)).to.throw(DecodeError);
    });
  }
});

describe('the text of ACLs', () => {
  it('leaves out what the mode says, and gives it back', () => {
    const text = aclText({ access: NAMED, default: MINIMAL });
    expect(aclText({ access: { ...NAMED, owner: 7, mask: 6, other: 5 }, default: MINIMAL })).to.equal(text);
    expect(aclsOf(text ?? '', 0o640)).to.deep.equal({ access: NAMED, default: MINIMAL });
    expect(aclsOf(text ?? '', 0o765).access).to.deep.include({ owner: 7, mask: 6, other: 5, group: 4 });
  });

  it('is none where nobody is named', () => {
    expect(aclText({})).to.equal(undefined);
    expect(aclText({ access: MINIMAL })).to.equal(undefined);
    expect(aclText({ default: MINIMAL })).to.not.equal(undefined);
  });

  it('tells the group from the mask', () => {
    expect(aclText({ access: NAMED })).to.not.equal(aclText({ access: { ...NAMED, group: 6 } }));
  });
});
