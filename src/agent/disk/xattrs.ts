/** Extended attributes of the namespace `user` on disk, as far as this side can hold them. */

import type { ByteString } from '../../codec/kv.ts';
import type { Xattrs } from '../../reconcile/attributes.ts';
import type { FsPort } from '../base/ports.ts';

const NONE: Xattrs = {};

/** Those of a file or directory. Throws Node's error where they cannot be read. */
export function readXattrs(fs: FsPort, path: ByteString): Xattrs {
  const names = fs.listXattrs('list xattrs', path).filter((name) => name.startsWith('user.'));
  if (names.length === 0) return NONE;
  const found: Record<ByteString, ByteString> = {};
  for (const name of names.sort()) {
    const value = fs.getXattr('read xattr', path, name);
    if (value !== undefined) found[name] = value;
  }
  return found;
}

/** Makes them what is wanted; returns those that the file system did not take (too large, no room, not permitted). */
export function applyXattrs(fs: FsPort, path: ByteString, wanted: Xattrs): Xattrs {
  const present = readXattrs(fs, path);
  for (const name of Object.keys(present)) {
    if (wanted[name] === undefined) fs.removeXattr('remove xattr', path, name);
  }
  const refused: Record<ByteString, ByteString> = {};
  for (const [name, value] of Object.entries(wanted)) {
    if (present[name] === value) continue;
    try {
      fs.setXattr('set xattr', path, name, value);
    } catch {
      refused[name] = value;
    }
  }
  return refused;
}
