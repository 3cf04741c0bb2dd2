/** Which dentry names may become a path component on disk. */

import type { ByteString } from './kv.ts';

/** Bytes in one name on Linux. */
export const MAX_NAME_BYTES = 255;

/** Why a name cannot be used on disk, as a phrase; `undefined` if it can. Any byte but `/` and NUL is fine. */
export function nameProblem(name: ByteString): string | undefined {
  if (name === '') return 'the name is empty';
  if (name === '.' || name === '..') return `the name is ${name}`;
  if (name.includes('/')) return 'the name has a slash';
  if (name.includes('\0')) return 'the name has a NUL byte';
  if (name.length > MAX_NAME_BYTES) return `the name has ${name.length} bytes, more than ${MAX_NAME_BYTES}`;
  return undefined;
}
