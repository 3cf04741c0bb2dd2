/** Seeds of random tests: the seed of a failure is printed, and `SEED` gives it back. */

import type { Parameters } from 'fast-check';

/** The seed of the environment, if there is one. */
export function givenSeed(): number | undefined {
  const seed = process.env['SEED'];
  return seed === undefined ? undefined : Number(seed);
}

/** Parameters of a run, with the seed of the environment if there is one. */
export function seeded<T>(parameters: Parameters<T> = {}): Parameters<T> {
  const seed = givenSeed();
  return seed === undefined ? parameters : { ...parameters, seed };
}
