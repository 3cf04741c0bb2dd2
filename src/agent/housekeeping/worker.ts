/** Cleans a volume up again and again, as one elected worker among those that run (`gc --watch`). */

import { hostname } from 'node:os';
import type { MetaAddress } from '../../codec/url.ts';
import { backoffMs } from '../base/backoff.ts';
import { AgentError, codeOf, VolumeError } from '../base/error.ts';
import { log } from '../base/log.ts';
import type { DataOptions } from '../volume/open-blocks.ts';
import { ownKey } from '../volume/own-keys.ts';
import type { Clock, LeaseStore } from '../base/ports.ts';
import { openVolume, type Volume } from '../volume/volume.ts';
import { cleanUp } from './clean-up.ts';
import type { CleanupReport } from './report.ts';
import { elect, type Term } from './election.ts';

export interface WorkerOptions {
  readonly minAge: number;
  readonly intervalMs: number;
  /** After this many seconds of silence of the elected worker another one takes over. */
  readonly takeoverSeconds: number;
  /** Told after each clean-up. */
  readonly onReport?: (report: CleanupReport) => Promise<void>;
}

/** What the worker needs of the world. */
export interface WorkerContext {
  readonly store: LeaseStore;
  readonly address: Pick<MetaAddress, 'prefix'>;
  readonly clock: Clock;
  /** Where the blocks are, as for the verbs. */
  readonly data?: DataOptions;
}

/** Longest wait after a failure, in milliseconds. */
const FAILED = { firstMs: 500, maxMs: 60_000 };

/** Runs until the signal aborts. Rejects with VolumeError when the volume is none that may be written. */
export async function work(
  context: WorkerContext,
  options: WorkerOptions,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context;
  const worker = `${hostname()} ${process.pid} ${clock.uuid()}`;
  for (let failures = 0; !signal.aborted;) {
    let term: Term | undefined;
    try {
      const { name, uuid } = await withWritable(context, signal, async ({ setting }) => setting);
      const key = ownKey(uuid, 'gc-worker');
      if (failures === 0) log('info', 'standing by', { volume: name });
      term = await elect(store, clock, { key, worker, seconds: options.takeoverSeconds }, signal);
      log('info', 'elected', { worker });
      failures = 0;
      await serve(context, options, term, AbortSignal.any([signal, term.over]));
    } catch (error) {
      if (signal.aborted) break;
      if (error instanceof VolumeError) throw error;
      if (!(error instanceof AgentError || term?.over.aborted === true)) throw error;
      failures += 1;
      log('warn', term === undefined ? 'election failed' : 'not elected any more', {
        reason: error instanceof Error ? error.message : String(error),
      });
      await clock.sleep(backoffMs(failures, clock.random(), FAILED), signal).catch(() => undefined);
    } finally {
      await term?.resign();
    }
  }
}

/** One clean-up after another for as long as the term lasts. A store that is away ends none. */
async function serve(
  context: WorkerContext,
  { minAge, intervalMs, onReport }: WorkerOptions,
  term: Term,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context;
  for (let failures = 0; ;) {
    try {
      const report = await withWritable(context, signal, (volume) =>
        cleanUp({ store, volume, clock, guard: term.guard, signal }, { minAge, dryRun: false }),
      );
      const { left, ...figures } = report;
      const done = Object.entries(figures).filter(([, count]) => count > 0);
      log('info', 'cleaned', Object.fromEntries(done));
      for (const reason of left) log('warn', 'left', { reason });
      await onReport?.(report);
      failures = 0;
      await clock.sleep(intervalMs, signal);
    } catch (error) {
      if (signal.aborted || codeOf(error) === 'ERR_DEPOSED' || error instanceof VolumeError) throw error;
      if (!(error instanceof AgentError)) throw error;
      failures += 1;
      log('warn', 'clean-up failed', { reason: error.message });
      await clock.sleep(backoffMs(failures, clock.random(), FAILED), signal);
    }
  }
}

/** Opened anew each time: its setting says how long the trash keeps things. */
async function withWritable<T>(
  { store, address, data }: WorkerContext,
  signal: AbortSignal,
  use: (volume: Volume) => Promise<T>,
): Promise<T> {
  const volume = await openVolume(store, address, signal, data);
  try {
    if (volume.writeRefusal !== undefined) throw new VolumeError(volume.writeRefusal);
    return await use(volume);
  } finally {
    await volume.close();
  }
}
