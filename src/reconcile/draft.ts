/** A transaction being written: reads answer what was written before them, and all that was read is compared. */

import { decodeAttr, encodeAttr, type Attr } from '../codec/attr.ts';
import { decodeDentry, encodeDentry, type Dentry } from '../codec/dentry.ts';
import { dentryRange, encodeKey, type MetaKey } from '../codec/key.ts';
import type { ByteString, Compare, KeyRange, StoreOp, StoreTransaction } from '../codec/kv.ts';
import type { MetaKv, MetaNeed, MetaView } from './meta-view.ts';

/** Thrown by a read that the view cannot answer; ends the planning of this round and never leaves the planner. */
export class Unanswered extends Error {
  readonly need: MetaNeed;

  constructor(need: MetaNeed) {
    super('the view does not know this yet');
    this.need = need;
  }
}

/** `undefined` is a delete. */
type Write = Uint8Array | undefined;

/** How large a draft is, in what the server limits. */
export interface DraftSize {
  readonly compares: number;
  readonly ops: number;
  /** Bytes of keys and values, near enough. */
  readonly bytes: number;
}

/** etcd's fields around each key and value of a request; a little too much. */
const FRAME_BYTES = 24;

function inRange(key: ByteString, range: KeyRange): boolean {
  return key >= range.start && key < range.end;
}

export class Draft {
  readonly #view: MetaView;
  readonly #prefix: ByteString;
  #compares = new Map<ByteString, bigint>();
  #rangeCompares = new Map<ByteString, { readonly range: KeyRange; readonly maxModRevision: bigint }>();
  #writes = new Map<ByteString, Write>();
  #rangeDeletes = new Map<ByteString, KeyRange>();
  #newInodes = new Set<bigint>();

  /** `prefix` is the volume's: the view speaks without it, the transaction with it. */
  constructor(view: MetaView, prefix: ByteString) {
    this.#view = view;
    this.#prefix = prefix;
  }

  /** Tells that an inode is claimed and not used yet: it has no keys, so nothing of it is read or compared. */
  newInode(ino: bigint): void {
    this.#newInodes.add(ino);
  }

  /** Asks for several keys at once, so that a view that fetches can do so in one round trip. Compares nothing. */
  expect(...keys: readonly MetaKey[]): void {
    const unknown = keys
      .filter((key) => !this.#isOfNewInode(key))
      .map(encodeKey)
      .filter((key) => !this.#writes.has(key) && this.#view.get(key) === 'unknown');
    if (unknown.length > 0) throw new Unanswered({ keys: unknown, ranges: [] });
  }

  /** The value of a key as this transaction leaves it; compared. */
  get(key: MetaKey): Uint8Array | undefined {
    const name = encodeKey(key);
    if (this.#writes.has(name)) return this.#writes.get(name);
    if (this.#isOfNewInode(key)) return undefined;
    const found = this.#stored(name);
    this.#compares.set(name, found === undefined ? 0n : found.modRevision);
    return found?.value;
  }

  /** The value of a key as this transaction leaves it, without making the transaction depend on it. */
  peek(key: MetaKey): Uint8Array | undefined {
    const name = encodeKey(key);
    if (this.#writes.has(name)) return this.#writes.get(name);
    return this.#isOfNewInode(key) ? undefined : this.#stored(name)?.value;
  }

  /** The value of a key before this transaction. Compares nothing. */
  before(key: MetaKey): Uint8Array | undefined {
    return this.#isOfNewInode(key) ? undefined : this.#stored(encodeKey(key))?.value;
  }

  /** The mod revision that a stored key has before this transaction; 0 if it is absent. */
  modRevision(key: MetaKey): bigint {
    return this.#stored(encodeKey(key))?.modRevision ?? 0n;
  }

  put(key: MetaKey, value: Uint8Array): void {
    this.#writes.set(encodeKey(key), value);
  }

  delete(key: MetaKey): void {
    this.#writes.set(encodeKey(key), undefined);
  }

  /** Deletes whatever is in a range when the transaction commits. No key of the range may be written afterwards. */
  deleteRange(range: KeyRange): void {
    // etcd refuses a transaction that names a key twice.
    for (const key of this.#writes.keys()) if (inRange(key, range)) this.#writes.delete(key);
    this.#rangeDeletes.set(range.start, range);
  }

  /** Whether this transaction has written (or deleted) the key. */
  wrote(key: MetaKey): boolean {
    return this.#writes.has(encodeKey(key));
  }

  attr(ino: bigint): Attr | undefined {
    const value = this.get({ kind: 'attr', ino });
    return value === undefined ? undefined : decodeAttr(value);
  }

  putAttr(ino: bigint, attr: Attr): void {
    this.put({ kind: 'attr', ino }, encodeAttr(attr));
  }

  dentry(parent: bigint, name: ByteString): Dentry | undefined {
    const value = this.get({ kind: 'dentry', parent, name });
    return value === undefined ? undefined : decodeDentry(value);
  }

  putDentry(parent: bigint, name: ByteString, dentry: Dentry): void {
    this.put({ kind: 'dentry', parent, name }, encodeDentry(dentry));
  }

  /** The dentries of a directory as this transaction leaves them: name and value. Compares nothing. */
  peekDentries(ino: bigint): Map<ByteString, Uint8Array> {
    const range = dentryRange(ino);
    const stored = this.#newInodes.has(ino) ? [] : this.#storedRange(range);
    const dentries = new Map(stored.map(({ key, value }) => [key, value]));
    for (const [key, value] of this.#writes) {
      if (!inRange(key, range)) continue;
      if (value === undefined) dentries.delete(key);
      else dentries.set(key, value);
    }
    return new Map([...dentries].map(([key, value]) => [key.slice(range.start.length), value]));
  }

  /** The values of a directory's dentries before this transaction. Compares nothing. */
  dentriesBefore(ino: bigint): readonly Uint8Array[] {
    return this.#newInodes.has(ino) ? [] : this.#storedRange(dentryRange(ino)).map(({ value }) => value);
  }

  /**
   * All keys of a stored range. Each is compared, and so is that none was added: a key that came later has a higher
   * mod revision than all that were there.
   */
  readRange(range: KeyRange): readonly MetaKv[] {
    const stored = this.#storedRange(range);
    for (const { key, modRevision } of stored) this.#compares.set(key, modRevision);
    this.#compareNoNewer(range, stored);
    return stored;
  }

  /** All keys of a stored range, before this transaction. Compares nothing. */
  peekRange(range: KeyRange): readonly MetaKv[] {
    return this.#storedRange(range);
  }

  /** Compares that a directory gets no entry besides those that were there. */
  compareNoNewDentry(ino: bigint): void {
    if (this.#newInodes.has(ino)) return;
    const range = dentryRange(ino);
    this.#compareNoNewer(range, this.#storedRange(range));
  }

  /** The transaction's size as it stands. */
  size(): DraftSize {
    let bytes = 0;
    for (const key of this.#compares.keys()) bytes += key.length + this.#prefix.length + FRAME_BYTES;
    for (const [key, value] of this.#writes) {
      bytes += key.length + this.#prefix.length + (value?.length ?? 0) + FRAME_BYTES;
    }
    const ranges = this.#rangeCompares.size + this.#rangeDeletes.size;
    return {
      compares: this.#compares.size + this.#rangeCompares.size,
      ops: this.#writes.size + this.#rangeDeletes.size,
      bytes: bytes + ranges * 2 * (this.#prefix.length + FRAME_BYTES),
    };
  }

  /** Remembers the draft as it stands; the result takes it back there. */
  checkpoint(): () => void {
    const compares = new Map(this.#compares);
    const rangeCompares = new Map(this.#rangeCompares);
    const writes = new Map(this.#writes);
    const rangeDeletes = new Map(this.#rangeDeletes);
    const newInodes = new Set(this.#newInodes);
    return () => {
      this.#compares = compares;
      this.#rangeCompares = rangeCompares;
      this.#writes = writes;
      this.#rangeDeletes = rangeDeletes;
      this.#newInodes = newInodes;
    };
  }

  /** The transaction on the store's keys. */
  finish(): StoreTransaction {
    const withPrefix = (range: KeyRange): KeyRange => ({
      start: this.#prefix + range.start,
      end: this.#prefix + range.end,
    });
    const compares: Compare[] = [
      ...[...this.#compares].map(([key, modRevision]) => ({ key: this.#prefix + key, modRevision })),
      ...[...this.#rangeCompares.values()].map(({ range, maxModRevision }) => ({
        range: withPrefix(range),
        maxModRevision,
      })),
    ];
    const ops: StoreOp[] = [
      ...[...this.#rangeDeletes.values()].map((range) => ({
        type: 'deleteRange' as const,
        range: withPrefix(range),
      })),
      ...[...this.#writes].map(([key, value]): StoreOp => {
        const name = this.#prefix + key;
        return value === undefined ? { type: 'delete', key: name } : { type: 'put', key: name, value };
      }),
    ];
    return { compares, ops };
  }

  #isOfNewInode(key: MetaKey): boolean {
    switch (key.kind) {
      case 'attr':
      case 'symlink':
      case 'chunk':
      case 'xattr':
      case 'parent':
      case 'dirQuota':
        return this.#newInodes.has(key.ino);
      case 'dentry':
        return this.#newInodes.has(key.parent);
      default:
        return false;
    }
  }

  #stored(key: ByteString): MetaKv | undefined {
    const found = this.#view.get(key);
    if (found === 'unknown') throw new Unanswered({ keys: [key], ranges: [] });
    return found === 'absent' ? undefined : found;
  }

  #storedRange(range: KeyRange): readonly MetaKv[] {
    const found = this.#view.range(range);
    if (found === 'unknown') throw new Unanswered({ keys: [], ranges: [range] });
    return found;
  }

  #compareNoNewer(range: KeyRange, stored: readonly MetaKv[]): void {
    const maxModRevision = stored.reduce((max, kv) => (kv.modRevision > max ? kv.modRevision : max), 0n);
    this.#rangeCompares.set(range.start, { range, maxModRevision });
  }
}
