/** A transaction being written: reads answer what was written before them, and all that was read is compared. */

import { decodeAttr, encodeAttr, type Attr } from '../codec/attr.ts';
import { equalBytes } from '../codec/bytes.ts';
import { decodeDentry, encodeDentry, type Dentry } from '../codec/dentry.ts';
import { dentryRange, encodeKey, TRASH_INO, type MetaKey } from '../codec/key.ts';
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

/**
 * Which writes are not part of the transaction because they go ahead of it (ADR 6). `survey`: all that make up new
 * inodes, as long as nothing but other new inodes leads to them. Values by key: those that are stored already.
 */
export type Ahead = 'survey' | ReadonlyMap<ByteString, Uint8Array>;

interface Write {
  readonly key: MetaKey;
  /** `undefined` is a delete. */
  readonly value: Uint8Array | undefined;
  readonly isAhead: boolean;
}

/** What a new inode is made of, and its names in new directories. */
export interface NewInodeKeys {
  readonly ino: bigint;
  readonly attr: Attr;
  /** Chunks, link target, xattrs, statistics, and how many names it has where. */
  readonly others: readonly { readonly key: MetaKey; readonly value: Uint8Array }[];
  readonly places: readonly { readonly parent: bigint; readonly name: ByteString }[];
}

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
  readonly #ahead: Ahead | undefined;
  readonly #compares = new Map<ByteString, bigint>();
  readonly #rangeCompares = new Map<
    ByteString,
    { readonly range: KeyRange; readonly maxModRevision: bigint }
  >();
  readonly #writes = new Map<ByteString, Write>();
  readonly #rangeDeletes = new Map<ByteString, KeyRange>();
  readonly #newInodes = new Set<bigint>();
  /** Takes back each step, the last one first. */
  readonly #undo: (() => void)[] = [];
  #aheadWrites = 0;
  #bytes = 0;

  /** `prefix` is the volume's: the view speaks without it, the transaction with it. */
  constructor(view: MetaView, prefix: ByteString, ahead?: Ahead) {
    this.#view = view;
    this.#prefix = prefix;
    this.#ahead = ahead;
  }

  /** Tells that an inode is claimed and not used yet: it has no keys, so nothing of it is read or compared. */
  newInode(ino: bigint): void {
    if (this.#newInodes.has(ino)) return;
    this.#newInodes.add(ino);
    this.#undo.push(() => this.#newInodes.delete(ino));
  }

  /** Asks for several keys at once, so that a view that fetches can do so in one round trip. Compares nothing. */
  expect(...keys: readonly MetaKey[]): void {
    const unknown = keys
      .filter((key) => !this.#isOfNewInode(key))
      .map(encodeKey)
      .filter((key) => !this.#writes.has(key) && this.#view.get(key) === 'unknown');
    if (unknown.length > 0) throw new Unanswered({ keys: unknown, ranges: [] });
  }

  /** The same for ranges. */
  expectRanges(...ranges: readonly KeyRange[]): void {
    const unknown = ranges.filter((range) => this.#view.range(range) === 'unknown');
    if (unknown.length > 0) throw new Unanswered({ keys: [], ranges: unknown });
  }

  /** The value of a key as this transaction leaves it; compared. */
  get(key: MetaKey): Uint8Array | undefined {
    const name = encodeKey(key);
    const written = this.#writes.get(name);
    if (written !== undefined) return written.value;
    if (this.#isOfNewInode(key)) return undefined;
    const found = this.#stored(name);
    this.#compare(name, found === undefined ? 0n : found.modRevision);
    return found?.value;
  }

  /** The value of a key as this transaction leaves it, without making the transaction depend on it. */
  peek(key: MetaKey): Uint8Array | undefined {
    const name = encodeKey(key);
    const written = this.#writes.get(name);
    if (written !== undefined) return written.value;
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
    const name = encodeKey(key);
    this.#write(name, { key, value, isAhead: this.#goesAhead(key, name, value) });
  }

  delete(key: MetaKey): void {
    this.#write(encodeKey(key), { key, value: undefined, isAhead: false });
  }

  /** Deletes whatever is in a range when the transaction commits. No key of the range may be written afterwards. */
  deleteRange(range: KeyRange): void {
    // etcd refuses a transaction that names a key twice.
    for (const name of this.#writes.keys()) if (inRange(name, range)) this.#write(name, undefined);
    if (this.#rangeDeletes.has(range.start)) return;
    this.#rangeDeletes.set(range.start, range);
    this.#undo.push(() => this.#rangeDeletes.delete(range.start));
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
    const dentries = this.#withWrites(range, this.#newInodes.has(ino) ? [] : this.#storedRange(range));
    return new Map([...dentries].map(([key, value]) => [key.slice(range.start.length), value]));
  }

  /** The keys of a range as this transaction leaves them, and their values. Compares nothing. */
  peekRange(range: KeyRange): Map<ByteString, Uint8Array> {
    return this.#withWrites(range, this.#storedRange(range));
  }

  /** The values of a directory's dentries before this transaction. Compares nothing. */
  dentriesBefore(ino: bigint): readonly Uint8Array[] {
    return this.#newInodes.has(ino) ? [] : this.#storedRange(dentryRange(ino)).map(({ value }) => value);
  }

  /**
   * All keys of a range as this transaction leaves them. Each stored one is compared, and so is that none was added: a
   * key that came later has a higher mod revision than all that were there.
   */
  readRange(range: KeyRange): readonly { readonly key: ByteString; readonly value: Uint8Array }[] {
    const stored = this.#storedRange(range);
    for (const { key, modRevision } of stored) this.#compare(key, modRevision);
    this.#compareNoNewer(range, stored);
    return [...this.#withWrites(range, stored)].map(([key, value]) => ({ key, value }));
  }

  /** Whether a range that was read holds nothing, before this transaction and by it. */
  isEmpty(range: KeyRange): boolean {
    return (
      this.#rangeCompares.get(range.start)?.maxModRevision === 0n && this.#storedRange(range).length === 0
    );
  }

  /** Compares that a directory gets no entry besides those that were there. */
  compareNoNewDentry(ino: bigint): void {
    if (this.#newInodes.has(ino)) return;
    const range = dentryRange(ino);
    this.#compareNoNewer(range, this.#storedRange(range));
  }

  /** The transaction's size as it stands, without what goes ahead of it. */
  size(): DraftSize {
    const ranges = this.#rangeCompares.size + this.#rangeDeletes.size;
    return {
      compares: this.#compares.size + this.#rangeCompares.size,
      ops: this.#writes.size - this.#aheadWrites + this.#rangeDeletes.size,
      bytes: this.#bytes + ranges * 2 * (this.#prefix.length + FRAME_BYTES),
    };
  }

  /** Remembers the draft as it stands; the result takes it back there. */
  checkpoint(): () => void {
    const mark = this.#undo.length;
    return () => {
      for (let step = this.#undo.length; step > mark; step -= 1) this.#undo.pop()?.();
    };
  }

  /** The inodes that this draft makes, in the order in which it made them. Those of the trash stand in its directories. */
  newInodes(): NewInodeKeys[] {
    const attrs = new Map<bigint, Attr>();
    const others = new Map<bigint, { key: MetaKey; value: Uint8Array }[]>();
    const places = new Map<bigint, { parent: bigint; name: ByteString }[]>();
    for (const { key, value } of this.#writes.values()) {
      if (value === undefined) continue;
      if (key.kind === 'attr' && this.#isNew(key.ino)) attrs.set(key.ino, decodeAttr(value));
      else if (key.kind === 'dentry' && this.#isNew(key.parent)) {
        const { ino } = decodeDentry(value);
        places.set(ino, [...(places.get(ino) ?? []), { parent: key.parent, name: key.name }]);
      } else if (isPartOfInode(key) && this.#isNew(key.ino)) {
        const list = others.get(key.ino);
        if (list === undefined) others.set(key.ino, [{ key, value }]);
        else list.push({ key, value });
      }
    }
    return [...attrs].map(([ino, attr]) => {
      return { ino, attr, others: others.get(ino) ?? [], places: places.get(ino) ?? [] };
    });
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
      ...[...this.#writes].flatMap(([key, { value, isAhead }]): StoreOp[] => {
        if (isAhead) return [];
        const name = this.#prefix + key;
        return [value === undefined ? { type: 'delete', key: name } : { type: 'put', key: name, value }];
      }),
    ];
    return { compares, ops };
  }

  #withWrites(range: KeyRange, stored: readonly MetaKv[]): Map<ByteString, Uint8Array> {
    const values = new Map(stored.map(({ key, value }) => [key, value]));
    for (const [key, { value }] of this.#writes) {
      if (!inRange(key, range)) continue;
      if (value === undefined) values.delete(key);
      else values.set(key, value);
    }
    return values;
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
    if (this.#rangeCompares.has(range.start)) return;
    const maxModRevision = stored.reduce((max, kv) => (kv.modRevision > max ? kv.modRevision : max), 0n);
    this.#rangeCompares.set(range.start, { range, maxModRevision });
    this.#undo.push(() => this.#rangeCompares.delete(range.start));
  }

  #compare(name: ByteString, modRevision: bigint): void {
    if (this.#compares.has(name)) return;
    this.#compares.set(name, modRevision);
    const bytes = name.length + this.#prefix.length + FRAME_BYTES;
    this.#bytes += bytes;
    this.#undo.push(() => {
      this.#compares.delete(name);
      this.#bytes -= bytes;
    });
  }

  /** `undefined` takes a write back. */
  #write(name: ByteString, next: Write | undefined): void {
    const before = this.#writes.get(name);
    this.#replace(name, before, next);
    this.#undo.push(() => this.#replace(name, next, before));
  }

  #replace(name: ByteString, before: Write | undefined, next: Write | undefined): void {
    this.#count(name, before, -1);
    this.#count(name, next, 1);
    if (next === undefined) this.#writes.delete(name);
    else this.#writes.set(name, next);
  }

  #count(name: ByteString, write: Write | undefined, sign: 1 | -1): void {
    if (write === undefined) return;
    if (write.isAhead) this.#aheadWrites += sign;
    else this.#bytes += sign * (name.length + this.#prefix.length + (write.value?.length ?? 0) + FRAME_BYTES);
  }

  /** Whether an inode is made by this draft and is no directory of the trash, which is in sight at once. */
  #isNew(ino: bigint): boolean {
    return ino < TRASH_INO && this.#newInodes.has(ino);
  }

  #goesAhead(key: MetaKey, name: ByteString, value: Uint8Array): boolean {
    if (this.#ahead === undefined) return false;
    if (this.#ahead !== 'survey') {
      const stored = this.#ahead.get(name);
      return stored !== undefined && equalBytes(stored, value);
    }
    if (key.kind === 'attr') {
      if (!this.#isNew(key.ino)) return false;
      // The attr of a new directory says where it stands: it is written again when it gets its name.
      const { type, parent } = decodeAttr(value);
      return type !== 'directory' || this.#isNew(parent);
    }
    if (key.kind === 'dentry') return this.#isNew(key.parent) && this.#isNew(decodeDentry(value).ino);
    return isPartOfInode(key) && this.#isNew(key.ino);
  }
}

const PARTS_OF_INODE: ReadonlySet<MetaKey['kind']> = new Set([
  'symlink',
  'chunk',
  'xattr',
  'parent',
  'dirStat',
]);

function isPartOfInode(
  key: MetaKey,
): key is Extract<MetaKey, { readonly kind: 'symlink' | 'chunk' | 'xattr' | 'parent' | 'dirStat' }> {
  return PARTS_OF_INODE.has(key.kind);
}
