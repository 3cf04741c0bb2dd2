import { expect } from 'chai';

import { encodeDentry } from '../../../src/codec/dentry.ts';
import { encodeKey, ROOT_INO } from '../../../src/codec/key.ts';
import { countCopies, hasCopy, isInVolume } from '../../../src/reconcile/conflict-copies.ts';
import { InodeIndex } from '../../../src/reconcile/inode-index.ts';

/** An index with the files of these paths. */
function indexOf(...paths: readonly string[]): InodeIndex {
  const index = new InodeIndex();
  const inodes = new Map([['', ROOT_INO]]);
  const add = (path: string, type: 'file' | 'directory'): bigint => {
    const known = inodes.get(path);
    if (known !== undefined) return known;
    const slash = path.lastIndexOf('/');
    const parent = add(slash < 0 ? '' : path.slice(0, slash), 'directory');
    const ino = BigInt(inodes.size + 1);
    inodes.set(path, ino);
    const key = encodeKey({ kind: 'dentry', parent, name: path.slice(slash + 1) });
    index.load({ key, value: encodeDentry({ type, ino }), createRevision: 1n, modRevision: 1n });
    return ino;
  };
  for (const path of paths) add(path, 'file');
  return index;
}

describe('conflict copies in an index', () => {
  it('are none in a volume without any', () => {
    expect(countCopies(indexOf('f'))).to.deep.equal({ count: 0, oldest: undefined });
    expect(hasCopy(indexOf('f'), 'f', 'id')).to.equal(false);
  });

  it('are counted without their records, the oldest named', () => {
    const index = indexOf(
      '.conflicts/20261122T150405Z-r2-b/d/f',
      '.conflicts/20261122T150404Z-r1-a/f',
      '.conflicts/20261122T150404Z-r1-a/g',
      '.conflicts/.records/20261122T150404Z-r1-a/id.json',
    );
    expect(countCopies(index)).to.deep.equal({ count: 3, oldest: '20261122T150404Z-r1-a' });
  });

  it('are there when both the copy and its record are, whoever made them', () => {
    const record = '.conflicts/.records/stamp/id.json';
    expect(hasCopy(indexOf('.conflicts/stamp/d/f', record), 'd/f', 'id')).to.equal(true);
    expect(hasCopy(indexOf('.conflicts/stamp/d/f', record), 'd/f', 'other')).to.equal(false);
    expect(hasCopy(indexOf('.conflicts/other/d/f', record), 'd/f', 'id')).to.equal(false);
    expect(hasCopy(indexOf('.conflicts/stamp/d/f'), 'd/f', 'id')).to.equal(false);
    expect(isInVolume(indexOf('d/f'), 'd/f')).to.equal(true);
    expect(isInVolume(indexOf('d/f'), 'd/g')).to.equal(false);
  });
});
