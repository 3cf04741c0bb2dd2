/** What a planner may know of a volume's metadata: keys and ranges as some revision had them, or not known yet. */

import type { ByteString, KeyRange } from '../codec/kv.ts';

/** A key that is there. Keys are without the volume's prefix. */
export interface MetaKv {
  readonly key: ByteString;
  readonly value: Uint8Array;
  readonly modRevision: bigint;
}

/**
 * Metadata as the planner reads it. Answers may come from different revisions, and may be old: a plan compares
 * whatever it relied on, so an old answer costs a lost transaction and never a wrong one.
 */
export interface MetaView {
  get(key: ByteString): MetaKv | 'absent' | 'unknown';
  /** All keys of a range in key order, as one revision had them. */
  range(range: KeyRange): readonly MetaKv[] | 'unknown';
}

/** What a view could not answer: read these and plan again. */
export interface MetaNeed {
  readonly keys: readonly ByteString[];
  readonly ranges: readonly KeyRange[];
}
