/** The clock by which a file system stamps: it ticks every few milliseconds. */

import { rmSync, statSync, writeFileSync } from 'node:fs';
import { until } from './until.ts';

/** Waits until a stamp given from now on is later than all given before. `probe` is a path where nothing is. */
export async function nextTick(probe: string): Promise<void> {
  const stamp = (): bigint => {
    writeFileSync(probe, '');
    return statSync(probe, { bigint: true }).mtimeNs;
  };
  const first = stamp();
  await until('the clock of the file system moves', () => stamp() > first + 10_000_000n);
  rmSync(probe);
}
