/** The metadata that a push plans on: the live index if there is one, and over it what was read or written since. */

import { ByteReader, toBytes } from '../../codec/bytes.ts';
import { encodeKey } from '../../codec/key.ts';
import type { ByteString, KeyRange, Kv, StoreTransaction } from '../../codec/kv.ts';
import type { InodeIndex } from '../../reconcile/inode-index.ts';
import type { MetaKv, MetaNeed, MetaView } from '../../reconcile/meta-view.ts';
import type { EtcdStore } from '../base/ports.ts';
import { withSignal } from '../base/signal.ts';

/** An index of all `A` keys, and the revision up to which it is complete. */
export interface LiveIndex {
  readonly index: InodeIndex;
  readonly revision: () => bigint;
}

interface Known {
  readonly kv: MetaKv | undefined;
  /** The key was so at this revision. */
  readonly revision: bigint;
}

export class PushView implements MetaView {
  readonly #store: EtcdStore;
  readonly #prefix: ByteString;
  readonly #live: LiveIndex | undefined;
  readonly #known = new Map<ByteString, Known>();
  readonly #ranges = new Map<ByteString, { readonly kvs: readonly MetaKv[]; readonly revision: bigint }>();

  /**
   * Without an index everything is read when it is needed. With one, what the view of the last push knew and the index
   * does not have yet is taken over.
   */
  constructor(store: EtcdStore, prefix: ByteString, live: LiveIndex | undefined, last?: PushView) {
    this.#store = store;
    this.#prefix = prefix;
    this.#live = live;
    if (live === undefined || last === undefined) return;
    const complete = live.revision();
    for (const [key, known] of last.#known) {
      if (key.startsWith('A') && known.revision > complete) this.#known.set(key, known);
    }
  }

  get(key: ByteString): MetaKv | 'absent' | 'unknown' {
    const known = this.#known.get(key);
    const live = this.#live;
    if (
      live !== undefined &&
      key.startsWith('A') &&
      (known === undefined || known.revision <= live.revision())
    ) {
      const stored = live.index.lookup(key);
      return stored === undefined ? 'absent' : { key, ...stored };
    }
    return known === undefined ? 'unknown' : (known.kv ?? 'absent');
  }

  range(range: KeyRange): readonly MetaKv[] | 'unknown' {
    const source = this.#source(range);
    if (source === undefined) return 'unknown';
    const kvs = new Map(source.kvs.map((kv) => [kv.key, kv]));
    for (const [key, { kv, revision }] of this.#known) {
      if (key < range.start || key >= range.end || revision <= source.revision) continue;
      if (kv === undefined) kvs.delete(key);
      else kvs.set(key, kv);
    }
    return [...kvs.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Reads what a plan needs. */
  async fetch(need: MetaNeed, signal?: AbortSignal): Promise<void> {
    const options = withSignal(signal);
    if (need.keys.length > 0) {
      const { kvs, revision } = await this.#store.get(
        need.keys.map((key) => this.#prefix + key),
        options,
      );
      for (const [i, key] of need.keys.entries()) this.#learn(key, kvs[i], revision);
    }
    if (need.ranges.length === 0) return;
    const found = need.ranges.map((): MetaKv[] => []);
    const ranges = need.ranges.map(({ start, end }) => ({
      start: this.#prefix + start,
      end: this.#prefix + end,
    }));
    const revision = await this.#store.snapshot(
      ranges,
      (kv, i) => found[i]?.push({ ...kv, key: kv.key.slice(this.#prefix.length) }),
      options,
    );
    for (const [i, range] of need.ranges.entries())
      this.#ranges.set(range.start, { kvs: found[i] ?? [], revision });
  }

  /** Everything is read again when it is needed. */
  forget(): void {
    this.#known.clear();
    this.#ranges.clear();
  }

  /** Takes in what a lost transaction found under its compared keys. */
  learn(current: ReadonlyMap<ByteString, Kv | undefined>, revision: bigint): void {
    for (const [key, kv] of current) this.#learn(key.slice(this.#prefix.length), kv, revision);
  }

  /** Takes in a transaction of ours that committed. */
  applyOwn(transaction: StoreTransaction, revision: bigint): void {
    for (const op of transaction.ops) {
      if (op.type === 'deleteRange') continue; // Of inodes that are gone: nobody asks for them again.
      if (!op.key.startsWith(this.#prefix)) continue;
      const key = op.key.slice(this.#prefix.length);
      const kv = op.type === 'put' ? { key, value: op.value, modRevision: revision } : undefined;
      this.#known.set(key, { kv, revision });
    }
  }

  #learn(key: ByteString, kv: Kv | undefined, revision: bigint): void {
    const known = this.#known.get(key);
    if (known !== undefined && known.revision > revision) return;
    this.#known.set(key, {
      kv: kv === undefined ? undefined : { key, value: kv.value, modRevision: kv.modRevision },
      revision,
    });
  }

  #source(range: KeyRange): { readonly kvs: readonly MetaKv[]; readonly revision: bigint } | undefined {
    const live = this.#live;
    if (live === undefined || !range.start.startsWith('A')) return this.#ranges.get(range.start);
    return { kvs: indexedRange(live.index, range), revision: live.revision() };
  }
}

/** The keys of one kind under one inode: all ranges that a planner reads are of this form. */
function indexedRange(index: InodeIndex, range: KeyRange): MetaKv[] {
  const ino = new ByteReader(toBytes(range.start.slice(1, 9)), 'range').u64le();
  const record = index.get(ino);
  if (record === undefined) return [];
  const keys = [
    ...[...record.dentries.keys()].map((name) => encodeKey({ kind: 'dentry', parent: ino, name })),
    ...[...record.xattrs.keys()].map((name) => encodeKey({ kind: 'xattr', ino, name })),
    ...[...record.chunks.keys()].map((index) => encodeKey({ kind: 'chunk', ino, index })),
    ...[...record.parents.keys()].map((parent) => encodeKey({ kind: 'parent', ino, parent })),
  ];
  return keys
    .filter((key) => key >= range.start && key < range.end)
    .flatMap((key) => {
      const stored = index.lookup(key);
      return stored === undefined ? [] : [{ key, ...stored }];
    });
}
