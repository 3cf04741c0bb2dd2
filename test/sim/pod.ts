/** One machine with a served directory, and the agent on it: a process that starts, ends, and is killed at any call. */

import { ConfigError, VolumeError } from '../../src/agent/base/error.ts';
import { layoutOf, type Layout } from '../../src/agent/disk/layout.ts';
import type { Clock, FsPort, Ports, WatchPort } from '../../src/agent/base/ports.ts';
import { run } from '../../src/agent/run.ts';
import type { RunOptions } from '../../src/agent/run-options.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import type { MemoryEtcd } from '../support/memory-etcd.ts';
import { READS } from '../support/fs-calls.ts';
import { fsError } from '../support/fs-error.ts';
import { MemoryFs } from '../support/memory-fs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import type { Random } from '../support/random.ts';
import { SimNetwork, type Weather } from './network.ts';
import { canFail, type Illness } from './disk.ts';
import type { Scheduler } from './scheduler.ts';
import { speaker } from './speaker.ts';
import type { Trace } from './trace.ts';
import type { Fail, Validator } from './validator.ts';

export const URL = 'etcd://sim:2379/web';
export const ROOT = '/pod/etc';
/** Must not change, whatever leads there. */
export const OUTSIDE = '/outside';
/** 2024, so that times look like times. */
export const START_NS = 1_706_000_000_000_000_000n;

/** How long a start may take; milliseconds. */
const START_MS = 3_000;

/** Thrown by every call of a process that is gone. */
class Killed extends Error {}

const CHANGES: ReadonlySet<keyof FsPort> = new Set([
  'openNew',
  'openAppend',
  'write',
  'ftruncate',
  'fchmod',
  'futimes',
  'fsync',
  'mkdir',
  'rmdir',
  'unlink',
  'link',
  'rename',
  'symlink',
  'mknod',
  'chmod',
  'lchown',
  'lutimes',
  'setXattr',
  'removeXattr',
  'syncDir',
  'syncFs',
]);

/** What all pods of a run share. */
export interface World {
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly etcd: MemoryEtcd;
  readonly weather: Weather;
  /** How likely it is that a hint about a change never comes; in [0, 1]. */
  readonly lostHints: number;
  readonly fail: Fail;
  /** Another one each time. */
  readonly uuid: () => string;
  readonly validators: readonly Validator[];
  /** Before each call of an agent: local programs may come between. */
  readonly between: (pod: Pod) => void;
}

export class Pod {
  readonly name: string;
  readonly fs: MemoryFs;
  readonly layout: Layout = layoutOf(ROOT);
  readonly clock: Clock;
  readonly #world: World;
  readonly #random: Random;
  readonly #options: Partial<RunOptions>;
  /** How far this machine's time of day is off; nanoseconds. */
  offsetNs = 0n;
  /** How often the machine was started, once that is known to have happened. */
  boots: number | undefined;
  /** While some of the agent's calls fail. */
  disk?: Illness;
  /** Whether local programs work here. */
  hasPrograms = true;
  /** When local programs were last at which paths of DIR. */
  readonly edited = new Map<Path, number>();
  /** The process, if one runs. */
  agent: AgentProcess | undefined;

  constructor(name: string, world: World, random: Random, options: Partial<RunOptions>) {
    this.name = name;
    this.#world = world;
    this.#random = random;
    this.#options = options;
    const { scheduler } = world;
    const nowNs = (): bigint => START_NS + BigInt(Math.round(scheduler.nowUs)) * 1000n + this.offsetNs;
    this.clock = {
      nowNs,
      monotonicMs: () => scheduler.nowMs,
      random: () => random.next(),
      uuid: world.uuid,
      breathe: () => this.#sleep(0.1, undefined),
      sleep: (ms, signal) => this.#sleep(ms, signal),
    };
    this.fs = new MemoryFs(nowNs);
    for (const dir of ['/pod', ROOT, OUTSIDE]) this.fs.mkdir('make', dir, 0o755);
  }

  #sleep(ms: number, signal: AbortSignal | undefined, isDead = () => false): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const abort = (): void => {
        cancel();
        reject(signal?.reason as Error);
      };
      const cancel = this.#world.scheduler.after(ms + this.#random.next() * 0.5, () => {
        signal?.removeEventListener('abort', abort);
        if (!isDead()) resolve();
      });
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** Starts the agent; it is killed before its `killAt`th call that changes something. */
  start(killAt = Infinity, options: Partial<RunOptions> = {}): AgentProcess {
    const agent = new AgentProcess(
      this,
      this.#world,
      this.#random,
      { ...this.#options, ...options },
      killAt,
      (ms, signal, isDead) => this.#sleep(ms, signal, isDead),
    );
    this.agent = agent;
    this.#world.trace.note(
      this.name,
      killAt === Infinity ? 'start' : `start, to be killed at call ${killAt}`,
    );
    void agent.run();
    for (const validator of this.#world.validators) validator.onStart?.(this, agent);
    return agent;
  }

  /** A local program was at a path. */
  edit(path: ByteString): void {
    this.edited.set(path.slice(ROOT.length + 1), this.#world.scheduler.nowMs);
    this.changed(path);
  }

  /** Hints about a change at a path by any program: late, and not every time. */
  changed(path: ByteString): void {
    const { agent } = this;
    if (agent?.hint === undefined || this.#random.next() < this.#world.lostHints) return;
    let dir: ByteString;
    try {
      dir = this.fs.directoryOf(path);
    } catch {
      return;
    }
    if (!dir.startsWith(ROOT) || dir.startsWith(this.layout.state)) return;
    this.#world.scheduler.after(1 + this.#random.next() * 20, () => {
      if (!agent.isDead) speaker.run(this.name, () => agent.hint?.(dir));
    });
  }
}

/** One life of the agent's process. */
export class AgentProcess {
  readonly #pod: Pod;
  readonly #world: World;
  readonly #options: Partial<RunOptions>;
  readonly #network: SimNetwork;
  readonly #ports: Ports;
  readonly #stop = new AbortController();
  readonly #open = new Set<number>();
  readonly #random: Random;
  readonly #startMs: number;
  /** A call could have failed because of the disk. */
  #wasIll = false;
  /** It is killed before this call. */
  killAt: number;
  #calls = 0;
  isDead = false;
  /** It ended by itself or was killed. */
  isOver = false;
  hint: ((dir: ByteString | undefined) => void) | undefined;

  constructor(
    pod: Pod,
    world: World,
    random: Random,
    options: Partial<RunOptions>,
    killAt: number,
    sleep: (ms: number, signal: AbortSignal | undefined, isDead: () => boolean) => Promise<void>,
  ) {
    this.#pod = pod;
    this.#world = world;
    this.#options = options;
    this.#random = random;
    this.#startMs = world.scheduler.nowMs;
    this.killAt = killAt;
    this.#network = new SimNetwork(pod.name, world.scheduler, random, world.weather);
    const isDead = (): boolean => this.isDead;
    const clock: Clock = {
      ...pod.clock,
      sleep: (ms, signal) => sleep(ms, signal, isDead),
      breathe: () => sleep(0.1, undefined, isDead),
    };
    this.#ports = {
      fs: this.#port(),
      clock,
      openStore: () => new MemoryStore(world.etcd, clock, this.#network, pod.name),
      openWatch: () => this.#watch(),
      ...(pod.boots === undefined ? {} : { bootId: `boot ${pod.boots}` }),
      lock: async () => ({ release: async () => undefined }),
    };
  }

  /** Calls that changed something, so far. */
  get calls(): number {
    return this.#calls;
  }

  /** An init container. */
  get isOnce(): boolean {
    return this.#options.once === true;
  }

  async run(): Promise<void> {
    const { name } = this.#pod;
    const options: RunOptions = { ...DEFAULTS, agentId: name, ...this.#options };
    try {
      const { exitCode, sentence } = await speaker.run(name, () =>
        run(options, this.#ports, this.#stop.signal),
      );
      if (this.isDead) return;
      this.#world.trace.note(name, `ended with ${exitCode}: ${sentence}`);
      for (const validator of this.#world.validators) validator.onEnd?.(this.#pod, this, exitCode);
    } catch (error) {
      if (this.isDead) return;
      this.#world.trace.note(name, `ended: ${String(error)}`);
      // An init container says so when there is no volume.
      // With a disk that fails it cannot start: whoever looks after it tries again.
      const isStart = this.#wasIll && this.#world.scheduler.nowMs - this.#startMs < START_MS;
      if (!isStart && !(error instanceof ConfigError) && !(this.isOnce && error instanceof VolumeError))
        this.#world.fail(
          'G11',
          `${name} ended by itself: ${error instanceof Error ? (error.stack ?? '') : ''}`,
        );
    }
    this.isOver = true;
    this.#pod.agent = undefined;
  }

  /** SIGTERM. */
  terminate(): void {
    this.#world.trace.note(this.#pod.name, 'terminate');
    this.#stop.abort();
  }

  /** SIGKILL: what it had open is closed, what it sent may still arrive. */
  kill(): void {
    if (this.isOver) return;
    this.#world.trace.note(this.#pod.name, 'killed');
    this.isDead = true;
    this.isOver = true;
    this.#network.die();
    this.#pod.fs.closeAll(this.#open);
    this.#pod.agent = undefined;
    for (const validator of this.#world.validators) validator.onKill?.(this.#pod);
  }

  cutWatch(): void {
    speaker.run(this.#pod.name, () => this.#network.cut());
  }

  /** What comes of its watches, or of one of them, comes so much later for a while; milliseconds. */
  lagWatch(ms: number, watch?: string): void {
    this.#network.lag(ms, watch);
  }

  #watch(): WatchPort {
    return {
      start: (onHint) => {
        this.hint = onHint;
      },
      close: async () => {
        this.hint = undefined;
      },
    };
  }

  /** Every call can be the last one; between two calls other programs run. */
  #port(): FsPort {
    const { fs } = this.#pod;
    const wrap = (name: keyof FsPort, isChange: boolean) => {
      const call = (fs[name] as (...args: unknown[]) => unknown).bind(fs);
      return (...args: unknown[]): unknown => {
        if (this.isDead) throw new Killed('the process is gone');
        const path = typeof args[1] === 'string' ? args[1] : undefined;
        if (isChange) this.#beforeChange(name, args, call);
        this.#world.between(this.#pod);
        this.#failIfIll(name, isChange, path);
        const result = call(...args);
        if (name.startsWith('open')) this.#open.add(result as number);
        if (name === 'close') this.#open.delete(args[1] as number);
        if (!isChange) return result;
        for (const validator of this.#world.validators) validator.afterCall?.(this.#pod, name, args);
        if (path !== undefined) this.#pod.changed(path);
        return result;
      };
    };
    const calls: unknown = Object.fromEntries([
      ...[...READS].map((name) => [name, wrap(name, false)]),
      ...[...CHANGES].map((name) => [name, wrap(name, true)]),
    ]);
    return calls as FsPort;
  }

  #failIfIll(name: keyof FsPort, isChange: boolean, path: ByteString | undefined): void {
    const { disk } = this.#pod;
    if (disk === undefined || !canFail(name, isChange, disk.code)) return;
    this.#wasIll = true;
    if (this.#random.next() < disk.chance) throw fsError(disk.code, name, path ?? '');
  }

  #beforeChange(name: keyof FsPort, args: unknown[], call: (...args: unknown[]) => unknown): void {
    this.#calls += 1;
    if (this.#calls >= this.killAt) {
      const bytes = args[2];
      // Half of a write may get to the disk.
      if (name === 'write' && bytes instanceof Uint8Array && this.#calls % 2 === 0)
        call(args[0], args[1], bytes.subarray(0, bytes.length >> 1), ...args.slice(3));
      this.#world.trace.note(this.#pod.name, `at ${name} "${String(args[0])}"`);
      this.kill();
      throw new Killed('killed');
    }
    for (const validator of this.#world.validators) validator.beforeCall?.(this.#pod, name, args);
  }
}

const DEFAULTS: RunOptions = {
  address: parseMetaUrl(URL),
  data: {},
  dir: ROOT,
  once: false,
  mode: 'two-way',
  adopt: false,
  strict: false,
  allowStale: false,
  agentId: '',
  subdir: '/',
  exclude: [],
  stateDir: undefined,
  minIntervalMs: 250,
  holdMaxMs: 2_000,
  settleMs: 0,
  rescanMs: 5_000,
  keepMs: 600_000,
  maxDeletePercent: 100,
  conflict: 'merge',
  ancestorCacheBytes: 64 << 20,
  accept: [],
  specialFiles: 'none',
  syncTimes: false,
  timeoutMs: 0,
};
