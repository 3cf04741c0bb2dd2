/** Which calls of a file system change nothing: being stopped before one is the same as before the next that does. */

import type { FsPort } from '../../src/agent/base/ports.ts';

export const READS: ReadonlySet<keyof FsPort> = new Set([
  'lstat',
  'readdir',
  'readlink',
  'openRead',
  'fstat',
  'read',
  'close',
  'listXattrs',
  'getXattr',
]);

export function isRead(call: string): boolean {
  return READS.has(call as keyof FsPort);
}
