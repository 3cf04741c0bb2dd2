/** Two changes that cannot both stand, who decides between them, and what became of them. */

import type { Entry, FileEntry, Path } from './entry.ts';

/**
 * Which of two versions stays in place (design 3.1). `merge` joins texts where the edits do not touch and does else as
 * `remote`; `newest` goes by the modification times, and as `remote` where they are equal.
 */
export const CONFLICT_POLICIES = ['merge', 'remote', 'local', 'newest'] as const;
export type ConflictPolicy = (typeof CONFLICT_POLICIES)[number];

/** A path changed on both sides in ways that exclude each other. The loser is always kept (design 4.4). */
export interface Conflict {
  readonly path: Path;
  readonly ancestor: Entry | undefined;
  readonly local: Entry | undefined;
  readonly remote: Entry | undefined;
  /** Where the other side has nothing, an edit has beaten a delete: then nothing is lost and nobody has to decide. */
  readonly winner: 'remote' | 'local';
}

/** A file with different contents in all three trees. */
export interface Versions {
  readonly path: Path;
  readonly ancestor: FileEntry;
  readonly local: FileEntry;
  readonly remote: FileEntry;
}

/** A content as a merge made it. */
export interface MergedContent {
  /** SHA-256, lower-case hex. */
  readonly digest: string;
  /** Bytes. */
  readonly size: bigint;
}
