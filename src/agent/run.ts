/** `--once` and `--watch`: opens both sides, keeps the loop turning, says how it ended. */

import type { ByteString } from '../codec/kv.ts';
import { escapeBytes } from '../codec/bytes.ts';
import type { MetaAddress } from '../codec/url.ts';
import type { ConflictPolicy } from '../reconcile/conflict.ts';
import type { Path } from '../reconcile/entry.ts';
import { findAbilities, type Abilities, type SpecialFiles } from './abilities.ts';
import { Agent } from './agent.ts';
import { AgentError, codeOf, ConfigError, UnavailableError, VolumeError } from './error.ts';
import { createFilter, isReservedTop } from './filter.ts';
import { pathFromText } from './fs.ts';
import { layoutOf, type Layout } from './layout.ts';
import type { Ledger } from './ledger.ts';
import type { Extent } from './look.ts';
import { log } from './log.ts';
import type { Connection } from './outbox.ts';
import type { Clock, EtcdStore, Ports, WatchPort } from './ports.ts';
import { openState } from './recover.ts';
import { Remote } from './remote.ts';
import { describeProblems, writeStatus } from './status.ts';
import type { DataOptions } from './open-blocks.ts';
import { openVolume, type Volume } from './volume.ts';

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
}

/** How it ended: the exit code of design 3.1 and one sentence. */
export interface RunResult {
  readonly exitCode: number;
  readonly sentence: string;
}

/** Pause before the store is asked again, doubled up to the longest; milliseconds. */
const CONNECT_PAUSE_MS = 100;
const CONNECT_PAUSE_MAX_MS = 3_000;
/** A look while something settles; milliseconds. */
const SETTLE_LOOK_MS = 60;
/** Hints that come together are looked at together; milliseconds. */
const HINT_MS = 5;
/** How long a push may take to end when the agent is told to stop; milliseconds. */
const GRACE_MS = 5_000;
/** Pause after a turn that failed; milliseconds. */
const FAILED_PAUSE_MS = 500;
/** Least time between two status files; milliseconds. */
const STATUS_MS = 200;

/** Runs until `signal` (SIGTERM, SIGINT), or with `once` until one revision is published. */
export async function run(options: RunOptions, ports: Ports, signal: AbortSignal): Promise<RunResult> {
  const layout = layoutOf(
    trimSlash(pathFromText(options.dir)),
    options.stateDir && pathFromText(options.stateDir),
  );
  const state = await openState(ports, layout);
  const runner = new Runner(options, ports, layout, state.ledger, state.assertOwner, signal);
  try {
    return await runner.run();
  } finally {
    await runner.close();
    await state.close();
  }
}

function trimSlash(path: ByteString): ByteString {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}

class Runner {
  readonly #o: RunOptions;
  readonly #ports: Ports;
  readonly #clock: Clock;
  readonly #layout: Layout;
  readonly #ledger: Ledger;
  readonly #abilities: Abilities;
  /** The loop ends; what is under way may finish. */
  readonly #signal: AbortSignal;
  /** Everything ends. */
  readonly #stop = new AbortController();
  readonly #agent: Agent;
  readonly #subdir: readonly ByteString[];
  readonly #hidden: (path: Path) => boolean;
  readonly #hints = new Set<Path>();
  #everywhere = true;
  #watch: WatchPort | undefined;
  #connection: Connection | undefined;
  #connecting: Promise<void> | undefined;
  #fatal: Error | undefined;
  #storeError: string | undefined;
  #wake: (() => void) | undefined;
  #awake = false;
  readonly #watchErrors = new Set<string>();
  #failure: string | undefined;
  /** Why the last turn could not read a store, though the volume is followed: its data may be in another one. */
  #awayError: string | undefined;
  #lastScanMs = -Infinity;
  #lastStatusMs = -Infinity;
  #writtenStatus = '';

  constructor(
    options: RunOptions,
    ports: Ports,
    layout: Layout,
    ledger: Ledger,
    assertOwner: () => void,
    signal: AbortSignal,
  ) {
    this.#o = options;
    this.#ports = ports;
    this.#clock = ports.clock;
    this.#layout = layout;
    this.#ledger = ledger;
    this.#signal = signal;
    this.#subdir = pathFromText(options.subdir)
      .split('/')
      .filter((part) => part !== '');
    const filter = createFilter({
      exclude: options.exclude.map(pathFromText),
      isVolumeRoot: this.#subdir.length === 0,
    });
    this.#hidden = (path) => filter.excluded(path) || isReservedTop(path);
    this.#abilities = findAbilities(ports.fs, layout, options);
    this.#agent = new Agent({
      fs: ports.fs,
      layout,
      clock: ports.clock,
      ledger,
      assertOwner,
      mode: options.mode,
      adopt: options.adopt,
      agentId: pathFromText(options.agentId),
      subdir: this.#subdir.join('/'),
      excluded: filter.excluded,
      minIntervalMs: options.minIntervalMs,
      settleMs: options.settleMs,
      keepMs: options.keepMs,
      maxDeletePercent: options.maxDeletePercent,
      conflict: options.conflict,
      ancestorCacheBytes: options.ancestorCacheBytes,
      carryOnly: options.once,
      abilities: this.#abilities,
    });
    this.#agent.onWake = () => this.#wakeUp();
    this.#signal.addEventListener('abort', () => this.#wakeUp());
  }

  async run(): Promise<RunResult> {
    if (!this.#o.once) this.#startWatching();
    this.#connecting = this.#connectAndFollow();
    this.#connecting.catch((error: unknown) => {
      if (this.#stop.signal.aborted) return;
      this.#fatal = error instanceof Error ? error : new Error(String(error));
      this.#wakeUp();
    });
    const startMs = this.#clock.monotonicMs();
    for (;;) {
      const waitMs = await this.#turn();
      if (this.#fatal !== undefined) throw this.#fatal;
      if (this.#signal.aborted) {
        await this.#letPushEnd();
        return this.#stopped();
      }
      if (this.#o.once) {
        const done = this.#onceDone();
        if (done !== undefined) return done;
        const leftMs = startMs + this.#o.timeoutMs - this.#clock.monotonicMs();
        if (this.#o.timeoutMs > 0 && leftMs <= 0) return this.#timedOut();
        await this.#sleep(this.#o.timeoutMs > 0 ? Math.min(waitMs, leftMs) : waitMs);
      } else {
        await this.#sleep(waitMs);
      }
    }
  }

  async close(): Promise<void> {
    await this.#watch?.close();
    this.#stop.abort();
    await this.#agent.idle();
    await Promise.all([this.#connection?.store.close(), this.#connection?.volume.close()]);
    await this.#connecting?.catch(() => undefined);
    this.#writeStatus(true);
  }

  /** A push under way is given some time; of one that takes longer the next start reads what became of it. */
  async #letPushEnd(): Promise<void> {
    const over = new AbortController();
    await Promise.race([this.#agent.idle(), this.#clock.sleep(GRACE_MS, over.signal).catch(() => undefined)]);
    over.abort();
  }

  #startWatching(): void {
    this.#watch = this.#ports.openWatch(this.#layout.root, this.#layout.state);
    this.#watch.start(
      (dir) => this.#onHint(dir),
      (error) => this.#onWatchError(error),
    );
  }

  /** chokidar tells the same of every directory when a limit is reached: once is enough, the scan goes on. */
  #onWatchError(error: Error): void {
    const code = codeOf(error) ?? error.message;
    if (this.#watchErrors.has(code)) return;
    this.#watchErrors.add(code);
    log('warn', 'watching files failed, changes are found by the scan', { reason: error.message });
  }

  #onHint(dir: ByteString | undefined): void {
    const path = dir === undefined ? undefined : this.#viewPath(dir);
    if (path === undefined) this.#everywhere = true;
    else this.#hints.add(path);
    this.#wakeUp();
  }

  /** A directory on disk as a directory of the view; both trees and the top are looked at together. */
  #viewPath(dir: ByteString): Path | undefined {
    if (dir === this.#layout.root) return '';
    for (const tree of ['a', 'b'] as const) {
      const at = this.#layout.tree(tree);
      if (dir === at) return '';
      if (dir.startsWith(`${at}/`)) return dir.slice(at.length + 1);
    }
    return dir.startsWith(`${this.#layout.root}/`) ? '' : undefined;
  }

  /** Opens the volume, lists it and follows it; with a published tree there is no hurry, without one it is fatal when the volume cannot be used. */
  async #connectAndFollow(): Promise<void> {
    const store = this.#ports.openStore(this.#o.address);
    for (let failures = 0; ; failures += 1) {
      try {
        this.#connection ??= await this.#open(store);
        await this.#connection.remote.list(this.#stop.signal);
        break;
      } catch (error) {
        if (this.#stop.signal.aborted) throw error;
        if (!this.#isPassing(error)) {
          await store.close();
          throw error;
        }
        const reason = error instanceof Error ? error.message : String(error);
        if (reason !== this.#storeError) log('warn', 'store not usable', { reason });
        this.#storeError = reason;
        this.#wakeUp();
        const pauseMs = Math.min(CONNECT_PAUSE_MAX_MS, CONNECT_PAUSE_MS * 2 ** failures);
        await this.#clock.sleep(pauseMs * (0.5 + this.#clock.random()), this.#stop.signal);
      }
    }
    this.#storeError = undefined;
    this.#wakeUp();
    if (!this.#o.once) await this.#connection.remote.follow(this.#stop.signal);
  }

  async #open(store: EtcdStore): Promise<Connection> {
    const volume = await openVolume(store, this.#o.address, this.#stop.signal, this.#o.data);
    try {
      return this.#connectionTo(store, volume);
    } catch (error) {
      await volume.close();
      throw error;
    }
  }

  #connectionTo(store: EtcdStore, volume: Volume): Connection {
    const owner = { uuid: volume.setting.uuid, subdir: this.#subdir.join('/') };
    const known = this.#ledger.state.owner;
    if (known === undefined) this.#ledger.write([{ t: 'owner', format: 1, owner }], true);
    else if (known.uuid !== owner.uuid || known.subdir !== owner.subdir) {
      throw new ConfigError(
        'this directory holds another volume or subdirectory: serve it to a directory of its own',
        {
          path: this.#layout.root,
        },
      );
    }
    if (volume.writeRefusal !== undefined && this.#o.mode !== 'pull') {
      log('warn', 'pull only', { reason: volume.writeRefusal });
      this.#agent.pullOnly(volume.writeRefusal);
    }
    const remote = new Remote({
      store,
      volume,
      fs: this.#ports.fs,
      layout: this.#layout,
      clock: this.#clock,
      subdir: this.#subdir,
      hidden: this.#hidden,
      holdMaxMs: this.#o.holdMaxMs,
      abilities: this.#abilities,
      onChange: () => this.#wakeUp(),
    });
    remote.remember(this.#ledger.state.ancestor);
    return { store, volume, remote };
  }

  /** Whether waiting can help: the store is away, or the volume is gone while a tree is served (design G6). */
  #isPassing(error: unknown): boolean {
    if (error instanceof UnavailableError) return true;
    return error instanceof VolumeError && !this.#o.once && this.#ledger.state.active !== undefined;
  }

  /** One turn of the loop; returns how long it may sleep (milliseconds). */
  async #turn(): Promise<number> {
    const nowMs = this.#clock.monotonicMs();
    const due = this.#lastScanMs + this.#o.rescanMs <= nowMs;
    let waitMs = this.#o.rescanMs;
    try {
      const extent = this.#takeExtent(due);
      if (extent !== undefined) {
        await this.#agent.look(extent);
        if (extent === 'all') this.#lastScanMs = this.#clock.monotonicMs();
      }
      if (this.#connection !== undefined) {
        waitMs = Math.min(waitMs, await this.#agent.cycle(this.#connection, this.#stop.signal));
      }
      this.#noteFailure(undefined);
      this.#awayError = undefined;
    } catch (error) {
      if (this.#signal.aborted) return 0;
      if (error instanceof ConfigError) throw error;
      if (!(error instanceof AgentError) && codeOf(error) === undefined) throw error;
      // The store or the disk failed: the published tree stays, and a later turn tries again.
      this.#everywhere = true;
      this.#noteFailure(error instanceof Error ? error.message : String(error));
      this.#awayError = error instanceof UnavailableError ? error.message : undefined;
      await this.#clock.sleep(FAILED_PAUSE_MS, this.#signal).catch(() => undefined);
    }
    if (this.#agent.settling) waitMs = Math.min(waitMs, SETTLE_LOOK_MS);
    waitMs = Math.min(waitMs, this.#writeStatus(false));
    return Math.min(waitMs, Math.max(0, this.#lastScanMs + this.#o.rescanMs - this.#clock.monotonicMs()));
  }

  /** A failure that repeats is logged when it comes and when it goes. */
  #noteFailure(reason: string | undefined): void {
    if (reason === this.#failure) return;
    this.#failure = reason;
    if (reason === undefined) log('info', 'turn done again');
    else log('warn', 'turn failed', { reason });
  }

  #takeExtent(due: boolean): Extent | undefined {
    const all = due || this.#everywhere;
    const hints = new Set(this.#hints);
    this.#hints.clear();
    this.#everywhere = false;
    if (all) return 'all';
    return hints.size > 0 || this.#agent.settling ? hints : undefined;
  }

  #wakeUp(): void {
    this.#awake = true;
    this.#wake?.();
  }

  async #sleep(ms: number): Promise<void> {
    if (!this.#awake && ms > 0) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await this.#clock.sleep(ms, woken.signal).catch(() => undefined);
      this.#wake = undefined;
    }
    this.#awake = false;
    // Remote news is published at once; hints come in bursts.
    if (this.#hints.size > 0 && !this.#signal.aborted) await this.#clock.sleep(HINT_MS);
  }

  #isPublished(): boolean {
    return this.#ledger.state.active !== undefined;
  }

  #onceDone(): RunResult | undefined {
    const remote = this.#connection?.remote;
    if (remote === undefined) {
      if (!this.#o.allowStale || !this.#isPublished() || this.#storeError === undefined) return undefined;
      return {
        exitCode: 0,
        sentence: `kept the tree of revision ${this.#ledger.state.revision}: the store is not reachable`,
      };
    }
    const { damage, guard, isLate } = this.#agent;
    if (damage !== undefined) return { exitCode: 1, sentence: `nothing published: ${damage}` };
    if (!this.#isPublished() || remote.revision === 0n || remote.pending || isLate) return undefined;
    if (guard !== undefined) {
      const sentence = `kept the tree of revision ${this.#ledger.state.revision}: ${guard}`;
      return { exitCode: this.#o.strict ? 5 : 0, sentence };
    }
    const problems = this.#problems();
    const { revision } = remote;
    const count = Object.keys(problems).length;
    if (count === 0) return { exitCode: 0, sentence: `published revision ${revision}` };
    const [[path, reason] = ['', '']] = Object.entries(problems);
    const sentence = `published revision ${revision} with ${count} problems, the first: ${path}: ${reason}`;
    return { exitCode: this.#o.strict ? 5 : 0, sentence };
  }

  #timedOut(): RunResult {
    const why = this.#storeError === undefined ? 'the volume could not be read in time' : this.#storeError;
    return { exitCode: 4, sentence: `nothing published within ${this.#o.timeoutMs} ms: ${why}` };
  }

  #stopped(): RunResult {
    const pending = this.#agent.pendingEdits;
    const edits = pending === 1 ? '1 local edit is' : `${pending} local edits are`;
    const left = pending === 0 ? '' : `, ${edits} not in the volume yet`;
    return { exitCode: 0, sentence: `stopped at revision ${this.#ledger.state.revision}${left}` };
  }

  #problems(): Record<string, string> {
    const remote = this.#connection?.remote.problems ?? new Map<string, string>();
    return describeProblems([...remote, ...this.#agent.allProblems()]);
  }

  /** Writes the status when it is news; returns when it may be written again if it is too early (milliseconds). */
  #writeStatus(force: boolean): number {
    const nowMs = this.#clock.monotonicMs();
    const earlyMs = this.#lastStatusMs + STATUS_MS - nowMs;
    if (!force && earlyMs > 0) return earlyMs;
    const { state } = this.#ledger;
    const remote = this.#connection?.remote;
    const volume = this.#connection?.volume.setting.name;
    const gone = remote?.gone;
    const goneError = gone === undefined ? undefined : `the volume is gone: ${gone}`;
    const storeError = this.#storeError ?? goneError ?? this.#awayError;
    const cut = this.#agent.lastCut;
    const facts = {
      version: 1 as const,
      pid: process.pid,
      ready: this.#isPublished(),
      stale: remote === undefined || (!this.#o.once && !remote.isUp) || remote.gone !== undefined,
      ...(volume === undefined ? {} : { volume }),
      publishedRevision: String(state.revision),
      storeRevision: String(remote?.head ?? 0n),
      files: state.slots.size,
      pendingEdits: this.#agent.pendingEdits,
      parked: [...state.parked.values()].map(({ path }) => escapeBytes(path)),
      unadopted: [...state.unadopted].map(escapeBytes),
      problems: this.#problems(),
      ...(cut === undefined ? {} : { cutPush: { revision: String(cut.revision), steps: cut.steps } }),
      ...(this.#agent.guard === undefined ? {} : { guard: this.#agent.guard }),
      ...(storeError === undefined ? {} : { storeError }),
    };
    const text = JSON.stringify(facts);
    // Unchanged facts are written again only with the scan, so that an idle agent is quiet and a dead one is told.
    if (!force && text === this.#writtenStatus && nowMs - this.#lastStatusMs < this.#o.rescanMs)
      return Infinity;
    this.#lastStatusMs = nowMs;
    this.#writtenStatus = text;
    const nowOfDayMs = Number(this.#clock.nowNs() / 1_000_000n);
    const time = new Date(nowOfDayMs).toISOString();
    const sinceScanMs = Number.isFinite(this.#lastScanMs) ? nowMs - this.#lastScanMs : 0;
    const lastScan = new Date(nowOfDayMs - sinceScanMs).toISOString();
    try {
      writeStatus(this.#ports.fs, this.#layout, { ...facts, time, lastScan });
    } catch (error) {
      log('warn', 'status not written', { reason: codeOf(error) ?? String(error) });
    }
    return Infinity;
  }
}
