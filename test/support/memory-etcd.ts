/** An etcd in memory: all revisions of all keys, transactions, watches, compaction, leases. */

import { CompactedError, LeaseGoneError, LimitError, UnavailableError } from '../../src/agent/base/error.ts';
import { txnRequest } from '../../src/agent/etcd/etcd-wire.ts';
import type { CommitResult } from '../../src/agent/base/ports.ts';
import type { ByteString, Compare, KeyRange, Kv, StoreEvent, StoreTransaction } from '../../src/codec/kv.ts';

/** One state of a key; without a value it was deleted. */
interface Version {
  readonly modRevision: bigint;
  readonly createRevision: bigint;
  readonly value: Uint8Array | undefined;
  readonly lease: bigint | undefined;
}

interface Lease {
  readonly seconds: number;
  endsMs: number;
}

/** What one revision changed. */
export interface Revision {
  readonly revision: bigint;
  readonly events: readonly StoreEvent[];
}

/** The same, as it is told at once: with what the transaction relied on, and who sent it. */
export interface CommittedRevision extends Revision {
  readonly compares: readonly Compare[];
  /** Empty for what the store does by itself. */
  readonly by: string;
}

/** All that a server keeps. */
export interface SavedEtcd {
  readonly clusterId: string;
  readonly revision: bigint;
  readonly compacted: bigint;
  readonly versions: ReadonlyMap<ByteString, readonly Version[]>;
  readonly log: readonly Revision[];
}

/** Bytes that etcd's encoding adds to each operation, at least. */
const OVERHEAD_BYTES = 12;
const MAX_REQUEST_BYTES = 1_572_864;

export class MemoryEtcd {
  clusterId = '1';
  readonly version = '3.5.33';
  #versions = new Map<ByteString, Version[]>();
  /** All keys that ever were, in order. */
  #sorted: ByteString[] = [];
  #log: Revision[] = [];
  readonly #leases = new Map<bigint, Lease>();
  readonly #listeners = new Set<(revision: CommittedRevision) => void>();
  readonly #monotonicMs: () => number;
  #revision = 1n;
  #compacted = 0n;
  #nextLease = 7n;

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  get revision(): bigint {
    return this.#revision;
  }

  /** The oldest revision that can be read and watched. */
  get compacted(): bigint {
    return this.#compacted;
  }

  /** Calls back with each revision; returns how to stop. */
  listen(listener: (revision: CommittedRevision) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Throws what a read at a revision throws when it is gone or to come. */
  assertThere(revision: bigint): void {
    if (revision > this.#revision) throw new UnavailableError('required revision is a future revision');
    if (revision < this.#compacted)
      throw new CompactedError('required revision has been compacted', { revision: this.#compacted });
  }

  get(key: ByteString, revision = this.#revision): Kv | undefined {
    this.assertThere(revision);
    const version = this.#versions.get(key)?.findLast(({ modRevision }) => modRevision <= revision);
    if (version?.value === undefined) return undefined;
    const { modRevision, createRevision, value } = version;
    return { key, value: value.slice(), modRevision, createRevision };
  }

  /** The keys of a range in order, at most `limit` of them. */
  range({ start, end }: KeyRange, revision = this.#revision, limit = Infinity): Kv[] {
    this.assertThere(revision);
    const kvs: Kv[] = [];
    for (let at = firstFrom(this.#sorted, start); at < this.#sorted.length; at += 1) {
      const key = this.#sorted[at];
      if (key === undefined || key >= end || kvs.length >= limit) break;
      const kv = this.get(key, revision);
      if (kv !== undefined) kvs.push(kv);
    }
    return kvs;
  }

  /** What changed in a range from a revision on. */
  history({ start, end }: KeyRange, from: bigint): Revision[] {
    return this.#log.flatMap(({ revision, events }) => {
      const own =
        revision < from ? [] : events.filter((event) => keyOf(event) >= start && keyOf(event) < end);
      return own.length === 0 ? [] : [{ revision, events: own }];
    });
  }

  /** Carries out a transaction, or loses it; `by` names the sender. Throws LimitError, LeaseGoneError. */
  commit(txn: StoreTransaction, by = 'client'): CommitResult {
    assertFits(txn);
    this.expireLeases();
    if (!txn.compares.every((compare) => this.#holds(compare))) {
      const current = new Map<ByteString, Kv | undefined>();
      for (const compare of txn.compares)
        if ('key' in compare) current.set(compare.key, this.get(compare.key));
      return { outcome: 'lost', revision: this.#revision, ambiguous: false, current };
    }
    for (const op of txn.ops) {
      const lease = op.type === 'put' ? op.lease : undefined;
      if (lease !== undefined && !this.#leases.has(lease))
        throw new LeaseGoneError('requested lease not found');
    }
    const revision = this.#revision + 1n;
    const events: StoreEvent[] = [];
    for (const op of txn.ops) {
      if (op.type === 'put') events.push(this.#put(op.key, op.value, op.lease, revision));
      else if (op.type === 'delete') events.push(...this.#delete(op.key, revision));
      else for (const { key } of this.range(op.range)) events.push(...this.#delete(key, revision));
    }
    this.#publish({ revision, events, compares: txn.compares, by });
    return { outcome: 'committed', revision: this.#revision };
  }

  #publish(committed: CommittedRevision): void {
    const { revision, events } = committed;
    if (events.length === 0) return;
    this.#revision = revision;
    this.#log.push({ revision, events });
    for (const listener of this.#listeners) listener(committed);
  }

  /** A backup of all data. */
  save(): SavedEtcd {
    return {
      clusterId: this.clusterId,
      revision: this.#revision,
      compacted: this.#compacted,
      versions: new Map([...this.#versions].map(([key, versions]) => [key, [...versions]])),
      log: [...this.#log],
    };
  }

  /** Another server with the data of a backup takes its place; without one, an empty server. Streams are not ended by it. */
  restore(saved?: SavedEtcd, clusterId = saved?.clusterId ?? `${this.clusterId}0`): void {
    this.clusterId = clusterId;
    this.#revision = saved?.revision ?? 1n;
    this.#compacted = saved?.compacted ?? 0n;
    this.#versions = new Map([...(saved?.versions ?? [])].map(([key, versions]) => [key, [...versions]]));
    this.#sorted = [...this.#versions.keys()].sort();
    this.#log = [...(saved?.log ?? [])];
    this.#leases.clear();
  }

  #holds(compare: Compare): boolean {
    if ('key' in compare) return (this.get(compare.key)?.modRevision ?? 0n) === compare.modRevision;
    return this.range(compare.range).every(({ modRevision }) => modRevision <= compare.maxModRevision);
  }

  #append(key: ByteString, version: Version): void {
    const versions = this.#versions.get(key);
    if (versions !== undefined) versions.push(version);
    else {
      this.#versions.set(key, [version]);
      this.#sorted.splice(firstFrom(this.#sorted, key), 0, key);
    }
  }

  #put(key: ByteString, bytes: Uint8Array, lease: bigint | undefined, revision: bigint): StoreEvent {
    const createRevision = this.get(key)?.createRevision ?? revision;
    const value = bytes.slice();
    this.#append(key, { modRevision: revision, createRevision, value, lease });
    return { type: 'put', kv: { key, value, modRevision: revision, createRevision } };
  }

  #delete(key: ByteString, revision: bigint): StoreEvent[] {
    if (this.get(key) === undefined) return [];
    this.#append(key, { modRevision: revision, createRevision: 0n, value: undefined, lease: undefined });
    return [{ type: 'delete', key, modRevision: revision }];
  }

  /** Forgets what was before a revision. */
  compact(revision: bigint): void {
    if (revision <= this.#compacted) return;
    this.#compacted = revision;
    while ((this.#log[0]?.revision ?? revision) < revision) this.#log.shift();
    for (const [key, versions] of this.#versions) {
      const newest = versions.findLastIndex(({ modRevision }) => modRevision <= revision);
      if (newest > 0) versions.splice(0, newest);
      if (
        versions.length === 1 &&
        versions[0]?.value === undefined &&
        (versions[0]?.modRevision ?? 0n) < revision
      ) {
        this.#versions.delete(key);
      }
    }
    this.#sorted = this.#sorted.filter((key) => this.#versions.has(key));
  }

  grantLease(seconds: number): bigint {
    const lease = this.#nextLease;
    this.#nextLease += 1n;
    this.#leases.set(lease, { seconds, endsMs: this.#monotonicMs() + seconds * 1000 });
    return lease;
  }

  renewLease(lease: bigint): boolean {
    this.expireLeases();
    const found = this.#leases.get(lease);
    if (found !== undefined) found.endsMs = this.#monotonicMs() + found.seconds * 1000;
    return found !== undefined;
  }

  revokeLease(lease: bigint): void {
    if (!this.#leases.delete(lease)) return;
    const revision = this.#revision + 1n;
    const events = [...this.#versions].flatMap(([key, versions]) =>
      versions.at(-1)?.lease === lease ? this.#delete(key, revision) : [],
    );
    this.#publish({ revision, events, compares: [], by: '' });
  }

  /** Ends what has run out. */
  expireLeases(): void {
    const now = this.#monotonicMs();
    for (const [lease, { endsMs }] of this.#leases) if (endsMs <= now) this.revokeLease(lease);
  }
}

export function keyOf(event: StoreEvent): ByteString {
  return event.type === 'put' ? event.kv.key : event.key;
}

/** Index of the first key that is not before `start`. */
function firstFrom(keys: readonly ByteString[], start: ByteString): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] ?? '') < start) low = middle + 1;
    else high = middle;
  }
  return low;
}

function assertFits(txn: StoreTransaction): void {
  txnRequest(txn);
  let bytes = 0;
  for (const op of txn.ops)
    bytes += OVERHEAD_BYTES + (op.type === 'put' ? op.key.length + op.value.length : 0);
  if (bytes > MAX_REQUEST_BYTES) throw new LimitError('etcdserver: request is too large');
}
