/** Paths whose remote entry may differ from what both sides agreed on last. */

import type { Path } from '../../reconcile/entry.ts';

/** What nobody has dealt with yet of what the volume brought. */
export class RemoteNews {
  /** A path, and a revision at which its entry did not differ yet; 0n: unknown. */
  readonly #since = new Map<Path, bigint>();

  get size(): number {
    return this.#since.size;
  }

  get paths(): Iterable<Path> {
    return this.#since.keys();
  }

  has(path: Path): boolean {
    return this.#since.has(path);
  }

  /** A revision at which the entry did not differ yet; `undefined` when there is no news of the path. */
  since(path: Path): bigint | undefined {
    return this.#since.get(path);
  }

  /** The entry may differ; it did not yet at the revision `before`. What was noted first counts. */
  note(path: Path, before: bigint): void {
    if (!this.#since.has(path)) this.#since.set(path, before);
  }

  settle(path: Path): void {
    this.#since.delete(path);
  }
}
