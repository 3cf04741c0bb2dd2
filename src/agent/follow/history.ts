/**
 * Whether the store still has the history that this agent has followed (design 4.1.7). A restored backup can have the same
 * cluster id and the same or a higher revision: what tells is the newest key that was taken in, read at its revision.
 */

import { createHash } from 'node:crypto';

import type { ByteString, Kv } from '../../codec/kv.ts';
import type { Trip } from '../../reconcile/safety.ts';
import { CompactedError } from '../base/error.ts';
import type { EtcdStore } from '../base/ports.ts';
import { withSignal } from '../base/signal.ts';

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

/**
 * `compacted`: nobody can tell, and all has to be compared. `mixed`: the store has that history, and what was taken in since is
 * not of it.
 */
export type HistoryVerdict = 'same' | 'compacted' | 'mixed' | Trip;

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

/** Compares the store with what was followed, and with the newest keys of what was `taken` in since. Throws what the store throws. */
export async function checkHistory(
  store: EtcdStore,
  { anchor, revision }: Followed,
  taken: readonly Anchor[],
  signal?: AbortSignal,
): Promise<HistoryVerdict> {
  const history = await History.read(store, anchor === undefined ? taken : [anchor, ...taken], signal);
  const facts = anchor && [anchor.key, String(anchor.modRevision), anchor.hash, String(revision)];
  if (anchor !== undefined && facts !== undefined) {
    if (history.revision < revision || history.revision < anchor.modRevision) {
      const reason = `the store went back from revision ${revision} to ${history.revision}`;
      return { guard: 'regressed', reason, facts };
    }
    const has = await history.has(anchor);
    if (has === 'compacted') return 'compacted';
    if (!has) {
      const reason = `the store has another history: revision ${anchor.modRevision} is not what it was`;
      return { guard: 'history', reason, facts };
    }
  }
  // Who had answered before may have been another store.
  for (const one of taken) if ((await history.has(one)) !== true) return 'mixed';
  return 'same';
}

/** What a store tells of some keys at one moment, and of their past. */
class History {
  readonly revision: bigint;
  readonly #store: EtcdStore;
  readonly #now: ReadonlyMap<ByteString, Kv>;
  readonly #signal: AbortSignal | undefined;

  private constructor(
    store: EtcdStore,
    revision: bigint,
    kvs: readonly (Kv | undefined)[],
    signal: AbortSignal | undefined,
  ) {
    this.#store = store;
    this.revision = revision;
    this.#now = new Map(kvs.flatMap((kv) => (kv === undefined ? [] : [[kv.key, kv]])));
    this.#signal = signal;
  }

  static async read(
    store: EtcdStore,
    anchors: readonly Anchor[],
    signal: AbortSignal | undefined,
  ): Promise<History> {
    const keys = new Set(anchors.map(({ key }) => key));
    const { revision, kvs } = await store.get([...keys], withSignal(signal));
    return new History(store, revision, kvs, signal);
  }

  async has(anchor: Anchor): Promise<boolean | 'compacted'> {
    if (this.revision < anchor.modRevision) return false;
    const current = this.#now.get(anchor.key);
    // A key never goes back, whatever was compacted; and unmoved since, no revision that may be compacted has to be read.
    if (current !== undefined && current.modRevision <= anchor.modRevision) return isAnchor(current, anchor);
    const options = { ...withSignal(this.#signal), revision: anchor.modRevision };
    try {
      const { kvs } = await this.#store.get([anchor.key], options);
      return kvs[0] !== undefined && isAnchor(kvs[0], anchor);
    } catch (error) {
      if (error instanceof CompactedError) return 'compacted';
      throw error;
    }
  }
}

function isAnchor({ modRevision, value }: Kv, anchor: Anchor): boolean {
  return modRevision === anchor.modRevision && hashOf(value) === anchor.hash;
}

function hashOf(value: Uint8Array): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 32);
}
