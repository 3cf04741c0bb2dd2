/** One run: agents, a mount and local programs, with faults, all from one seed; then rest, and what must be true. */

import { Actor } from './actor.ts';
import { Faults, MACHINES, MEMBERS, NETWORK_AND_KILLS, OTHER_STORES, POWER, type Fault } from './faults.ts';
import { HARD_LINKS, LINK_DIRECTORIES } from './link-programs.ts';
import type { Pod } from './pod.ts';
import { AT_THE_TOP, DANGERS, EDITS, LINKS, RENEWALS, SETS, type Weighted } from './programs.ts';
import { SET_DIRECTORIES } from './sets.ts';
import { identities } from './shown.ts';
import { Stage, type Failure } from './stage.ts';
import type { Trace } from './trace.ts';

export interface Outcome {
  readonly seed: number;
  readonly failures: readonly Failure[];
  /** Hash of the whole trace. */
  readonly digest: string;
  readonly trace: Trace;
  /** Things that happened. */
  readonly steps: number;
}

/** How long programs run and faults happen; virtual milliseconds. */
const BUSY_MS = 40_000;
/** How long all may take to agree after that, how long late finds may take, and how still it then has to be. */
const REST_MS = 240_000;
const LATE_MS = 20_000;
const STILL_MS = 45_000;
/**
 * How much happens. `calm`: writers that give each other time. Like it are: `links`, one writer alone, on files with several names;
 * `stores`, in which the store is also wiped, restored or replaced; `machines`, in which disks fail and the time of day is set;
 * `power`, in which machines lose their power; `members`, in which members of the store are behind. `rough`: twice as much, hints
 * that are lost, and steps of local programs between any two calls of an agent. `wild`: so, and programs also make, move and remove
 * names at the top of DIR, and make links.
 */
export type Profile = 'calm' | 'links' | 'stores' | 'machines' | 'power' | 'members' | 'rough' | 'wild';

interface Pace {
  /** How likely it is that a local program's step comes before a call of an agent. */
  readonly between: number;
  /** How likely it is that a hint about a change never comes. */
  readonly lostHints: number;
  /** Between two programs of one writer, on average; milliseconds. */
  readonly pauseMs: number;
  readonly programs: Weighted;
  /** On the mount. */
  readonly mounted: Weighted;
  /** How likely it is that no program works on one of several pods: everything it shows is then one revision of the volume. */
  readonly observers: number;
  readonly faults: readonly Fault[];
}

/** What the profiles with one kind of fault of their own have in common. */
const CALM: Pace = {
  between: 0,
  lostHints: 0,
  pauseMs: 3_000,
  programs: [...EDITS, ...SETS],
  mounted: [...EDITS, ...SETS, ...DANGERS, ...RENEWALS],
  observers: 0.5,
  faults: NETWORK_AND_KILLS,
};

const PACES: Readonly<Record<Profile, Pace>> = {
  calm: CALM,
  links: { ...CALM, programs: HARD_LINKS, mounted: [] },
  stores: { ...CALM, faults: [...OTHER_STORES, ...OTHER_STORES, ...NETWORK_AND_KILLS] },
  machines: { ...CALM, faults: [...MACHINES, ...MACHINES, ...MACHINES, ...NETWORK_AND_KILLS] },
  power: { ...CALM, programs: EDITS, faults: [...POWER, ...POWER, ...POWER, ...NETWORK_AND_KILLS] },
  members: { ...CALM, faults: [...MEMBERS, ...MEMBERS, ...MEMBERS, ...NETWORK_AND_KILLS] },
  rough: {
    between: 0.004,
    lostHints: 0.1,
    pauseMs: 1_500,
    programs: EDITS,
    mounted: EDITS,
    observers: 0,
    faults: NETWORK_AND_KILLS,
  },
  wild: {
    between: 0.004,
    lostHints: 0.1,
    pauseMs: 1_500,
    programs: [...EDITS, ...AT_THE_TOP, ...LINKS],
    mounted: EDITS,
    observers: 0,
    faults: NETWORK_AND_KILLS,
  },
};

const TOP_DIRECTORIES = ['d', 'e', 'g'];

export async function simulate(seed: number, profile: Profile = 'calm'): Promise<Outcome> {
  const stage = await Stage.open(seed, seed % 5 === 0 ? 1 : 0);
  await new Simulation(stage, PACES[profile]).run();
  const { failures, trace, scheduler } = stage;
  return { seed, failures, digest: trace.digest(), trace, steps: scheduler.steps };
}

class Simulation {
  readonly #stage: Stage;
  readonly #pace: Pace;

  constructor(stage: Stage, pace: Pace) {
    this.#stage = stage;
    this.#pace = pace;
  }

  get #hasFailed(): boolean {
    return this.#stage.failures.length > 0;
  }

  async run(): Promise<void> {
    const stage = this.#stage;
    const { scheduler, trace, random } = stage;
    const { between, lostHints, pauseMs, programs } = this.#pace;
    stage.lostHints = lostHints;
    const actors = new Map<Pod, Actor>();
    const { mounted: onMount, observers, faults: kinds } = this.#pace;
    const hasSets = onMount.some((one) => SETS.includes(one));
    const isOwner = programs.some((one) => SETS.includes(one));
    for (const dir of [...TOP_DIRECTORIES, ...(hasSets ? SET_DIRECTORIES : [])]) stage.mount.mkdir(dir);
    if (hasSets) stage.owners.push(stage.mount.name);
    const isAlone = onMount.length === 0;
    if (isAlone) actors.set(...this.#addTwin());
    const all = isAlone ? 1 : 1 + random.below(3);
    for (let pods = all; pods > 0; pods -= 1) {
      const { pod, local } = stage.addPod({
        adopt: true,
        conflict: random.pick(['merge', 'remote', 'local']),
      });
      pod.hasPrograms = !isAlone && (all === 1 || pods > 1 || observers === 0 || random.next() >= observers);
      if (pod.hasPrograms) {
        actors.set(pod, new Actor(local, scheduler, trace, stage.fork(), programs, pauseMs));
        if (isOwner) stage.owners.push(pod.name);
      }
      // Known from the first start on, so that the one after a cut is known to be another.
      if (kinds.includes('power')) pod.boots = 1;
      pod.start();
    }
    stage.between = (pod) => {
      if (random.next() < between) actors.get(pod)?.step();
    };
    const mounted = new Actor(stage.remote, scheduler, trace, stage.fork(), onMount, pauseMs);
    const faults = new Faults(stage, stage.fork(), kinds);
    const writers = isAlone ? [...actors.values()] : [...actors.values(), mounted];
    for (const actor of writers) actor.start();
    faults.start();
    await scheduler.pass(BUSY_MS, () => this.#hasFailed);
    faults.end();
    for (const actor of writers) actor.finish();
    trace.note('-', 'rest');
    if (!this.#hasFailed) await this.#rest();
    stage.end();
  }

  /** The only writer, on a machine of its own. */
  #addTwin(): [Pod, Actor] {
    const { mount, scheduler, trace } = this.#stage;
    const inner = LINK_DIRECTORIES.filter((dir) => dir.includes('/'));
    for (const dir of inner) mount.mkdir(dir);
    const { pod, local } = this.#stage.addTwin(LINK_DIRECTORIES);
    pod.start();
    return [
      pod,
      new Actor(local, scheduler, trace, this.#stage.fork(), this.#pace.programs, this.#pace.pauseMs),
    ];
  }

  /** All agree, nothing is lost, and then nothing moves any more, not even after a restart. */
  async #rest(): Promise<void> {
    const stage = this.#stage;
    const endMs = stage.scheduler.nowMs + REST_MS;
    let differ: string[] = [];
    do {
      this.#startEnded();
      await stage.pass(5_000);
      differ = stage.differences();
    } while (differ.length > 0 && stage.scheduler.nowMs < endMs && !this.#hasFailed);
    for (const difference of differ) stage.fail('G5', difference);
    // How still it is tells of those alone that have run since all agree.
    this.#startEnded();
    await stage.pass(LATE_MS);
    for (const lost of stage.lost()) stage.fail('G2', lost);
    if (this.#hasFailed) return;
    stage.rest();
    await this.#checkStillness('left alone');
    if (this.#hasFailed) return;
    for (const pod of stage.pods) {
      pod.agent?.kill();
      pod.start();
    }
    await this.#checkStillness('after a restart');
    for (const difference of stage.differences()) stage.fail('G5', difference);
    for (const lost of stage.lost()) stage.fail('G2', lost);
    await stage.judge();
  }

  /** One that was told to end may do so only when all others rest. */
  #startEnded(): void {
    for (const pod of this.#stage.pods) if (pod.agent === undefined) pod.start();
  }

  async #checkStillness(when: string): Promise<void> {
    const before = this.#state();
    await this.#stage.pass(STILL_MS);
    const after = this.#state();
    const news = after.filter((line) => !before.includes(line)).slice(0, 5);
    const gone = before.filter((line) => !after.includes(line)).slice(0, 5);
    if (news.length + gone.length > 0)
      this.#stage.fail('G5', `${when} something was written: ${gone.join(', ')} -> ${news.join(', ')}`);
  }

  #state(): string[] {
    return [
      `revision ${this.#stage.etcd.revision}`,
      ...this.#stage.pods.flatMap((pod) => identities(pod.fs).map((line) => `${pod.name}:${line}`)),
    ];
  }
}
