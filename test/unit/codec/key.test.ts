import { expect } from 'chai';
import {
  ROOT_INO,
  TRASH_INO,
  chunkRange,
  decodeKey,
  dentryRange,
  encodeKey,
  inodeRange,
  parentRange,
  xattrRange,
  type MetaKey,
} from '../../../src/codec/key.ts';
import { hexString } from '../../support/hex.ts';

const known: readonly [what: string, key: string, decoded: MetaKey][] = [
  ['setting', 'setting', { kind: 'setting' }],
  ['counter', 'CnextInode', { kind: 'counter', name: 'nextInode' }],
  ['attr', hexString('41 0200000000000000 49'), { kind: 'attr', ino: 2n }],
  [
    'dentry of the root',
    hexString('41 0100000000000000 44 68656c6c6f2e747874'),
    { kind: 'dentry', parent: ROOT_INO, name: 'hello.txt' },
  ],
  [
    'dentry of the trash',
    hexString('41 00000010ffffff7f 44 323032362d31312d32322d3135'),
    { kind: 'dentry', parent: TRASH_INO, name: '2026-11-22-15' },
  ],
  [
    'dentry of a trash hour',
    hexString('41 01000010ffffff7f 44 312d362d676f6e65'),
    { kind: 'dentry', parent: TRASH_INO + 1n, name: '1-6-gone' },
  ],
  [
    'dentry with odd bytes',
    hexString('41 0100000000000000 44 ff2f00'),
    { kind: 'dentry', parent: 1n, name: '\xff/\0' },
  ],
  ['dentry named I', hexString('41 0100000000000000 44 49'), { kind: 'dentry', parent: 1n, name: 'I' }],
  ['parent', hexString('41 0200000000000000 50 0300000000000000'), { kind: 'parent', ino: 2n, parent: 3n }],
  ['chunk', hexString('41 0700000000000000 43 00000102'), { kind: 'chunk', ino: 7n, index: 258 }],
  ['symlink', hexString('41 0400000000000000 53'), { kind: 'symlink', ino: 4n }],
  ['xattr', hexString('41 0200000000000000 58 757365722e6b'), { kind: 'xattr', ino: 2n, name: 'user.k' }],
  [
    'deleted file',
    hexString('44 0600000000000000 0000000000000102'),
    { kind: 'deletedFile', ino: 6n, length: 258n },
  ],
  ['slice reference', hexString('4b 0000000000000005 00011170'), { kind: 'sliceRef', id: 5n, size: 70000 }],
  [
    'delayed slices',
    hexString('4c 000000006b0307d6 0000000000000009'),
    { kind: 'delayedSlices', seconds: 0x6b0307d6n, id: 9n },
  ],
  ['session expiry', hexString('5345 0000000000000001'), { kind: 'sessionExpire', sid: 1n }],
  ['session heartbeat', hexString('5348 0000000000000001'), { kind: 'sessionHeartbeat', sid: 1n }],
  ['session info', hexString('5349 0000000000000001'), { kind: 'sessionInfo', sid: 1n }],
  [
    'sustained inode',
    hexString('5353 0000000000000001 0200000000000000'),
    { kind: 'sustained', sid: 1n, ino: 2n },
  ],
  ['flock', hexString('46 0200000000000000'), { kind: 'flock', ino: 2n }],
  ['plock', hexString('50 0200000000000000'), { kind: 'plock', ino: 2n }],
  ['directory statistics', hexString('55 0300000000000000'), { kind: 'dirStat', ino: 3n }],
  ['detached clone', hexString('4e 0300000000000000'), { kind: 'detached', ino: 3n }],
  ['directory quota', hexString('5144 0300000000000000'), { kind: 'dirQuota', ino: 3n }],
  ['user quota', hexString('5155 00000000000003e8'), { kind: 'userQuota', uid: 1000n }],
  ['group quota', hexString('5147 00000000000003e8'), { kind: 'groupQuota', gid: 1000n }],
  ['ACL rule', hexString('52 00000001'), { kind: 'aclRule', id: 1 }],
  ['Kerberos token', hexString('584b44 00000002'), { kind: 'kerberosToken', id: 2 }],
  ['change log', hexString('584c4f47 0000000000000003'), { kind: 'changeLog', id: 3n }],
];

const unknown: readonly [what: string, key: string][] = [
  ['nothing', ''],
  ['another word', 'settings'],
  ['a letter of nobody', 'Z123'],
  ['an inode alone', hexString('41 0100000000000000')],
  ['an inode cut short', hexString('41 010000')],
  ['an inode record of nobody', hexString('41 0100000000000000 5a')],
  ['an attr with more bytes', hexString('41 0100000000000000 49 00')],
  ['a symlink with more bytes', hexString('41 0100000000000000 53 00')],
  ['a dentry without a name', hexString('41 0100000000000000 44')],
  ['an xattr without a name', hexString('41 0100000000000000 58')],
  ['a chunk without an index', hexString('41 0100000000000000 43')],
  ['a chunk with a long index', hexString('41 0100000000000000 43 0000000000')],
  ['a parent cut short', hexString('41 0100000000000000 50 02000000000000')],
  ['a counter without a name', 'C'],
  ['a deleted file cut short', hexString('44 0600000000000000 00000000000001')],
  ['a lock with more bytes', hexString('46 0200000000000000 00')],
  ['a quota of nobody', hexString('5158 0300000000000000')],
  ['a session record of nobody', hexString('5358 0000000000000001')],
  ['a session cut short', hexString('5345 00000000000001')],
  ['a sustained inode cut short', hexString('5353 0000000000000001')],
  ['an X of nobody', hexString('584b45 00000002')],
];

describe('metadata keys', () => {
  for (const [what, key, decoded] of known) {
    it(`${what}: decodes and encodes`, () => {
      expect(decodeKey(key)).to.deep.equal(decoded);
      expect(encodeKey(decoded)).to.equal(key);
    });
  }

  for (const [what, key] of unknown) {
    it(`${what} is unknown and kept`, () => {
      expect(decodeKey(key)).to.deep.equal({ kind: 'unknown', key });
      expect(encodeKey({ kind: 'unknown', key })).to.equal(key);
    });
  }

  it('refuses numbers that do not fit', () => {
    expect(() => encodeKey({ kind: 'attr', ino: -1n })).to.throw(RangeError);
    expect(() => encodeKey({ kind: 'chunk', ino: 1n, index: 2 ** 32 })).to.throw(RangeError);
  });
});

describe('ranges of one inode', () => {
  const ino = 0xff00000000000002n;
  const start = hexString('41 02000000000000ff');
  const rows = [
    ['everything', inodeRange, start, hexString('41 0200000000000100').slice(0, 7) + '\x01'],
    ['dentries', dentryRange, `${start}D`, `${start}E`],
    ['chunks', chunkRange, `${start}C`, `${start}D`],
    ['xattrs', xattrRange, `${start}X`, `${start}Y`],
    ['parents', parentRange, `${start}P`, `${start}Q`],
  ] as const;
  for (const [what, range, from, end] of rows) {
    it(what, () => {
      expect(range(ino)).to.deep.equal({ start: from, end });
    });
  }

  it('hold the keys of that inode and no other', () => {
    const range = inodeRange(0xffn);
    const inside = (key: string): boolean => range.start <= key && key < range.end;
    expect(inside(encodeKey({ kind: 'attr', ino: 0xffn }))).to.equal(true);
    expect(inside(encodeKey({ kind: 'xattr', ino: 0xffn, name: '\xff\xff' }))).to.equal(true);
    for (const other of [0xfen, 0x100n, 0x1ffn, 0x01000000000000ffn]) {
      expect(inside(encodeKey({ kind: 'attr', ino: other }))).to.equal(false);
    }
  });
});
