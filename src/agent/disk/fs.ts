/** `FsPort` on `node:fs`, each call labelled with its step. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';

import type { ByteString } from '../../codec/kv.ts';
import { codeOf, isMissing } from '../base/error.ts';
import { native, type Native } from './native.ts';
import type { FileStat, FsPort, SpecialKind } from '../base/ports.ts';

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_APPEND, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = fs.constants;

const TYPES: readonly [number, FileStat['type']][] = [
  [fs.constants.S_IFREG, 'file'],
  [fs.constants.S_IFDIR, 'directory'],
  [fs.constants.S_IFLNK, 'symlink'],
  [fs.constants.S_IFIFO, 'fifo'],
  [fs.constants.S_IFSOCK, 'socket'],
  [fs.constants.S_IFBLK, 'block'],
  [fs.constants.S_IFCHR, 'char'],
];

function raw(path: ByteString): Buffer {
  return Buffer.from(path, 'latin1');
}

function statOf(stat: fs.BigIntStats): FileStat {
  const format = Number(stat.mode) & fs.constants.S_IFMT;
  const type = TYPES.find(([bits]) => bits === format)?.[1];
  if (type === undefined) throw new Error(`unknown file type ${format.toString(8)}`);
  return {
    type,
    dev: stat.dev,
    ino: stat.ino,
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: stat.size,
    nlink: Number(stat.nlink),
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    bornNs: stat.birthtimeNs,
    rdev: type === 'block' || type === 'char' ? Number(BigInt.asUintN(32, stat.rdev)) : 0,
  };
}

const SPECIAL_BITS: Readonly<Record<SpecialKind, number>> = {
  fifo: fs.constants.S_IFIFO,
  socket: fs.constants.S_IFSOCK,
  block: fs.constants.S_IFBLK,
  char: fs.constants.S_IFCHR,
};

/** A path as an argument of another program, which Node takes as text; a path that is no UTF-8 fails there. */
function argument(path: ByteString): string {
  return raw(path).toString('utf8');
}

/**
 * Seconds as Node takes them. Node keeps microseconds: what is set is the time cut to a whole microsecond. The half keeps
 * the next lower one from being hit, as no double is exactly a microsecond of our days.
 */
function seconds(timeNs: bigint): number {
  return (Number(timeNs / 1000n) + 0.5) / 1e6;
}

function notSupported(call: string, path: ByteString): Error {
  return Object.assign(new Error(`ENOTSUP: ${call} '${path}'`), { code: 'ENOTSUP' });
}

function nativeCalls(call: string, path: ByteString): Native {
  const calls = native();
  if (calls === undefined) throw notSupported(call, path);
  return calls;
}

/** Opens something for as long as `use` takes. */
function withOpen<T>(path: ByteString, flags: number, use: (fd: number) => T): T {
  const fd = fs.openSync(raw(path), flags | O_NOFOLLOW);
  try {
    return use(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Runs a program of coreutils to its end; what it says when it fails becomes the error. */
function runProgram(program: string, args: readonly string[]): void {
  const { error, status, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: 60_000 });
  if (error !== undefined) throw error;
  if (status === 0) return;
  const code = /not permitted|denied/.test(stderr) ? 'EPERM' : 'EIO';
  throw Object.assign(new Error(stderr.trim()), { code });
}

/** Whether there is nothing at a path: missing, below what is no directory, or below symlinks that lead in a circle. */
function isUnreachable(error: unknown): boolean {
  return isMissing(error) || codeOf(error) === 'ELOOP';
}

/** A path of the command line or environment as the byte string used inside. */
export function pathFromText(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** The real file system. */
export const nodeFs: FsPort = {
  lstat(_label, path) {
    try {
      return statOf(fs.lstatSync(raw(path), { bigint: true }));
    } catch (error) {
      if (isUnreachable(error)) return undefined;
      throw error;
    }
  },
  readdir(_label, path) {
    return fs.readdirSync(raw(path), { encoding: 'buffer' }).map((name) => name.toString('latin1'));
  },
  readlink(_label, path) {
    try {
      return fs.readlinkSync(raw(path), { encoding: 'buffer' }).toString('latin1');
    } catch (error) {
      if (isUnreachable(error) || codeOf(error) === 'EINVAL') return undefined;
      throw error;
    }
  },
  openRead(_label, path) {
    return fs.openSync(raw(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  },
  openNew(_label, path) {
    return fs.openSync(raw(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  },
  openAppend(_label, path) {
    return fs.openSync(raw(path), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
  },
  fstat(_label, fd) {
    return statOf(fs.fstatSync(fd, { bigint: true }));
  },
  read(_label, fd, into, position) {
    return fs.readSync(fd, into, 0, into.length, position);
  },
  write(_label, fd, bytes, position) {
    let done = 0;
    while (done < bytes.length) {
      const at = position === undefined ? null : position + done;
      done += fs.writeSync(fd, bytes, done, bytes.length - done, at);
    }
  },
  ftruncate(_label, fd, size) {
    fs.ftruncateSync(fd, Number(size));
  },
  fchmod(_label, fd, mode) {
    fs.fchmodSync(fd, mode);
  },
  futimes(_label, fd, mtimeNs) {
    fs.futimesSync(fd, seconds(mtimeNs), seconds(mtimeNs));
  },
  fsync(_label, fd) {
    fs.fdatasyncSync(fd);
  },
  close(_label, fd) {
    fs.closeSync(fd);
  },
  mkdir(_label, path, mode) {
    fs.mkdirSync(raw(path), mode);
  },
  rmdir(_label, path) {
    fs.rmdirSync(raw(path));
  },
  unlink(_label, path) {
    fs.unlinkSync(raw(path));
  },
  link(_label, from, to) {
    fs.linkSync(raw(from), raw(to));
  },
  rename(_label, from, to) {
    fs.renameSync(raw(from), raw(to));
  },
  exchange(_label, a, b) {
    nativeCalls('exchange', a).exchange(a, b);
  },
  symlink(_label, target, path) {
    fs.symlinkSync(raw(target), raw(path));
  },
  mknod(_label, path, kind, rdev) {
    const calls = native();
    if (calls !== undefined) calls.mknod(path, SPECIAL_BITS[kind] | 0o600, rdev);
    // Node has no call for it, but coreutils has programs.
    else if (kind === 'fifo') runProgram('mkfifo', ['-m', '600', argument(path)]);
    else if (kind !== 'socket') {
      const major = (rdev >>> 8) & 0xfff;
      const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
      const letter = kind === 'block' ? 'b' : 'c';
      runProgram('mknod', ['-m', '600', argument(path), letter, String(major), String(minor)]);
    } else throw notSupported('mknod', path);
  },
  chmod(_label, path, mode) {
    fs.chmodSync(raw(path), mode);
  },
  lchown(_label, path, uid, gid) {
    fs.lchownSync(raw(path), uid, gid);
  },
  lutimes(_label, path, mtimeNs) {
    fs.lutimesSync(raw(path), seconds(mtimeNs), seconds(mtimeNs));
  },
  listXattrs(_label, path) {
    return nativeCalls('xattr', path).listXattrs(path);
  },
  getXattr(_label, path, name) {
    return nativeCalls('xattr', path).getXattr(path, name);
  },
  setXattr(_label, path, name, value) {
    nativeCalls('xattr', path).setXattr(path, name, value);
  },
  removeXattr(_label, path, name) {
    nativeCalls('xattr', path).removeXattr(path, name);
  },
  hasWriter(_label, path) {
    const calls = nativeCalls('lease', path);
    return withOpen(path, O_RDONLY | O_NONBLOCK, (fd) => calls.hasWriter(fd));
  },
  syncDir(_label, path) {
    withOpen(path, O_RDONLY | O_DIRECTORY, (fd) => fs.fsyncSync(fd));
  },
  syncFs(_label, path) {
    const calls = native();
    if (calls !== undefined) withOpen(path, O_RDONLY, (fd) => calls.syncFs(fd));
    // `sync -f` of coreutils is that call.
    else runProgram('sync', ['-f', argument(path)]);
  },
};
