import { expect } from 'chai';
import { ACL_UNSET, decodeAclRule, encodeAclRule, type AclRule } from '../../../src/codec/acl.ts';
import { FLAG_APPEND, FLAG_IMMUTABLE, FLAG_SKIP_TRASH } from '../../../src/codec/attr.ts';
import { decodeCounter, encodeCounter } from '../../../src/codec/counter.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry } from '../../../src/reconcile/entry.ts';
import { MemoryVolume } from '../../support/memory-volume.ts';

const base = { ino: 0n, uid: 0, gid: 0, mtimeNs: 1_700_000_000_000_000_000n };
const FILE: FileEntry = { ...base, type: 'file', mode: 0o644, size: 1n, digest: 'one', nlink: 1 };
const DIR: DirectoryEntry = { ...base, type: 'directory', mode: 0o755 };
const LINK: SymlinkEntry = { ...base, type: 'symlink', mode: 0o777, target: 'f' };

const RULE: AclRule = {
  owner: 6,
  group: 4,
  mask: 7,
  other: 4,
  users: [{ id: 1234, perm: 7 }],
  groups: [{ id: 55, perm: 4 }],
};

function volumeOf(request: MemoryVolume['request'] = {}): MemoryVolume {
  const volume = new MemoryVolume();
  volume.request = request;
  volume.push(volume.make('f', FILE), volume.make('d', DIR), volume.make('l', LINK));
  return volume;
}

function addRule(volume: MemoryVolume, id: number, rule: AclRule): void {
  volume.put({ kind: 'aclRule', id }, encodeAclRule(rule));
  volume.put({ kind: 'counter', name: 'aclMaxId' }, encodeCounter(BigInt(id)));
}

function ruleAt(volume: MemoryVolume, id: number): AclRule | undefined {
  const value = volume.get({ kind: 'aclRule', id });
  return value === undefined ? undefined : decodeAclRule(value);
}

function maxId(volume: MemoryVolume): bigint {
  const value = volume.get({ kind: 'counter', name: 'aclMaxId' });
  return value === undefined ? 0n : decodeCounter(value);
}

describe('setting attributes', () => {
  it('writes what differs, with a new ctime', () => {
    const volume = volumeOf({ owners: true, times: true });
    const { ctimeNs } = volume.attr('f');
    volume.push(volume.edit('f', { mode: 0o600, uid: 7, gid: 8, mtimeNs: 5n }));
    const { mode, uid, gid, mtimeNs, ctimeNs: after } = volume.attr('f');
    expect({ mode, uid, gid, mtimeNs }).to.deep.equal({ mode: 0o600, uid: 7, gid: 8, mtimeNs: 5n });
    expect(after > ctimeNs).to.equal(true);
  });

  it('leaves owners and times of what is there unless they are asked for', () => {
    const volume = volumeOf();
    const before = volume.attr('f');
    const { transaction } = volume.plan([volume.edit('f', { uid: 7, gid: 8, mtimeNs: 5n })]);
    expect(transaction.ops).to.deep.equal([]);
    volume.push(volume.edit('f', { digest: 'two', uid: 7, gid: 8 }));
    expect(volume.attr('f')).to.include({ uid: before.uid, gid: before.gid });
  });

  it('takes no time that differs by less than a microsecond, and none of a directory', () => {
    const volume = volumeOf({ times: true });
    const [file, directory] = [volume.attr('f'), volume.attr('d')];
    volume.push(
      volume.edit('f', { mode: 0o600, mtimeNs: file.mtimeNs + 999n }),
      volume.edit('d', { mode: 0o700, mtimeNs: 5n }),
    );
    expect(volume.attr('f')).to.include({ mode: 0o600, mtimeNs: file.mtimeNs });
    expect(volume.attr('d')).to.include({ mode: 0o700, mtimeNs: directory.mtimeNs });
  });

  it('gives a symlink an owner and a time, and no mode', () => {
    const volume = volumeOf({ owners: true, times: true });
    volume.push(volume.edit('l', { mode: 0o600, uid: 7, mtimeNs: 5n }));
    expect(volume.attr('l')).to.include({ mode: 0o777, uid: 7, mtimeNs: 5n });
  });

  for (const [what, before, after] of [
    ['suid and sgid of a program', 0o6755, 0o755],
    ['suid alone where sgid means locking', 0o6644, 0o2644],
  ] as const) {
    it(`chown takes ${what}`, () => {
      const volume = volumeOf({ owners: true });
      volume.alter('f', { mode: before });
      volume.push(volume.edit('f', { mode: before & 0o777, uid: 7 }));
      expect(volume.attr('f').mode).to.equal(after);
    });
  }

  it('chown leaves the bits of a directory', () => {
    const volume = volumeOf({ owners: true });
    volume.alter('d', { mode: 0o3755 });
    volume.push(volume.edit('d', { gid: 8 }));
    expect(volume.attr('d')).to.include({ mode: 0o3755, gid: 8 });
  });

  it('chown moves what the owners use, of a symlink too', () => {
    const volume = volumeOf({ owners: true });
    volume.setting = { ...volume.setting, userGroupQuota: true };
    volume.push(volume.edit('f', { uid: 7 }), volume.edit('l', { uid: 7 }), volume.edit('d', { gid: 8 }));
    const used = (['userQuota', 'groupQuota'] as const).map((kind) =>
      volume.used(kind === 'userQuota' ? { kind, uid: 7n } : { kind, gid: 8n }),
    );
    expect(used).to.deep.equal([
      [2, 2],
      [1, 1],
    ]);
  });

  it('new contents take a new owner and mode along', () => {
    const volume = volumeOf({ owners: true });
    volume.push(volume.edit('f', { digest: 'two', uid: 7, gid: 8, mode: 0o600 }));
    expect(volume.attr('f')).to.include({ uid: 7, gid: 8, mode: 0o600 });
  });
});

describe('extended attributes', () => {
  const xattr = (volume: MemoryVolume, path: string, name: string): string | undefined => {
    const value = volume.get({ kind: 'xattr', ino: volume.ino(path), name });
    return value === undefined ? undefined : Buffer.from(value).toString('latin1');
  };

  it('come with a new entry', () => {
    const volume = volumeOf({ xattrs: true });
    volume.push(volume.make('g', { ...FILE, xattrs: { 'user.a': '1' } }));
    expect(xattr(volume, 'g', 'user.a')).to.equal('1');
  });

  it('are set, changed and removed without a new ctime', () => {
    const volume = volumeOf({ xattrs: true });
    volume.push(volume.edit('f', { xattrs: { 'user.a': '1', 'user.b': '2' } }));
    const before = volume.attr('f');
    volume.push(volume.edit('f', { xattrs: { 'user.a': 'one', 'user.c': '\xff\0' } }));
    expect(['user.a', 'user.b', 'user.c'].map((name) => xattr(volume, 'f', name))).to.deep.equal([
      'one',
      undefined,
      '\xff\0',
    ]);
    expect(volume.attr('f')).to.deep.equal(before);
  });

  it('that this side does not know of stay', () => {
    const volume = volumeOf({ xattrs: true });
    volume.put({ kind: 'xattr', ino: volume.ino('f'), name: 'trusted.x' }, Buffer.from('kept'));
    volume.push(volume.edit('f', { xattrs: { 'user.a': '1' } }));
    volume.push(volume.edit('f', { digest: 'two', xattrs: {} }));
    expect([xattr(volume, 'f', 'trusted.x'), xattr(volume, 'f', 'user.a')]).to.deep.equal([
      'kept',
      undefined,
    ]);
  });

  it('that somebody else changed meanwhile are not overwritten', () => {
    const volume = volumeOf({ xattrs: true });
    volume.push(volume.edit('f', { xattrs: { 'user.a': '1' } }));
    volume.put({ kind: 'xattr', ino: volume.ino('f'), name: 'user.a' }, Buffer.from('theirs'));
    const [givenUp] = volume.push(volume.edit('f', { xattrs: { 'user.a': '2' } }));
    expect(givenUp).to.include({ outcome: 'stale', reason: 'an extended attribute was changed' });
  });

  it('are not pushed unless they are asked for', () => {
    const volume = volumeOf();
    const { transaction } = volume.plan([volume.edit('f', { xattrs: { 'user.a': '1' } })]);
    expect(transaction.ops).to.deep.equal([]);
  });
});

describe('ACLs', () => {
  it('a chmod writes a new rule whose mask is the group bits', () => {
    const volume = volumeOf();
    addRule(volume, 1, RULE);
    volume.alter('f', { accessAcl: 1, mode: 0o674 });
    volume.push(volume.edit('f', { mode: 0o640 }));
    expect(volume.attr('f')).to.include({ accessAcl: 2, mode: 0o640 });
    expect(ruleAt(volume, 2)).to.deep.equal({ ...RULE, mask: 4, other: 0 });
    expect(ruleAt(volume, 1)).to.deep.equal(RULE);
    expect(maxId(volume)).to.equal(2n);
  });

  it('an equal rule is used again', () => {
    const volume = volumeOf();
    addRule(volume, 1, { ...RULE, mask: 4, other: 0 });
    addRule(volume, 2, RULE);
    volume.alter('f', { accessAcl: 2, mode: 0o674 });
    volume.push(volume.edit('f', { mode: 0o640 }));
    expect(volume.attr('f')).to.include({ accessAcl: 1, mode: 0o640 });
    expect(maxId(volume)).to.equal(2n);
  });

  it('new contents keep the ACL', () => {
    const volume = volumeOf();
    addRule(volume, 1, RULE);
    volume.alter('f', { accessAcl: 1, mode: 0o674 });
    volume.push(volume.edit('f', { digest: 'two', mode: 0o674 }));
    expect(volume.attr('f')).to.include({ accessAcl: 1, mode: 0o674 });
    volume.push(volume.edit('f', { digest: 'three', mode: 0o600 }));
    expect(volume.attr('f')).to.include({ accessAcl: 2, mode: 0o600 });
  });

  it('new entries inherit the default rule, cut by the mode they ask for; symlinks inherit nothing', () => {
    const volume = volumeOf();
    addRule(volume, 1, { ...RULE, mask: 6, other: 5 });
    volume.alter('d', { defaultAcl: 1 });
    volume.push(volume.make('d/f', FILE), volume.make('d/sub', DIR), volume.make('d/l', LINK));
    expect(volume.attr('d/f')).to.include({ mode: 0o644, accessAcl: 2, defaultAcl: 0 });
    expect(ruleAt(volume, 2)).to.deep.equal({ ...RULE, owner: 6, mask: 4, other: 4 });
    expect(volume.attr('d/sub')).to.include({ mode: 0o645, accessAcl: 3, defaultAcl: 1 });
    expect(ruleAt(volume, 3)).to.deep.equal({ ...RULE, owner: 6, mask: 4, other: 5 });
    expect(volume.attr('d/l')).to.include({ mode: 0o777, accessAcl: 0, defaultAcl: 0 });
  });

  it('a default rule without names only cuts the mode', () => {
    const volume = volumeOf();
    addRule(volume, 1, { owner: 7, group: 5, mask: ACL_UNSET, other: 0, users: [], groups: [] });
    volume.alter('d', { defaultAcl: 1 });
    volume.push(volume.make('d/f', FILE), volume.make('d/sub', DIR));
    expect(volume.attr('d/f')).to.include({ mode: 0o640, accessAcl: 0, defaultAcl: 0 });
    expect(volume.attr('d/sub')).to.include({ mode: 0o750, accessAcl: 0, defaultAcl: 1 });
    expect(maxId(volume)).to.equal(1n);
  });

  it('a rule that is missing is damage, and refuses', () => {
    const volume = volumeOf();
    volume.alter('d', { defaultAcl: 9 });
    const [givenUp] = volume.push(volume.make('d/f', FILE));
    expect(givenUp?.reason).to.equal('its ACL 9 is not in the volume; that is damage');
  });
});

describe('flags', () => {
  const IMMUTABLE = 'the entry is immutable (chattr +i)';
  const APPEND = 'the entry is append-only (chattr +a)';
  const cases: readonly [
    what: string,
    alter: [path: string, flags: number],
    change: (volume: MemoryVolume) => ReturnType<MemoryVolume['edit']>,
    reason: string,
  ][] = [
    [
      'new contents of an immutable file',
      ['f', FLAG_IMMUTABLE],
      (v) => v.edit('f', { digest: 'x' }),
      IMMUTABLE,
    ],
    ['a chmod of an immutable file', ['f', FLAG_IMMUTABLE], (v) => v.edit('f', { mode: 0o600 }), IMMUTABLE],
    [
      'an xattr of an immutable file',
      ['f', FLAG_IMMUTABLE],
      (v) => v.edit('f', { xattrs: { a: '' } }),
      IMMUTABLE,
    ],
    ['a removal of an immutable file', ['f', FLAG_IMMUTABLE], (v) => v.remove('f'), IMMUTABLE],
    ['a move of an immutable file', ['f', FLAG_IMMUTABLE], (v) => v.move('f', 'g'), IMMUTABLE],
    [
      'a move over an immutable file',
      ['f', FLAG_IMMUTABLE],
      (v) => v.move('l', 'f', { over: v.at('f') }),
      IMMUTABLE,
    ],
    ['new contents of an append-only file', ['f', FLAG_APPEND], (v) => v.edit('f', { digest: 'x' }), APPEND],
    ['a removal of an append-only file', ['f', FLAG_APPEND], (v) => v.remove('f'), APPEND],
    [
      'an entry in an immutable directory',
      ['d', FLAG_IMMUTABLE],
      (v) => v.make('d/f', FILE),
      'the directory is immutable (chattr +i)',
    ],
    [
      'a move into an immutable directory',
      ['d', FLAG_IMMUTABLE],
      (v) => v.move('f', 'd/f'),
      'the directory is immutable (chattr +i)',
    ],
    [
      'a removal from an append-only directory',
      ['', FLAG_APPEND],
      (v) => v.remove('f'),
      'the directory is append-only (chattr +a)',
    ],
  ];
  for (const [what, [path, flags], change, reason] of cases) {
    it(`refuse ${what}`, () => {
      const volume = volumeOf({ xattrs: true });
      volume.alter(path, { flags });
      const [givenUp] = volume.push(change(volume));
      expect(givenUp).to.include({ outcome: 'refused', reason });
    });
  }

  it('let entries come into an append-only directory', () => {
    const volume = volumeOf();
    volume.alter('d', { flags: FLAG_APPEND });
    expect(volume.push(volume.make('d/f', FILE), volume.move('f', 'd/g'))).to.deep.equal([]);
  });

  it('skip-trash is inherited, and makes deletes final', () => {
    const volume = volumeOf();
    volume.setting = { ...volume.setting, trashDays: 1 };
    volume.alter('d', { flags: FLAG_SKIP_TRASH });
    volume.push(volume.make('d/f', FILE), volume.make('d/sub', DIR));
    expect([volume.attr('d/f').flags, volume.attr('d/sub').flags]).to.deep.equal([
      FLAG_SKIP_TRASH,
      FLAG_SKIP_TRASH,
    ]);
    const inodes = [volume.ino('d/f'), volume.ino('d/sub')];
    volume.push(volume.remove('d/f'), volume.remove('d/sub'));
    expect(inodes.map((ino) => volume.get({ kind: 'attr', ino }))).to.deep.equal([undefined, undefined]);
  });
});
