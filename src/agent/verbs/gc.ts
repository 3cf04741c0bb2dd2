/** `gc`: does for a volume what mounts do in the background, and removes what killed writers left. */

import { ConfigError, VolumeError } from '../base/error.ts';
import { cleanUp } from '../housekeeping/clean-up.ts';
import type { CleanupReport } from '../housekeeping/report.ts';
import { work } from '../housekeeping/worker.ts';
import { configureLog, type LogFormat } from '../base/log.ts';
import type { Volume } from '../volume/volume.ts';
import { EXIT, print, withVolume, type VerbContext } from './context.ts';
import { withSignal } from '../base/signal.ts';

export interface GcOptions {
  readonly dryRun: boolean;
  readonly json: boolean;
  /** Seconds. */
  readonly minAge: number;
  /** Stay and do it again and again, one elected worker among those that run. */
  readonly watch?: {
    readonly intervalMs: number;
    readonly takeoverSeconds: number;
    readonly logFormat: LogFormat;
  };
}

/** Prints what was cleaned. Exits 5 when something had to be left. */
export function gc(context: VerbContext, options: GcOptions): Promise<number> {
  if (options.watch !== undefined) return watch(context, options, options.watch);
  return withVolume(context, (volume) => cleanVolume(volume, context, options));
}

async function cleanVolume(volume: Volume, context: VerbContext, options: GcOptions): Promise<number> {
  const { store, clock, out, signal } = context;
  if (volume.writeRefusal !== undefined && !options.dryRun) throw new VolumeError(volume.writeRefusal);
  const report = await cleanUp({ store, volume, clock, guard: [], ...withSignal(signal) }, options);
  await print(out, options.json ? `${JSON.stringify(report, null, 2)}\n` : describe(report, options));
  return report.left.length === 0 ? EXIT.done : EXIT.problems;
}

/** Runs until it is told to end; says what it does on stderr, and each report as one line of JSON on stdout if asked for. */
async function watch(
  context: VerbContext,
  { dryRun, json, minAge }: GcOptions,
  { intervalMs, takeoverSeconds, logFormat }: NonNullable<GcOptions['watch']>,
): Promise<number> {
  if (dryRun) throw new ConfigError('--watch and --dry-run exclude each other');
  if (minAge === 0)
    throw new ConfigError('--min-age 0 is for a volume that nobody writes to: not with --watch');
  configureLog({ format: logFormat, level: 'info' });
  const { store, address, clock, data, out } = context;
  const onReport = async (report: CleanupReport): Promise<void> => print(out, `${JSON.stringify(report)}\n`);
  await work(
    { store, address, clock, ...(data === undefined ? {} : { data }) },
    { minAge, intervalMs, takeoverSeconds, ...(json ? { onReport } : {}) },
    context.signal ?? new AbortController().signal,
  );
  return EXIT.done;
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
