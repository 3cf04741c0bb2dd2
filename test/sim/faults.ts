/** What goes wrong in a run, and when, from the seed. */

import type { Random } from '../support/random.ts';
import { FINE } from './network.ts';
import type { Pod, World } from './pod.ts';

export class Faults {
  readonly #world: World;
  readonly #pods: readonly Pod[];
  readonly #random: Random;
  #isOver = false;

  constructor(world: World, pods: readonly Pod[], random: Random) {
    this.#world = world;
    this.#pods = pods;
    this.#random = random;
  }

  start(): void {
    this.#next();
  }

  /** Whatever was wrong is well again. */
  end(): void {
    this.#isOver = true;
    Object.assign(this.#world.weather, FINE);
    for (const { agent } of this.#pods) if (agent !== undefined) agent.killAt = Infinity;
  }

  #next(): void {
    this.#world.scheduler.after(this.#random.next() * 6_000, () => {
      if (this.#isOver) return;
      this.#strike();
      this.#next();
    });
  }

  #note(what: string): void {
    this.#world.trace.note('fault', what);
  }

  #strike(): void {
    const { weather, etcd, scheduler } = this.#world;
    const random = this.#random;
    const pod = random.pick(this.#pods);
    switch (random.below(9)) {
      case 0:
        this.#note('the store is away');
        weather.isDown = true;
        for (const one of this.#pods) one.agent?.cutWatch();
        scheduler.after(random.next() * 8_000, () => {
          if (this.#isOver) return;
          weather.isDown = false;
          this.#note('the store is back');
        });
        break;
      case 1:
        this.#note(`watch of ${pod.name} cut`);
        pod.agent?.cutWatch();
        break;
      case 2:
        this.#note(`compacted at ${etcd.revision}`);
        etcd.compact(etcd.revision);
        break;
      case 3:
        weather.latencyMs = 1 + random.next() * 300;
        this.#note(`latency ${weather.latencyMs.toFixed(0)} ms`);
        break;
      case 4:
        weather.lostAnswer = random.next() * 0.3;
        weather.lateRequest = random.next() * 0.1;
        this.#note('answers are lost');
        break;
      case 5:
        Object.assign(weather, { ...FINE, isDown: weather.isDown });
        this.#note('the network is fine');
        break;
      case 6:
        pod.agent?.kill();
        this.#startLater(pod);
        break;
      case 7: {
        // Soon, at a call that it may be in the middle of something with.
        const { agent } = pod;
        if (agent === undefined) break;
        agent.killAt = agent.calls + 1 + random.below(60);
        scheduler.after(8_000, () => this.#startLater(pod));
        break;
      }
      default:
        pod.agent?.terminate();
        this.#startLater(pod);
    }
  }

  #startLater(pod: Pod): void {
    this.#world.scheduler.after(this.#random.next() * 5_000, () => {
      if (this.#isOver || pod.agent !== undefined) return;
      pod.start();
    });
  }
}
