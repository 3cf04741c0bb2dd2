/** An ACL as Linux has it in the extended attributes `system.posix_acl_*` (version 2 of `posix_acl_xattr.h`). */

import { ACL_UNSET, type AclEntry, type AclRule } from './acl.ts';
import type { ByteString } from './kv.ts';
import { DecodeError } from './error.ts';

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;

/** Tags, in the order in which the kernel wants them. */
const TAG = { owner: 0x01, user: 0x02, group: 0x04, namedGroup: 0x08, mask: 0x10, other: 0x20 } as const;
/** The id of an entry that names nobody. */
const NOBODY = 0xffffffff;

/** All numbers are little-endian. */
export function encodePosixAcl({ owner, group, mask, other, users, groups }: AclRule): ByteString {
  const byId = (list: readonly AclEntry[]): readonly AclEntry[] => [...list].sort((a, b) => a.id - b.id);
  const entries: [tag: number, perm: number, id: number][] = [
    [TAG.owner, owner, NOBODY],
    ...byId(users).map(({ id, perm }): [number, number, number] => [TAG.user, perm, id]),
    [TAG.group, group, NOBODY],
    ...byId(groups).map(({ id, perm }): [number, number, number] => [TAG.namedGroup, perm, id]),
    ...(mask === ACL_UNSET ? [] : [[TAG.mask, mask, NOBODY] as [number, number, number]]),
    [TAG.other, other, NOBODY],
  ];
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + entries.length * ENTRY_BYTES));
  view.setUint32(0, VERSION, true);
  for (const [index, [tag, perm, id]] of entries.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, perm & 7, true);
    view.setUint32(at + 4, id, true);
  }
  return String.fromCharCode(...new Uint8Array(view.buffer));
}

/** Throws `DecodeError` for what the kernel would not give. */
export function decodePosixAcl(value: ByteString): AclRule {
  const fail = (offset: number): never => {
    throw new DecodeError('POSIX ACL', offset, 'it is not as the kernel writes it');
  };
  if (value.length < HEADER_BYTES || (value.length - HEADER_BYTES) % ENTRY_BYTES !== 0) fail(value.length);
  const view = new DataView(Uint8Array.from(value, (char) => char.charCodeAt(0)).buffer);
  if (view.getUint32(0, true) !== VERSION) fail(0);
  let rule: AclRule = {
    owner: ACL_UNSET,
    group: ACL_UNSET,
    mask: ACL_UNSET,
    other: ACL_UNSET,
    users: [],
    groups: [],
  };
  for (let at = HEADER_BYTES; at < value.length; at += ENTRY_BYTES) {
    const perm = view.getUint16(at + 2, true);
    const named = { id: view.getUint32(at + 4, true), perm };
    switch (view.getUint16(at, true)) {
      case TAG.owner:
        rule = { ...rule, owner: perm };
        break;
      case TAG.user:
        rule = { ...rule, users: [...rule.users, named] };
        break;
      case TAG.group:
        rule = { ...rule, group: perm };
        break;
      case TAG.namedGroup:
        rule = { ...rule, groups: [...rule.groups, named] };
        break;
      case TAG.mask:
        rule = { ...rule, mask: perm };
        break;
      case TAG.other:
        rule = { ...rule, other: perm };
        break;
      default:
        fail(at);
    }
  }
  return rule;
}
