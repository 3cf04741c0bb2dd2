/** The rule of a POSIX ACL: what is stored under an ACL id. A mode is three bits, or unset. */

import { ByteReader, ByteWriter } from './bytes.ts';

/** A part that a rule does not have. */
export const ACL_UNSET = 0xffff;

/** What a user or group with a name may do. */
export interface AclEntry {
  /** uid or gid. */
  readonly id: number;
  /** u16; 0 to 7. */
  readonly perm: number;
}

/** Access or default rule of an inode (layout 4.3, upstream `acl.Rule`). All modes are u16: 0 to 7, or `ACL_UNSET`. */
export interface AclRule {
  readonly owner: number;
  readonly group: number;
  /** What named users, named groups and the group get at most. */
  readonly mask: number;
  readonly other: number;
  readonly users: readonly AclEntry[];
  readonly groups: readonly AclEntry[];
}

/** Throws `DecodeError` for a value that is cut or has something behind it. */
export function decodeAclRule(value: Uint8Array): AclRule {
  const reader = new ByteReader(value, 'ACL rule');
  const [owner, group, mask, other] = [reader.u16be(), reader.u16be(), reader.u16be(), reader.u16be()];
  const rule = { owner, group, mask, other, users: entries(reader), groups: entries(reader) };
  reader.end();
  return rule;
}

function entries(reader: ByteReader): AclEntry[] {
  const found: AclEntry[] = [];
  for (let left = reader.u32be(); left > 0; left -= 1) {
    found.push({ id: reader.u32be(), perm: reader.u16be() });
  }
  return found;
}

export function encodeAclRule({ owner, group, mask, other, users, groups }: AclRule): Uint8Array {
  const writer = new ByteWriter().u16be(owner).u16be(group).u16be(mask).u16be(other);
  for (const list of [users, groups]) {
    writer.u32be(list.length);
    for (const { id, perm } of list) writer.u32be(id).u16be(perm);
  }
  return writer.finish();
}
