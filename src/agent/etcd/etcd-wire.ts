/** Requests and answers of etcd3's low-level calls, to and from the types of `kv.ts`. */

import type {
  ICompare,
  IEvent,
  IKeyValue,
  IRangeRequest,
  IRangeResponse,
  IRequestOp,
  ITxnRequest,
  ITxnResponse,
} from 'etcd3';
import type {
  ByteString,
  Compare,
  KeyRange,
  Kv,
  StoreEvent,
  StoreOp,
  StoreTransaction,
} from '../../codec/kv.ts';
import type { CommitResult, SnapshotOptions } from '../base/ports.ts';
import { LimitError } from '../base/error.ts';

/** etcd's default `--max-txn-ops`: for each list of a transaction. */
export const MAX_TXN_OPS = 128;

/** etcd's default `--max-request-bytes`: for the encoded request. */
const MAX_REQUEST_BYTES = 1_572_864;

/** Bytes of a byte string, as etcd3 wants them. */
export function buffer(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1');
}

/** A key with its value, copied: what etcd3 gives are views that keep a whole answer alive. */
export function kvOf(kv: IKeyValue): Kv {
  return {
    key: kv.key.toString('latin1'),
    value: new Uint8Array(kv.value),
    modRevision: BigInt(kv.mod_revision),
    createRevision: BigInt(kv.create_revision),
  };
}

export function eventOf(event: IEvent): StoreEvent {
  if (event.type === 'Put') return { type: 'put', kv: kvOf(event.kv) };
  return { type: 'delete', key: event.kv.key.toString('latin1'), modRevision: BigInt(event.kv.mod_revision) };
}

/** A read of nothing, answered only by a majority: for its header. The key lies in every range a user of the volume may read. */
export function probeRequest(prefix: ByteString): IRangeRequest {
  return { key: buffer(prefix), count_only: true };
}

/** A read of single keys at one revision; with a given revision it is answered by any member that has it. */
export function readRequest(keys: readonly ByteString[], revision: bigint | undefined): ITxnRequest {
  return { success: keys.map((key) => ({ request_range: { key: buffer(key), ...pinned(revision) } })) };
}

/** A read of at most `limit` keys of a range, in the order of keys. */
export function pageRequest(
  range: KeyRange,
  limit: number,
  revision: bigint | undefined,
  { keysOnly, changedSince }: Pick<SnapshotOptions, 'keysOnly' | 'changedSince'> = {},
): IRangeRequest {
  return {
    key: buffer(range.start),
    range_end: buffer(range.end),
    limit,
    ...pinned(revision),
    ...(keysOnly === true ? { keys_only: true } : {}),
    ...(changedSince === undefined ? {} : { min_mod_revision: String(changedSince) }),
  };
}

function pinned(revision: bigint | undefined): IRangeRequest {
  return revision === undefined ? {} : { revision: String(revision), serializable: true };
}

/** What came of a read of one key. */
export function firstOf(answer: IRangeResponse): Kv | undefined {
  const kv = answer.kvs[0];
  return kv === undefined ? undefined : kvOf(kv);
}

/**
 * A transaction whose failure branch reads every key that is compared by itself, so that a lost transaction brings back
 * what it lost against. Throws LimitError for what etcd's defaults would never take.
 */
export function txnRequest(txn: StoreTransaction): ITxnRequest {
  if (txn.compares.length > MAX_TXN_OPS || txn.ops.length > MAX_TXN_OPS) {
    throw new LimitError(`a transaction takes at most ${MAX_TXN_OPS} compares and ${MAX_TXN_OPS} operations`);
  }
  const bytes = payloadBytes(txn);
  if (bytes > MAX_REQUEST_BYTES) {
    throw new LimitError(`a request of ${bytes} bytes is larger than etcd's ${MAX_REQUEST_BYTES}`);
  }
  return {
    compare: txn.compares.map(compareOf),
    success: txn.ops.map(opOf),
    failure: comparedKeys(txn).map((key) => ({ request_range: { key: buffer(key) } })),
  };
}

/** How a transaction ended; `ambiguous` as in CommitResult. */
export function commitResult(txn: StoreTransaction, answer: ITxnResponse, ambiguous: boolean): CommitResult {
  const revision = BigInt(answer.header.revision);
  if (answer.succeeded) return { outcome: 'committed', revision };
  const current = new Map<ByteString, Kv | undefined>();
  for (const [index, key] of comparedKeys(txn).entries()) {
    const response = answer.responses[index];
    if (response === undefined) throw new Error('etcd answered fewer reads than a transaction asked for');
    current.set(key, firstOf(response.response_range));
  }
  return { outcome: 'lost', revision, ambiguous, current };
}

function comparedKeys(txn: StoreTransaction): ByteString[] {
  return txn.compares.flatMap((compare) => ('key' in compare ? [compare.key] : []));
}

function compareOf(compare: Compare): ICompare {
  if ('key' in compare) {
    // Written even when 0: it is part of a oneof, and without it etcd compares nothing.
    return {
      key: buffer(compare.key),
      target: 'Mod',
      result: 'Equal',
      mod_revision: String(compare.modRevision),
    };
  }
  // All keys of the range are compared; an empty range passes (etcd's `applyCompare` puts a zero KeyValue in its place).
  return {
    key: buffer(compare.range.start),
    range_end: buffer(compare.range.end),
    target: 'Mod',
    result: 'Less',
    mod_revision: String(compare.maxModRevision + 1n),
  };
}

function opOf(op: StoreOp): IRequestOp {
  switch (op.type) {
    case 'put':
      return {
        request_put: {
          key: buffer(op.key),
          value: Buffer.from(op.value),
          ...(op.lease === undefined ? {} : { lease: String(op.lease) }),
        },
      };
    case 'delete':
      return { request_delete_range: { key: buffer(op.key) } };
    case 'deleteRange':
      return { request_delete_range: { key: buffer(op.range.start), range_end: buffer(op.range.end) } };
  }
}

/** Bytes of keys and values alone: a lower bound of the encoded size, so that nothing is refused that would pass. */
function payloadBytes(txn: StoreTransaction): number {
  let bytes = 0;
  for (const compare of txn.compares) {
    // A key that is compared by itself is sent twice: it is also read when the transaction is lost.
    bytes += 'key' in compare ? 2 * compare.key.length : rangeBytes(compare.range);
  }
  for (const op of txn.ops) {
    if (op.type === 'deleteRange') bytes += rangeBytes(op.range);
    else bytes += op.key.length + (op.type === 'put' ? op.value.length : 0);
  }
  return bytes;
}

function rangeBytes(range: KeyRange): number {
  return range.start.length + range.end.length;
}
