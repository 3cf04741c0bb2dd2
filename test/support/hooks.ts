/** Runs around every test. */

import { inspect } from 'node:util';

/** What a failed assertion compared, as text: files run in processes of their own, and their reports cannot hold a BigInt. */
export const mochaHooks = {
  afterEach(this: Mocha.Context): void {
    const error: unknown = this.currentTest?.err;
    if (!(error instanceof Error)) return;
    const compared = error as Error & { actual?: unknown; expected?: unknown };
    for (const side of ['actual', 'expected'] as const) {
      if (side in compared) compared[side] = inspect(compared[side], { depth: 6 });
    }
  },
};
