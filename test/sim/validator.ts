/** Those who look at what happens in a run and say what is wrong with it, each for a guarantee of design 2. */

import type { FsPort } from '../../src/agent/base/ports.ts';
import type { CommittedRevision } from '../support/memory-etcd.ts';
import type { AgentProcess, Pod } from './pod.ts';

/** All are called in virtual time, and change nothing. */
export interface Validator {
  /** A revision was made. */
  onRevision?(revision: CommittedRevision): void;
  /** An agent is about to make a call that changes something. */
  beforeCall?(pod: Pod, call: keyof FsPort, args: readonly unknown[]): void;
  /** It has made it. */
  afterCall?(pod: Pod, call: keyof FsPort, args: readonly unknown[]): void;
  /** Its machine has lost its power and starts again. */
  onBoot?(pod: Pod): void;
  onKill?(pod: Pod): void;
  onStart?(pod: Pod, agent: AgentProcess): void;
  /** It ended by itself. */
  onEnd?(pod: Pod, agent: AgentProcess, exitCode: number): void;
  /** Edits and faults have ended. */
  onRest?(): void;
  /** All agree and rest. */
  atRest?(): Promise<void> | void;
}

/** Tells what is wrong: the guarantee, and a sentence. */
export type Fail = (guarantee: string, what: string) => void;
