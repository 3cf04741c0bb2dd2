/** Keeps `status.json` true: when to write it, and what the parts of a run say. */

import { escapeBytes } from '../../codec/bytes.ts';
import type { Agent } from '../agent.ts';
import { codeOf } from '../base/error.ts';
import type { Guards } from '../guard/guards.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import { log } from '../base/log.ts';
import type { Connection } from '../push/outbox.ts';
import type { Clock, FsPort } from '../base/ports.ts';
import { describeProblems, writeStatus, type CurrentStatus } from './status.ts';

/** Least time between two status files; milliseconds. */
const STATUS_MS = 200;

interface Options {
  readonly fs: FsPort;
  readonly clock: Clock;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly guards: Guards;
  readonly agent: Agent;
  readonly once: boolean;
  /** Unchanged facts are written again after this long; milliseconds. */
  readonly rescanMs: number;
}

/** What only the loop knows. */
export interface LoopFacts {
  readonly connection: Connection | undefined;
  /** What went wrong last with the store. */
  readonly storeError: string | undefined;
  /** Why not all of DIR is watched. */
  readonly watchProblem: string | undefined;
  /** On the clock that never jumps; -Infinity before the first look. */
  readonly lastScanMs: number;
}

export class StatusWriter {
  readonly #o: Options;
  #lastMs = -Infinity;
  #written = '';
  /** The last look on the clock that never jumps, and when it was in words. */
  #look = { atMs: Number.NaN, text: '' };

  constructor(options: Options) {
    this.#o = options;
  }

  /** Writes the status when it is news; returns when it may be written again if it is too early (milliseconds). */
  write(loop: LoopFacts, force: boolean): number {
    const { clock, rescanMs } = this.#o;
    const nowMs = clock.monotonicMs();
    const earlyMs = this.#lastMs + STATUS_MS - nowMs;
    if (!force && earlyMs > 0) return earlyMs;
    const facts = this.current(loop);
    const text = JSON.stringify(facts);
    // Unchanged facts are written again only with the scan, so that an idle agent is quiet and a dead one is told.
    if (!force && text === this.#written && nowMs - this.#lastMs < rescanMs) return Infinity;
    this.#lastMs = nowMs;
    this.#written = text;
    const nowOfDayMs = Number(clock.nowNs() / 1_000_000n);
    const time = new Date(nowOfDayMs).toISOString();
    // Reckoned once a look: with each status it would be a bit another time, as if DIR had been looked at again.
    if (loop.lastScanMs !== this.#look.atMs) {
      const sinceMs = Number.isFinite(loop.lastScanMs) ? nowMs - loop.lastScanMs : 0;
      this.#look = { atMs: loop.lastScanMs, text: new Date(nowOfDayMs - sinceMs).toISOString() };
    }
    const lastScan = this.#look.text;
    try {
      writeStatus(this.#o.fs, this.#o.layout, { ...facts, time, lastScan });
    } catch (error) {
      log('warn', 'status not written', { reason: codeOf(error) ?? String(error) });
    }
    return Infinity;
  }

  /** What is true now. */
  current({ connection, storeError, watchProblem }: LoopFacts): CurrentStatus {
    const { ledger, guards, agent, once } = this.#o;
    const { state } = ledger;
    const { remote, volume } = connection ?? {};
    const gone = remote?.gone;
    const error = storeError ?? (gone === undefined ? undefined : `the volume is gone: ${gone}`);
    const cut = agent.lastCut;
    return {
      version: 1,
      pid: process.pid,
      ready: state.active !== undefined,
      stale: remote === undefined || (!once && !remote.isUp) || gone !== undefined,
      ...(volume === undefined ? {} : { volume: volume.setting.name }),
      publishedRevision: String(state.revision),
      storeRevision: String(remote?.head ?? 0n),
      files: state.slots.size,
      pendingEdits: agent.pendingEdits,
      parked: [...state.parked.values()].map(({ path }) => escapeBytes(path)),
      unadopted: [...state.unadopted].map(escapeBytes),
      problems: problemsOf(agent, connection, watchProblem),
      guards: guards.tripped,
      trips: Object.fromEntries(guards.counts),
      ...(cut === undefined ? {} : { cutPush: { revision: String(cut.revision), steps: cut.steps } }),
      ...(error === undefined ? {} : { storeError: error }),
    };
  }
}

/** The problems of both sides, by escaped path; that of the whole directory is at the empty path. */
export function problemsOf(
  agent: Agent,
  connection: Connection | undefined,
  whole?: string,
): Record<string, string> {
  const problems = new Map([...(connection?.remote.problems ?? []), ...agent.allProblems()]);
  const ofAll = [problems.get(''), connection?.remote.lack, whole].filter(Boolean);
  if (ofAll.length > 0) problems.set('', ofAll.join('; '));
  return describeProblems(problems);
}
