/** Local changes that the volume has refused, and that rest for a while. */

import type { Entry, Path } from '../../reconcile/entry.ts';
import { log } from '../base/log.ts';
import type { Clock } from '../base/ports.ts';

/** How long a change that the volume refused rests before it is tried again; milliseconds. */
export const REFUSED_RETRY_MS = 60_000;

interface Refusal {
  readonly reason: string;
  readonly fingerprint: string;
  readonly untilMs: number;
}

export class Refusals {
  readonly #clock: Clock;
  readonly #refused = new Map<Path, Refusal>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(path: Path, entry: Entry | undefined, reason: string): void {
    const untilMs = this.#clock.monotonicMs() + REFUSED_RETRY_MS;
    if (this.#refused.get(path)?.reason !== reason) log('warn', 'problem', { path, reason });
    this.#refused.set(path, { reason, fingerprint: fingerprint(entry), untilMs });
  }

  /** Whether the change of a path to an entry was refused and nothing is new since; `isNew`: the volume has news there. */
  stands(path: Path, entry: Entry | undefined, isNew: boolean): boolean {
    const refusal = this.#refused.get(path);
    if (refusal === undefined) return false;
    const stands =
      refusal.fingerprint === fingerprint(entry) && !isNew && this.#clock.monotonicMs() < refusal.untilMs;
    if (!stands) this.#refused.delete(path);
    return stands;
  }

  /** Paths that the volume refused, and why. */
  *reasons(): Iterable<readonly [Path, string]> {
    for (const [path, { reason }] of this.#refused) yield [path, reason];
  }
}

function fingerprint(entry: Entry | undefined): string {
  if (entry === undefined) return '-';
  const content = entry.type === 'file' ? entry.digest : entry.type === 'symlink' ? entry.target : '';
  const { mode, uid, gid, mtimeNs, xattrs } = entry;
  return `${entry.type} ${mode & 0o777} ${uid} ${gid} ${mtimeNs} ${JSON.stringify(xattrs)} ${content}`;
}
