/** Finds out what became of a transaction: from its first unknown outcome on, only passing or losing tells (design 4.4). */

import { backoffMs, type BackoffLimits } from '../base/backoff.ts';
import { UnknownOutcomeError } from '../base/error.ts';
import type { Clock, CommitResult } from '../base/ports.ts';

/**
 * Makes the identical attempt again until its outcome is known; `isAmbiguous` tells it that an earlier one may have passed.
 * Rejects with what the first attempts had no effect for, or with UnknownOutcomeError when one of the signals ends the wait.
 */
export async function commitUntilKnown(
  attempt: (isAmbiguous: boolean) => Promise<CommitResult>,
  clock: Clock,
  signals: AbortSignal[],
  backoff: BackoffLimits,
): Promise<CommitResult> {
  let isAmbiguous = false;
  for (let failures = 1; ; failures += 1) {
    try {
      return await attempt(isAmbiguous);
    } catch (error) {
      isAmbiguous ||= error instanceof UnknownOutcomeError;
      if (!isAmbiguous) throw error;
      try {
        await clock.sleep(backoffMs(failures, clock.random(), backoff), AbortSignal.any(signals));
      } catch {
        throw new UnknownOutcomeError('stopped before the outcome of a transaction was known', {
          cause: error,
        });
      }
    }
  }
}
