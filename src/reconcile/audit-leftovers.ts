/** Inodes that no name leads to, and keys of inodes that are not there. */

import { encodeAttr, type Attr } from '../codec/attr.ts';
import { encodeTimeCounter } from '../codec/counter.ts';
import { encodeDentry } from '../codec/dentry.ts';
import { ROOT_INO, xattrRange, type MetaKey } from '../codec/key.ts';
import type { Edit, Finding, Repair } from './finding.ts';
import type { Fact, VolumeFacts } from './volume-facts.ts';

/** What an audit takes as given. */
export interface AuditTime {
  /** Used for the times of what a repair makes. */
  readonly nowNs: bigint;
}

/** Without a name: open-unlinked, the root of a tree that is not attached yet, or nobody's. */
export function unnamedFindings(
  facts: VolumeFacts,
  ino: bigint,
  fact: Fact<Attr>,
  time: AuditTime,
): Finding[] {
  if (facts.detached.has(ino) || facts.sustained.some((held) => held.ino === ino)) return [];
  const attr = fact.value;
  const base = { kind: 'orphan', ino } as const;
  const what = `no name leads to this ${attr.type}${attr.type === 'file' ? ` of ${attr.length} bytes` : ''}`;
  if (attr.type === 'directory' && facts.list(ino).size > 0) {
    const repair = attachment(facts, ino, fact, time);
    return [{ ...base, what: `${what}, which has entries`, ...(repair === undefined ? {} : { repair }) }];
  }
  const edits = removalOfUnnamed(facts, ino, fact, time);
  return [{ ...base, what, repair: { what: 'it is removed', edits, clear: [xattrRange(ino)] } }];
}

/** What gives a directory that has lost its name another one in the root: what is in it is somebody's. */
function attachment(
  facts: VolumeFacts,
  ino: bigint,
  fact: Fact<Attr>,
  { nowNs }: AuditTime,
): Repair | undefined {
  const root = facts.attrs.get(ROOT_INO);
  const name = `lost+found.${ino}`;
  if (root === undefined || facts.list(ROOT_INO).has(name)) return undefined;
  const times = { mtimeNs: nowNs, ctimeNs: nowNs };
  return {
    what: `it is named /${name}`,
    edits: [
      {
        key: { kind: 'dentry', parent: ROOT_INO, name },
        modRevision: 0n,
        value: encodeDentry({ type: 'directory', ino }),
      },
      attrEdit(ino, fact, { parent: ROOT_INO }),
      attrEdit(ROOT_INO, root, { ...times, nlink: root.value.nlink + 1 }),
    ],
  };
}

/** What takes an unnamed inode away. Data of a file await deletion then; the counters are counted anew afterwards. */
function removalOfUnnamed(
  facts: VolumeFacts,
  ino: bigint,
  { value: attr, modRevision }: Fact<Attr>,
  { nowNs }: AuditTime,
): Edit[] {
  const isFile = attr.type === 'file';
  const edits: Edit[] = [{ key: { kind: 'attr', ino }, modRevision, value: undefined }];
  if (isFile) {
    const value = encodeTimeCounter(nowNs / 1_000_000_000n);
    edits.push({ key: { kind: 'deletedFile', ino, length: attr.length }, modRevision: 0n, value });
  }
  const symlink = facts.symlinks.get(ino);
  if (symlink !== undefined) {
    edits.push({ key: { kind: 'symlink', ino }, modRevision: symlink.modRevision, value: undefined });
  }
  const stat = facts.dirStats.get(ino);
  if (stat !== undefined)
    edits.push({ key: { kind: 'dirStat', ino }, modRevision: stat.modRevision, value: undefined });
  for (const [parent, count] of facts.parents.get(ino) ?? []) {
    edits.push({
      key: { kind: 'parent', ino, parent },
      modRevision: count.modRevision,
      value: undefined,
    });
  }
  return edits;
}

/** Chunks, targets and counts of inodes that are not there and await no deletion. */
export function leftoverFindings(facts: VolumeFacts, { nowNs }: AuditTime): Finding[] {
  const known = new Set<bigint>([
    ...facts.attrs.keys(),
    ...facts.deleted.map(({ ino }) => ino),
    // A name that leads to it: `dangling` says what becomes of it.
    ...facts.names.keys(),
    ...facts.broken.flatMap(({ key }) => (key.kind === 'attr' ? [key.ino] : [])),
  ]);
  const findings: Finding[] = [];
  for (const ino of facts.chunks.keys()) {
    if (known.has(ino)) continue;
    const value = encodeTimeCounter(nowNs / 1_000_000_000n);
    findings.push({
      kind: 'leftover',
      ino,
      what: 'chunks of an inode that is not there',
      repair: {
        what: 'they are given to the deletion of file data',
        edits: [
          { key: { kind: 'deletedFile', ino, length: 0n }, modRevision: 0n, value },
          { key: { kind: 'attr', ino }, modRevision: 0n, value: 'same' },
        ],
      },
    });
  }
  const others: [MetaKey, bigint][] = [
    ...[...facts.symlinks].map(([ino, { modRevision }]): [MetaKey, bigint] => [
      { kind: 'symlink', ino },
      modRevision,
    ]),
    ...[...facts.parents].flatMap(([ino, counts]) =>
      [...counts].map(([parent, { modRevision }]): [MetaKey, bigint] => [
        { kind: 'parent', ino, parent },
        modRevision,
      ]),
    ),
    ...[...facts.dirStats].map(([ino, { modRevision }]): [MetaKey, bigint] => [
      { kind: 'dirStat', ino },
      modRevision,
    ]),
    ...[...facts.dirQuotas].map(([ino, { modRevision }]): [MetaKey, bigint] => [
      { kind: 'dirQuota', ino },
      modRevision,
    ]),
  ];
  for (const [key, modRevision] of others) {
    if (!('ino' in key) || known.has(key.ino)) continue;
    findings.push({
      kind: 'leftover',
      ino: key.ino,
      what: `a key (${key.kind}) of an inode that is not there`,
      repair: {
        what: 'it is removed',
        edits: [
          { key, modRevision, value: undefined },
          { key: { kind: 'attr', ino: key.ino }, modRevision: 0n, value: 'same' },
        ],
      },
    });
  }
  for (const ino of facts.xattrs) {
    if (known.has(ino)) continue;
    findings.push({
      kind: 'leftover',
      ino,
      what: 'xattrs of an inode that is not there',
      repair: {
        what: 'they are removed',
        edits: [{ key: { kind: 'attr', ino }, modRevision: 0n, value: 'same' }],
        clear: [xattrRange(ino)],
      },
    });
  }
  return findings;
}

/** An attribute with some fields changed. */
export function attrEdit(ino: bigint, { value, modRevision }: Fact<Attr>, fields: Partial<Attr>): Edit {
  return { key: { kind: 'attr', ino }, modRevision, value: encodeAttr({ ...value, ...fields }) };
}
