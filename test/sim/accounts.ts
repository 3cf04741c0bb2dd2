/** G4: the volume is one that the real client takes: names lead somewhere, contents are there, all accounts recount exactly. */

import { gc } from '../../src/agent/verbs/gc.ts';
import type { MetaAddress } from '../../src/codec/url.ts';
import { recount } from '../support/recount.ts';
import { MemoryStore } from '../support/memory-store.ts';
import type { Clock } from '../../src/agent/ports.ts';
import type { Archive } from './archive.ts';
import type { Pod } from './pod.ts';
import type { Fail, Validator } from './validator.ts';

/** What a push that was stopped leaves until somebody cleans up: blocks that nothing names, and counts of slices that nothing refers to. */
const LEFT_BY_A_CRASH = /^block \S+ belongs to nothing$|^K of \S+ has no records$/;

interface Needs {
  readonly archive: Archive;
  readonly address: MetaAddress;
  readonly clock: Clock;
  /** Newest revision of the store. */
  readonly revision: () => bigint;
  readonly fail: Fail;
}

export class Accounts implements Validator {
  readonly #needs: Needs;
  /** Revisions at which an agent was killed. */
  readonly #crashes = new Map<bigint, string>();

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  onKill(pod: Pod): void {
    this.#crashes.set(this.#needs.revision(), pod.name);
  }

  async atRest(): Promise<void> {
    const { revision, fail } = this.#needs;
    for (const [at, name] of this.#crashes) {
      const wrong = (await this.#wrongIn(this.#storeAt(at))).filter((what) => !LEFT_BY_A_CRASH.test(what));
      for (const what of wrong) fail('G4', `at ${at}, when ${name} was killed, ${what}`);
    }
    const store = this.#storeAt(revision());
    let wrong = await this.#wrongIn(store);
    if (this.#crashes.size > 0 && wrong.length > 0 && wrong.every((what) => LEFT_BY_A_CRASH.test(what))) {
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
