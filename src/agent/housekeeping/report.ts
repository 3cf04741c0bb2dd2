/** What a clean-up is asked for, and what it has done. */

/** What was done, or with `dryRun` would be: how many of each. */
export interface CleanupReport {
  sessions: number;
  /** Files that a dead session had held open. */
  held: number;
  trashEntries: number;
  trashHours: number;
  /** Inodes of trees that were never attached. */
  detached: number;
  unnamed: number;
  /** `L` keys. */
  delayed: number;
  /** Files whose data were deleted. */
  files: number;
  /** Slices whose blocks went because nothing refers to them any more. */
  slices: number;
  /** Counts that were put right or were of no use. */
  counts: number;
  /** Blocks that nothing had ever named. */
  blocks: number;
  /** Those that may still be on their way to a name. */
  youngBlocks: number;
  /** What could not be done, and why; a phrase each. */
  readonly left: string[];
}

export interface CleanupOptions {
  /** Seconds that something which nothing names must have been so. */
  readonly minAge: number;
  readonly dryRun: boolean;
}
