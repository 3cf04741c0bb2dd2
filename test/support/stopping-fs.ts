/** A file system that stops: from one call on nothing happens any more, as if the process had been killed there. */

import type { FsPort } from '../../src/agent/base/ports.ts';
import { isRead } from './fs-calls.ts';

/** Thrown by every call from the stop on. */
class Stopped extends Error {}

/** Whether an error is the stop, perhaps as the cause of another error. */
export function isStop(error: unknown): boolean {
  return error instanceof Stopped || (error instanceof Error && isStop(error.cause));
}

type Call = (...args: readonly unknown[]) => unknown;

/** Wraps a file system. Reads and, until `arm`, everything else pass. */
export class StoppingFs {
  readonly port: FsPort;
  /** What did not happen any more: the call and its label. */
  stoppedAt: string | undefined;
  #left = Infinity;
  #torn = false;
  #isFull = false;

  constructor(inner: FsPort) {
    const wrapped = Object.entries(inner).map(([name, call]: [string, Call]) => [
      name,
      this.#wrap(name, call),
    ]);
    this.port = Object.fromEntries(wrapped) as FsPort;
  }

  /** Stops at the `at`-th changing call from now (from 1). `torn`: if it is a write, half of its bytes get there. */
  arm(at: number, torn: boolean): void {
    this.#left = at;
    this.#torn = torn;
  }

  /** Fails from the `at`-th changing call on as a full disk does, until `revive`. Half of a write gets there. */
  fill(at: number): void {
    this.#isFull = true;
    this.arm(at, true);
  }

  /** Lets calls through again, so that descriptors can be closed. */
  revive(): void {
    this.#left = Infinity;
  }

  #wrap(name: string, call: Call): Call {
    return (...args) => {
      if (this.#left <= 0 && !this.#isFull) throw new Stopped();
      if (isRead(name)) return call(...args);
      this.#left -= 1;
      if (this.#left > 0) return call(...args);
      this.stoppedAt ??= `${name} "${String(args[0])}"`;
      const bytes = args[2];
      if (this.#torn && name === 'write' && bytes instanceof Uint8Array)
        call(args[0], args[1], bytes.subarray(0, bytes.length >> 1), ...args.slice(3));
      throw this.#isFull ? Object.assign(new Error('no space left'), { code: 'ENOSPC' }) : new Stopped();
    };
  }
}
