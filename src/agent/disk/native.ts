/**
 * What Node has no call for, by way of libc: extended attributes, `mknod`, exchanging names, leases, `syncfs`. Optional:
 * everything works without it.
 */

import { createRequire } from 'node:module';
import { constants } from 'node:os';

import type { ByteString } from '../../codec/kv.ts';

/** Calls of libc. They throw as Node's own do (`code` ENOTSUP, ...), and follow no symlink in the last component. */
export interface Native {
  mknod(path: ByteString, mode: number, rdev: number): void;
  /** Names with their namespace. */
  listXattrs(path: ByteString): ByteString[];
  /** `undefined` when there is none of that name. */
  getXattr(path: ByteString, name: ByteString): ByteString | undefined;
  setXattr(path: ByteString, name: ByteString, value: ByteString): void;
  removeXattr(path: ByteString, name: ByteString): void;
  /** Lets two names change places in one step. */
  exchange(a: ByteString, b: ByteString): void;
  /**
   * Whether anybody on this machine has the file of a descriptor, which must be for reading alone, open or mapped for writing.
   * Takes a lease for that and gives it back at once: whoever opens the file meanwhile waits for microseconds.
   */
  hasWriter(fd: number): boolean;
  /** Flushes the file system of a descriptor. */
  syncFs(fd: number): void;
}

/** What is used of the package `koffi`. */
interface Koffi {
  load(library: null): { func(prototype: string): (...values: unknown[]) => number };
  errno(): number;
}

/** The kernel's limits for a list of names and for a value (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const BUFFER_BYTES = 64 << 10;

/** Numbers of the call `renameat2`, which older C libraries do not have, and of its arguments. */
const RENAMEAT2: Readonly<Record<string, number>> = { x64: 316, arm64: 276 };
const AT_FDCWD = -100;
const RENAME_EXCHANGE = 2;

const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_UNLCK = 2;

/** `off` does without the native calls even where they are to be had. */
const SWITCH = 'ETCD_ETC_AGENT_NATIVE';

let loaded: Native | undefined;
let isLoaded = false;

/** The native calls; `undefined` where the optional package is missing, does not load here, or is switched off. */
export function native(): Native | undefined {
  if (isLoaded) return loaded;
  isLoaded = true;
  if (process.env[SWITCH] === 'off') return undefined;
  try {
    loaded = bind(createRequire(import.meta.url)('koffi') as Koffi);
  } catch {
    // No such package, no build of it for this C library, or a C library without one of the calls.
  }
  return loaded;
}

function bind(koffi: Koffi): Native {
  // The program itself: its C library, whichever that is, is loaded already.
  const libc = koffi.load(null);
  const mknod = libc.func('int mknod(const uint8_t *path, uint32_t mode, uint64_t dev)');
  const list = libc.func('intptr_t llistxattr(const uint8_t *path, _Out_ uint8_t *list, size_t size)');
  const get = libc.func(
    'intptr_t lgetxattr(const uint8_t *path, const uint8_t *name, _Out_ uint8_t *value, size_t size)',
  );
  const set = libc.func(
    'int lsetxattr(const uint8_t *path, const uint8_t *name, const uint8_t *value, size_t size, int flags)',
  );
  const remove = libc.func('int lremovexattr(const uint8_t *path, const uint8_t *name)');
  const syscall = libc.func(
    'long syscall(long number, long a, const uint8_t *b, long c, const uint8_t *d, long e)',
  );
  const fcntl = libc.func('int fcntl(int fd, int cmd, long arg)');
  const syncfs = libc.func('int syncfs(int fd)');
  let isSignalTaken = false;
  const buffer = Buffer.alloc(BUFFER_BYTES);
  const check = (result: number, call: string, path: ByteString): number => {
    if (result >= 0) return result;
    const errno = koffi.errno();
    const code = CODES.get(errno) ?? `E${errno}`;
    throw Object.assign(new Error(`${code}: ${call} '${path}'`), { code, errno: -errno, syscall: call });
  };
  return {
    mknod(path, mode, rdev) {
      check(mknod(terminated(path), mode, rdev), 'mknod', path);
    },
    listXattrs(path) {
      const length = check(Number(list(terminated(path), buffer, buffer.length)), 'llistxattr', path);
      return buffer.toString('latin1', 0, length).split('\0').slice(0, -1);
    },
    getXattr(path, name) {
      const length = Number(get(terminated(path), terminated(name), buffer, buffer.length));
      if (length < 0 && koffi.errno() === constants.errno.ENODATA) return undefined;
      return buffer.toString('latin1', 0, check(length, 'lgetxattr', path));
    },
    setXattr(path, name, value) {
      const bytes = Buffer.from(value, 'latin1');
      check(set(terminated(path), terminated(name), bytes, bytes.length, 0), 'lsetxattr', path);
    },
    removeXattr(path, name) {
      check(remove(terminated(path), terminated(name)), 'lremovexattr', path);
    },
    exchange(a, b) {
      const number = RENAMEAT2[process.arch];
      if (number === undefined) throw Object.assign(new Error('no renameat2'), { code: 'ENOTSUP' });
      const result = syscall(number, AT_FDCWD, terminated(a), AT_FDCWD, terminated(b), RENAME_EXCHANGE);
      check(Number(result), 'renameat2', a);
    },
    hasWriter(fd) {
      // Somebody who opens the file while the lease is held makes the kernel send this signal, which ends a process that does
      // not take it.
      if (!isSignalTaken) process.on('SIGIO', () => undefined);
      isSignalTaken = true;
      if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
        if (koffi.errno() === constants.errno.EAGAIN) return true;
        check(-1, 'fcntl', `descriptor ${fd}`);
      }
      check(fcntl(fd, F_SETLEASE, F_UNLCK), 'fcntl', `descriptor ${fd}`);
      return false;
    },
    syncFs(fd) {
      check(syncfs(fd), 'syncfs', `descriptor ${fd}`);
    },
  };
}

const CODES: ReadonlyMap<number, string> = new Map(
  // ENOTSUP and EOPNOTSUPP are one number on Linux: the last of a number counts.
  [...Object.entries(constants.errno), ['ENOTSUP', constants.errno.ENOTSUP] as const].map(([code, errno]) => [
    errno,
    code,
  ]),
);

function terminated(text: ByteString): Buffer {
  return Buffer.from(`${text}\0`, 'latin1');
}
