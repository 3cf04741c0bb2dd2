/** Whether names, inodes and the counts between them agree (layout 4.1, 10, 11.1). */

import { encodeAttr, type Attr } from '../codec/attr.ts';
import { encodeCounter } from '../codec/counter.ts';
import { encodeDentry } from '../codec/dentry.ts';
import { CHUNK_SIZE } from '../codec/slice.ts';
import { ROOT_INO, TRASH_INO, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { attrEdit, leftoverFindings, unnamedFindings, type AuditTime } from './audit-leftovers.ts';
import type { Edit, Finding, Repair } from './finding.ts';
import { hourOfTrashName } from './trash.ts';
import type { Fact, VolumeFacts } from './volume-facts.ts';
import type { Place } from './work.ts';

export function auditNames(facts: VolumeFacts, time: AuditTime): Finding[] {
  const reachable = reachableInodes(facts);
  return [
    ...dentryFindings(facts, time),
    ...[...facts.attrs].flatMap(([ino, fact]) => inodeFindings(facts, ino, fact, reachable, time)),
    ...trashFindings(facts),
    ...leftoverFindings(facts, time),
  ];
}

/** Inodes below the root, the trash and the trees that are not attached yet. */
function reachableInodes(facts: VolumeFacts): ReadonlySet<bigint> {
  const reached = new Set<bigint>([ROOT_INO, TRASH_INO, ...facts.detached.keys()]);
  const stack = [...reached];
  for (let dir = stack.pop(); dir !== undefined; dir = stack.pop()) {
    for (const { value } of facts.list(dir).values()) {
      if (reached.has(value.ino)) continue;
      reached.add(value.ino);
      stack.push(value.ino);
    }
  }
  return reached;
}

function dentryFindings(facts: VolumeFacts, time: AuditTime): Finding[] {
  const brokenAttrs = new Set(facts.broken.flatMap(({ key }) => (key.kind === 'attr' ? [key.ino] : [])));
  const findings: Finding[] = [];
  for (const [parent, names] of facts.dentries) {
    for (const [name, { value: dentry, modRevision }] of names) {
      const path = facts.pathOfName({ parent, name });
      const where = { ...(path === undefined ? {} : { path }), ino: dentry.ino };
      const attr = facts.attr(dentry.ino);
      if (attr === undefined) {
        if (brokenAttrs.has(dentry.ino)) continue;
        findings.push({
          kind: 'dangling',
          ...where,
          what: `the name leads to inode ${dentry.ino}, which is not there`,
          repair: repairOfDangling(facts, { parent, name }, modRevision, time),
        });
      } else if (attr.type !== dentry.type) {
        const key: MetaKey = { kind: 'dentry', parent, name };
        const value = encodeDentry({ type: attr.type, ino: dentry.ino });
        findings.push({
          kind: 'type',
          ...where,
          what: `the name says ${dentry.type}, the inode is a ${attr.type}`,
          repair: { what: `the name says ${attr.type}`, edits: [{ key, modRevision, value }] },
        });
      }
    }
  }
  return findings;
}

/**
 * A name without an inode goes, unless something of the inode is left: what is in a directory, or data of a file, must
 * not go with it, so the inode is made anew.
 */
function repairOfDangling(
  facts: VolumeFacts,
  place: Place,
  modRevision: bigint,
  { nowNs }: AuditTime,
): Repair {
  const name: MetaKey = { kind: 'dentry', ...place };
  const dentry = facts.list(place.parent).get(place.name)?.value;
  const ino = dentry?.ino ?? 0n;
  const attrKey: MetaKey = { kind: 'attr', ino };
  const entries = facts.list(ino);
  const chunks = facts.chunks.get(ino);
  const isAwaited = facts.deleted.some((file) => file.ino === ino);
  const isFile = dentry?.type === 'file' && chunks !== undefined && !isAwaited;
  if (entries.size === 0 && !isFile) {
    return {
      what: 'the name is removed',
      edits: [
        { key: name, modRevision, value: undefined },
        { key: attrKey, modRevision: 0n, value: 'same' },
      ],
    };
  }
  let length = 4096n;
  if (isFile) {
    length = 0n;
    for (const [index, { value }] of chunks) {
      for (const { pos, len } of value) {
        const end = BigInt(index) * BigInt(CHUNK_SIZE) + BigInt(pos + len);
        if (end > length) length = end;
      }
    }
  }
  const names = facts.namesOf(ino);
  const attr: Attr = {
    flags: 0,
    type: isFile ? 'file' : 'directory',
    mode: isFile ? 0o600 : 0o700,
    uid: 0,
    gid: 0,
    atimeNs: nowNs,
    mtimeNs: nowNs,
    ctimeNs: nowNs,
    nlink: isFile ? names.length : 2 + subdirectories(facts, ino),
    length,
    rdev: 0,
    parent: names.length > 1 ? 0n : place.parent,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
    rest: new Uint8Array(0),
  };
  return {
    what: isFile
      ? `a file of ${length} bytes is made of what is left of it, mode 0600`
      : 'a directory is made for what is left in it, mode 0700',
    edits: [
      { key: name, modRevision, value: encodeDentry({ type: attr.type, ino }) },
      { key: attrKey, modRevision: 0n, value: encodeAttr(attr) },
    ],
  };
}

function subdirectories(facts: VolumeFacts, ino: bigint): number {
  let count = 0;
  for (const { value } of facts.list(ino).values()) {
    if ((facts.attr(value.ino)?.type ?? value.type) === 'directory') count += 1;
  }
  return count;
}

function inodeFindings(
  facts: VolumeFacts,
  ino: bigint,
  fact: Fact<Attr>,
  reachable: ReadonlySet<bigint>,
  time: AuditTime,
): Finding[] {
  if (ino === ROOT_INO || ino === TRASH_INO) return rootFindings(facts, ino, fact);
  const names = facts.namesOf(ino);
  if (names.length === 0) return unnamedFindings(facts, ino, fact, time);
  const path = facts.pathOf(ino);
  const where = { ...(path === undefined ? {} : { path }), ino };
  if (fact.value.type !== 'directory') {
    return [...linkFindings(facts, where, fact, names), ...symlinkFindings(facts, where, fact)];
  }
  if (!reachable.has(ino)) {
    // A tree below an orphan is the orphan's; only what leads into itself is reported by itself.
    return leadsIntoItself(facts, ino)
      ? [{ kind: 'structure', ...where, what: 'the directory is below itself' }]
      : [];
  }
  return directoryFindings(facts, where, fact, names);
}

function leadsIntoItself(facts: VolumeFacts, ino: bigint): boolean {
  const seen = new Set<bigint>();
  for (let at: bigint | undefined = ino; at !== undefined; at = facts.namesOf(at)[0]?.parent) {
    if (seen.has(at)) return true;
    seen.add(at);
  }
  return false;
}

function rootFindings(facts: VolumeFacts, ino: bigint, fact: Fact<Attr>): Finding[] {
  const path = ino === ROOT_INO ? '/' : '/.trash';
  // Nothing in the trash is counted (layout trap 21).
  return ino === ROOT_INO ? nlinkOfDirectory(facts, { path, ino }, fact) : [];
}

interface Where {
  readonly path?: ByteString;
  readonly ino: bigint;
}

function nlinkOfDirectory(facts: VolumeFacts, where: Where, fact: Fact<Attr>): Finding[] {
  const nlink = 2 + subdirectories(facts, where.ino);
  if (fact.value.nlink === nlink) return [];
  return [
    {
      kind: 'nlink',
      ...where,
      what: `nlink is ${fact.value.nlink}, ${nlink} with the subdirectories that are there`,
      repair: { what: `nlink becomes ${nlink}`, edits: [attrEdit(where.ino, fact, { nlink })] },
    },
  ];
}

function directoryFindings(
  facts: VolumeFacts,
  where: Where,
  fact: Fact<Attr>,
  names: readonly Place[],
): Finding[] {
  if (names.length > 1) {
    const paths = names.length;
    return [{ kind: 'structure', ...where, what: `the directory has ${paths} names` }];
  }
  const parent = names[0]?.parent ?? 0n;
  const findings: Finding[] = [];
  if (fact.value.parent !== parent) {
    findings.push({
      kind: 'parent',
      ...where,
      what: `the directory says that it is in inode ${fact.value.parent}; its name is in ${parent}`,
      repair: { what: `it says ${parent}`, edits: [attrEdit(where.ino, fact, { parent })] },
    });
    return findings;
  }
  // What is removed has whatever nlink it had; nothing in the trash is counted.
  if (where.ino > TRASH_INO || parent >= TRASH_INO) return findings;
  return nlinkOfDirectory(facts, where, fact);
}

/** nlink, parent and parent counts of an inode that is no directory, against its names (layout 4.1, traps 19, 20). */
function linkFindings(
  facts: VolumeFacts,
  where: Where,
  fact: Fact<Attr>,
  names: readonly Place[],
): Finding[] {
  const attr = fact.value;
  const findings: Finding[] = [];
  const counts = new Map<bigint, bigint>();
  for (const { parent } of names) counts.set(parent, (counts.get(parent) ?? 0n) + 1n);
  const stored = facts.parents.get(where.ino) ?? new Map<bigint, Fact<bigint>>();
  const only = names.length === 1 ? names[0]?.parent : undefined;
  const isLinked = attr.parent === 0n;
  // The parent stays 0 once there were two names.
  const parent = !isLinked && only !== undefined ? only : 0n;
  if (attr.nlink !== names.length || attr.parent !== parent) {
    const wrong = attr.nlink !== names.length;
    findings.push({
      kind: wrong ? 'nlink' : 'parent',
      ...where,
      what: wrong
        ? `nlink is ${attr.nlink}, and the inode has ${names.length} ${names.length === 1 ? 'name' : 'names'}`
        : `the inode says that it is in ${attr.parent}; its ${names.length === 1 ? `name is in ${only}` : 'names are in several places'}`,
      repair: {
        what: `nlink ${names.length}, parent ${parent}`,
        edits: [attrEdit(where.ino, fact, { nlink: names.length, parent })],
      },
    });
  }
  if (parent !== 0n) return findings;
  const edits: Edit[] = [];
  for (const of of new Set([...counts.keys(), ...stored.keys()])) {
    const is = stored.get(of);
    const should = counts.get(of) ?? 0n;
    // A count of nothing may be there or not (trap 19).
    if ((is?.value ?? 0n) === should) continue;
    edits.push({
      key: { kind: 'parent', ino: where.ino, parent: of },
      modRevision: is?.modRevision ?? 0n,
      value: encodeCounter(should),
    });
  }
  if (edits.length > 0) {
    const sum = [...stored.values()].reduce((total, { value }) => total + value, 0n);
    findings.push({
      kind: 'parent',
      ...where,
      what: `the counts of names by directory are wrong in ${edits.length} places (${sum} in all, ${names.length} names)`,
      // With the attr, which every change of names writes.
      repair: {
        what: 'they are counted anew',
        edits: [
          ...edits,
          { key: { kind: 'attr', ino: where.ino }, modRevision: fact.modRevision, value: 'same' },
        ],
      },
    });
  }
  return findings;
}

function symlinkFindings(facts: VolumeFacts, where: Where, fact: Fact<Attr>): Finding[] {
  if (fact.value.type !== 'symlink') return [];
  const target = facts.symlinks.get(where.ino);
  if (target === undefined) return [{ kind: 'symlink', ...where, what: 'the symlink has no target' }];
  const length = BigInt(target.value);
  if (fact.value.length === length) return [];
  return [
    {
      kind: 'symlink',
      ...where,
      what: `the length is ${fact.value.length}, the target has ${length} bytes`,
      repair: { what: `the length becomes ${length}`, edits: [attrEdit(where.ino, fact, { length })] },
    },
  ];
}

function trashFindings(facts: VolumeFacts): Finding[] {
  const findings: Finding[] = [];
  const root = facts.attr(TRASH_INO);
  const hours = facts.list(TRASH_INO);
  if (root === undefined && hours.size > 0) {
    findings.push({
      kind: 'trash',
      path: '/.trash',
      ino: TRASH_INO,
      what: 'the trash has entries and no inode, so no mount empties it',
    });
  }
  for (const [name, { value }] of hours) {
    const path = `/.trash/${name}`;
    const where = { kind: 'trash', path, ino: value.ino } as const;
    if (hourOfTrashName(name) === undefined)
      findings.push({ ...where, what: 'the name is no hour, so no mount empties it' });
    if (value.ino <= TRASH_INO)
      findings.push({ ...where, what: 'the directory of an hour has an inode below the trash' });
  }
  return findings;
}
