/**
 * Whether the store still has the history that this agent has followed (design 4.1.7). A restored backup can have the same
 * cluster id and the same or a higher revision: what tells is the newest key that was taken in, read at its revision.
 */

import { createHash } from 'node:crypto';

import type { ByteString, Kv } from '../codec/kv.ts';
import type { Trip } from '../reconcile/safety.ts';
import { CompactedError } from './error.ts';
import type { EtcdStore } from './ports.ts';
import { withSignal } from './signal.ts';

/** The newest key of the volume that was taken in. */
export interface Anchor {
  /** With the volume's prefix. */
  readonly key: ByteString;
  readonly modRevision: bigint;
  /** Of the value. */
  readonly hash: string;
}

/** What the store had when it was followed last. */
export interface Followed {
  readonly anchor: Anchor | undefined;
  /** The newest revision that was seen; 0n: none. */
  readonly revision: bigint;
}

/** `compacted`: nobody can tell, and all has to be compared. */
export type HistoryVerdict = 'same' | 'compacted' | Trip;

/** Keeps the newest of the keys that it is told of. */
export class Newest {
  #kv: Kv | undefined;
  /** What there was before any of them. */
  readonly #before: Anchor | undefined;

  constructor(before?: Anchor) {
    this.#before = before;
  }

  note(kv: Kv): void {
    if (kv.modRevision >= (this.#kv?.modRevision ?? 0n)) this.#kv = kv;
  }

  get anchor(): Anchor | undefined {
    if (this.#kv === undefined) return this.#before;
    const { key, modRevision, value } = this.#kv;
    return { key, modRevision, hash: hashOf(value) };
  }
}

/** Compares the store with what was followed. Throws what the store throws. */
export async function checkHistory(
  store: EtcdStore,
  { anchor, revision }: Followed,
  signal?: AbortSignal,
): Promise<HistoryVerdict> {
  const options = withSignal(signal);
  const now = await store.get(anchor === undefined ? [] : [anchor.key], options);
  if (anchor === undefined) return 'same';
  const facts = [anchor.key, String(anchor.modRevision), anchor.hash, String(revision)];
  if (now.revision < revision || now.revision < anchor.modRevision) {
    const reason = `the store went back from revision ${revision} to ${now.revision}`;
    return { guard: 'regressed', reason, facts };
  }
  const [current] = now.kvs;
  // Unmoved since: no revision that may be compacted has to be read.
  if (current !== undefined && isAnchor(current, anchor)) return 'same';
  try {
    const { kvs } = await store.get([anchor.key], { ...options, revision: anchor.modRevision });
    if (kvs[0] !== undefined && isAnchor(kvs[0], anchor)) return 'same';
  } catch (error) {
    if (error instanceof CompactedError) return 'compacted';
    throw error;
  }
  const reason = `the store has another history: revision ${anchor.modRevision} is not what it was`;
  return { guard: 'history', reason, facts };
}

function isAnchor({ modRevision, value }: Kv, anchor: Anchor): boolean {
  return modRevision === anchor.modRevision && hashOf(value) === anchor.hash;
}

function hashOf(value: Uint8Array): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 32);
}
