/** What every `FsPort` does: run on the real one, and on any fake that wants to stand in for it. */

import { expect } from 'chai';
import { codeOf } from '../../src/agent/base/error.ts';
import type { FileStat, FsPort } from '../../src/agent/base/ports.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import { until } from '../support/until.ts';

/** A file system under test. */
export interface FsSubject {
  readonly fs: FsPort;
  /** An empty directory on it, below no link. */
  readonly dir: ByteString;
  close(): void;
}

const STEP = 'test';

/** Declares the suite. `open` is called before each test. */
export function describeFs(open: () => FsSubject): void {
  let subject: FsSubject;
  let fs: FsPort;

  beforeEach(() => {
    subject = open();
    fs = subject.fs;
  });
  afterEach(() => subject?.close());

  const at = (name: string): ByteString => `${subject.dir}/${name}`;
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
  const make = (name: string, text = ''): void => {
    const fd = fs.openNew(STEP, at(name));
    fs.write(STEP, fd, bytes(text));
    fs.close(STEP, fd);
  };
  const content = (name: string): string => {
    const fd = fs.openRead(STEP, at(name));
    const into = new Uint8Array(1000);
    const length = fs.read(STEP, fd, into, 0);
    fs.close(STEP, fd);
    return Buffer.from(into.subarray(0, length)).toString('latin1');
  };
  const stat = (name: string): FileStat => {
    const found = fs.lstat(STEP, at(name));
    if (found === undefined) throw new Error(`${name} is not there`);
    return found;
  };
  const fails = (code: string, call: () => unknown): void => {
    let error: unknown;
    try {
      call();
    } catch (thrown) {
      error = thrown;
    }
    expect(codeOf(error), String(error)).to.equal(code);
  };

  describe('names', () => {
    it('are any bytes, and are listed', () => {
      for (const name of ['b', 'a b', '\xff\xfe', 'a\n', '..data']) make(name);
      fs.mkdir(STEP, at('d'), 0o755);
      expect(fs.readdir(STEP, subject.dir).sort()).to.deep.equal([
        '..data',
        'a\n',
        'a b',
        'b',
        'd',
        '\xff\xfe',
      ]);
    });

    it('have up to 255 bytes', () => {
      make('x'.repeat(255));
      fails('ENAMETOOLONG', () => make('x'.repeat(256)));
      fails('ENAMETOOLONG', () => fs.lstat(STEP, at('x'.repeat(256))));
    });

    it('that are missing, or below what is no directory, are undefined for lstat and readlink alone', () => {
      make('file');
      expect(fs.lstat(STEP, at('none'))).to.equal(undefined);
      expect(fs.lstat(STEP, at('none/below'))).to.equal(undefined);
      expect(fs.lstat(STEP, at('file/below'))).to.equal(undefined);
      expect(fs.lstat(STEP, at('file/.'))).to.equal(undefined);
      expect(fs.readlink(STEP, at('none'))).to.equal(undefined);
      expect(fs.readlink(STEP, at('file'))).to.equal(undefined);
      expect(fs.readlink(STEP, at('file/below'))).to.equal(undefined);
      for (const call of [
        () => fs.readdir(STEP, at('none')),
        () => fs.openRead(STEP, at('none')),
        () => fs.openNew(STEP, at('none/below')),
        () => fs.openAppend(STEP, at('none/below')),
        () => fs.mkdir(STEP, at('none/below'), 0o755),
        () => fs.rmdir(STEP, at('none')),
        () => fs.unlink(STEP, at('none')),
        () => fs.link(STEP, at('none'), at('x')),
        () => fs.link(STEP, at('file'), at('none/x')),
        () => fs.rename(STEP, at('none'), at('x')),
        () => fs.rename(STEP, at('file'), at('none/x')),
        () => fs.symlink(STEP, 'x', at('none/x')),
        () => fs.chmod(STEP, at('none'), 0o600),
        () => fs.lutimes(STEP, at('none'), 1n),
        () => fs.syncDir(STEP, at('none')),
      ])
        fails('ENOENT', call);
      for (const call of [
        () => fs.readdir(STEP, at('file')),
        () => fs.readdir(STEP, at('file/below')),
        () => fs.openRead(STEP, at('file/below')),
        () => fs.openNew(STEP, at('file/below')),
        () => fs.mkdir(STEP, at('file/below'), 0o755),
        () => fs.rmdir(STEP, at('file')),
        () => fs.unlink(STEP, at('file/below')),
        () => fs.rename(STEP, at('file/below'), at('x')),
        () => fs.syncDir(STEP, at('file')),
      ])
        fails('ENOTDIR', call);
    });
  });

  describe('files', () => {
    it('are made new and private, and never over a name that is there', () => {
      make('file', 'text');
      expect(stat('file')).to.include({ type: 'file', mode: 0o600, nlink: 1, size: 4n, rdev: 0 });
      fs.symlink(STEP, 'nowhere', at('link'));
      fs.mkdir(STEP, at('dir'), 0o755);
      for (const name of ['file', 'link', 'dir']) fails('EEXIST', () => fs.openNew(STEP, at(name)));
    });

    it('are appended to, and made by that', () => {
      for (const text of ['one', 'two']) {
        const fd = fs.openAppend(STEP, at('log'));
        fs.write(STEP, fd, bytes(text));
        fs.close(STEP, fd);
      }
      expect(content('log')).to.equal('onetwo');
      expect(stat('log').mode).to.equal(0o600);
      fs.symlink(STEP, 'log', at('link'));
      fs.mkdir(STEP, at('dir'), 0o755);
      fails('ELOOP', () => fs.openAppend(STEP, at('link')));
      fails('EISDIR', () => fs.openAppend(STEP, at('dir')));
    });

    it('are written and read at positions, and cut', () => {
      const fd = fs.openNew(STEP, at('file'));
      fs.write(STEP, fd, bytes('abc'));
      fs.write(STEP, fd, bytes('def'));
      fs.write(STEP, fd, bytes('X'), 1);
      fs.write(STEP, fd, bytes('Y'), 8);
      fs.close(STEP, fd);
      expect(content('file')).to.equal('aXcdef\0\0Y');
      const reader = fs.openRead(STEP, at('file'));
      const into = new Uint8Array(3);
      expect(fs.read(STEP, reader, into, 4)).to.equal(3);
      expect(Buffer.from(into).toString('latin1')).to.equal('ef\0');
      expect(fs.read(STEP, reader, into, 8)).to.equal(1);
      expect(fs.read(STEP, reader, into, 9)).to.equal(0);
      fs.close(STEP, reader);
      const again = fs.openAppend(STEP, at('file'));
      fs.ftruncate(STEP, again, 2n);
      fs.ftruncate(STEP, again, 4n);
      fs.fsync(STEP, again);
      fs.close(STEP, again);
      expect(content('file')).to.equal('aX\0\0');
    });

    it('live on without a name while a descriptor is open', () => {
      make('file', 'old');
      const fd = fs.openAppend(STEP, at('file'));
      const reader = fs.openRead(STEP, at('file'));
      fs.unlink(STEP, at('file'));
      make('file', 'new');
      fs.write(STEP, fd, bytes(' and late'));
      const into = new Uint8Array(20);
      expect(Buffer.from(into.subarray(0, fs.read(STEP, reader, into, 0))).toString()).to.equal(
        'old and late',
      );
      expect(fs.fstat(STEP, reader)).to.include({ nlink: 0, size: 12n });
      fs.close(STEP, fd);
      fs.close(STEP, reader);
      expect(content('file')).to.equal('new');
    });

    it('have several names', () => {
      make('a', 'text');
      fs.link(STEP, at('a'), at('b'));
      expect(stat('a').ino).to.equal(stat('b').ino);
      expect(stat('a').nlink).to.equal(2);
      const fd = fs.openAppend(STEP, at('b'));
      fs.write(STEP, fd, bytes(' more'));
      fs.close(STEP, fd);
      expect(content('a')).to.equal('text more');
      fs.unlink(STEP, at('a'));
      expect(stat('b').nlink).to.equal(1);
      fs.mkdir(STEP, at('dir'), 0o755);
      fails('EPERM', () => fs.link(STEP, at('dir'), at('dir2')));
      fails('EEXIST', () => fs.link(STEP, at('b'), at('dir')));
    });

    it('have a mode with all bits, and times to the microsecond', () => {
      make('file');
      const fd = fs.openAppend(STEP, at('file'));
      fs.fchmod(STEP, fd, 0o4751);
      fs.futimes(STEP, fd, 1_700_000_000_123_456_789n);
      fs.close(STEP, fd);
      expect(stat('file')).to.include({ mode: 0o4751, mtimeNs: 1_700_000_000_123_456_000n });
      fs.chmod(STEP, at('file'), 0o640);
      fs.lutimes(STEP, at('file'), 1_600_000_000_000_000_001n);
      expect(stat('file')).to.include({ mode: 0o640, mtimeNs: 1_600_000_000_000_000_000n });
    });
  });

  describe('links', () => {
    it('lead on in the middle of a path, and are themselves at its end', () => {
      fs.mkdir(STEP, at('dir'), 0o755);
      make('dir/file', 'text');
      fs.symlink(STEP, 'dir', at('link'));
      fs.symlink(STEP, `${subject.dir}/link/../link`, at('far'));
      expect(fs.readlink(STEP, at('link'))).to.equal('dir');
      expect(stat('link')).to.include({ type: 'symlink', size: 3n });
      expect(content('link/file')).to.equal('text');
      expect(content('far/file')).to.equal('text');
      expect(stat('far/.').type).to.equal('directory');
      expect(fs.readdir(STEP, at('link'))).to.deep.equal(['file']);
      fails('ELOOP', () => fs.openRead(STEP, at('link')));
      expect(fs.readlink(STEP, at('dir'))).to.equal(undefined);
      fails('ENOTDIR', () => fs.syncDir(STEP, at('link')));
      fails('ENOTDIR', () => fs.rmdir(STEP, at('link')));
      fails('EEXIST', () => fs.symlink(STEP, 'x', at('link')));
      fs.unlink(STEP, at('link'));
      expect(content('dir/file')).to.equal('text');
    });

    it('that lead in a circle lead nowhere', () => {
      fs.symlink(STEP, 'b', at('a'));
      fs.symlink(STEP, 'a', at('b'));
      fails('ELOOP', () => fs.openRead(STEP, at('a/file')));
      expect(fs.lstat(STEP, at('a/file'))).to.equal(undefined);
      expect(fs.readlink(STEP, at('a/file'))).to.equal(undefined);
    });

    it('are linked and renamed themselves', () => {
      fs.symlink(STEP, 'x', at('a'));
      fs.link(STEP, at('a'), at('b'));
      fs.rename(STEP, at('b'), at('c'));
      expect(fs.readlink(STEP, at('c'))).to.equal('x');
      expect(stat('a').nlink).to.equal(2);
      fs.lutimes(STEP, at('c'), 5_000n);
      expect(stat('a').mtimeNs).to.equal(5_000n);
    });
  });

  describe('directories', () => {
    it('are made and removed when they are empty', () => {
      fs.mkdir(STEP, at('dir'), 0o700);
      expect(stat('dir')).to.include({ type: 'directory', mode: 0o700 });
      fs.mkdir(STEP, at('dir/in'), 0o755);
      fails('EEXIST', () => fs.mkdir(STEP, at('dir'), 0o755));
      fails('ENOTEMPTY', () => fs.rmdir(STEP, at('dir')));
      fails('EISDIR', () => fs.unlink(STEP, at('dir')));
      fs.rmdir(STEP, at('dir/in'));
      fs.rmdir(STEP, at('dir'));
      expect(fs.lstat(STEP, at('dir'))).to.equal(undefined);
    });

    it('are opened, but not read as files', () => {
      const fd = fs.openRead(STEP, subject.dir);
      expect(fs.fstat(STEP, fd).type).to.equal('directory');
      fails('EISDIR', () => fs.read(STEP, fd, new Uint8Array(1), 0));
      fs.close(STEP, fd);
    });

    it('have a time that moves with each name', () => {
      fs.mkdir(STEP, at('dir'), 0o755);
      const moved = (change: () => void): void => {
        fs.lutimes(STEP, at('dir'), 1_000_000_000n);
        change();
        expect(stat('dir').mtimeNs > 1_000_000_000n).to.equal(true);
      };
      moved(() => make('dir/a'));
      moved(() => fs.link(STEP, at('dir/a'), at('dir/b')));
      moved(() => fs.rename(STEP, at('dir/b'), at('dir/c')));
      moved(() => fs.rename(STEP, at('dir/c'), at('away')));
      moved(() => fs.rename(STEP, at('away'), at('dir/back')));
      moved(() => fs.unlink(STEP, at('dir/back')));
      moved(() => fs.symlink(STEP, 'x', at('dir/link')));
      moved(() => fs.mkdir(STEP, at('dir/in'), 0o755));
      moved(() => fs.rmdir(STEP, at('dir/in')));
      fs.lutimes(STEP, at('dir'), 1_000_000_000n);
      const fd = fs.openAppend(STEP, at('dir/a'));
      fs.write(STEP, fd, bytes('text'));
      fs.close(STEP, fd);
      expect(stat('dir').mtimeNs).to.equal(1_000_000_000n);
    });
  });

  describe('rename', () => {
    it('replaces what is there, in one step', () => {
      make('a', 'a');
      make('b', 'b');
      const { ino } = stat('a');
      fs.rename(STEP, at('a'), at('b'));
      expect(content('b')).to.equal('a');
      expect(stat('b').ino).to.equal(ino);
      expect(fs.lstat(STEP, at('a'))).to.equal(undefined);
      fs.symlink(STEP, 'x', at('link'));
      fs.rename(STEP, at('b'), at('link'));
      expect(stat('link').type).to.equal('file');
    });

    it('of one name of a file to another name of it does nothing', () => {
      make('a');
      fs.link(STEP, at('a'), at('b'));
      fs.rename(STEP, at('a'), at('b'));
      expect(fs.readdir(STEP, subject.dir).sort()).to.deep.equal(['a', 'b']);
    });

    it('takes what is below a directory along', () => {
      fs.mkdir(STEP, at('a'), 0o755);
      make('a/file', 'text');
      fs.mkdir(STEP, at('b'), 0o755);
      fs.rename(STEP, at('a'), at('b'));
      expect(content('b/file')).to.equal('text');
      fs.mkdir(STEP, at('b/in'), 0o755);
      fs.rename(STEP, at('b/in'), at('c'));
      expect(stat('c/..').ino).to.equal(stat('.').ino);
    });

    it('refuses what no file system can do', () => {
      make('file');
      fs.mkdir(STEP, at('dir'), 0o755);
      make('dir/file');
      fs.mkdir(STEP, at('other'), 0o755);
      fails('EISDIR', () => fs.rename(STEP, at('file'), at('other')));
      fails('ENOTDIR', () => fs.rename(STEP, at('other'), at('file')));
      fails('ENOTEMPTY', () => fs.rename(STEP, at('other'), at('dir')));
      fails('EINVAL', () => fs.rename(STEP, at('dir'), at('dir/in')));
    });
  });

  describe('signatures', () => {
    it('tell a change of contents by mtime and ctime, one of names or mode by ctime alone', () => {
      make('file', 'text');
      const first = stat('file');
      fs.link(STEP, at('file'), at('name'));
      const linked = stat('file');
      fs.rename(STEP, at('name'), at('renamed'));
      const renamed = stat('file');
      fs.unlink(STEP, at('renamed'));
      const unlinked = stat('file');
      fs.chmod(STEP, at('file'), 0o644);
      const chmodded = stat('file');
      const all = [first, linked, renamed, unlinked, chmodded];
      expect(new Set(all.map(({ mtimeNs }) => mtimeNs)).size).to.equal(1);
      for (const [i, { ctimeNs }] of all.entries())
        expect(ctimeNs >= (all[i - 1]?.ctimeNs ?? 0n)).to.equal(true);
      const fd = fs.openAppend(STEP, at('file'));
      fs.write(STEP, fd, bytes('!'));
      fs.close(STEP, fd);
      expect(stat('file').mtimeNs >= first.mtimeNs).to.equal(true);
    });

    it('keep the inode of a file that is written, and differ between files that are there', () => {
      make('a');
      make('b');
      const { ino, dev } = stat('a');
      const fd = fs.openAppend(STEP, at('a'));
      fs.write(STEP, fd, bytes('text'));
      expect(fs.fstat(STEP, fd)).to.include({ ino, dev });
      fs.close(STEP, fd);
      expect(stat('a').ino).to.equal(ino);
      expect(stat('b').ino).to.not.equal(ino);
    });
  });

  it('tell when they were made, whatever becomes of them since, or not at all', async () => {
    make('a');
    const { bornNs, ctimeNs } = stat('a');
    if (bornNs === 0n) return;
    expect(bornNs <= ctimeNs).to.equal(true);
    await until('the clock of the file system moves', () => {
      make('tick');
      const { mtimeNs } = stat('tick');
      fs.unlink(STEP, at('tick'));
      return mtimeNs > ctimeNs;
    });
    fs.link(STEP, at('a'), at('b'));
    fs.rename(STEP, at('a'), at('c'));
    fs.chmod(STEP, at('c'), 0o600);
    const fd = fs.openAppend(STEP, at('c'));
    fs.write(STEP, fd, bytes('text'));
    fs.close(STEP, fd);
    const last = stat('c');
    expect(last.bornNs).to.equal(bornNs);
    fs.unlink(STEP, at('b'));
    fs.unlink(STEP, at('c'));
    make('d');
    expect(stat('d').bornNs > bornNs, 'its number may be that of another file by now').to.equal(true);
  });

  it('syncs files, directories and itself', () => {
    make('file');
    fs.syncDir(STEP, subject.dir);
    fs.syncFs(STEP, subject.dir);
  });

  it('exchanges names and tells writers, or says that it cannot', () => {
    make('a', 'one');
    make('b', 'other');
    const swap = (): unknown => {
      try {
        fs.exchange(STEP, at('a'), at('b'));
        return 'done';
      } catch (error) {
        return codeOf(error);
      }
    };
    const result = swap();
    expect(result).to.be.oneOf(['done', 'ENOTSUP']);
    expect([content('a'), content('b')]).to.deep.equal(
      result === 'done' ? ['other', 'one'] : ['one', 'other'],
    );
    try {
      expect(fs.hasWriter(STEP, at('a'))).to.equal(false);
    } catch (error) {
      expect(codeOf(error)).to.equal('ENOTSUP');
    }
  });

  it('makes fifos', () => {
    fs.mknod(STEP, at('fifo'), 'fifo', 0);
    expect(stat('fifo')).to.include({ type: 'fifo', mode: 0o600, nlink: 1 });
    fails('EEXIST', () => fs.mknod(STEP, at('fifo'), 'fifo', 0));
  });
}
