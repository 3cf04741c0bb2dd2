/** G3: an agent's transaction writes over nothing that it did not compare, and what was saved together is one revision. */

import { decodeCounter } from '../../src/codec/counter.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, encodeKey, TRASH_INO, type MetaKey } from '../../src/codec/key.ts';
import type { ByteString, Compare, StoreEvent } from '../../src/codec/kv.ts';
import { keyOf, type CommittedRevision } from '../support/memory-etcd.ts';
import type { Keys, MountSite } from './mount.ts';
import { whyTorn } from './sets.ts';
import type { Fail, Validator } from './validator.ts';

interface Needs {
  readonly prefix: ByteString;
  readonly keys: Keys;
  readonly mount: MountSite;
  readonly isAgent: (client: string) => boolean;
  /** Who writes sets. */
  readonly owners: () => readonly string[];
  readonly fail: Fail;
}

export class Commits implements Validator {
  readonly #needs: Needs;
  /** Of blocks. */
  readonly #known = new Map<ByteString, string>();
  readonly #counts = new Map<ByteString, bigint>();
  /** Who made an inode that has no name yet, or one in a directory that has none itself: then that one. */
  readonly #unnamed = new Map<bigint, { readonly by: string; readonly parent?: bigint }>();

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  onRevision(committed: CommittedRevision): void {
    const { prefix, isAgent, fail, owners, mount } = this.#needs;
    const { revision, events, compares, by } = committed;
    const keys = events.map((event) => ({ event, key: keyOf(event) }));
    const metadata = keys.filter(({ key }) => key.startsWith(prefix));
    const decoded = metadata.map(({ event, key }) => ({
      event,
      key,
      meta: decodeKey(key.slice(prefix.length)),
    }));
    for (const { event, meta } of decoded)
      if (meta.kind === 'attr' && isNew(event)) this.#unnamed.set(meta.ino, { by });
    for (const { event, key, meta } of decoded) {
      if (
        isAgent(by) &&
        !compares.some((compare) => covers(compare, key)) &&
        !this.#isNobodyElses(event, meta, committed)
      )
        fail('G3', `${revision} by ${by} ${event.type}s ${nameOf(meta)} without comparing it`);
    }
    for (const { event, key, meta } of decoded) {
      if (event.type === 'delete') continue;
      if (meta.kind === 'dentry') this.#named(decodeDentry(event.kv.value).ino, meta.parent);
      if (meta.kind === 'sliceRef') this.#counts.set(key, decodeCounter(event.kv.value));
    }
    for (const { event, key } of keys) {
      if (key.startsWith(prefix)) continue;
      if (event.type === 'delete') continue;
      // A transaction whose outcome is unknown is sent again: that may write the same once more.
      const content = `${by} ${Buffer.from(event.kv.value).toString('base64')}`;
      if ((this.#known.get(key) ?? content) !== content)
        fail('G3', `${revision} by ${by} writes block ${key} again`);
      this.#known.set(key, content);
    }
    for (const owner of owners()) {
      const torn = whyTorn(owner, (path) => mount.text(path));
      if (torn !== undefined)
        fail('G3', `${revision} by ${by} holds the set of ${owner} in versions ${torn}`);
    }
  }

  #named(ino: bigint, parent: bigint): void {
    const made = this.#unnamed.get(ino);
    if (made === undefined) return;
    if (this.#isUnnamed(parent, made.by)) this.#unnamed.set(ino, { ...made, parent });
    else this.#unnamed.delete(ino);
  }

  /** Whether only one client knows of an inode, which it has made. */
  #isUnnamed(ino: bigint, by: string): boolean {
    const made = this.#unnamed.get(ino);
    return made?.by === by && (made.parent === undefined || this.#isUnnamed(made.parent, by));
  }

  /** Whether no other client can have anything to do with a key. */
  #isNobodyElses(event: StoreEvent, meta: MetaKey, { by, compares }: CommittedRevision): boolean {
    const { prefix, keys } = this.#needs;
    const key = keyOf(event);
    // What is below zero nobody refers to any more, and nobody begins to (layout 5.4).
    if (meta.kind === 'sliceRef') return event.type === 'delete' && (this.#counts.get(key) ?? 0n) < 0n;
    if (meta.kind === 'dentry' && this.#isUnnamed(meta.parent, by)) return true;
    if (meta.kind === 'attr' && this.#isUnnamed(meta.ino, by)) return true;
    // What is left of an inode that is no more, or of one that the transaction takes away: nobody else does so.
    if (event.type === 'delete' && 'ino' in meta) {
      const attr = prefix + encodeKey({ kind: 'attr', ino: meta.ino });
      return keys.get(attr) === undefined || compares.some((compare) => covers(compare, attr));
    }
    if (!isNew(event)) return false;
    // In the trash an entry is named after its inode.
    if (meta.kind === 'dentry') return meta.parent >= TRASH_INO;
    // Numbers of inodes and of slices are given out once.
    return 'ino' in meta || meta.kind === 'delayedSlices';
  }
}

function isNew(event: StoreEvent): boolean {
  return event.type === 'put' && event.kv.createRevision === event.kv.modRevision;
}

function covers(compare: Compare, key: ByteString): boolean {
  if ('key' in compare) return compare.key === key;
  return key >= compare.range.start && key < compare.range.end;
}

function nameOf(key: MetaKey): string {
  return Object.entries(key)
    .map(([name, value]) => `${name} ${String(value)}`)
    .join(' ');
}
