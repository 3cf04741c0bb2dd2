/** Directories that show one volume and are written by turns: a plain one as the model, real mounts, and those of agents. */

import { lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../src/agent/disk/native.ts';
import { parentOf } from '../../src/reconcile/entry.ts';
import { targetInVolume } from '../../src/reconcile/target.ts';
import { shown, startAgent, type Agent, type ShownTree } from './agent.ts';
import { treeOfMount, type Juicefs, type Mount } from './juicefs.ts';

/** What one side shows. */
export interface Sight {
  readonly tree: ShownTree;
  /** Of files, by path; nanoseconds. */
  readonly times: Readonly<Record<string, bigint>>;
  /** For each file with several names all of them in one line, by each of the names. */
  readonly shared: Readonly<Record<string, string>>;
}

export interface Side {
  readonly name: string;
  readonly dir: string;
  see(): Sight;
  /** Resolves when it has looked at all that was done in its directory before this call. */
  looked(): Promise<void>;
  /** Resolves when it has nothing of its own to do. */
  settled(): Promise<void>;
  /** No program of this side writes in the volume until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends it for good. */
  stop(): Promise<void>;
}

/** An agent sets times as a double of seconds, which is cut to microseconds on the way. */
const TIME_STEP_NS = 4000n;

/** Files of two sides that were not written at the same time, in words. */
export function timeDifferences(a: Sight, b: Sight): string[] {
  return Object.entries(a.times)
    .filter(([path, time]) => {
      const other = b.times[path] ?? 0n;
      return time - other > TIME_STEP_NS || other - time > TIME_STEP_NS;
    })
    .map(([path, time]) => `mtime of ${path}: ${time} | ${b.times[path] ?? 'nothing'}`);
}

function sightOf(
  dir: string,
  xattrs: boolean,
  targetOf: (target: string, path: string) => string = (target) => target,
): Sight {
  const entries = treeOfMount(dir);
  const times: Record<string, bigint> = {};
  const names = new Map<bigint, string[]>();
  for (const [path, { type, ino, mtimeNs }] of entries) {
    if (type !== 'file') continue;
    times[path] = mtimeNs;
    names.set(ino, [...(names.get(ino) ?? []), path]);
  }
  const shared: Record<string, string> = {};
  for (const paths of names.values()) {
    if (paths.length > 1) for (const path of paths) shared[path] = paths.join(' = ');
  }
  const tree = { ...shown(entries, targetOf) };
  if (xattrs) {
    for (const [path, { type }] of entries) {
      if (type === 'file' || type === 'directory') tree[path] += xattrsOf(dir, path);
    }
  }
  return { tree, times, shared };
}

function xattrsOf(dir: string, path: string): string {
  const calls = native();
  if (calls === undefined) throw new Error('extended attributes cannot be read without the package koffi');
  const at = `${Buffer.from(dir).toString('latin1')}/${path}`;
  const names = calls.listXattrs(at).filter((name) => name.startsWith('user.'));
  return names
    .sort()
    .map((name) => ` ${name}=${calls.getXattr(at, name) ?? ''}`)
    .join('');
}

/** What a plain directory shows. */
export function seePlain(dir: string, xattrs = false): Sight {
  return sightOf(dir, xattrs);
}

/** A real mount, without caches of names and attributes in the kernel. */
export class MountSide implements Side {
  readonly name: string;
  readonly #juicefs: Juicefs;
  readonly #url: string;
  readonly #xattrs: boolean;
  #mount: Mount | undefined;

  private constructor(name: string, juicefs: Juicefs, url: string, xattrs: boolean) {
    this.name = name;
    this.#xattrs = xattrs;
    this.#juicefs = juicefs;
    this.#url = url;
  }

  static async start(
    name: string,
    juicefs: Juicefs,
    url: string,
    { xattrs = false } = {},
  ): Promise<MountSide> {
    const side = new MountSide(name, juicefs, url, xattrs);
    await side.resume();
    return side;
  }

  get dir(): string {
    if (this.#mount === undefined) throw new Error(`${this.name} is not mounted`);
    return this.#mount.dir;
  }

  see(): Sight {
    return sightOf(this.dir, this.#xattrs);
  }

  /** Notes the directories whose statistics an operation on these paths changes, as far as they are there. */
  drifting(paths: readonly string[], into: Set<bigint>): void {
    for (const path of paths) {
      for (let dir = parentOf(path); dir !== undefined; dir = parentOf(dir)) {
        const ino = this.inodeOf(dir);
        if (ino !== undefined) into.add(ino);
      }
    }
  }

  /** `undefined` where nothing is. */
  inodeOf(path: string): bigint | undefined {
    const at = Buffer.concat([Buffer.from(this.dir), Buffer.from(`/${path}`, 'latin1')]);
    return lstatSync(at, { bigint: true, throwIfNoEntry: false })?.ino;
  }

  async looked(): Promise<void> {}

  async settled(): Promise<void> {}

  async pause(): Promise<void> {
    await this.#mount?.close();
    this.#mount = undefined;
  }

  async resume(): Promise<void> {
    const uncached = ['--attr-cache', '0', '--entry-cache', '0', '--dir-entry-cache', '0'];
    const xattrs = this.#xattrs ? ['--enable-xattr'] : [];
    this.#mount = await this.#juicefs.mount(this.#url, [...uncached, ...xattrs]);
  }

  async stop(): Promise<void> {
    await this.pause();
  }
}

const AGENT_OPTIONS = ['--min-interval', '20ms', '--max-delete', '100'];
/** One whose looks are all that can be waited for looks more often. */
const RESCAN = '1s';
const RESCAN_ALONE = '200ms';

/** The directory of an agent that runs as a process of its own. */
export class AgentSide implements Side {
  readonly name: string;
  readonly dir: string;
  readonly #url: string;
  readonly #options: readonly string[];
  readonly #xattrs: boolean;
  agent: Agent;

  private constructor(agent: Agent, name: string, url: string, options: readonly string[], xattrs: boolean) {
    this.name = name;
    this.dir = agent.dir;
    this.#url = url;
    this.#options = options;
    this.#xattrs = xattrs;
    this.agent = agent;
  }

  static async start(
    name: string,
    url: string,
    folder: string,
    { isAlone = false, xattrs = false } = {},
  ): Promise<AgentSide> {
    const dir = join(folder, name);
    mkdirSync(dir);
    const options = [...AGENT_OPTIONS, '--agent-id', name, '--rescan', isAlone ? RESCAN_ALONE : RESCAN];
    return new AgentSide(await startAgent(url, dir, options), name, url, options, xattrs);
  }

  see(): Sight {
    const root = Buffer.from(this.dir).toString('latin1');
    return sightOf(join(this.dir, '..data'), this.#xattrs, (target, path) =>
      targetInVolume(target, path, root),
    );
  }

  async looked(): Promise<void> {
    await this.agent.rescanned(2);
  }

  async settled(): Promise<void> {
    await this.agent.until(
      `${this.name} has nothing to do`,
      ({ pendingEdits, problems, parked }) =>
        pendingEdits === 0 && parked.length === 0 && Object.keys(problems).length === 0,
    );
  }

  /** What a person would look at first. */
  said(): string {
    return `${this.name}: ${JSON.stringify(this.agent.status)}\n${this.agent.stderr.split('\n').slice(-30).join('\n')}`;
  }

  /** Ends the process as a person would: edits from now on are found by the next start. */
  async down(): Promise<void> {
    await this.agent.stop();
  }

  async up(): Promise<void> {
    this.agent = await startAgent(this.#url, this.dir, this.#options);
  }

  async pause(): Promise<void> {
    await this.settled();
  }

  async resume(): Promise<void> {}

  async stop(): Promise<void> {
    await this.agent.kill();
  }
}
