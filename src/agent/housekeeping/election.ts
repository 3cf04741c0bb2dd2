/** One worker among many: who puts the key first is it, for as long as its lease is renewed. */

import { toByteString, toBytes } from '../../codec/bytes.ts';
import type { ByteString, Compare, Kv } from '../../codec/kv.ts';
import { UnavailableError } from '../base/error.ts';
import type { Clock, LeaseStore } from '../base/ports.ts';

export interface ElectionOptions {
  /** Of all workers of one election. */
  readonly key: ByteString;
  /** What the key says of its holder; unlike that of any other worker. */
  readonly worker: string;
  /** After this many seconds without a sign of life another worker takes over. */
  readonly seconds: number;
}

/** The time in which this worker is the elected one. */
export interface Term {
  /** Compared by every transaction of the worker: it cannot act once another one was elected, whatever it believes. */
  readonly guard: readonly Compare[];
  /** Aborts when the term may be over. */
  readonly over: AbortSignal;
  /** Ends the term, so that another worker is elected at once. */
  resign(): Promise<void>;
}

/** Renewals in the time of a lease. */
const RENEWALS = 3;

/** Waits until this worker is elected. Rejects with the store's errors, and when the signal aborts. */
export async function elect(
  store: LeaseStore,
  clock: Clock,
  { key, worker, seconds }: ElectionOptions,
  signal: AbortSignal,
): Promise<Term> {
  const value = toBytes(worker);
  for (;;) {
    const { kvs, revision } = await store.get([key], { signal });
    if (kvs[0] !== undefined) {
      await untilDeleted(store, key, revision + 1n, signal);
      continue;
    }
    const lease = await store.grantLease(seconds, signal);
    try {
      const result = await store.commit(
        { compares: [{ key, modRevision: 0n }], ops: [{ type: 'put', key, value, lease }] },
        signal,
      );
      const won =
        result.outcome === 'committed' ? result.revision : ownRevision(result.current.get(key), worker);
      if (won !== undefined) return beginTerm(store, clock, { key, modRevision: won }, lease, seconds);
    } catch (error) {
      await resign(store, lease);
      throw error;
    }
    await resign(store, lease);
  }
}

/** An attempt without an answer may have won. */
function ownRevision(kv: Kv | undefined, worker: string): bigint | undefined {
  return kv !== undefined && toByteString(kv.value) === worker ? kv.modRevision : undefined;
}

async function untilDeleted(
  store: LeaseStore,
  key: ByteString,
  from: bigint,
  signal: AbortSignal,
): Promise<void> {
  const found = new AbortController();
  const handlers = {
    onRevision: (_range: number, _revision: bigint, events: readonly { readonly type: string }[]) => {
      if (events.some(({ type }) => type === 'delete')) found.abort();
    },
    onProgress: () => {},
    onState: () => {},
  };
  const range = { start: key, end: `${key}\0` };
  try {
    await store.watch([range], from, handlers, AbortSignal.any([signal, found.signal]));
  } catch (error) {
    signal.throwIfAborted();
    if (!found.signal.aborted) throw error;
  }
}

function beginTerm(store: LeaseStore, clock: Clock, held: Compare, lease: bigint, seconds: number): Term {
  const over = new AbortController();
  const renewals = keepAlive(store, clock, lease, seconds, over);
  return {
    guard: [held],
    over: over.signal,
    async resign() {
      over.abort(new UnavailableError('the worker has resigned'));
      await renewals;
      await resign(store, lease);
    },
  };
}

/** Renews the lease until the term is over: because it ended, or because nobody could be told for as long as it lasts. */
async function keepAlive(
  store: LeaseStore,
  clock: Clock,
  lease: bigint,
  seconds: number,
  over: AbortController,
): Promise<void> {
  const lastsMs = seconds * 1000;
  let renewedMs = clock.monotonicMs();
  while (!over.signal.aborted) {
    try {
      await clock.sleep(lastsMs / RENEWALS, over.signal);
      const sentMs = clock.monotonicMs();
      if (!(await store.renewLease(lease, over.signal))) break;
      renewedMs = sentMs;
    } catch {
      // The store is away, or the term is over.
      if (clock.monotonicMs() - renewedMs > lastsMs) break;
    }
  }
  over.abort(new UnavailableError('the lease of the elected worker has ended'));
}

/** As a courtesy: without it the others wait until the lease has ended. */
async function resign(store: LeaseStore, lease: bigint): Promise<void> {
  try {
    await store.revokeLease(lease);
  } catch {
    // It ends by itself.
  }
}
