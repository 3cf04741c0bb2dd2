/** `{path, old, new}`: what would turn one tree into another. */

import type { Entry, Path } from './entry.ts';

/** One path's change; `undefined` is absence. A move is told by `movedFrom`: `old` is then the entry at that path. */
export interface Change {
  readonly path: Path;
  readonly old: Entry | undefined;
  readonly new: Entry | undefined;
  /** The path this entry came from, in the same tree and at the same moment; the old path has no change of its own. */
  readonly movedFrom?: Path;
}
