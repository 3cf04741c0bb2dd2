/** What goes wrong in a run, and when, from the seed. */

import type { Random } from '../support/random.ts';
import type { SavedEtcd } from '../support/memory-etcd.ts';
import { DISK_ERRORS } from './disk.ts';
import { publishedRevision } from './last-good.ts';
import { FINE } from './network.ts';
import type { Pod } from './pod.ts';
import type { Stage } from './stage.ts';

/** One kind of fault. */
export type Fault =
  | (typeof NETWORK_AND_KILLS)[number]
  | (typeof OTHER_STORES)[number]
  | (typeof MACHINES)[number]
  | (typeof POWER)[number]
  | (typeof MEMBERS)[number];

/** A store that is away or slow, cut and compacted watches, lost answers; agents that are killed or told to end. */
export const NETWORK_AND_KILLS = [
  'away',
  'cut',
  'compact',
  'slow',
  'lose answers',
  'fine',
  'kill',
  'kill at a call',
  'terminate',
] as const;

/** Another store in the place of the right one, for a while: empty, restored from a backup (as it was, or written since), of another volume. */
export const OTHER_STORES = ['wipe', 'restore', 'restore and write', 'replace', 'init container'] as const;

/** A disk whose calls fail for a while, and a time of day that is set. */
export const MACHINES = ['disk', 'clock'] as const;

/** A machine that loses its power. */
export const POWER = ['power'] as const;

/** A member of the store that is behind the others: all that it tells by its watches comes late, or what one of them does. */
export const MEMBERS = ['lag', 'lag of one watch'] as const;

/** How long a member is behind, at most; milliseconds. */
const LAG_MS = 8_000;

/** How long a disk fails, and how far a time of day is set, at most; milliseconds. */
const ILL_MS = 4_000;
const JUMP_MS = 2 * 3_600_000;

/** How long a store is away or another one, at most; milliseconds. */
const AWAY_MS = 8_000;

export class Faults {
  readonly #stage: Stage;
  readonly #random: Random;
  readonly #kinds: readonly Fault[];
  #isOver = false;
  #backup: SavedEtcd | undefined;

  constructor(stage: Stage, random: Random, kinds: readonly Fault[]) {
    this.#stage = stage;
    this.#random = random;
    this.#kinds = kinds;
  }

  start(): void {
    if (this.#kinds.includes('restore'))
      this.#stage.scheduler.after(2_000, () => (this.#backup ??= this.#stage.etcd.save()));
    this.#next();
  }

  /** Whatever was wrong is well again. */
  end(): void {
    this.#isOver = true;
    this.#stage.bringStoreBack();
    Object.assign(this.#stage.weather, FINE);
    for (const pod of this.#stage.pods) {
      delete pod.disk;
      if (pod.agent !== undefined) pod.agent.killAt = Infinity;
    }
  }

  #next(): void {
    this.#stage.scheduler.after(this.#random.next() * 6_000, () => {
      if (this.#isOver) return;
      this.#strike();
      this.#next();
    });
  }

  #note(what: string): void {
    this.#stage.trace.note('fault', what);
  }

  #strike(): void {
    const random = this.#random;
    const pod = random.pick(this.#stage.pods);
    const kind = random.pick(this.#kinds);
    switch (kind) {
      case 'kill':
        pod.agent?.kill();
        this.#startLater(pod);
        break;
      case 'kill at a call': {
        // Soon, at a call that it may be in the middle of something with.
        const { agent } = pod;
        if (agent === undefined) break;
        agent.killAt = agent.calls + 1 + random.below(60);
        this.#stage.scheduler.after(8_000, () => this.#startLater(pod));
        break;
      }
      case 'terminate':
        pod.agent?.terminate();
        this.#startLater(pod);
        break;
      case 'init container':
        pod.agent?.kill();
        pod.start(Infinity, { once: true, allowStale: true, timeoutMs: 20_000 });
        this.#startLater(pod);
        break;
      case 'disk':
        this.#breakDisk(pod);
        break;
      case 'lag':
      case 'lag of one watch': {
        const ms = random.next() * LAG_MS;
        const watch = kind === 'lag' ? undefined : String(random.below(3));
        this.#note(`${kind}: ${pod.name} ${watch ?? ''} ${ms.toFixed(0)} ms`);
        pod.agent?.lagWatch(ms, watch);
        break;
      }
      case 'power':
        this.#stage.cutPower(pod, random);
        this.#startLater(pod);
        break;
      case 'clock': {
        const ms = Math.round((random.next() - 0.5) * (random.below(2) === 0 ? 2 * JUMP_MS : 2_000));
        this.#note(`the time of day of ${pod.name} is set by ${ms} ms`);
        pod.offsetNs += BigInt(ms) * 1_000_000n;
        break;
      }
      case 'wipe':
      case 'restore':
      case 'restore and write':
      case 'replace':
        this.#replaceStore(kind);
        break;
      default:
        this.#strikeNetwork(kind, pod);
    }
  }

  #strikeNetwork(kind: (typeof NETWORK_AND_KILLS)[number], pod: Pod): void {
    const { weather, etcd, scheduler } = this.#stage;
    const random = this.#random;
    switch (kind) {
      case 'away':
        if (this.#stage.isForeign) break;
        this.#note('the store is away');
        weather.isDown = true;
        for (const one of this.#stage.pods) one.agent?.cutWatch();
        scheduler.after(random.next() * AWAY_MS, () => {
          if (this.#isOver) return;
          weather.isDown = false;
          this.#note('the store is back');
        });
        break;
      case 'cut':
        this.#note(`watch of ${pod.name} cut`);
        pod.agent?.cutWatch();
        break;
      case 'compact':
        // Of a compacted history nobody can tell whether it is the one that was followed (docs/guarantees.md).
        if (this.#stage.isForeign) break;
        this.#note(`compacted at ${etcd.revision}`);
        etcd.compact(etcd.revision);
        break;
      case 'slow':
        weather.latencyMs = 1 + random.next() * 300;
        this.#note(`latency ${weather.latencyMs.toFixed(0)} ms`);
        break;
      case 'lose answers':
        weather.lostAnswer = random.next() * 0.3;
        weather.lateRequest = random.next() * 0.1;
        this.#note('answers are lost');
        break;
      default:
        Object.assign(weather, { ...FINE, isDown: weather.isDown });
        this.#note('the network is fine');
    }
  }

  #breakDisk(pod: Pod): void {
    const random = this.#random;
    const code = random.pick(DISK_ERRORS);
    const chance = random.pick([0.03, 0.3, 1]);
    this.#note(`disk of ${pod.name}: ${code}, ${chance}`);
    pod.disk = { code, chance };
    this.#stage.scheduler.after(random.next() * ILL_MS, () => {
      if (this.#isOver) return;
      this.#note(`disk of ${pod.name} is well`);
      delete pod.disk;
      this.#startLater(pod);
    });
  }

  /** As people do it: the server goes, another one comes up with its address, and somebody notices. */
  #replaceStore(kind: 'wipe' | 'restore' | 'restore and write' | 'replace'): void {
    const stage = this.#stage;
    const random = this.#random;
    this.#backup ??= stage.etcd.save();
    const backup = this.#backup;
    // One that has seen nothing newer than the backup, or nothing at all, cannot tell it from the right store.
    const isTold = (pod: Pod): boolean => publishedRevision(pod) > backup.revision;
    if (stage.isForeign || stage.weather.isDown || !stage.pods.every(isTold)) return;
    this.#note(`another store: ${kind}`);
    // A member that is restored may keep the id of its cluster or not.
    const clusterId = random.below(2) === 0 ? stage.etcd.clusterId : `${stage.etcd.clusterId}1`;
    const lines = random.below(40);
    const foreignMs = 6_000 + random.next() * AWAY_MS;
    this.#goAway(1_000, () => {
      if (kind === 'wipe') stage.replaceStore(undefined, clusterId);
      else if (kind === 'replace') stage.replaceStore(stage.otherVolume, `${stage.etcd.clusterId}2`);
      else stage.replaceStore(backup, clusterId);
      if (kind === 'restore and write') for (let n = 0; n < lines; n += 1) stage.stranger(n);
      stage.scheduler.after(foreignMs, () => {
        if (this.#isOver) return;
        this.#goAway(500, () => {
          stage.bringStoreBack();
          this.#note('the right store is back');
        });
      });
    });
  }

  #goAway(ms: number, next: () => void): void {
    const { weather, scheduler, pods } = this.#stage;
    weather.isDown = true;
    for (const { agent } of pods) agent?.cutWatch();
    scheduler.after(ms, () => {
      if (this.#isOver) return;
      weather.isDown = false;
      next();
    });
  }

  #startLater(pod: Pod): void {
    this.#stage.scheduler.after(this.#random.next() * 5_000, () => {
      if (this.#isOver || pod.agent !== undefined) return;
      pod.start();
    });
  }
}
