/** G4: the volume is one that the real client takes: names lead somewhere, contents are there, all accounts recount exactly. */

import { gc } from '../../src/agent/verbs/gc.ts';
import type { MetaAddress } from '../../src/codec/url.ts';
import { recount } from '../support/recount.ts';
import { MemoryStore } from '../support/memory-store.ts';
import type { Clock } from '../../src/agent/base/ports.ts';
import type { Archive } from './archive.ts';
import type { Pod } from './pod.ts';
import type { Scheduler } from './scheduler.ts';
import type { Fail, Validator } from './validator.ts';

/**
 * What a push that was stopped leaves until somebody cleans up: blocks that nothing names. Counts of slices that nothing refers to
 * say themselves what is left to do: a request that failed is reason enough for that, and any mount does it within the hour.
 */
const LEFT_BY_A_CRASH = /^block \S+ belongs to nothing$|^K of \S+ has no records$/;

interface Needs {
  readonly archive: Archive;
  readonly address: MetaAddress;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Newest revision of the store. */
  readonly revision: () => bigint;
  readonly fail: Fail;
}

/** How long after a kill a request that was under way may still arrive; milliseconds. */
const LATE_MS = 10_000;

export class Accounts implements Validator {
  readonly #needs: Needs;
  /** Revisions at which an agent was killed, or what it had sent had arrived. */
  readonly #crashes = new Map<bigint, string>();
  #isResting = false;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  onKill(pod: Pod): void {
    if (this.#isResting) return;
    const note = (): void => void this.#crashes.set(this.#needs.revision(), pod.name);
    note();
    this.#needs.scheduler.after(LATE_MS, note);
  }

  onRest(): void {
    this.#isResting = true;
  }

  async atRest(): Promise<void> {
    const { revision, fail } = this.#needs;
    const left = new Set<string>();
    for (const [at, name] of this.#crashes) {
      for (const what of await this.#wrongIn(this.#storeAt(at))) {
        if (LEFT_BY_A_CRASH.test(what)) left.add(what);
        else fail('G4', `at ${at}, when ${name} was killed, ${what}`);
      }
    }
    const store = this.#storeAt(revision());
    let wrong = await this.#wrongIn(store);
    const owed = new Set(wrong.filter((what) => what.startsWith('K of')));
    const isLeft = (what: string): boolean => left.has(what) || owed.has(what) || owed.has(countOf(what));
    if (wrong.length > 0 && wrong.every(isLeft)) {
      await this.#cleanUp(store);
      wrong = await this.#wrongIn(store);
    }
    for (const what of wrong) fail('G4', `at rest ${what}`);
  }

  #storeAt(revision: bigint): MemoryStore {
    return new MemoryStore(this.#needs.archive.etcdAt(revision), this.#needs.clock);
  }

  async #wrongIn(store: MemoryStore): Promise<string[]> {
    return recount(store, this.#needs.address.prefix);
  }

  async #cleanUp(store: MemoryStore): Promise<void> {
    const { clock, address } = this.#needs;
    const nowhere = { write: () => true, once: () => undefined };
    const context = { store, address, clock, out: nowhere, err: nowhere };
    await gc(context, { dryRun: false, json: false, minAge: 0 });
  }
}

/** Of a block that belongs to nothing: what is said of the count of its slice, whose blocks were about to be deleted. */
function countOf(what: string): string {
  const [, id, size] = /^block (\d+)_0_(\d+) belongs/.exec(what) ?? [];
  return `K of ${id}/${size} has no records`;
}
