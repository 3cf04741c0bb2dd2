/** What a run is told, and how it ends. */

import type { MetaAddress } from '../codec/url.ts';
import type { ConflictPolicy } from '../reconcile/conflict.ts';
import type { SpecialFiles } from './disk/abilities.ts';
import type { DataOptions } from './volume/open-blocks.ts';

/** What the command line says. */
export interface RunOptions {
  readonly address: MetaAddress;
  readonly data: DataOptions;
  /** As typed. */
  readonly dir: string;
  readonly once: boolean;
  readonly mode: 'two-way' | 'pull';
  readonly adopt: boolean;
  readonly strict: boolean;
  readonly allowStale: boolean;
  readonly agentId: string;
  readonly subdir: string;
  readonly exclude: readonly string[];
  readonly stateDir: string | undefined;
  readonly minIntervalMs: number;
  readonly holdMaxMs: number;
  readonly settleMs: number;
  readonly rescanMs: number;
  readonly keepMs: number;
  readonly maxDeletePercent: number;
  readonly conflict: ConflictPolicy;
  /** Bytes on disk. */
  readonly ancestorCacheBytes: number;
  readonly specialFiles: SpecialFiles;
  readonly syncTimes: boolean;
  /** 0: no limit. */
  readonly timeoutMs: number;
  /** Ids of trips that are meant. */
  readonly accept: readonly string[];
}

/** How it ended: the exit code of design 3.1 and one sentence. */
export interface RunResult {
  readonly exitCode: number;
  readonly sentence: string;
}
