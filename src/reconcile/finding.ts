/** What an audit finds: what is wrong, where, and what would put it right. */

import type { MetaKey } from '../codec/key.ts';
import type { ByteString, KeyRange } from '../codec/kv.ts';

export type FindingKind =
  /** A value that is not the layout. */
  | 'undecodable'
  /** A name that leads to no inode. */
  | 'dangling'
  /** A name and its inode disagree on the type. */
  | 'type'
  /** The number of names of a file, or of subdirectories. */
  | 'nlink'
  /** The directory that an inode says it is in, or the counts of a hard linked one. */
  | 'parent'
  /** A directory with several names, or in a circle. */
  | 'structure'
  /** A symlink without its target, or of another length. */
  | 'symlink'
  /** What the trash holds does not follow its rules. */
  | 'trash'
  /** An inode that no name leads to, for no known reason. */
  | 'orphan'
  /** Keys of an inode that is not there. */
  | 'leftover'
  /** The count of references of a slice. */
  | 'reference'
  /** A slice id with two sizes. */
  | 'slice'
  /** A block that is not stored. */
  | 'block-missing'
  /** A block whose bytes are not what its key says. */
  | 'block-bytes'
  /** A counter of the volume. */
  | 'counter'
  /** Statistics of a directory. */
  | 'statistics'
  /** Usage under a quota. */
  | 'quota';

/** One key to write, as it was when the audit read it. */
export interface Edit {
  readonly key: MetaKey;
  /** 0: the key was absent. */
  readonly modRevision: bigint;
  /** `undefined` deletes; 'same' only compares. */
  readonly value: Uint8Array | undefined | 'same';
}

export interface Repair {
  /** What is done, as a phrase. */
  readonly what: string;
  readonly edits: readonly Edit[];
  /** Ranges in which everything is deleted besides. */
  readonly clear?: readonly KeyRange[];
}

export interface Finding {
  readonly kind: FindingKind;
  /** Absolute, for people; absent for what has none. */
  readonly path?: ByteString;
  readonly ino?: bigint;
  /** A sentence. */
  readonly what: string;
  /** Absent: nothing that this program would do by itself. */
  readonly repair?: Repair;
  /**
   * How far an account is off, as text. Mounts flush what they owe within seconds, so only one that stays the same is
   * damage.
   */
  readonly drift?: string;
}

/** What tells one finding from another, for two audits of one volume. */
export function identityOf({ kind, path, ino, what, drift }: Finding): string {
  return JSON.stringify([kind, path, String(ino), drift ?? what]);
}
