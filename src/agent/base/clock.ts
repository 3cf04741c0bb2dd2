/** The real `Clock`. */

import { randomUUID } from 'node:crypto';
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises';
import type { Clock } from './ports.ts';
import { withSignal } from './signal.ts';

const NS_PER_MS = 1_000_000n;

export const systemClock: Clock = {
  nowNs: () => BigInt(Date.now()) * NS_PER_MS,
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    await delay(ms, undefined, withSignal(signal));
  },
  breathe: () => immediate(),
  random: Math.random,
  uuid: () => randomUUID(),
};
