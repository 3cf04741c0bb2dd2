/** Waiting for a condition, with a limit. */

import { setTimeout as delay } from 'node:timers/promises';

/** Resolves once `condition` holds, which is asked every `stepMs`; fails with `what` after `limitMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitMs = 40_000,
  stepMs = 10,
): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    await delay(stepMs);
  }
}
