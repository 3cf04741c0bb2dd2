/** Plans that must not run unasked, such as one that removes most of a tree (design 4.6). */

import type { Change } from './change.ts';

/** Fewer removals than this never trip the guard. */
const FEW_FILES = 10;

export interface GuardInput {
  /** Files that both sides agreed on last. */
  readonly files: number;
  readonly toLocal: readonly Change[];
  readonly toRemote: readonly Change[];
  /** Percent of the files that may go at once. */
  readonly maxPercent: number;
}

/** One sentence why the plan must wait for a person; `undefined` when it may run. */
export function guardAgainstMassDelete({
  files,
  toLocal,
  toRemote,
  maxPercent,
}: GuardInput): string | undefined {
  return (
    verdict(files, toLocal, maxPercent, 'here, because the volume') ??
    verdict(files, toRemote, maxPercent, 'in the volume, because this directory')
  );
}

function verdict(
  files: number,
  changes: readonly Change[],
  maxPercent: number,
  where: string,
): string | undefined {
  const removed = changes.filter(({ old, new: next }) => old?.type === 'file' && next === undefined).length;
  // A moved file is a removal and an addition: only what is left counts.
  const added = changes.filter(({ old, new: next }) => old === undefined && next?.type === 'file').length;
  const lost = removed - added;
  // A side that became empty is suspicious however little was there; that one file of one goes is not.
  const isEmptied = lost >= files && files > 1;
  if ((lost < FEW_FILES && !isEmptied) || lost * 100 <= files * maxPercent) return undefined;
  return `${lost} of ${files} files would be removed ${where} has lost them: if that is meant, start once with --max-delete 100`;
}
