import { expect } from 'chai';
import { ACL_UNSET, decodeAclRule, encodeAclRule } from '../../../src/codec/acl.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex, toHex } from '../../support/hex.ts';

describe('ACL rules', () => {
  for (const [what, bytes, rule] of [
    [
      'setfacl -m u:1234:rwx,g:55:r on mode 0644',
      '0006 0004 0007 0004 00000001 000004d2 0007 00000001 00000037 0004',
      {
        owner: 6,
        group: 4,
        mask: 7,
        other: 4,
        users: [{ id: 1234, perm: 7 }],
        groups: [{ id: 55, perm: 4 }],
      },
    ],
    [
      'nobody named, no mask',
      '0007 0005 ffff 0000 00000000 00000000',
      { owner: 7, group: 5, mask: ACL_UNSET, other: 0, users: [], groups: [] },
    ],
  ] as const) {
    it(what, () => {
      expect(decodeAclRule(hex(bytes))).to.deep.equal(rule);
      expect(toHex(encodeAclRule(rule))).to.equal(toHex(hex(bytes)));
    });
  }

  for (const [what, bytes, offset] of [
    ['empty', '', 0],
    ['cut in the list of users', '0006 0004 0007 0004 00000002 000004d2 0007', 18],
    ['a list that cannot be', '0006 0004 0007 0004 ffffffff', 12],
    ['something behind it', '0006 0004 0007 0004 00000000 00000000 00', 16],
  ] as const) {
    it(`${what}: is no ACL rule`, () => {
      expect(() => decodeAclRule(hex(bytes)))
        .to.throw(DecodeError)
        .that.includes({ what: 'ACL rule', offset });
    });
  }
});
