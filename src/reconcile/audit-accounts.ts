/** Whether counters, statistics and usage are what the inodes add up to (layout 8). */

import type { Attr } from '../codec/attr.ts';
import {
  allocated,
  encodeCounter,
  encodeDirStat,
  encodeQuota,
  type DirStat,
  type Quota,
} from '../codec/counter.ts';
import { ROOT_INO, TRASH_INO, type MetaKey } from '../codec/key.ts';
import type { Setting } from '../codec/setting.ts';
import type { Finding } from './finding.ts';
import type { Fact, VolumeFacts } from './volume-facts.ts';

export function auditAccounts(
  facts: VolumeFacts,
  setting: Pick<Setting, 'dirStats' | 'userGroupQuota'>,
): Finding[] {
  // What a broken value adds is not known: nothing that contains it can be counted.
  if (facts.broken.some(({ key }) => key.kind === 'attr' || key.kind === 'dentry')) return idFindings(facts);
  return [
    ...usageFindings(facts),
    ...idFindings(facts),
    ...(setting.dirStats ? [...statFindings(facts), ...dirQuotaFindings(facts)] : []),
    ...(setting.userGroupQuota ? ownerFindings(facts) : []),
  ];
}

function spaceOf(attr: Attr): bigint {
  return attr.type === 'file' ? allocated(attr.length) : 4096n;
}

interface Usage {
  readonly space: bigint;
  readonly inodes: bigint;
}

/** `usedSpace` and `totalInodes`: every inode but the root and the trash's (layout 8.3). */
function usageFindings(facts: VolumeFacts): Finding[] {
  let space = 0n;
  let inodes = 0n;
  for (const [ino, { value }] of facts.attrs) {
    if (ino === ROOT_INO || ino === TRASH_INO) continue;
    space += spaceOf(value);
    inodes += 1n;
  }
  return [
    ...counterFinding(facts, 'usedSpace', space, 'the inodes take'),
    ...counterFinding(facts, 'totalInodes', inodes, 'there are'),
  ];
}

function counterFinding(
  facts: VolumeFacts,
  name: 'usedSpace' | 'totalInodes',
  should: bigint,
  because: string,
): Finding[] {
  const stored = facts.counters.get(name);
  const is = stored?.value ?? 0n;
  if (is === should) return [];
  return [
    {
      kind: 'counter',
      what: `${name} is ${is}; ${because} ${should}`,
      drift: `${name} ${is - should}`,
      repair: {
        what: `${name} becomes ${should}`,
        edits: [
          {
            key: { kind: 'counter', name },
            modRevision: stored?.modRevision ?? 0n,
            value: encodeCounter(should),
          },
        ],
      },
    },
  ];
}

/** Numbers that are in use must never be given out again (layout 8.2). */
function idFindings(facts: VolumeFacts): Finding[] {
  let ino = 0n;
  let hour = 0n;
  let slice = 0n;
  for (const one of facts.attrs.keys()) {
    if (one > TRASH_INO) hour = one - TRASH_INO > hour ? one - TRASH_INO : hour;
    else if (one < TRASH_INO) ino = one > ino ? one : ino;
  }
  for (const { id } of facts.countReferences().values()) slice = id > slice ? id : slice;
  const least: [string, bigint][] = [
    ['nextInode', ino + 1n],
    ['nextChunk', slice + 1n],
    ['nextTrash', hour],
  ];
  return least.flatMap(([name, should]): Finding[] => {
    const stored = facts.counters.get(name);
    if ((stored?.value ?? 0n) >= should || (stored === undefined && should <= 1n)) return [];
    const modRevision = stored?.modRevision ?? 0n;
    return [
      {
        kind: 'counter',
        what: `${name} is ${stored?.value ?? 0n}, and numbers up to ${name === 'nextTrash' ? should : should - 1n} are in use`,
        repair: {
          what: `${name} becomes ${should}`,
          edits: [{ key: { kind: 'counter', name }, modRevision, value: encodeCounter(should) }],
        },
      },
    ];
  });
}

/** What the direct entries of a directory add up to. */
function statOf(facts: VolumeFacts, ino: bigint): DirStat {
  let stat = { length: 0n, space: 0n, inodes: 0n };
  for (const { value } of facts.list(ino).values()) {
    const attr = facts.attr(value.ino);
    // A name that leads nowhere counts as an entry without contents.
    const length = attr?.type === 'file' ? attr.length : 0n;
    stat = { length: stat.length + length, space: stat.space + allocated(length), inodes: stat.inodes + 1n };
  }
  return stat;
}

/** `U` of each directory that counts: not the trash's root, not what was removed, not what is not attached yet. */
function statFindings(facts: VolumeFacts): Finding[] {
  const findings: Finding[] = [];
  const unattached = inodesBelow(facts, [...facts.detached.keys()]);
  for (const [ino, { value: attr }] of facts.attrs) {
    if (attr.type !== 'directory' || ino === TRASH_INO || unattached.has(ino)) continue;
    const stored = facts.dirStats.get(ino);
    const isRemoved = ino < TRASH_INO && attr.parent >= TRASH_INO;
    // Neither a real format nor a removed directory has one, and clients count anew what they miss.
    if (stored === undefined && (isRemoved || ino === ROOT_INO)) continue;
    const should = statOf(facts, ino);
    // The real client is sloppy in the length alone (layout 8.4), and no check of it looks there.
    if (stored?.value.space === should.space && stored.value.inodes === should.inodes) continue;
    const path = facts.pathOf(ino);
    const is = stored?.value;
    findings.push({
      kind: 'statistics',
      ...(path === undefined ? {} : { path }),
      ino,
      what:
        is === undefined
          ? 'the directory has no statistics'
          : `the statistics say ${is.space} bytes in ${is.inodes} entries; it has ${should.space} in ${should.inodes}`,
      drift: is === undefined ? 'missing' : `${is.space - should.space} ${is.inodes - should.inodes}`,
      repair: {
        what: 'they are counted anew',
        edits: [
          {
            key: { kind: 'dirStat', ino },
            modRevision: stored?.modRevision ?? 0n,
            value: encodeDirStat(should),
          },
        ],
      },
    });
  }
  return findings;
}

function inodesBelow(facts: VolumeFacts, roots: readonly bigint[]): ReadonlySet<bigint> {
  const below = new Set<bigint>(roots);
  const stack = [...roots];
  for (let dir = stack.pop(); dir !== undefined; dir = stack.pop()) {
    for (const { value } of facts.list(dir).values()) {
      if (below.has(value.ino)) continue;
      below.add(value.ino);
      stack.push(value.ino);
    }
  }
  return below;
}

/** `QD`: all entries below the directory, each name by itself, without the directory (layout 3, 8.5). */
function dirQuotaFindings(facts: VolumeFacts): Finding[] {
  return [...facts.dirQuotas].flatMap(([ino, stored]): Finding[] => {
    if (facts.attr(ino) === undefined) return [];
    let should: Usage = { space: 0n, inodes: 0n };
    for (const dir of inodesBelow(facts, [ino])) {
      const { space, inodes } = statOf(facts, dir);
      should = { space: should.space + space, inodes: should.inodes + inodes };
    }
    const path = facts.pathOf(ino);
    const where = { ...(path === undefined ? {} : { path }), ino };
    return quotaFinding({ kind: 'dirQuota', ino }, stored, should, where, 'directory');
  });
}

/** `QU` and `QG`: every inode of the owner, removed ones in the trash too, but for the volume's own (layout 8.5). */
function ownerFindings(facts: VolumeFacts): Finding[] {
  const users = new Map<bigint, Usage>();
  const groups = new Map<bigint, Usage>();
  const add = (map: Map<bigint, Usage>, id: bigint, space: bigint): void => {
    const sum = map.get(id) ?? { space: 0n, inodes: 0n };
    map.set(id, { space: sum.space + space, inodes: sum.inodes + 1n });
  };
  for (const [ino, { value }] of facts.attrs) {
    if (ino === ROOT_INO || ino >= TRASH_INO) continue;
    add(users, BigInt(value.uid), spaceOf(value));
    add(groups, BigInt(value.gid), spaceOf(value));
  }
  const none = { space: 0n, inodes: 0n };
  return [
    ...[...facts.userQuotas].flatMap(([uid, stored]) =>
      quotaFinding({ kind: 'userQuota', uid }, stored, users.get(uid) ?? none, {}, `user ${uid}`),
    ),
    ...[...facts.groupQuotas].flatMap(([gid, stored]) =>
      quotaFinding({ kind: 'groupQuota', gid }, stored, groups.get(gid) ?? none, {}, `group ${gid}`),
    ),
  ];
}

function quotaFinding(
  key: MetaKey,
  { value: quota, modRevision }: Fact<Quota>,
  should: Usage,
  where: Pick<Finding, 'path' | 'ino'>,
  whose: string,
): Finding[] {
  const { usedSpace, usedInodes } = quota;
  if (usedSpace === should.space && usedInodes === should.inodes) return [];
  const value = encodeQuota({ ...quota, usedSpace: should.space, usedInodes: should.inodes });
  return [
    {
      kind: 'quota',
      ...where,
      what: `the quota of the ${whose} says ${usedSpace} bytes in ${usedInodes} inodes; there are ${should.space} in ${should.inodes}`,
      drift: `${whose} ${usedSpace - should.space} ${usedInodes - should.inodes}`,
      repair: { what: 'the usage is counted anew', edits: [{ key, modRevision, value }] },
    },
  ];
}
