/** ACLs on disk: the extended attributes of the kernel that hold them. */

import type { ByteString } from '../../codec/kv.ts';
import { decodePosixAcl, encodePosixAcl } from '../../codec/posix-acl.ts';
import { aclsOf, aclText, type AclText } from '../../reconcile/acl-text.ts';
import type { FsPort } from '../base/ports.ts';

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';

/** Those of a file or directory; `undefined` for none. Throws Node's error where they cannot be read. */
export function readAcls(fs: FsPort, path: ByteString): AclText | undefined {
  const names = fs.listXattrs('list xattrs', path);
  const read = (name: ByteString): ByteString | undefined =>
    names.includes(name) ? fs.getXattr('read ACL', path, name) : undefined;
  const [access, inherited] = [read(ACCESS), read(DEFAULT)];
  return aclText({
    ...(access === undefined ? {} : { access: decodePosixAcl(access) }),
    ...(inherited === undefined ? {} : { default: decodePosixAcl(inherited) }),
  });
}

/** Makes them what is wanted; the mode has to be set afterwards. Returns whether the file system took them. */
export function applyAcls(fs: FsPort, path: ByteString, wanted: AclText | undefined, mode: number): boolean {
  const names = fs.listXattrs('list xattrs', path);
  const { access, default: inherited } = wanted === undefined ? {} : aclsOf(wanted, mode);
  try {
    for (const [name, rule] of [
      [ACCESS, access],
      [DEFAULT, inherited],
    ] as const) {
      if (rule === undefined) {
        if (names.includes(name)) fs.removeXattr('remove ACL', path, name);
      } else {
        fs.setXattr('set ACL', path, name, encodePosixAcl(rule));
      }
    }
    return true;
  } catch {
    return false;
  }
}

/** Sets an ACL that any file can have. Throws Node's error where there are none. */
export function tryAcl(fs: FsPort, path: ByteString): void {
  const rule = { owner: 6, group: 4, mask: 4, other: 0, users: [{ id: 1, perm: 4 }], groups: [] };
  fs.setXattr('try ACL', path, ACCESS, encodePosixAcl(rule));
}
