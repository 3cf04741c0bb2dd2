/** The real world as a process sees it that may be killed at any call which changes something, on disk or in the store. */

import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { acquireLock } from '../../src/agent/start/lock.ts';
import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import type { Clock, EtcdStore, FsPort, Lock, Ports } from '../../src/agent/base/ports.ts';
import { isRead } from './fs-calls.ts';

/** Thrown by every call from the kill on. */
class Killed extends Error {}

type Call = (...args: readonly unknown[]) => unknown;

/** The ports of one process. */
export class MortalPorts {
  readonly ports: Ports;
  /** Aborts when the process is killed. */
  readonly death = new AbortController();
  /** Changing calls so far: a commit counts twice, before it is sent and after it was carried out. */
  calls = 0;
  /** What did not happen any more. */
  killedAt: string | undefined;
  readonly #at: number;
  readonly #open = new Set<number>();
  readonly #locks: Lock[] = [];
  readonly #stores: EtcdStore[] = [];

  /** `at`: the changing call that does not happen, from 1; of a write half gets there. `speed`: how much faster time passes. */
  constructor(at: number, speed: number) {
    this.#at = at;
    const fs = this.#fs();
    this.ports = {
      fs,
      clock: this.#clock(speed),
      openStore: (address) => this.#store(etcdStore(address, systemClock)),
      // Hints would make the order of calls a matter of luck: the scan finds all.
      openWatch: () => ({ start: () => undefined, close: () => Promise.resolve() }),
      lock: async (stateDir) => {
        const lock = await acquireLock(nodeFs, stateDir);
        this.#locks.push(lock);
        return lock;
      },
    };
  }

  get isDead(): boolean {
    return this.killedAt !== undefined;
  }

  /** What the kernel does for a process that is gone. */
  async bury(): Promise<void> {
    for (const fd of this.#open) closeSync(fd);
    await Promise.all([
      ...this.#locks.map((lock) => lock.release()),
      ...this.#stores.map((store) => store.close()),
    ]);
  }

  /** Counts a changing call; throws if it is the last. */
  #change(what: string, half?: () => void): void {
    this.#live();
    this.calls += 1;
    if (this.calls !== this.#at) return;
    this.killedAt = what;
    half?.();
    this.death.abort();
    throw new Killed(what);
  }

  #live(): void {
    if (this.isDead) throw new Killed(this.killedAt);
  }

  #fs(): FsPort {
    const wrapped = Object.entries(nodeFs).map(([name, call]: [string, Call]) => [
      name,
      this.#wrap(name, call),
    ]);
    return Object.fromEntries(wrapped) as FsPort;
  }

  #wrap(name: string, call: Call): Call {
    return (...args) => {
      const bytes = args[2];
      const half =
        name === 'write' && bytes instanceof Uint8Array
          ? () => call(args[0], args[1], bytes.subarray(0, bytes.length >> 1), ...args.slice(3))
          : undefined;
      if (isRead(name)) this.#live();
      else this.#change(`${name} "${String(args[0])}"`, half && (() => void half()));
      const result = call(...args);
      if (name.startsWith('open')) this.#open.add(result as number);
      else if (name === 'close') this.#open.delete(args[1] as number);
      return result;
    };
  }

  #clock(speed: number): Clock {
    return {
      ...systemClock,
      monotonicMs: () => systemClock.monotonicMs() * speed,
      breathe: async () => {
        this.#live();
        await systemClock.breathe();
      },
      sleep: async (ms, signal) => {
        this.#live();
        const ends = [this.death.signal, ...(signal === undefined ? [] : [signal])];
        await delay(ms / speed, undefined, { signal: AbortSignal.any(ends) });
        this.#live();
      },
    };
  }

  #store(inner: EtcdStore): EtcdStore {
    this.#stores.push(inner);
    const alive = async <T>(answer: Promise<T>): Promise<T> => {
      const result = await answer;
      this.#live();
      return result;
    };
    return {
      commit: async (transaction, signal) => {
        this.#change('commit, before it is sent');
        const result = await alive(inner.commit(transaction, signal));
        this.#change('commit, before its answer is read');
        return result;
      },
      get: async (...args) => {
        this.#live();
        return alive(inner.get(...args));
      },
      snapshot: async (...args) => {
        this.#live();
        return alive(inner.snapshot(...args));
      },
      watch: (ranges, from, handlers, signal) =>
        inner.watch(ranges, from, handlers, AbortSignal.any([signal, this.death.signal])),
      status: async (signal) => alive(inner.status(signal)),
      close: () => inner.close(),
    };
  }
}
