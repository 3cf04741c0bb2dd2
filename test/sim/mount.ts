/** A real client's mount of the volume: each call is the transactions that the client makes of it (layout 10). */

import { blockKey } from '../../src/codec/block.ts';
import { decodeAttr, type Attr } from '../../src/codec/attr.ts';
import { decodeCounter, encodeCounter } from '../../src/codec/counter.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, dentryRange, encodeKey, ROOT_INO, type MetaKey } from '../../src/codec/key.ts';
import type { ByteString, KeyRange, Kv, StoreOp, StoreTransaction } from '../../src/codec/kv.ts';
import { decodeSlices, encodeSlices, visiblePieces, type SliceRecord } from '../../src/codec/slice.ts';
import type { Setting } from '../../src/codec/setting.ts';
import { settingOf } from '../../src/agent/volume/volume.ts';
import { Accounting } from '../../src/reconcile/accounting.ts';
import { Draft } from '../../src/reconcile/draft.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import type { MetaKv, MetaView } from '../../src/reconcile/meta-view.ts';
import { createDirectory, createFile, createSymlink, type NewInode } from '../../src/reconcile/operations.ts';
import { NotEmpty, Refused, Stale } from '../../src/reconcile/refusal.ts';
import { remove } from '../../src/reconcile/remove.ts';
import { attach, detach } from '../../src/reconcile/rename.ts';
import { find, type Found, type Place, type Work } from '../../src/reconcile/work.ts';
import { fsError } from '../support/fs-error.ts';
import type { Handle, Kind, Site } from './site.ts';

/** Numbers that a client takes at once. */
const BATCH = 16n;
const LINKS_MAX = 8;

/** What a mount needs of its store. */
export interface Keys {
  get(key: ByteString): Kv | undefined;
  range(range: KeyRange): Kv[];
  commit(txn: StoreTransaction, by: string): unknown;
}

export class MountSite implements Site {
  readonly name: string;
  readonly #etcd: Keys;
  readonly #prefix: ByteString;
  readonly #nowNs: () => bigint;
  readonly #ids: Record<'nextInode' | 'nextChunk', { next: bigint; end: bigint }> = {
    nextInode: { next: 0n, end: 0n },
    nextChunk: { next: 0n, end: 0n },
  };

  constructor(name: string, etcd: Keys, prefix: ByteString, nowNs: () => bigint) {
    this.name = name;
    this.#etcd = etcd;
    this.#prefix = prefix;
    this.#nowNs = nowNs;
  }

  get #setting(): Setting {
    const value = this.#get({ kind: 'setting' });
    if (value === undefined) throw fsError('EIO', 'mount', '');
    return settingOf(value);
  }

  #get(key: MetaKey): Uint8Array | undefined {
    return this.#etcd.get(this.#prefix + encodeKey(key))?.value;
  }

  #attr(ino: bigint): Attr | undefined {
    const value = this.#get({ kind: 'attr', ino });
    return value === undefined ? undefined : decodeAttr(value);
  }

  /** The next free number of a counter, taken in batches as the client does. */
  #take(name: 'nextInode' | 'nextChunk'): bigint {
    const ids = this.#ids[name];
    if (ids.next === ids.end) {
      const key: MetaKey = { kind: 'counter', name };
      const value = this.#get(key);
      ids.next = value === undefined ? 1n : decodeCounter(value);
      ids.end = ids.next + BATCH;
      this.#commit([{ type: 'put', key: this.#prefix + encodeKey(key), value: encodeCounter(ids.end) }]);
    }
    ids.next += 1n;
    return ids.next - 1n;
  }

  #commit(ops: readonly StoreOp[]): void {
    this.#etcd.commit({ compares: [], ops }, this.name);
  }

  /** One transaction of the client. Nobody comes between its reads and its writes. */
  transact(path: Path, decide: (work: Work) => void): void {
    const view: MetaView = {
      get: (key) => {
        const kv = this.#etcd.get(this.#prefix + key);
        return kv === undefined ? 'absent' : { ...kv, key };
      },
      range: ({ start, end }) =>
        this.#etcd
          .range({ start: this.#prefix + start, end: this.#prefix + end })
          .map((kv): MetaKv => ({ ...kv, key: kv.key.slice(this.#prefix.length) })),
    };
    const setting = this.#setting;
    const draft = new Draft(view, this.#prefix);
    const accounting = new Accounting(setting);
    const nowNs = this.#nowNs();
    try {
      decide({ draft, accounting, trashDays: setting.trashDays, nowNs });
      accounting.settle(draft, nowNs);
    } catch (error) {
      if (error instanceof NotEmpty) throw fsError('ENOTEMPTY', 'rmdir', path);
      if (error instanceof Stale) throw fsError('ENOENT', 'meta', path);
      if (error instanceof Refused) throw fsError('EPERM', 'meta', path);
      throw error;
    }
    this.#etcd.commit(draft.finish(), this.name);
  }

  #lookup(parent: bigint, name: ByteString): { readonly ino: bigint; readonly attr: Attr } | undefined {
    const value = this.#get({ kind: 'dentry', parent, name });
    if (value === undefined) return undefined;
    const { ino } = decodeDentry(value);
    const attr = this.#attr(ino);
    return attr === undefined ? undefined : { ino, attr };
  }

  /** The directory and name of a path; links on the way and, if asked for, at its end are followed. */
  place(path: Path, follow = false, links = 0): Place {
    if (links > LINKS_MAX) throw fsError('ELOOP', 'open', path);
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    const stack: { ino: bigint; name: string }[] = [];
    let parent = ROOT_INO;
    for (const [index, name] of parts.entries()) {
      const isLast = index === parts.length - 1;
      if (name === '..') {
        stack.pop();
        parent = stack.at(-1)?.ino ?? ROOT_INO;
        continue;
      }
      const found = this.#lookup(parent, name);
      if (found?.attr.type === 'symlink' && (!isLast || follow)) {
        const target = Buffer.from(this.#get({ kind: 'symlink', ino: found.ino }) ?? []).toString('latin1');
        if (target.startsWith('/')) throw fsError('ENOENT', 'open', path);
        const above = stack.map((dir) => dir.name);
        return this.place([...above, target, ...parts.slice(index + 1)].join('/'), follow, links + 1);
      }
      if (isLast) return { parent, name };
      if (found === undefined) throw fsError('ENOENT', 'open', path);
      if (found.attr.type !== 'directory') throw fsError('ENOTDIR', 'open', path);
      stack.push({ ino: found.ino, name });
      parent = found.ino;
    }
    throw fsError('EISDIR', 'open', path);
  }

  #found(path: Path, follow = false): { readonly ino: bigint; readonly attr: Attr } | undefined {
    if (path === '') {
      const attr = this.#attr(ROOT_INO);
      return attr === undefined ? undefined : { ino: ROOT_INO, attr };
    }
    try {
      const { parent, name } = this.place(path, follow);
      return this.#lookup(parent, name);
    } catch {
      return undefined;
    }
  }

  kind(path: Path): Kind | undefined {
    const type = this.#found(path)?.attr.type;
    return type === 'file' || type === 'directory' || type === 'symlink' || type === undefined
      ? type
      : 'other';
  }

  list(path: Path): string[] {
    const found = this.#found(path);
    if (found?.attr.type !== 'directory') throw fsError('ENOTDIR', 'list', path);
    const { start, end } = dentryRange(found.ino);
    const from = this.#prefix + start;
    return this.#etcd
      .range({ start: from, end: this.#prefix + end })
      .map(({ key }) => key.slice(from.length))
      .filter((name) => !(path === '' && (name === '.conflicts' || name === '.trash')));
  }

  text(path: Path): string | undefined {
    const found = this.#found(path, true);
    return found?.attr.type === 'file' ? this.#read(found.ino, found.attr) : undefined;
  }

  hiddenText(): undefined {
    return undefined;
  }

  #read(ino: bigint, { length }: Attr): string {
    const stored = this.#get({ kind: 'chunk', ino, index: 0 });
    const size = Number(length);
    const bytes = new Uint8Array(size);
    const { name, hashPrefix } = this.#setting;
    for (const piece of visiblePieces(stored === undefined ? [] : decodeSlices(stored), size)) {
      if (piece.id === 0n) continue;
      const block = this.#etcd.get(blockKey({ name, hashPrefix }, piece.id, 0, piece.size));
      if (block === undefined) throw fsError('EIO', 'read', `block of slice ${piece.id}`);
      bytes.set(block.value.subarray(piece.off, piece.off + piece.len), piece.pos);
    }
    return Buffer.from(bytes).toString('latin1');
  }

  #newInode(mode: number): NewInode {
    return { ino: this.#take('nextInode'), mode, uid: 0, gid: 0, mtimeNs: this.#nowNs() };
  }

  open(path: Path, how: Parameters<Site['open']>[1]): Handle {
    const place = this.place(path, how.exclusive !== true);
    let found = this.#lookup(place.parent, place.name);
    if (found === undefined) {
      if (how.create !== true) throw fsError('ENOENT', 'open', path);
      const inode = this.#newInode(0o644);
      this.transact(path, (work) => {
        const attr = createFile(work, place, inode, { length: 0n, chunks: [] });
        // As a mount leaves it: a file whose times are equal is about to be filled.
        work.draft.putAttr(inode.ino, { ...attr, ctimeNs: attr.mtimeNs });
      });
      found = this.#lookup(place.parent, place.name);
    } else if (how.exclusive === true) throw fsError('EEXIST', 'open', path);
    if (found?.attr.type !== 'file') throw fsError('EISDIR', 'open', path);
    const { ino } = found;
    const handle: Handle = {
      write: (text, position) => this.#write(path, ino, text, how.append === true ? undefined : position),
      truncate: () => this.#truncate(path, ino),
      content: () => {
        const attr = this.#attr(ino);
        if (attr === undefined) throw fsError('ENOENT', 'read', path);
        return this.#read(ino, attr);
      },
      identity: ino,
      close: () => undefined,
    };
    if (how.truncate === true && found.attr.length > 0n) handle.truncate();
    return handle;
  }

  /** Blocks first, in a revision of their own; then the slice, with the length and the times. */
  #write(path: Path, ino: bigint, text: string, position: number | undefined): void {
    const { name, hashPrefix } = this.#setting;
    const bytes = new Uint8Array(Buffer.from(text, 'latin1'));
    const id = this.#take('nextChunk');
    if (this.#attr(ino) === undefined) throw fsError('ENOENT', 'write', path);
    this.#commit([{ type: 'put', key: blockKey({ name, hashPrefix }, id, 0, bytes.length), value: bytes }]);
    this.#change(path, ino, (attr) => {
      const pos = position ?? Number(attr.length);
      const end = BigInt(pos + bytes.length);
      const record = { pos, id, size: bytes.length, off: 0, len: bytes.length };
      return { record, length: end > attr.length ? end : attr.length, isWhole: true };
    });
  }

  /** Several whole files in one transaction, as an agent writes what belongs together. */
  writeTogether(files: ReadonlyMap<Path, string>): void {
    const { name, hashPrefix } = this.#setting;
    const contents = [...files].map(([path, text]) => {
      const bytes = new Uint8Array(Buffer.from(text, 'latin1'));
      const id = this.#take('nextChunk');
      const record = { pos: 0, id, size: bytes.length, off: 0, len: bytes.length };
      const block = {
        type: 'put',
        key: blockKey({ name, hashPrefix }, id, 0, bytes.length),
        value: bytes,
      } as const;
      return { path, place: this.place(path), block, record, inode: this.#newInode(0o644) };
    });
    this.#commit(contents.map(({ block }) => block));
    this.transact('', (work) => {
      for (const { place, record, inode } of contents) {
        const there = this.#lookup(place.parent, place.name);
        if (there !== undefined) remove(work, place, find(work, place));
        createFile(work, place, inode, {
          length: BigInt(record.len),
          chunks: [{ index: 0, records: [record] }],
        });
      }
    });
  }

  #truncate(path: Path, ino: bigint): void {
    this.#change(path, ino, (attr) => {
      const len = Number(attr.length);
      return { record: { pos: 0, id: 0n, size: 0, off: 0, len }, length: 0n, isWhole: false };
    });
  }

  #change(
    path: Path,
    ino: bigint,
    make: (attr: Attr) => {
      readonly record: SliceRecord;
      readonly length: bigint;
      readonly isWhole: boolean;
    },
  ): void {
    this.transact(path, ({ draft, accounting, nowNs }) => {
      const attr = draft.attr(ino);
      if (attr === undefined) throw new Stale('the file is gone');
      const { record, length, isWhole } = make(attr);
      const chunk: MetaKey = { kind: 'chunk', ino, index: 0 };
      const stored = draft.get(chunk);
      draft.put(chunk, encodeSlices([...(stored === undefined ? [] : decodeSlices(stored)), record]));
      const next = { ...attr, length, mtimeNs: nowNs, ctimeNs: isWhole ? nowNs + 1n : nowNs };
      draft.putAttr(ino, next);
      for (const parent of attr.parent > 0n ? [attr.parent] : this.#parentsOf(ino)) {
        accounting.leave(parent, attr);
        accounting.enter(parent, next);
      }
      accounting.drop(attr);
      accounting.add(next);
    });
  }

  /** The directories of a file that had several names, once for each. The real client forgets the second in one directory. */
  #parentsOf(ino: bigint): bigint[] {
    const start = this.#prefix + encodeKey({ kind: 'parent', ino, parent: 0n }).slice(0, -8);
    return this.#etcd.range({ start, end: start + '\xff'.repeat(9) }).flatMap(({ key, value }) => {
      const found = decodeKey(key.slice(this.#prefix.length));
      return found.kind === 'parent' ? Array<bigint>(Number(decodeCounter(value))).fill(found.parent) : [];
    });
  }

  identityAt(path: Path): unknown {
    return this.#found(path, true)?.ino;
  }

  meantBy(): undefined {
    return undefined;
  }

  isOwnLink(): boolean {
    return false;
  }

  /** The mode and, of a link, the target at a path. */
  look(path: Path): { readonly mode: number; readonly target: string } | undefined {
    const found = this.#found(path);
    if (found === undefined) return undefined;
    const target = this.#get({ kind: 'symlink', ino: found.ino });
    return {
      mode: found.attr.mode,
      target: target === undefined ? '' : Buffer.from(target).toString('latin1'),
    };
  }

  /** The text of every file of the volume that has an inode, named or not. */
  *everyText(): Iterable<string> {
    const start = `${this.#prefix}A`;
    for (const { key, value } of this.#etcd.range({ start, end: `${this.#prefix}B` })) {
      const decoded = decodeKey(key.slice(this.#prefix.length));
      if (decoded.kind !== 'attr') continue;
      const attr = decodeAttr(value);
      if (attr.type === 'file') yield this.#read(decoded.ino, attr);
    }
  }

  mkdir(path: Path): void {
    const place = this.place(path);
    if (this.#lookup(place.parent, place.name) !== undefined) throw fsError('EEXIST', 'mkdir', path);
    const inode = this.#newInode(0o755);
    this.transact(path, (work) => createDirectory(work, place, inode));
  }

  symlink(target: string, path: Path): void {
    const place = this.place(path);
    if (this.#lookup(place.parent, place.name) !== undefined) throw fsError('EEXIST', 'symlink', path);
    const inode = this.#newInode(0o777);
    this.transact(path, (work) => createSymlink(work, place, inode, Buffer.from(target, 'latin1')));
  }

  rmdir(path: Path): void {
    this.#remove(path, true);
  }

  unlink(path: Path): void {
    this.#remove(path, false);
  }

  #remove(path: Path, isDirectory: boolean): void {
    const place = this.place(path);
    this.transact(path, (work) => {
      const found = find(work, place);
      if ((found.attr.type === 'directory') !== isDirectory)
        throw fsError(isDirectory ? 'ENOTDIR' : 'EISDIR', 'unlink', path);
      remove(work, place, found);
    });
  }

  rename(from: Path, to: Path): void {
    const [source, target] = [this.place(from), this.place(to)];
    this.transact(from, (work) => {
      const found = find(work, source);
      const there = this.#lookup(target.parent, target.name);
      if (there?.ino === found.ino) return;
      let over: Found | undefined;
      if (there !== undefined) {
        over = find(work, target);
        const isDirectory = found.attr.type === 'directory';
        if (isDirectory !== (over.attr.type === 'directory'))
          throw fsError(isDirectory ? 'ENOTDIR' : 'EISDIR', 'rename', from);
      }
      attach(work, target, detach(work, source, found), over);
    });
  }

  link(): void {
    throw fsError('EPERM', 'link', '');
  }

  chmod(path: Path, mode: number): void {
    const found = this.#found(path, true);
    if (found === undefined) throw fsError('ENOENT', 'chmod', path);
    this.transact(path, ({ draft, nowNs }) => {
      const attr = draft.attr(found.ino);
      if (attr === undefined) throw new Stale('the file is gone');
      draft.putAttr(found.ino, { ...attr, mode, ctimeNs: nowNs });
    });
  }
}
