/** A store that does something else than it should at one transaction, and stands for a process that ends there. */

import type { CommitResult, EtcdStore } from '../../src/agent/base/ports.ts';
import { UnknownOutcomeError } from '../../src/agent/base/error.ts';
import type { StoreTransaction } from '../../src/codec/kv.ts';

/** The process is gone: every call from here on ends so. */
class Stopped extends Error {}

/**
 * What happens to one transaction. `unsent`, `applied`: the process ends before it sends it, or after the store carried it out
 * and before the answer. The others go on. `unknown`, `unknown unsent`: a signal stops the wait for an outcome. `again`: the
 * answer is lost and the transaction is sent again. `raced`: so, and another writer comes between and moves a key.
 */
export type Fate = 'unsent' | 'applied' | 'unknown' | 'unknown unsent' | 'again' | 'raced';

const ENDS: readonly Fate[] = ['unsent', 'applied'];

export interface StoppingStore {
  readonly store: EtcdStore;
  /** Transactions so far. */
  readonly commits: number;
  /** Whether the transaction came. */
  readonly happened: boolean;
}

/** Counts transactions from 1; 0 stops none. To end between two reads is to end before the next transaction. */
export function stoppingStore(inner: EtcdStore, at: number, fate: Fate): StoppingStore {
  let commits = 0;
  let happened = false;
  let ended = false;
  const check = (): void => {
    if (ended) throw new Stopped();
  };
  const commit = async (transaction: StoreTransaction): Promise<CommitResult> => {
    check();
    commits += 1;
    if (commits !== at) return inner.commit(transaction);
    happened = true;
    ended = ENDS.includes(fate);
    switch (fate) {
      case 'unsent':
        throw new Stopped();
      case 'unknown unsent':
        throw new UnknownOutcomeError('stopped');
      case 'raced':
        await moveAKey(inner, transaction);
        break;
      default:
        await inner.commit(transaction);
    }
    if (fate === 'unknown') throw new UnknownOutcomeError('stopped');
    if (fate === 'applied') throw new Stopped();
    const result = await inner.commit(transaction);
    return result.outcome === 'lost' ? { ...result, ambiguous: true } : result;
  };
  const store: EtcdStore = {
    commit,
    get: async (keys, options) => {
      check();
      return inner.get(keys, options);
    },
    snapshot: async (ranges, onKv, options) => {
      check();
      return inner.snapshot(ranges, onKv, options);
    },
    watch: (...args) => inner.watch(...args),
    status: async (signal) => inner.status(signal),
    close: async () => inner.close(),
  };
  return {
    store,
    get commits() {
      return commits;
    },
    get happened() {
      return happened;
    },
  };
}

/** Writes the first compared key that is there again. */
async function moveAKey(store: EtcdStore, { compares }: StoreTransaction): Promise<void> {
  for (const compare of compares) {
    if (!('key' in compare) || compare.modRevision === 0n) continue;
    const [stored] = (await store.get([compare.key])).kvs;
    if (stored === undefined) continue;
    await store.commit({ compares: [], ops: [{ type: 'put', key: compare.key, value: stored.value }] });
    return;
  }
}
