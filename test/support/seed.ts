/**
 * Seeds of random tests: the same one in every run, so that a run fails for what has changed since the last one. `SEED` gives
 * another one.
 */

import type { Parameters } from 'fast-check';

const DEFAULT_SEED = 1;

/** The seed of the environment, if there is one. */
export function givenSeed(): number | undefined {
  const seed = process.env['SEED'];
  return seed === undefined ? undefined : Number(seed);
}

export function seedOrDefault(): number {
  return givenSeed() ?? DEFAULT_SEED;
}

/** Parameters of a run with that seed. */
export function seeded<T>(parameters: Parameters<T> = {}): Parameters<T> {
  return { ...parameters, seed: seedOrDefault() };
}
