/** Plans that must not run unasked, such as one that removes most of a tree (design 4.6). */

import type { Change } from './change.ts';
import type { Path } from './entry.ts';

/**
 * What can stop everything until a person looks: the directory holds another volume (`volume`), the store is older
 * (`regressed`) or of another history (`history`) than what was agreed on, the volume's tree became empty (`empty`), too
 * much would go at once (`delete`), DIR was emptied or replaced (`directory`: it is restored).
 */
export const GUARD_NAMES = ['volume', 'regressed', 'history', 'empty', 'delete', 'directory'] as const;

export type GuardName = (typeof GUARD_NAMES)[number];

/** A guard that trips. */
export interface Trip {
  readonly guard: GuardName;
  /** One sentence for people. */
  readonly reason: string;
  /** What tripped it: another trip has other facts. The id comes of it. */
  readonly facts: readonly string[];
}

/** Fewer removals than this never trip the guard. */
const FEW_FILES = 10;

/** The removals of a plan for one side. */
export interface Removals {
  /** Files that both sides agreed on last. */
  readonly files: number;
  readonly changes: readonly Change[];
  /** Percent of the files that may go at once; 100: all may. */
  readonly maxPercent: number;
  /** Files that went on this side a moment ago, which count as gone at once with these. */
  readonly before?: number;
  /** Whether what the view shows is there no more, and not only what is in it. */
  readonly isRootGone?: boolean;
}

/** Paths of the files that a plan removes. */
export function removedFiles(changes: readonly Change[]): Path[] {
  return changes.flatMap(({ path, old, new: next }) =>
    old?.type === 'file' && next === undefined ? [path] : [],
  );
}

/** Why removals here, because the volume has lost the files, must wait for a person; `undefined` when they may run. */
export function guardHere(removals: Removals): Trip | undefined {
  const verdict = judge(removals);
  if (verdict === undefined) return undefined;
  const { removed, lost, all, isEmptied } = verdict;
  const facts = ['here', ...removed];
  return isEmptied
    ? {
        guard: 'empty',
        reason: `all ${all} files would be removed here, because the volume's tree became empty`,
        facts,
      }
    : {
        guard: 'delete',
        reason: `${lost} of ${all} files would be removed here, because the volume has lost them`,
        facts,
      };
}

/**
 * The same for removals in the volume, because this directory has lost the files. When it has lost them all, nobody meant
 * that: the guard is `directory`, and they are to be put back.
 */
export function guardVolume(removals: Removals): Trip | undefined {
  const verdict = judge(removals);
  if (verdict === undefined) return undefined;
  const { removed, lost, all, isEmptied } = verdict;
  const facts = ['volume', ...removed];
  return isEmptied
    ? {
        guard: 'directory',
        reason: `this directory was emptied: its ${all} files are restored and stay in the volume`,
        facts,
      }
    : {
        guard: 'delete',
        reason: `${lost} of ${all} files would be removed in the volume, because this directory has lost them`,
        facts,
      };
}

interface Verdict {
  readonly removed: readonly Path[];
  readonly lost: number;
  readonly all: number;
  readonly isEmptied: boolean;
}

function judge({
  files,
  changes,
  maxPercent,
  before = 0,
  isRootGone = false,
}: Removals): Verdict | undefined {
  const removed = removedFiles(changes);
  // A moved file is a removal and an addition: only what is left counts.
  const added = changes.filter(({ old, new: next }) => old === undefined && next?.type === 'file').length;
  const here = removed.length - added;
  if (here <= 0) return undefined;
  const [lost, all] = [here + before, files + before];
  // A side that became empty is suspicious however little was there; that one file of one goes is not.
  const isEmptied = here >= files && (files > 1 || isRootGone);
  if ((lost < FEW_FILES && !isEmptied) || lost * 100 <= all * maxPercent) return undefined;
  return { removed: removed.sort(), lost, all: isEmptied ? files : all, isEmptied };
}
