/** The built agent as a process of its own on a directory, and what its directory shows. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { codeOf } from '../../src/agent/base/error.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { layoutOf } from '../../src/agent/disk/layout.ts';
import { readStatus, type Status } from '../../src/agent/report/status.ts';
import { targetInVolume } from '../../src/reconcile/target.ts';
import { builtMain } from './built.ts';
import { treeOfMount, type MountedEntry } from './juicefs.ts';
import { GONE } from './reading.ts';
import { until } from './until.ts';

/** How a run of the command ended. */
export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The sentence of the last line. */
  readonly sentence: string;
}

/** Runs the command to its end. */
export async function runCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, [builtMain(), ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr, sentence: stderr.trimEnd().split('\n').at(-1) ?? '' };
}

/** A running `--watch`. */
export class Agent {
  readonly dir: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #stderr = '';

  /**
   * Starts it; `ready` waits until it serves. Options are those of the command line. `within` is a command that becomes the
   * one that is given to it.
   */
  constructor(
    metaUrl: string,
    dir: string,
    options: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
    within: readonly string[] = [],
  ) {
    this.dir = dir;
    const own = [process.execPath, builtMain(), '--watch', ...options, metaUrl, dir];
    const [program = process.execPath, ...args] = [...within, ...own];
    this.#child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    this.#ended = once(this.#child, 'close');
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the agent could not be started');
    return this.#child.pid;
  }

  /** All that it said so far: when `until` resolves, all that it had said when its status became as wanted. */
  get stderr(): string {
    return this.#stderr;
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  /** What this very process wrote last to `status.json`; `undefined` before that. */
  get status(): Status | undefined {
    const status = readStatus(nodeFs, layoutOf(Buffer.from(this.dir).toString('latin1')));
    return status?.pid === this.#child.pid ? status : undefined;
  }

  /** Waits until the status is as wanted; fails with what the agent said when it ends instead, or is not in time. */
  async until(what: string, wanted: (status: Status) => boolean, limitMs?: number): Promise<Status> {
    let last: Status | undefined;
    try {
      await until(
        what,
        () => {
          if (this.#child.exitCode !== null) throw new Error(`the agent ended with ${this.#child.exitCode}`);
          last = this.status;
          return last !== undefined && wanted(last);
        },
        limitMs,
      );
    } catch (cause) {
      const said = this.#stderr.split('\n').slice(-40).join('\n');
      throw new Error(`${String(cause)}\nstatus: ${JSON.stringify(last)}\nthe agent said:\n${said}`, {
        cause,
      });
    }
    // What it said before is in the pipe, which is read in the turn after the one that is under way.
    await turn();
    await turn();
    return last as Status;
  }

  /** Waits until it serves a tree and follows the store. */
  async ready(): Promise<this> {
    await this.until('the agent is ready', ({ ready, stale }) => ready && !stale);
    return this;
  }

  /** Waits until it has looked at the whole directory this many times more. */
  async rescanned(times: number): Promise<void> {
    for (let n = 0; n < times; n += 1) {
      const last = this.status?.lastScan;
      await this.until('the agent looks again', ({ lastScan }) => lastScan !== last);
    }
  }

  /** Waits until what was edited in its directory before this call is in the volume. */
  async pushed(): Promise<Status> {
    await this.rescanned(2);
    return this.until('nothing is pending', ({ pendingEdits }) => pendingEdits === 0);
  }

  /** Resolves with the exit code once the process has ended by itself. */
  async ended(): Promise<number | null> {
    await this.#ended;
    return this.#child.exitCode;
  }

  /** SIGTERM; resolves with the exit code. */
  async stop(): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM');
    return this.ended();
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

/** Starts an agent and waits until it is ready. */
export async function startAgent(
  metaUrl: string,
  dir: string,
  options: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<Agent> {
  const agent = new Agent(metaUrl, dir, options, env);
  return agent.ready();
}

/** A tree in words, by path: `file 0644 SHA-256`, `directory 0755`, `symlink TARGET`. */
export type ShownTree = Readonly<Record<string, string>>;

/** How often the published tree may change while it is read. */
const MOST_CHANGES = 20;

/** What a reader finds in the published tree of DIR; targets as the volume has them. */
export function publishedTree(dir: string): ShownTree {
  const root = Buffer.from(dir).toString('latin1');
  for (let changes = 0; ; changes += 1) {
    const tree = join(dir, readlinkSync(join(dir, '..data')));
    try {
      return shown(treeOfMount(tree), (target, path) => targetInVolume(target, path, root));
    } catch (error) {
      // It was made anew for a flip, or somebody edits in it.
      if (!GONE.has(codeOf(error)) || changes === MOST_CHANGES) throw error;
    }
  }
}

/** What a directory without an agent holds. */
export function plainTree(dir: string): ShownTree {
  return shown(treeOfMount(dir), (target) => target);
}

/** What a mount shows, without what no view shows. */
export function mountedTree(dir: string): ShownTree {
  return shown(treeOfMount(dir, ['.conflicts']), (target) => target);
}

/** The tree in words; `targetOf` maps what a symlink holds. */
export function shown(
  tree: ReadonlyMap<string, MountedEntry>,
  targetOf: (target: string, path: string) => string,
): ShownTree {
  const lines: Record<string, string> = {};
  for (const [path, { type, mode, content }] of tree) {
    if (type === 'symlink') lines[path] = `symlink ${targetOf(content, path)}`;
    else if (type === 'file') lines[path] = `file 0${mode.slice(1)} ${content}`;
    else lines[path] = `${type} 0${mode.slice(1)}`;
  }
  return lines;
}

/** The first differences of two trees, in words; empty when they are equal. */
export function differences(a: ShownTree, b: ShownTree): string[] {
  const paths = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  return paths
    .filter((path) => a[path] !== b[path])
    .map((path) => `${path}: ${a[path] ?? 'nothing'} | ${b[path] ?? 'nothing'}`);
}

/** Waits until two trees are equal, and fails with how they differ. Trees that cannot be read just now count as different. */
export async function untilSame(
  what: string,
  a: () => ShownTree,
  b: () => ShownTree,
  limitMs?: number,
): Promise<void> {
  let last: string[] = [];
  try {
    await until(
      what,
      () => {
        try {
          last = differences(a(), b());
        } catch (error) {
          // Something was removed or replaced between listing and reading.
          if (!GONE.has(codeOf(error))) throw error;
          last = [String(error)];
        }
        return last.length === 0;
      },
      limitMs,
    );
  } catch (cause) {
    throw new Error(`${String(cause)}\n${last.slice(0, 20).join('\n')}`, { cause });
  }
}
