/** The ACLs of an entry as one text, so that equal ACLs are equal texts. */

import { ACL_UNSET, decodeAclRule, encodeAclRule, type AclRule } from '../codec/acl.ts';

/**
 * Hex of the access rule, a colon, hex of the default rule. What the mode says is left out of the access rule: owner,
 * other, and the mask, which the group bits of the mode hold while there is one (layout 4.3).
 */
export type AclText = string;

export interface Acls {
  readonly access?: AclRule;
  readonly default?: AclRule;
}

/** `undefined` for no ACLs; an access rule that says no more than a mode is none. */
export function aclText({ access, default: inherited }: Acls): AclText | undefined {
  const own = access === undefined || isMinimal(access) ? '' : hexOf(withMode(sorted(access), 0));
  const text = `${own}:${inherited === undefined ? '' : hexOf(sorted(inherited))}`;
  return text === ':' ? undefined : text;
}

/** The rules of a text, for an entry with this mode. */
export function aclsOf(text: AclText, mode: number): Acls {
  const [access = '', inherited = ''] = text.split(':');
  return {
    ...(access === '' ? {} : { access: withMode(decodeAclRule(bytesOf(access)), mode) }),
    ...(inherited === '' ? {} : { default: decodeAclRule(bytesOf(inherited)) }),
  };
}

function isMinimal({ mask, users, groups }: AclRule): boolean {
  return users.length + groups.length === 0 && mask === ACL_UNSET;
}

/** Without a mask the group's own bits are in the mode. Who is named has one: the kernel wants it. */
function withMode(rule: AclRule, mode: number): AclRule {
  return { ...rule, owner: (mode >> 6) & 7, mask: (mode >> 3) & 7, other: mode & 7 };
}

function sorted(rule: AclRule): AclRule {
  return {
    ...rule,
    users: [...rule.users].sort((a, b) => a.id - b.id),
    groups: [...rule.groups].sort((a, b) => a.id - b.id),
  };
}

function hexOf(rule: AclRule): string {
  return Array.from(encodeAclRule(rule), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
