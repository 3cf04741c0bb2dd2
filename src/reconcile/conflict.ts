/** Two changes that cannot both stand, and what became of them. */

import type { Entry, Path } from './entry.ts';

/** A path changed on both sides in ways that exclude each other. The loser is always kept (design 4.4). */
export interface Conflict {
  readonly path: Path;
  readonly ancestor: Entry | undefined;
  readonly local: Entry | undefined;
  readonly remote: Entry | undefined;
  /** `local` only where an edit beats a delete: then nothing is lost and nobody has to decide. */
  readonly winner: 'remote' | 'local';
}
