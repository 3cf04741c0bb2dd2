/** Real directories at the top of DIR that somebody made where the view had none, and what looks have seen in them. */

import type { ByteString } from '../codec/kv.ts';
import type { Path } from '../reconcile/entry.ts';

/** Paths of the view, the directory's own among them. */
export type Seen = Set<Path>;

/**
 * A directory in the place of a link is united with what the link leads to, because `tar x` and `rsync -a` make it. Where
 * there was none, what is in the tree came from the directory: what leaves it again or gets another mode until its link
 * stands is an edit. A restart forgets, and then it is a union.
 */
export class StandingDirectories {
  readonly #standing = new Map<ByteString, { readonly ino: bigint; readonly seen: Seen }>();

  /** What was seen in a directory that stands now; `undefined` when it is a union. */
  seenIn(name: ByteString): Seen | undefined {
    return this.#standing.get(name)?.seen;
  }

  /** A look found a real directory; `isNew` when the view has none of that name. */
  note(name: ByteString, ino: bigint, isNew: boolean): Seen | undefined {
    const standing = this.#standing.get(name);
    if (standing?.ino === ino) return standing.seen;
    this.#standing.delete(name);
    if (!isNew) return undefined;
    const seen: Seen = new Set();
    this.#standing.set(name, { ino, seen });
    return seen;
  }

  /** A look is over: what it did not find stands no more. */
  keepOnly(names: ReadonlySet<ByteString>): void {
    for (const name of this.#standing.keys()) if (!names.has(name)) this.#standing.delete(name);
  }
}
