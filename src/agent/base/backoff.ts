/** How long to wait before the next try: exponential, with full jitter. */

export interface BackoffLimits {
  /** Upper bound of the first wait, in milliseconds. */
  readonly firstMs: number;
  /** Upper bound of every wait, in milliseconds. */
  readonly maxMs: number;
}

/** Quick enough that a restarted server is found at once, slow enough that a thousand agents do not hurt it. */
export const DEFAULT_BACKOFF: BackoffLimits = { firstMs: 50, maxMs: 3_000 };

/**
 * The wait before a try, in milliseconds. `failures` counts the failures in a row so far, `random` is in [0, 1):
 * full jitter, so that agents that lost the same server do not come back together.
 */
export function backoffMs(failures: number, random: number, limits: BackoffLimits = DEFAULT_BACKOFF): number {
  if (failures <= 0) return 0;
  return random * Math.min(limits.maxMs, limits.firstMs * 2 ** Math.min(failures - 1, 30));
}
