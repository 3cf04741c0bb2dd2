/** How a run ends: the exit code and the sentence of the last line (design 3.1). */

import type { Agent } from './agent.ts';
import type { Guards } from './guards.ts';
import type { Ledger } from './ledger.ts';
import type { Connection } from './outbox.ts';
import type { RunResult } from './run-options.ts';
import { problemsOf } from './status-writer.ts';

export interface EndFacts {
  readonly ledger: Ledger;
  readonly agent: Agent;
  readonly guards: Guards;
  readonly connection: Connection | undefined;
  readonly storeError: string | undefined;
  readonly strict: boolean;
  readonly allowStale: boolean;
}

/** The end of `--once`; `undefined` while there is something to wait for. */
export function onceDone(facts: EndFacts): RunResult | undefined {
  const { agent, guards, connection, strict } = facts;
  const { active, revision: published } = facts.ledger.state;
  const remote = connection?.remote;
  if (remote === undefined) {
    if (!facts.allowStale || active === undefined || facts.storeError === undefined) return undefined;
    return { exitCode: 0, sentence: `kept the tree of revision ${published}: the store is not reachable` };
  }
  const [guard] = guards.tripped;
  if (guard !== undefined && guard.guard !== 'directory' && active !== undefined) {
    const sentence = `kept the tree of revision ${published}: ${guard.reason}; accept ${guard.id} if that is meant`;
    return { exitCode: strict ? 5 : 0, sentence };
  }
  if (active === undefined || remote.revision === 0n || remote.pending || agent.isLate) return undefined;
  const problems = problemsOf(agent, connection);
  const { revision } = remote;
  const count = Object.keys(problems).length;
  if (count === 0) return { exitCode: 0, sentence: `published revision ${revision}` };
  const [[path, reason] = ['', '']] = Object.entries(problems);
  const sentence = `published revision ${revision} with ${count} problems, the first: ${path}: ${reason}`;
  return { exitCode: strict ? 5 : 0, sentence };
}

/** `--once` that waited in vain. */
export function timedOut(timeoutMs: number, storeError: string | undefined): RunResult {
  const why = storeError ?? 'the volume could not be read in time';
  return { exitCode: 4, sentence: `nothing published within ${timeoutMs} ms: ${why}` };
}

/** The end by a signal. */
export function stopped({ ledger, agent }: EndFacts): RunResult {
  const pending = agent.pendingEdits;
  const edits = pending === 1 ? '1 local edit is' : `${pending} local edits are`;
  const left = pending === 0 ? '' : `, ${edits} not in the volume yet`;
  return { exitCode: 0, sentence: `stopped at revision ${ledger.state.revision}${left}` };
}
