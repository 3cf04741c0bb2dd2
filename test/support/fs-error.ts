/** Errors of a file system, as Node throws them. */

import type { ByteString } from '../../src/codec/kv.ts';

const MESSAGES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  EISDIR: 'illegal operation on a directory',
  ENOTEMPTY: 'directory not empty',
  EEXIST: 'file already exists',
  ELOOP: 'too many symbolic links encountered',
  EINVAL: 'invalid argument',
  EPERM: 'operation not permitted',
  EBADF: 'bad file descriptor',
  ENAMETOOLONG: 'name too long',
  ENOTSUP: 'operation not supported on socket',
  ENXIO: 'no such device or address',
};

/** An error as Node throws it. */
export function fsError(code: string, syscall: string, path: ByteString): Error {
  return Object.assign(new Error(`${code}: ${MESSAGES[code] ?? 'it failed'}, ${syscall} '${path}'`), {
    code,
    syscall,
    path,
  });
}
