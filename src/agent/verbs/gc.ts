/** `gc`: does for a volume what mounts do in the background, and removes what killed writers left. */

import { VolumeError } from '../error.ts';
import { cleanUp, type CleanupReport } from '../housekeeping/clean-up.ts';
import type { Volume } from '../volume.ts';
import { EXIT, print, withVolume, type VerbContext } from './context.ts';

export interface GcOptions {
  readonly dryRun: boolean;
  readonly json: boolean;
  /** Seconds. */
  readonly minAge: number;
}

/** Prints what was cleaned. Exits 5 when something had to be left. */
export function gc(context: VerbContext, options: GcOptions): Promise<number> {
  return withVolume(context, (volume) => cleanVolume(volume, context, options));
}

async function cleanVolume(volume: Volume, context: VerbContext, options: GcOptions): Promise<number> {
  const { store, clock, out, signal } = context;
  if (volume.writeRefusal !== undefined && !options.dryRun) throw new VolumeError(volume.writeRefusal);
  const report = await cleanUp(
    { store, volume, clock, guard: [], ...(signal === undefined ? {} : { signal }) },
    options,
  );
  await print(out, options.json ? `${JSON.stringify(report, null, 2)}\n` : describe(report, options));
  return report.left.length === 0 ? EXIT.done : EXIT.problems;
}

/** What people read for each figure of a report. */
const FIGURES: Readonly<Record<Exclude<keyof CleanupReport, 'left'>, string>> = {
  sessions: 'dead sessions',
  held: 'files that dead sessions held open',
  trashEntries: 'entries of the trash',
  trashHours: 'hours of the trash',
  detached: 'inodes of trees that were never attached',
  unnamed: 'inodes without a name',
  delayed: 'lists of delayed slices',
  files: 'files whose data awaited deletion',
  slices: 'slices that nothing refers to',
  counts: 'counts of slices',
  blocks: 'blocks that nothing names',
  youngBlocks: 'blocks that nothing names yet; too young to be judged',
};

function describe(report: CleanupReport, { dryRun }: GcOptions): string {
  const lines = Object.entries(FIGURES).flatMap(([name, what]) => {
    const count = report[name as keyof typeof FIGURES];
    if (count === 0) return [];
    const verb = name === 'youngBlocks' ? 'kept' : dryRun ? 'would remove' : 'removed';
    return [`${verb} ${count} ${what}\n`];
  });
  if (lines.length === 0) lines.push('nothing to clean\n');
  return [...lines, ...report.left.map((left) => `left: ${left}\n`)].join('');
}
