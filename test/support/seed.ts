/** Seeds of property tests: fast-check prints the seed of a failure, and `SEED` gives it back. */

import type { Parameters } from 'fast-check';

/** Parameters of a run, with the seed of the environment if there is one. */
export function seeded<T>(parameters: Parameters<T> = {}): Parameters<T> {
  const seed = process.env['SEED'];
  return seed === undefined ? parameters : { ...parameters, seed: Number(seed) };
}
