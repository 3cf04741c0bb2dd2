import { expect } from 'chai';
import { toBytes } from '../../../src/codec/bytes.ts';
import { DecodeError } from '../../../src/codec/error.ts';
import { encodeKey } from '../../../src/codec/key.ts';
import { InodeIndex, mergeTouched } from '../../../src/reconcile/inode-index.ts';
import { attrOf, del, delDentry, make, put, putAttr, putChunk, putDentry } from '../../support/meta.ts';
import { contentsOf } from '../../support/same-index.ts';

const SLICE = { pos: 0, id: 1n, size: 3, off: 0, len: 3 };

/** A root with the file 2 under two names, its chunk, xattr and parent counts, and the symlink 3. */
function sample(): InodeIndex {
  const index = new InodeIndex();
  index.apply([
    putAttr(1n, 'directory'),
    ...make(1n, 'f', 2n, 'file', { parent: 0n, length: 3n }),
    putDentry(1n, 'g', 2n, 'file'),
    putChunk(2n, 0, [SLICE]),
    put({ kind: 'xattr', ino: 2n, name: 'user.k' }, toBytes('v')),
    put({ kind: 'parent', ino: 2n, parent: 1n }, new Uint8Array(8)),
    ...make(1n, 's', 3n, 'symlink'),
    put({ kind: 'symlink', ino: 3n }, toBytes('f')),
  ]);
  return index;
}

describe('InodeIndex', () => {
  it('holds everything stored under an inode', () => {
    const index = sample();
    const file = index.get(2n);
    expect(file?.attr?.value).to.deep.equal(attrOf('file', { parent: 0n, length: 3n }));
    expect([...(file?.chunks.keys() ?? [])]).to.deep.equal([0]);
    expect(file?.xattrs.get('user.k')).to.deep.equal({ raw: toBytes('v'), modRevision: 1n });
    expect(file?.parents.get(1n)).to.deep.equal({ raw: new Uint8Array(8), modRevision: 1n });
    expect(index.get(3n)?.symlink?.raw).to.deep.equal(toBytes('f'));
    expect([...index.list(1n).keys()].sort()).to.deep.equal(['f', 'g', 's']);
    expect(index.list(1n).get('f')?.dentry).to.deep.equal({ type: 'file', ino: 2n });
  });

  it('knows nothing of an inode that has no keys', () => {
    const index = sample();
    expect(index.get(9n)).to.equal(undefined);
    expect([...index.list(9n)]).to.deep.equal([]);
    expect([...index.namesOf(9n)]).to.deep.equal([]);
  });

  it('knows the names of an inode', () => {
    const index = sample();
    expect([...index.namesOf(2n)]).to.have.deep.members([
      { parent: 1n, name: 'f' },
      { parent: 1n, name: 'g' },
    ]);
    index.apply([delDentry(1n, 'f')]);
    expect([...index.namesOf(2n)]).to.deep.equal([{ parent: 1n, name: 'g' }]);
    index.apply([putDentry(1n, 'g', 3n, 'symlink')]);
    expect([...index.namesOf(2n)]).to.deep.equal([]);
    expect([...index.namesOf(3n)]).to.have.deep.members([
      { parent: 1n, name: 's' },
      { parent: 1n, name: 'g' },
    ]);
  });

  it('does not count a dentry twice that is put again', () => {
    const index = sample();
    index.apply([putDentry(1n, 's', 3n, 'symlink', 2n)]);
    expect([...index.namesOf(3n)]).to.deep.equal([{ parent: 1n, name: 's' }]);
  });

  const keys = [
    { kind: 'attr', ino: 2n },
    { kind: 'dentry', parent: 1n, name: 'g' },
    { kind: 'chunk', ino: 2n, index: 0 },
    { kind: 'xattr', ino: 2n, name: 'user.k' },
    { kind: 'parent', ino: 2n, parent: 1n },
    { kind: 'symlink', ino: 3n },
  ] as const;
  for (const key of keys) {
    it(`looks up the raw value of a key: ${key.kind}`, () => {
      const index = sample();
      const value = toBytes('any bytes at all');
      index.apply([put(key, value, 77n)]);
      expect(index.lookup(encodeKey(key))).to.deep.equal({ value, modRevision: 77n });
      index.apply([del(key, 78n)]);
      expect(index.lookup(encodeKey(key))).to.equal(undefined);
    });
  }

  it('looks up nothing for keys that are not of an inode', () => {
    expect(sample().lookup('setting')).to.equal(undefined);
  });

  it('is empty again when all is deleted', () => {
    const index = sample();
    const all = [...index.entries()].map(([key]) => key);
    expect(all).to.have.length(10);
    index.apply(all.map((key) => ({ type: 'delete', key, modRevision: 2n })));
    expect(contentsOf(index)).to.deep.equal([]);
    expect([1n, 2n, 3n].map((ino) => index.get(ino))).to.deep.equal([undefined, undefined, undefined]);
    expect([...index.namesOf(2n)]).to.deep.equal([]);
  });

  it('takes no notice of deleting what is absent', () => {
    const index = sample();
    const before = contentsOf(index);
    index.apply([delDentry(1n, 'none'), delDentry(9n, 'none'), del({ kind: 'chunk', ino: 2n, index: 5 })]);
    expect(contentsOf(index)).to.deep.equal(before);
  });

  it('ignores keys that are not of an inode', () => {
    const index = sample();
    const before = contentsOf(index);
    const touched = index.apply([
      put({ kind: 'dirStat', ino: 1n }, new Uint8Array(24)),
      put({ kind: 'counter', name: 'usedSpace' }, new Uint8Array(8)),
      put('Znew', new Uint8Array(1)),
      del({ kind: 'sessionExpire', sid: 1n }),
    ]);
    expect(contentsOf(index)).to.deep.equal(before);
    expect(touched).to.deep.equal({ inodes: new Set(), dentries: [], relinked: new Set() });
  });

  it('tells what a revision touched', () => {
    const index = sample();
    const touched = index.apply([
      putAttr(2n, 'file', {}, 2n),
      del({ kind: 'symlink', ino: 3n }),
      put({ kind: 'parent', ino: 9n, parent: 1n }, new Uint8Array(8)),
      putDentry(1n, 'f', 3n, 'symlink', 2n),
      delDentry(1n, 'g'),
    ]);
    expect(touched).to.deep.equal({
      inodes: new Set([2n, 3n]),
      dentries: [
        { parent: 1n, name: 'f' },
        { parent: 1n, name: 'g' },
      ],
      relinked: new Set([2n, 3n]),
    });
    const chunk = index.apply([putChunk(4n, 0, [SLICE])]);
    expect(mergeTouched([touched, chunk])).to.deep.equal({ ...touched, inodes: new Set([2n, 3n, 4n]) });
  });

  it('keeps an attr that does not decode as a problem of that inode', () => {
    const index = sample();
    index.apply([put({ kind: 'attr', ino: 2n }, toBytes('short'), 5n)]);
    const attr = index.get(2n)?.attr;
    expect(attr?.value).to.be.instanceOf(DecodeError).that.includes({ what: 'attr' });
    expect(attr?.value).to.have.property('key', encodeKey({ kind: 'attr', ino: 2n }));
    expect(attr).to.deep.include({ raw: toBytes('short'), modRevision: 5n });
    index.apply([putAttr(2n, 'file', {}, 6n)]);
    expect(index.get(2n)?.attr?.value).to.deep.equal(attrOf('file'));
  });

  it('keeps a dentry that does not decode as a problem of that name', () => {
    const index = sample();
    const touched = index.apply([put({ kind: 'dentry', parent: 1n, name: 'f' }, toBytes('?'))]);
    expect(index.list(1n).get('f')?.dentry).to.be.instanceOf(DecodeError);
    expect([...index.namesOf(2n)]).to.deep.equal([{ parent: 1n, name: 'g' }]);
    expect(touched.relinked).to.deep.equal(new Set([2n]));
  });
});
