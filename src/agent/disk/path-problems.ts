/** Paths that a publish could not do, and why; each is logged when it comes. */

import type { Path } from '../../reconcile/entry.ts';
import { log } from '../base/log.ts';

export class PathProblems {
  readonly #reasons = new Map<Path, string>();

  get all(): ReadonlyMap<Path, string> {
    return this.#reasons;
  }

  /** `undefined`: there is no problem any more. */
  set(path: Path, reason: string | undefined): void {
    if (this.#reasons.get(path) === reason) return;
    if (reason === undefined) this.#reasons.delete(path);
    else {
      this.#reasons.set(path, reason);
      log('warn', 'problem', { path, reason });
    }
  }
}
