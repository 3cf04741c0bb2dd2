import { expect } from 'chai';

import type { FileStat } from '../../../src/agent/base/ports.ts';
import {
  entryOfSlot,
  sameSignature,
  sameSlotContent,
  signatureOf,
  SlotTree,
  type Slot,
} from '../../../src/agent/disk/slot.ts';

const STAT: FileStat = {
  type: 'file',
  dev: 1n,
  ino: 2n,
  mode: 0o644,
  uid: 3,
  gid: 4,
  size: 5n,
  nlink: 1,
  mtimeNs: 6n,
  ctimeNs: 7n,
  bornNs: 6n,
  rdev: 0,
};
const FILE: Slot = { type: 'file', signature: signatureOf(STAT), digest: 'one' };
const DIRECTORY: Slot = { type: 'directory', signature: signatureOf(STAT) };

describe('a slot', () => {
  for (const [field, value] of Object.entries({
    ino: 9n,
    mode: 0o600,
    uid: 9,
    gid: 9,
    size: 9n,
    mtimeNs: 9n,
    ctimeNs: 9n,
  })) {
    it(`of a file differs when ${field} does`, () => {
      expect(sameSignature(FILE, STAT)).to.equal(true);
      expect(sameSignature(FILE, { ...STAT, [field]: value })).to.equal(false);
    });
  }

  it('does not differ by links and devices', () => {
    expect(sameSignature(FILE, { ...STAT, nlink: 2, dev: 9n })).to.equal(true);
  });

  it('of a directory differs by mode and owner alone', () => {
    const stat: FileStat = { ...STAT, type: 'directory' };
    expect(sameSignature(DIRECTORY, { ...stat, ino: 9n, size: 9n, mtimeNs: 9n, ctimeNs: 9n })).to.equal(true);
    expect(sameSignature(DIRECTORY, { ...stat, mode: 0o700 })).to.equal(false);
    expect(sameSignature(DIRECTORY, { ...stat, uid: 9 })).to.equal(false);
  });

  it('of a fifo does not differ by what goes through it', () => {
    const stat: FileStat = { ...STAT, type: 'fifo' };
    const fifo: Slot = { type: 'special', signature: signatureOf(stat), kind: 'fifo', rdev: 0 };
    expect(sameSignature(fifo, { ...stat, mtimeNs: 9n, ctimeNs: 9n })).to.equal(true);
    expect(sameSignature(fifo, { ...stat, mode: 0o600 })).to.equal(false);
    expect(sameSignature(fifo, { ...stat, ino: 9n })).to.equal(false);
    expect(sameSignature(fifo, { ...stat, type: 'socket' })).to.equal(false);
    expect(entryOfSlot(fifo)).to.deep.include({ type: 'special', kind: 'fifo', rdev: 0 });
  });

  it('of a device differs by its number', () => {
    const stat: FileStat = { ...STAT, type: 'char', rdev: 0x103 };
    const device: Slot = { type: 'special', signature: signatureOf(stat), kind: 'char', rdev: 0x103 };
    expect(sameSignature(device, stat)).to.equal(true);
    expect(sameSignature(device, { ...stat, rdev: 0x105 })).to.equal(false);
    expect(sameSlotContent(device, { ...device, rdev: 0x105 })).to.equal(false);
  });

  it('is of one type', () => {
    expect(sameSignature(FILE, { ...STAT, type: 'symlink' })).to.equal(false);
    expect(sameSignature(DIRECTORY, STAT)).to.equal(false);
    const other: Slot = { type: 'other', signature: signatureOf(STAT) };
    for (const type of ['file', 'fifo', 'socket', 'symlink'] as const)
      expect(sameSignature(other, { ...STAT, type }), type).to.equal(true);
    expect(sameSignature(other, { ...STAT, type: 'directory' })).to.equal(false);
  });

  it('has a content: bytes, target, or only a type', () => {
    const link: Slot = { type: 'symlink', signature: signatureOf(STAT), target: 'x' };
    expect(sameSlotContent(FILE, { ...FILE, signature: signatureOf({ ...STAT, ino: 9n }) })).to.equal(true);
    expect(sameSlotContent(FILE, { ...FILE, digest: 'two' })).to.equal(false);
    expect(sameSlotContent(link, { ...link, target: 'y' })).to.equal(false);
    expect(sameSlotContent(link, { ...link })).to.equal(true);
    expect(sameSlotContent(FILE, link)).to.equal(false);
    expect(sameSlotContent(DIRECTORY, { ...DIRECTORY })).to.equal(true);
    expect(sameSlotContent(undefined, undefined)).to.equal(true);
    expect(sameSlotContent(FILE, undefined)).to.equal(false);
  });

  it('is an entry, but for what never leaves this machine', () => {
    expect(entryOfSlot(FILE)).to.deep.equal({
      type: 'file',
      ino: 0n,
      mode: 0o644,
      uid: 3,
      gid: 4,
      mtimeNs: 6n,
      size: 5n,
      digest: 'one',
      nlink: 1,
    });
    expect(entryOfSlot(DIRECTORY)).to.deep.include({ type: 'directory', mode: 0o644 });
    expect(entryOfSlot({ type: 'other', signature: signatureOf(STAT) })).to.equal(undefined);
  });
});

describe('a tree of slots', () => {
  function treeOf(paths: readonly string[]): SlotTree {
    const tree = new SlotTree();
    for (const path of paths) tree.set(path, FILE);
    return tree;
  }

  it('knows the names in a directory, and all below it with parents first', () => {
    const tree = treeOf(['d/e/f', 'd', 'd/e', 'de', 'd/g']);
    expect([...tree.namesIn('')].sort()).to.deep.equal(['d', 'de']);
    expect([...tree.namesIn('d')].sort()).to.deep.equal(['e', 'g']);
    const below = [...tree.below('d')];
    expect([...below].sort()).to.deep.equal(['d', 'd/e', 'd/e/f', 'd/g']);
    expect(below.indexOf('d')).to.be.lessThan(below.indexOf('d/e'));
    expect(below.indexOf('d/e')).to.be.lessThan(below.indexOf('d/e/f'));
    expect([...tree.below('')].length).to.equal(5);
    expect([...tree.below('nowhere')]).to.deep.equal([]);
  });

  it('forgets what is set to nothing', () => {
    const tree = treeOf(['d', 'd/f']);
    tree.set('d/f', undefined);
    tree.set('never', undefined);
    expect([tree.has('d/f'), tree.get('d/f'), tree.size]).to.deep.equal([false, undefined, 1]);
    expect([...tree.namesIn('d')]).to.deep.equal([]);
    tree.set('d/f', FILE);
    expect([...tree.namesIn('d')]).to.deep.equal(['f']);
  });

  it('holds names below something that is not there', () => {
    const tree = treeOf(['gone/f']);
    expect([...tree.namesIn('gone')]).to.deep.equal(['f']);
    expect([...tree.below('gone')]).to.deep.equal(['gone/f']);
  });
});

describe('a tree of slots', () => {
  it('knows the names of an inode', () => {
    const tree = new SlotTree();
    const other: Slot = { ...FILE, signature: { ...FILE.signature, ino: 9n } };
    for (const path of ['a', 'd/b', 'd/c']) tree.set(path, FILE);
    tree.set('d', DIRECTORY);
    expect(tree.namesOf(2n)).to.deep.equal(['a', 'd/b', 'd/c']);
    tree.set('d/b', other);
    tree.set('a', undefined);
    expect(tree.namesOf(2n)).to.deep.equal(['d/c']);
    expect(tree.namesOf(9n)).to.deep.equal(['d/b']);
    tree.set('d/c', undefined);
    expect(tree.namesOf(2n)).to.deep.equal([]);
  });
});
