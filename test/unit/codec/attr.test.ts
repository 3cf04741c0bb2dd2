import { expect } from 'chai';
import { decodeAttr, encodeAttr, type Attr } from '../../../src/codec/attr.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { hex, toHex } from '../../support/hex.ts';

/** Up to rdev: 63 bytes. */
const HEAD = `00 11bc 00000000 00000000 000000006b03079a 374cf05e 000000006b03079c 05a2eb80
  000000006b03079c 05a2eb80 00000002 0000000000000005 00000000`;
const PARENT = '0000000000000003';

const FILE: Attr = {
  flags: 0,
  type: 'file',
  mode: 0o674,
  uid: 0,
  gid: 0,
  atimeNs: 1795360666_927789150n,
  mtimeNs: 1795360668_094563200n,
  ctimeNs: 1795360668_094563200n,
  nlink: 2,
  length: 5n,
  rdev: 0,
  parent: 0n,
  accessAcl: 0,
  defaultAcl: 0,
  tier: 0,
  rest: new Uint8Array(),
};

const forms: readonly [what: string, bytes: string, attr: Partial<Attr>][] = [
  ['72 bytes: plain', `${HEAD} ${PARENT} 00`, { parent: 3n }],
  ['80 bytes: ACL', `${HEAD} 0000000000000000 00000001 00000000 00`, { accessAcl: 1 }],
  ['80 bytes: default ACL alone', `${HEAD} ${PARENT} 00000000 00000002 00`, { parent: 3n, defaultAcl: 2 }],
  ['73 bytes: tier', `${HEAD} ${PARENT} 01 00`, { parent: 3n, tier: 1 }],
  [
    '81 bytes: ACL and tier',
    `${HEAD} ${PARENT} 00000001 00000002 03 00`,
    { parent: 3n, accessAcl: 1, defaultAcl: 2, tier: 3 },
  ],
];

const oddForms: readonly [what: string, bytes: string, attr: Partial<Attr>][] = [
  ['63 bytes: before there were parents', HEAD, {}],
  ['71 bytes: without a tier', `${HEAD} ${PARENT}`, { parent: 3n }],
  ['72 bytes: a tier without padding', `${HEAD} ${PARENT} 01`, { parent: 3n, tier: 1 }],
  ['79 bytes: ACL without a tier', `${HEAD} ${PARENT} 00000001 00000000`, { parent: 3n, accessAcl: 1 }],
  ['80 bytes: ACL ids that are zero', `${HEAD} ${PARENT} 00000000 00000000 00`, { parent: 3n }],
  ['64 bytes: something unknown in place of a parent', `${HEAD} 01`, { rest: new Uint8Array([1]) }],
];

describe('attributes', () => {
  for (const [what, bytes, attr] of forms) {
    it(`${what}: decodes and encodes`, () => {
      expect(decodeAttr(hex(bytes))).to.deep.equal({ ...FILE, ...attr });
      expect(toHex(encodeAttr({ ...FILE, ...attr }))).to.equal(toHex(hex(bytes)));
    });
  }

  for (const [what, bytes, attr] of oddForms) {
    it(`${what}: decodes, and is written back in the same form`, () => {
      const decoded = decodeAttr(hex(bytes));
      expect(decoded).to.deep.include({ ...FILE, ...attr });
      expect(toHex(encodeAttr(decoded))).to.equal(toHex(hex(bytes)));
    });
  }

  it('the root of a new volume', () => {
    const bytes = hex(`00 21ff 00000000 00000000 000000006b03079a 00000000 000000006b03079c 02b0ffd1
      000000006b03079c 02b0ffd1 00000003 0000000000001000 00000000 0000000000000001 00`);
    const attr = decodeAttr(bytes);
    expect(attr).to.include({ type: 'directory', mode: 0o777, nlink: 3, length: 4096n, parent: 1n });
    expect(encodeAttr(attr)).to.deep.equal(bytes);
  });

  it('a character device', () => {
    const bytes = hex(`00 61a4 00000000 00000000 000000006b03079a 00000000 000000006b03079c 02b0ffd1
      000000006b03079c 02b0ffd1 00000001 0000000000000000 0010052c 0000000000000001 00`);
    expect(decodeAttr(bytes)).to.include({ type: 'char', rdev: 0x0010052c });
  });

  it('bytes past the known fields are kept and written back', () => {
    for (const bytes of [`${HEAD} ${PARENT} 00 0102`, `${HEAD} ${PARENT} 00000001 00000000 01 00 aabbcc`]) {
      const attr = decodeAttr(hex(bytes));
      expect(attr.rest).to.have.length.greaterThan(0);
      const changed = toHex(encodeAttr({ ...attr, mode: 0o600 }));
      expect(changed).to.equal(toHex(hex(bytes)).replace('11bc', '1180'));
    }
  });

  it('a field that was not stored is written once it carries something', () => {
    const old = decodeAttr(hex(HEAD));
    expect(toHex(encodeAttr({ ...old, parent: 3n }))).to.equal(toHex(hex(`${HEAD} ${PARENT}`)));
    const withAcl = encodeAttr({ ...old, parent: 3n, accessAcl: 1 });
    expect(decodeAttr(withAcl)).to.include({ parent: 3n, accessAcl: 1 });
  });

  for (const [what, timeNs, seconds] of [
    ['before 1970', -1n, 'ffffffffffffffff 3b9ac9ff'],
    ['a whole second before 1970', -1_000_000_000n, 'ffffffffffffffff 00000000'],
    ['1970', 0n, '0000000000000000 00000000'],
  ] as const) {
    it(`a time ${what}`, () => {
      const bytes = encodeAttr({ ...FILE, mtimeNs: timeNs });
      expect(toHex(bytes.subarray(23, 35))).to.equal(toHex(hex(seconds)));
      expect(decodeAttr(bytes).mtimeNs).to.equal(timeNs);
    });
  }

  it('all seven types', () => {
    const types = ['file', 'directory', 'symlink', 'fifo', 'block', 'char', 'socket'] as const;
    for (const [i, type] of types.entries()) {
      const bytes = encodeAttr({ ...FILE, type, mode: 0o7777 });
      expect(toHex(bytes.subarray(1, 3))).to.equal(`${i + 1}fff`);
      expect(decodeAttr(bytes)).to.include({ type, mode: 0o7777 });
    }
  });

  const broken: readonly [what: string, bytes: string, offset: number][] = [
    ['empty', '', 0],
    ['62 bytes', HEAD.trimEnd().slice(0, -2), 59],
    ['type 0', HEAD.replace('11bc', '01bc'), 1],
    ['type 8', HEAD.replace('11bc', '81bc'), 1],
    ['a second of nanoseconds', HEAD.replace('374cf05e', '3b9aca00'), 23],
  ];
  for (const [what, bytes, offset] of broken) {
    it(`${what}: is no attribute`, () => {
      expect(() => decodeAttr(hex(bytes)))
        .to.throw(DecodeError)
        .that.includes({ what: 'attr', offset });
    });
  }

  it('refuses to write what does not fit', () => {
    expect(() => encodeAttr({ ...FILE, mode: 0o10000 })).to.throw(RangeError);
    expect(() => encodeAttr({ ...FILE, uid: -1 })).to.throw(RangeError);
    expect(() => encodeAttr({ ...FILE, length: -1n })).to.throw(RangeError);
  });
});
