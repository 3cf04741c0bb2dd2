/** `--once` and `--watch`: opens both sides, keeps the loop turning, says how it ended. */

import type { ByteString } from '../codec/kv.ts';
import type { Path } from '../reconcile/entry.ts';
import { findAbilities } from './disk/abilities.ts';
import { Agent } from './agent.ts';
import { Connector } from './connector.ts';
import { onceDone, stopped, timedOut, type EndFacts } from './report/ending.ts';
import { AgentError, codeOf, ConfigError, UnavailableError } from './base/error.ts';
import { createFilter, isReservedTop } from './disk/filter.ts';
import { noteFilter } from './start/filter-change.ts';
import { pathFromText } from './disk/fs.ts';
import { acceptTrip, Guards, isTripId } from './guard/guards.ts';
import { Hints } from './look/hints.ts';
import { layoutOf, type Layout } from './disk/layout.ts';
import type { Ledger } from './state/ledger.ts';
import type { LedgerState } from './state/ledger-state.ts';
import { log } from './base/log.ts';
import type { Connection } from './push/outbox.ts';
import type { Clock, Ports } from './base/ports.ts';
import { openState, type OpenState } from './start/recover.ts';
import { identityOf, whyReplaced, type Identity } from './start/restore.ts';
import { Report, type ReportSource } from './report/report.ts';
import { StatusWriter, type LoopFacts } from './report/status-writer.ts';
import { BeginAnew, StoreGuards } from './guard/store-guards.ts';
import type { RunOptions, RunResult } from './run-options.ts';

/** A look while something settles; milliseconds. */
const SETTLE_LOOK_MS = 60;
/** Hints that come together are looked at together; milliseconds. */
const HINT_MS = 5;
/** How long a push may take to end when the agent is told to stop; milliseconds. */
const GRACE_MS = 5_000;
/** Pause after a turn that failed; milliseconds. */
const FAILED_PAUSE_MS = 500;
/** How often a tripped guard looks whether a person has accepted it; milliseconds. */
const ACCEPT_MS = 1_000;
/** Pause before a directory that is not there is looked for again; milliseconds. */
const GONE_MS = 500;

/** Why a run begins anew: what was agreed on was forgotten, or DIR has to be restored. */
type Again = 'forgotten' | 'directory';

/** What a run knew of DIR. */
interface Remembered {
  /** Identity of DIR. */
  readonly root: string;
  readonly state: LedgerState;
}

/** Runs until `signal` (SIGTERM, SIGINT), or with `once` until one revision is published. */
export async function run(
  options: RunOptions,
  ports: Ports,
  signal: AbortSignal,
  report = new Report(ports.clock),
): Promise<RunResult> {
  const layout = layoutOf(
    trimSlash(pathFromText(options.dir)),
    options.stateDir && pathFromText(options.stateDir),
  );
  const wrong = options.accept.find((id) => !isTripId(id));
  if (wrong !== undefined) throw new ConfigError(`${JSON.stringify(wrong)} is no id of a guard`);
  const guards = new Guards({ fs: ports.fs, layout, clock: ports.clock });
  let state: OpenState | undefined = await openState(ports, layout);
  try {
    for (const id of options.accept) acceptTrip(ports.fs, layout, id);
    for (;;) {
      const runner: Runner = new Runner(options, ports, layout, state, guards, signal);
      let result: RunResult | Again;
      try {
        report.source = runner.facts;
        result = await runner.run();
      } finally {
        await runner.close();
      }
      if (typeof result !== 'string') return result;
      if (result === 'forgotten') continue;
      report.source = undefined;
      const before = runner.remembered;
      await state.close();
      state = await openAgain(ports, layout, signal, before);
      if (state === undefined) return { exitCode: 0, sentence: 'stopped while the directory was gone' };
    }
  } finally {
    await state?.close();
  }
}

/** Waits for DIR to be there and opens its state; `undefined` when the signal comes first. */
async function openAgain(
  ports: Ports,
  layout: Layout,
  signal: AbortSignal,
  { root, state }: Remembered,
): Promise<OpenState | undefined> {
  let said: string | undefined;
  for (;;) {
    try {
      const isSame = identityOf(ports.fs, layout).root === root;
      return await openState(ports, layout, isSame ? state : undefined);
    } catch (error) {
      if (!(error instanceof ConfigError) && codeOf(error) === undefined) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== said) log('warn', 'directory not usable', { reason });
      said = reason;
    }
    await ports.clock.sleep(GONE_MS, signal).catch(() => undefined);
    if (signal.aborted) return undefined;
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
  /** The loop ends; what is under way may finish. */
  readonly #signal: AbortSignal;
  /** Everything ends. */
  readonly #stop = new AbortController();
  readonly #agent: Agent;
  readonly #hints: Hints;
  readonly #connector: Connector;
  #following: Promise<void> | undefined;
  #fatal: Error | undefined;
  #wake: (() => void) | undefined;
  #awake = false;
  #failure: string | undefined;
  /** Why the last turn could not read a store, though the volume is followed: its data may be in another one. */
  #awayError: string | undefined;
  #lastScanMs = -Infinity;
  readonly #guards: Guards;
  readonly #storeGuards: StoreGuards;
  readonly #status: StatusWriter;
  readonly #identity: Identity;
  #again: Again | undefined;

  constructor(
    options: RunOptions,
    ports: Ports,
    layout: Layout,
    { ledger, assertOwner }: OpenState,
    guards: Guards,
    signal: AbortSignal,
  ) {
    this.#o = options;
    this.#ports = ports;
    this.#clock = ports.clock;
    this.#layout = layout;
    this.#ledger = ledger;
    this.#guards = guards;
    this.#storeGuards = new StoreGuards({ root: layout.root, guards, ledger });
    this.#signal = signal;
    this.#identity = identityOf(ports.fs, layout);
    const subdir = pathFromText(options.subdir)
      .split('/')
      .filter((part) => part !== '');
    const excluded = { exclude: options.exclude.map(pathFromText), isVolumeRoot: subdir.length === 0 };
    const filter = createFilter(excluded);
    noteFilter(ports.fs, layout, ledger, excluded, filter);
    const hidden = (path: Path): boolean => filter.excluded(path) || isReservedTop(path);
    const abilities = findAbilities(ports.fs, layout, options);
    this.#agent = new Agent({
      fs: ports.fs,
      layout,
      clock: ports.clock,
      ledger,
      guards,
      assertOwner,
      mode: options.mode,
      adopt: options.adopt,
      agentId: pathFromText(options.agentId),
      subdir: subdir.join('/'),
      excluded: filter.excluded,
      minIntervalMs: options.minIntervalMs,
      settleMs: options.settleMs,
      keepMs: options.keepMs,
      maxDeletePercent: options.maxDeletePercent,
      conflict: options.conflict,
      ancestorCacheBytes: options.ancestorCacheBytes,
      carryOnly: options.once,
      abilities,
    });
    const { once, rescanMs } = options;
    const { fs, clock } = ports;
    this.#status = new StatusWriter({
      fs,
      clock,
      layout,
      ledger,
      guards,
      agent: this.#agent,
      once,
      rescanMs,
    });
    this.#hints = new Hints({
      watch: ports.openWatch(layout.root, layout.state),
      layout,
      rescanMs,
      onHint: () => this.#wakeUp(),
    });
    this.#connector = new Connector({
      options,
      ports,
      layout,
      ledger,
      abilities,
      storeGuards: this.#storeGuards,
      subdir,
      hidden,
      onReadOnly: (reason) => this.#agent.pullOnly(reason),
      onChange: () => this.#wakeUp(),
    });
    this.#agent.onWake = () => this.#wakeUp();
    this.#agent.onMissed = () => this.#hints.everywhere();
    this.#signal.addEventListener('abort', () => this.#wakeUp());
  }

  async run(): Promise<RunResult | Again> {
    if (!this.#o.once) this.#hints.start();
    this.#following = this.#connector.follow(this.#stop.signal);
    this.#following.catch((error: unknown) => {
      if (this.#stop.signal.aborted) return;
      if (error instanceof BeginAnew) this.#again = 'forgotten';
      else this.#fatal = error instanceof Error ? error : new Error(String(error));
      this.#wakeUp();
    });
    const startMs = this.#clock.monotonicMs();
    for (;;) {
      const waitMs = await this.#turn();
      if (this.#fatal !== undefined) throw this.#fatal;
      if (this.#signal.aborted) {
        await this.#flush();
        return stopped(this.#facts());
      }
      if (this.#again !== undefined) return this.#again;
      if (this.#o.once) {
        const done = onceDone(this.#facts());
        if (done !== undefined) return done;
        const leftMs = startMs + this.#o.timeoutMs - this.#clock.monotonicMs();
        if (this.#o.timeoutMs > 0 && leftMs <= 0)
          return timedOut(this.#o.timeoutMs, this.#connector.storeError);
        await this.#sleep(this.#o.timeoutMs > 0 ? Math.min(waitMs, leftMs) : waitMs);
      } else {
        await this.#sleep(waitMs);
      }
    }
  }

  /** What this run says of itself while it is under way. */
  get facts(): ReportSource {
    return {
      status: () => this.#status.current(this.#loopFacts()),
      lastScanMs: () => this.#lastScanMs,
      rescanMs: () => this.#hints.rescanMs,
    };
  }

  get remembered(): Remembered {
    return { root: this.#identity.root, state: this.#ledger.state };
  }

  async close(): Promise<void> {
    if (!this.#o.once) await this.#hints.close();
    this.#stop.abort();
    await this.#agent.idle();
    await this.#connector.close();
    await this.#following?.catch(() => undefined);
    this.#writeStatus(true);
  }

  /**
   * Pushes what has settled, as long as that goes on and within the time there is. What becomes of a push that takes longer
   * the next start reads.
   */
  async #flush(): Promise<void> {
    const endMs = this.#clock.monotonicMs() + GRACE_MS;
    for (let before = Infinity; ;) {
      await this.#letPushEnd(endMs - this.#clock.monotonicMs());
      const left = this.#agent.pendingEdits;
      if (left === 0 || left >= before || this.#clock.monotonicMs() >= endMs) return;
      before = left;
      await this.#turn();
    }
  }

  async #letPushEnd(ms: number): Promise<void> {
    const over = new AbortController();
    const limit = this.#clock.sleep(Math.max(0, ms), over.signal).catch(() => undefined);
    await Promise.race([this.#agent.idle(), limit]);
    over.abort();
  }

  /** Whether DIR is the directory that is served, and whole; if not, the run begins anew with restoring it. */
  #isDirectoryWhole(damage: string | undefined): boolean {
    const reason = damage ?? whyReplaced(this.#identity, identityOf(this.#ports.fs, this.#layout));
    if (reason === undefined) return true;
    const trip = { guard: 'directory', reason: `${reason}: it is restored`, facts: [reason] } as const;
    this.#guards.judge(this.#ledger, 'directory', trip);
    this.#again = 'directory';
    return false;
  }

  /** One turn of the loop; returns how long it may sleep (milliseconds). */
  async #turn(): Promise<number> {
    const nowMs = this.#clock.monotonicMs();
    const { rescanMs } = this.#hints;
    const due = this.#lastScanMs + rescanMs <= nowMs;
    let waitMs = rescanMs;
    try {
      if (!this.#isDirectoryWhole(undefined)) return 0;
      const extent = this.#hints.take(due, this.#agent.settling);
      if (extent !== undefined) {
        await this.#agent.look(extent);
        if (!this.#isDirectoryWhole(this.#agent.damage)) return 0;
        if (extent === 'all') {
          this.#lastScanMs = this.#clock.monotonicMs();
          this.#hints.looked(this.#lastScanMs - nowMs);
        }
      }
      const { connection } = this.#connector;
      if (connection !== undefined) waitMs = Math.min(waitMs, await this.#cycle(connection));
      this.#noteFailure(undefined);
      this.#awayError = undefined;
    } catch (error) {
      if (error instanceof BeginAnew) {
        this.#again = 'forgotten';
        return 0;
      }
      if (this.#signal.aborted) return 0;
      if (error instanceof ConfigError) throw error;
      if (!(error instanceof AgentError) && codeOf(error) === undefined) throw error;
      // The store or the disk failed: the published tree stays, and a later turn tries again.
      this.#hints.everywhere();
      this.#noteFailure(error instanceof Error ? error.message : String(error));
      this.#awayError = error instanceof UnavailableError ? error.message : undefined;
      await this.#clock.sleep(FAILED_PAUSE_MS, this.#signal).catch(() => undefined);
    }
    if (this.#guards.tripped.length > 0) waitMs = Math.min(waitMs, ACCEPT_MS);
    if (this.#agent.settling) waitMs = Math.min(waitMs, SETTLE_LOOK_MS);
    waitMs = Math.min(waitMs, this.#writeStatus(false));
    return Math.min(waitMs, Math.max(0, this.#lastScanMs + this.#hints.rescanMs - this.#clock.monotonicMs()));
  }

  async #cycle(connection: Connection): Promise<number> {
    const { signal } = this.#stop;
    if (!(await this.#storeGuards.pass(connection, signal))) return Infinity;
    const waitMs = await this.#agent.cycle(connection, signal);
    if (!this.#agent.isLate) this.#guards.forgetUnused();
    return waitMs;
  }

  /** A failure that repeats is logged when it comes and when it goes. */
  #noteFailure(reason: string | undefined): void {
    if (reason === this.#failure) return;
    this.#failure = reason;
    if (reason === undefined) log('info', 'turn done again');
    else log('warn', 'turn failed', { reason });
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
    if (this.#hints.isHinted && !this.#signal.aborted) await this.#clock.sleep(HINT_MS);
  }

  #facts(): EndFacts {
    const { strict, allowStale } = this.#o;
    const { connection, storeError } = this.#connector;
    const loop = { connection, storeError, ledger: this.#ledger, agent: this.#agent, guards: this.#guards };
    return { ...loop, strict, allowStale };
  }

  #writeStatus(force: boolean): number {
    return this.#status.write(this.#loopFacts(), force);
  }

  #loopFacts(): LoopFacts {
    const { connection, storeError = this.#awayError } = this.#connector;
    return {
      connection,
      storeError,
      lastScanMs: this.#lastScanMs,
      watchProblem: this.#hints.problem,
    };
  }
}
