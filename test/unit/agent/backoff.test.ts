/** Waits between tries. */

import { expect } from 'chai';
import { backoffMs } from '../../../src/agent/base/backoff.ts';

const LIMITS = { firstMs: 50, maxMs: 3_000 };

describe('backoff', () => {
  for (const [failures, bound] of [
    [0, 0],
    [1, 50],
    [2, 100],
    [3, 200],
    [6, 1_600],
    [7, 3_000],
    [8, 3_000],
    [10_000, 3_000],
  ] as const) {
    it(`after ${failures} failures waits anything up to ${bound} ms`, () => {
      expect(backoffMs(failures, 0, LIMITS)).to.equal(0);
      expect(backoffMs(failures, 0.5, LIMITS)).to.equal(bound / 2);
      expect(backoffMs(failures, 1, LIMITS)).to.equal(bound);
    });
  }
});
