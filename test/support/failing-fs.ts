/** The real file system, one kind of call of which fails while a test wants it to. */

import { nodeFs } from '../../src/agent/disk/fs.ts';
import type { FsPort } from '../../src/agent/base/ports.ts';

type Call = (...args: readonly unknown[]) => unknown;

export class FailingFs {
  readonly port: FsPort;
  /** All calls that were made: `rename "flip"`. */
  readonly seen = new Set<string>();
  failures = 0;
  #failing: { readonly call: string; readonly code: string } | undefined;

  constructor() {
    const wrapped = Object.entries(nodeFs).map(([name, call]: [string, Call]) => [
      name,
      this.#wrap(name, call),
    ]);
    this.port = Object.fromEntries(wrapped) as FsPort;
  }

  fail(call: string, code: string): void {
    this.failures = 0;
    this.#failing = { call, code };
  }

  heal(): void {
    this.#failing = undefined;
  }

  #wrap(name: string, call: Call): Call {
    return (...args) => {
      const what = `${name} "${String(args[0])}"`;
      this.seen.add(what);
      // Closing always works, or descriptors would be lost.
      if (name === 'close' || this.#failing?.call !== what) return call(...args);
      this.failures += 1;
      const { code } = this.#failing;
      throw Object.assign(new Error(`${code}: made up`), { code });
    };
  }
}
