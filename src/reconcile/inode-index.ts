/** The volume's metadata by inode, fed by revisions. */

import { decodeAttr, type Attr } from '../codec/attr.ts';
import { decodeDentry, type Dentry } from '../codec/dentry.ts';
import { DecodeError } from '../codec/error.ts';
import { decodeKey, encodeKey, type MetaKey } from '../codec/key.ts';
import type { ByteString, Kv, StoreEvent } from '../codec/kv.ts';

/** A value as the store holds it: a writer compares against it. */
export interface Stored {
  readonly raw: Uint8Array;
  readonly modRevision: bigint;
}

/** Bytes that are no attribute are kept as the error they gave. */
export interface StoredAttr extends Stored {
  readonly value: Attr | DecodeError;
}

export interface StoredDentry extends Stored {
  readonly dentry: Dentry | DecodeError;
}

/** Everything stored under one inode. */
export interface InodeRecord {
  readonly attr?: StoredAttr;
  /** By name. */
  readonly dentries: ReadonlyMap<ByteString, StoredDentry>;
  /** By index. The records in them are not decoded. */
  readonly chunks: ReadonlyMap<number, Stored>;
  readonly symlink?: Stored;
  /** By name with its namespace. */
  readonly xattrs: ReadonlyMap<ByteString, Stored>;
  /** By parent inode. */
  readonly parents: ReadonlyMap<bigint, Stored>;
}

/** One name of an inode: where a dentry stands. */
export interface DentryName {
  readonly parent: bigint;
  readonly name: ByteString;
}

/** What one `apply` changed. Several can be merged by `mergeTouched`. */
export interface Touched {
  /** Inodes whose attr, chunks, symlink or xattrs changed. */
  readonly inodes: ReadonlySet<bigint>;
  /** Dentries that came, went or lead elsewhere. */
  readonly dentries: readonly DentryName[];
  /** Inodes that such a dentry led or leads to. */
  readonly relinked: ReadonlySet<bigint>;
}

/** The changes of several revisions as one. */
export function mergeTouched(parts: readonly Touched[]): Touched {
  return {
    inodes: new Set(parts.flatMap((part) => [...part.inodes])),
    dentries: parts.flatMap((part) => part.dentries),
    relinked: new Set(parts.flatMap((part) => [...part.relinked])),
  };
}

/** The keys under `A` that an inode's record holds. */
type RecordKey = Extract<
  MetaKey,
  { readonly kind: 'attr' | 'dentry' | 'parent' | 'chunk' | 'symlink' | 'xattr' }
>;

/** A record under construction. Most inodes have one or two of the maps, so they are made when needed. */
interface MutableRecord {
  attr?: StoredAttr;
  dentries?: Map<ByteString, StoredDentry>;
  chunks?: Map<number, Stored>;
  symlink?: Stored;
  xattrs?: Map<ByteString, Stored>;
  parents?: Map<bigint, Stored>;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const NOTHING: ReadonlyMap<never, never> = new Map<never, never>();

/**
 * All `A` keys of a volume, decoded. Keys come without the volume's prefix; other keys are ignored. Bytes that are not
 * the layout never throw: they are kept, and show as a `DecodeError` where their value would be.
 */
export class InodeIndex {
  readonly #records = new Map<bigint, MutableRecord>();
  /** The dentries that lead to each inode. */
  readonly #names = new Map<bigint, DentryName[]>();

  /** Takes in one key of the first listing. */
  load(kv: Kv): void {
    const key = decodeKey(kv.key);
    if (isRecordKey(key)) this.#put(key, kv);
  }

  /** Takes in the events of one revision, in any order. */
  apply(events: readonly StoreEvent[]): Touched {
    const inodes = new Set<bigint>();
    const dentries: DentryName[] = [];
    const relinked = new Set<bigint>();
    for (const event of events) {
      const key = decodeKey(event.type === 'put' ? event.kv.key : event.key);
      if (!isRecordKey(key)) continue;
      if (key.kind === 'dentry') {
        dentries.push({ parent: key.parent, name: key.name });
        this.#addTarget(relinked, key);
      } else if (key.kind !== 'parent') {
        inodes.add(key.ino);
      }
      if (event.type === 'put') this.#put(key, event.kv);
      else this.#delete(key);
      if (key.kind === 'dentry') this.#addTarget(relinked, key);
    }
    return { inodes, dentries, relinked };
  }

  /** What is stored under an inode; `undefined` if nothing is. Not to be kept: later events change it. */
  get(ino: bigint): InodeRecord | undefined {
    const record = this.#records.get(ino);
    if (record === undefined) return undefined;
    const { dentries = NOTHING, chunks = NOTHING, xattrs = NOTHING, parents = NOTHING } = record;
    const found: Writable<InodeRecord> = { dentries, chunks, xattrs, parents };
    if (record.attr !== undefined) found.attr = record.attr;
    if (record.symlink !== undefined) found.symlink = record.symlink;
    return found;
  }

  /** The dentries of a directory by name, in no order; empty for anything else. */
  list(dir: bigint): ReadonlyMap<ByteString, StoredDentry> {
    return this.#records.get(dir)?.dentries ?? NOTHING;
  }

  /** The dentries that lead to an inode, wherever they stand, the trash included. */
  namesOf(ino: bigint): readonly DentryName[] {
    return this.#names.get(ino) ?? [];
  }

  /** The raw value behind a key of an inode; `undefined` if it is absent or no such key. */
  lookup(key: ByteString): { readonly value: Uint8Array; readonly modRevision: bigint } | undefined {
    const decoded = decodeKey(key);
    const stored = isRecordKey(decoded) ? this.#stored(decoded) : undefined;
    return stored === undefined ? undefined : { value: stored.raw, modRevision: stored.modRevision };
  }

  /** Every key held with its value, in no order. */
  *entries(): Iterable<readonly [key: ByteString, stored: Stored]> {
    for (const [ino, record] of this.#records) {
      if (record.attr !== undefined) yield [encodeKey({ kind: 'attr', ino }), record.attr];
      if (record.symlink !== undefined) yield [encodeKey({ kind: 'symlink', ino }), record.symlink];
      for (const [name, stored] of record.dentries ?? NOTHING) {
        yield [encodeKey({ kind: 'dentry', parent: ino, name }), stored];
      }
      for (const [index, stored] of record.chunks ?? NOTHING) {
        yield [encodeKey({ kind: 'chunk', ino, index }), stored];
      }
      for (const [name, stored] of record.xattrs ?? NOTHING) {
        yield [encodeKey({ kind: 'xattr', ino, name }), stored];
      }
      for (const [parent, stored] of record.parents ?? NOTHING) {
        yield [encodeKey({ kind: 'parent', ino, parent }), stored];
      }
    }
  }

  #stored(key: RecordKey): Stored | undefined {
    const record = this.#records.get(inoOf(key));
    switch (key.kind) {
      case 'attr':
        return record?.attr;
      case 'symlink':
        return record?.symlink;
      case 'dentry':
        return record?.dentries?.get(key.name);
      case 'chunk':
        return record?.chunks?.get(key.index);
      case 'xattr':
        return record?.xattrs?.get(key.name);
      case 'parent':
        return record?.parents?.get(key.parent);
    }
  }

  #put(key: RecordKey, kv: Kv): void {
    const ino = inoOf(key);
    const record = this.#records.get(ino) ?? {};
    this.#records.set(ino, record);
    const { value: raw, modRevision } = kv;
    // Spelled out below: V8 would give each `{ ...stored, value }` a hidden class of its own, hundreds of bytes an inode.
    const stored = { raw, modRevision };
    switch (key.kind) {
      case 'attr':
        record.attr = { raw, modRevision, value: decoded(decodeAttr, kv) };
        break;
      case 'symlink':
        record.symlink = stored;
        break;
      case 'dentry': {
        this.#unlink(key);
        const dentry = decoded(decodeDentry, kv);
        (record.dentries ??= new Map()).set(key.name, { raw, modRevision, dentry });
        if (!(dentry instanceof DecodeError)) this.#link(dentry.ino, key);
        break;
      }
      case 'chunk':
        (record.chunks ??= new Map()).set(key.index, stored);
        break;
      case 'xattr':
        (record.xattrs ??= new Map()).set(key.name, stored);
        break;
      case 'parent':
        (record.parents ??= new Map()).set(key.parent, stored);
        break;
    }
  }

  #delete(key: RecordKey): void {
    const ino = inoOf(key);
    const record = this.#records.get(ino);
    if (record === undefined) return;
    switch (key.kind) {
      case 'attr':
        delete record.attr;
        break;
      case 'symlink':
        delete record.symlink;
        break;
      case 'dentry':
        this.#unlink(key);
        record.dentries?.delete(key.name);
        if (record.dentries?.size === 0) delete record.dentries;
        break;
      case 'chunk':
        record.chunks?.delete(key.index);
        if (record.chunks?.size === 0) delete record.chunks;
        break;
      case 'xattr':
        record.xattrs?.delete(key.name);
        if (record.xattrs?.size === 0) delete record.xattrs;
        break;
      case 'parent':
        record.parents?.delete(key.parent);
        if (record.parents?.size === 0) delete record.parents;
        break;
    }
    if (Object.keys(record).length === 0) this.#records.delete(ino);
  }

  #target(name: DentryName): bigint | undefined {
    const dentry = this.list(name.parent).get(name.name)?.dentry;
    return dentry === undefined || dentry instanceof DecodeError ? undefined : dentry.ino;
  }

  #addTarget(into: Set<bigint>, name: DentryName): void {
    const target = this.#target(name);
    if (target !== undefined) into.add(target);
  }

  #link(ino: bigint, { parent, name }: DentryName): void {
    const names = this.#names.get(ino);
    if (names === undefined) this.#names.set(ino, [{ parent, name }]);
    else names.push({ parent, name });
  }

  /** Forgets where a dentry leads, before it changes or goes. */
  #unlink(dentry: DentryName): void {
    const ino = this.#target(dentry);
    if (ino === undefined) return;
    const others = this.namesOf(ino).filter((n) => n.parent !== dentry.parent || n.name !== dentry.name);
    if (others.length > 0) this.#names.set(ino, others);
    else this.#names.delete(ino);
  }
}

function isRecordKey(key: MetaKey): key is RecordKey {
  switch (key.kind) {
    case 'attr':
    case 'dentry':
    case 'parent':
    case 'chunk':
    case 'symlink':
    case 'xattr':
      return true;
    default:
      return false;
  }
}

/** The inode whose record holds a key. */
function inoOf(key: RecordKey): bigint {
  return key.kind === 'dentry' ? key.parent : key.ino;
}

function decoded<T>(decode: (value: Uint8Array) => T, kv: Kv): T | DecodeError {
  try {
    return decode(kv.value);
  } catch (error) {
    if (error instanceof DecodeError) return error.withKey(kv.key);
    throw error;
  }
}
