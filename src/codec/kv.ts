/** Keys and values of the store, and transactions over them, as plain data. */

/** Bytes as a string, one char a byte (latin1). Keys, names and paths are byte strings everywhere inside. */
export type ByteString = string;

/** A half-open range of keys: `start <= key < end`. */
export interface KeyRange {
  readonly start: ByteString;
  readonly end: ByteString;
}

/** A key with its value as the store held it at some revision. `value` is a copy that owns its bytes. */
export interface Kv {
  readonly key: ByteString;
  readonly value: Uint8Array;
  readonly modRevision: bigint;
  readonly createRevision: bigint;
}

/** One change of one key. A delete carries no value. */
export type StoreEvent =
  | { readonly type: 'put'; readonly kv: Kv }
  | { readonly type: 'delete'; readonly key: ByteString; readonly modRevision: bigint };

/** What must still be true for a transaction to pass. */
export type Compare =
  /** The key's mod revision; 0 means that the key is absent. */
  | { readonly key: ByteString; readonly modRevision: bigint }
  /** No key in the range has a higher mod revision; 0 means that the range is empty. Stops phantoms (layout 7). */
  | { readonly range: KeyRange; readonly maxModRevision: bigint };

/** One write of a transaction. A key may occur once in a transaction. */
export type StoreOp =
  | {
      readonly type: 'put';
      readonly key: ByteString;
      readonly value: Uint8Array;
      /** The key goes when this lease does. */
      readonly lease?: bigint;
    }
  | { readonly type: 'delete'; readonly key: ByteString }
  | { readonly type: 'deleteRange'; readonly range: KeyRange };

/** At most 128 compares, 128 operations and 1.5 MiB (etcd's defaults). */
export interface StoreTransaction {
  readonly compares: readonly Compare[];
  readonly ops: readonly StoreOp[];
}
