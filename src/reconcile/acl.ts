/** ACLs as operations meet them: what a new entry inherits, what a chmod makes of a rule, and rules under their ids. */

import type { Attr } from '../codec/attr.ts';
import { ACL_UNSET, decodeAclRule, encodeAclRule, type AclRule } from '../codec/acl.ts';
import { equalBytes, prefixRange } from '../codec/bytes.ts';
import { decodeCounter, encodeCounter } from '../codec/counter.ts';
import { decodeKey, type MetaKey } from '../codec/key.ts';
import { Refused } from './refusal.ts';
import type { Work } from './work.ts';

/** The parts of an attr that ACLs have a say in. */
export type Permissions = Pick<Attr, 'mode' | 'accessAcl' | 'defaultAcl'>;

/** What an entry that is no symlink gets from its directory, when it is asked for with `mode` (upstream `doMknod`). */
export function inherit(work: Work, above: Attr, isDirectory: boolean, mode: number): Permissions {
  if (above.defaultAcl === 0) return { mode, accessAcl: 0, defaultAcl: 0 };
  const defaultAcl = isDirectory ? above.defaultAcl : 0;
  const rule = ruleOf(work, above.defaultAcl);
  if (isMinimal(rule)) return { mode: mode & (0o7000 | modeOf(rule)), accessAcl: 0, defaultAcl };
  const child = {
    ...rule,
    owner: (mode >> 6) & 7 & rule.owner,
    mask: (mode >> 3) & 7 & rule.mask,
    other: mode & 7 & rule.other,
  };
  return { mode: (mode & 0o7000) | modeOf(child), accessAcl: idOf(work, child), defaultAcl };
}

/** An attr with another mode: its access rule follows, under another id (upstream `Rule.SetMode`). */
export function withMode(work: Work, attr: Attr, mode: number): Attr {
  if (attr.mode === mode || attr.accessAcl === 0) return { ...attr, mode };
  const rule = ruleOf(work, attr.accessAcl);
  const set = (part: number, bits: number): number => (part & 0xfff8) | (bits & 7);
  const changed: AclRule = {
    ...rule,
    owner: set(rule.owner, mode >> 6),
    ...(isMinimal(rule) ? { group: set(rule.group, mode >> 3) } : { mask: set(rule.mask, mode >> 3) }),
    other: set(rule.other, mode),
  };
  return { ...attr, mode, accessAcl: idOf(work, changed) };
}

/** Like ordinary permissions: nobody is named, and there is no mask. */
function isMinimal({ mask, users, groups }: AclRule): boolean {
  return users.length + groups.length === 0 && mask === ACL_UNSET;
}

/** The permission bits that say the same: while there is a mask, it is the group's. */
function modeOf(rule: AclRule): number {
  const group = isMinimal(rule) ? rule.group : rule.mask;
  return ((rule.owner & 7) << 6) | ((group & 7) << 3) | (rule.other & 7);
}

/** What is under an id never changes, so it needs no compare. */
function ruleOf({ draft }: Work, id: number): AclRule {
  const value = draft.peek({ kind: 'aclRule', id });
  if (value === undefined) throw new Refused(`its ACL ${id} is not in the volume; that is damage`);
  return decodeAclRule(value);
}

const MAX_ID: MetaKey = { kind: 'counter', name: 'aclMaxId' };

/** The id of a rule: that of an equal one if there is one, else a new one (layout 10.10, upstream `insertACL`). */
function idOf({ draft }: Work, rule: AclRule): number {
  const value = encodeAclRule(rule);
  for (const [name, stored] of draft.peekRange(prefixRange('R'))) {
    const key = decodeKey(name);
    if (key.kind === 'aclRule' && equalBytes(stored, value)) return key.id;
  }
  const stored = draft.get(MAX_ID);
  const id = (stored === undefined ? 0n : decodeCounter(stored)) + 1n;
  const key: MetaKey = { kind: 'aclRule', id: Number(id) };
  if (draft.get(key) !== undefined) throw new Refused(`the counter of ACLs is below ${id}; that is damage`);
  draft.put(MAX_ID, encodeCounter(id));
  draft.put(key, value);
  return Number(id);
}
