/** How a run ends: the exit code and the sentence of the last line (design 3.1). */

import { escapeBytes } from '../../codec/bytes.ts';
import type { Agent } from '../agent.ts';
import type { Guards } from '../guard/guards.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Connection } from '../push/outbox.ts';
import type { RunResult } from '../run-options.ts';
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

/** So many names fit into what Kubernetes keeps of a last line. */
const NAMED = 30;
const NAMES_LENGTH = 3_000;

/** The end by a signal, with what was not pushed. */
export function stopped({ ledger, agent }: EndFacts): RunResult {
  const paths = agent.unpushed.map(escapeBytes).sort();
  const edits = paths.length === 1 ? '1 local edit is' : `${paths.length} local edits are`;
  const left = paths.length === 0 ? '' : `, ${edits} not in the volume yet: ${listOf(paths)}`;
  return { exitCode: 0, sentence: `stopped at revision ${ledger.state.revision}${left}` };
}

/** As many of the names as there is room for. */
function listOf(names: readonly string[]): string {
  const shown: string[] = [];
  let length = 0;
  for (const name of names.slice(0, NAMED)) {
    length += Buffer.byteLength(name) + 2;
    if (length > NAMES_LENGTH) break;
    shown.push(name);
  }
  const more = names.length - shown.length;
  return more === 0
    ? shown.join(', ')
    : `${[...shown, 'and'].join(', ').replace(/, and$/, ' and')} ${more} more`;
}
