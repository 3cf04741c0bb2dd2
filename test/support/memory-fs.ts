/** A file system in memory that behaves as Linux does towards `FsPort`: inodes, hard links, links, open descriptors. */

import type { FileStat, FsPort, SpecialKind } from '../../src/agent/base/ports.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import { fsError } from './fs-error.ts';

type Type = FileStat['type'];

interface Inode {
  readonly ino: bigint;
  readonly type: Type;
  mode: number;
  nlink: number;
  mtimeNs: bigint;
  ctimeNs: bigint;
  readonly bornNs: bigint;
  /** Open descriptors. */
  opens: number;
  data: Uint8Array;
  /** How much of the data is on the disk for sure; `before`: that part as it was, if it was written over since. */
  synced: { readonly length: number; readonly before?: Uint8Array };
  /** Of a directory. */
  readonly entries: Map<ByteString, Inode>;
  /** Of a symlink. */
  readonly target: ByteString;
  readonly rdev: number;
  readonly xattrs: Map<ByteString, ByteString>;
}

interface Descriptor {
  readonly inode: Inode;
  readonly path: ByteString;
  readonly access: 'read' | 'write';
  readonly isAppending: boolean;
  position: number;
}

/** How a file is opened by a program other than the agent: as open(2), following a link in the last component. */
export interface OpenFlags {
  readonly create?: boolean;
  readonly exclusive?: boolean;
  readonly truncate?: boolean;
  readonly append?: boolean;
}

/** Who owns everything: programs without rights of their own cannot give files away. */
const OWNER = 1000;
const NAME_MAX = 255;
const PATH_MAX = 4096;
/** Links that one resolution may follow (Linux: MAXSYMLINKS). */
const LINKS_MAX = 40;
const DIRECTORY_SIZE = 4096n;

/** A place in a directory, whether a name is there or not. */
interface Place {
  readonly dir: Inode;
  /** `.` when the path leads to the directory itself. */
  readonly name: ByteString;
  readonly inode: Inode | undefined;
}

export class MemoryFs implements FsPort {
  readonly #now: () => bigint;
  readonly #root: Inode;
  /** Where each directory stands. */
  readonly #parents = new Map<Inode, { readonly dir: Inode; readonly name: ByteString }>();
  readonly #descriptors = new Map<number, Descriptor>();
  /** Numbers of inodes that are gone, the last one first: ext4 gives them out again at once. */
  readonly #free: bigint[] = [];
  #nextIno = 2n;
  #nextDescriptor = 10;
  #lastStampNs = 0n;
  #stamps = 0n;

  /** `now` is the machine's clock in nanoseconds; what happens at one moment of it is told apart by single ones. */
  constructor(now: () => bigint) {
    this.#now = now;
    this.#root = this.#newInode('directory', 0o755);
    this.#root.nlink = 2;
  }

  /** Descriptors that are open now. */
  get openCount(): number {
    return this.#descriptors.size;
  }

  #stamp(): bigint {
    const now = this.#now();
    this.#stamps = now === this.#lastStampNs ? this.#stamps + 1n : 0n;
    this.#lastStampNs = now;
    return now + this.#stamps;
  }

  #newInode(type: Type, mode: number, more: { target?: ByteString; rdev?: number } = {}): Inode {
    const stamp = this.#stamp();
    let ino = this.#free.pop();
    if (ino === undefined) {
      ino = this.#nextIno;
      this.#nextIno += 1n;
    }
    return {
      ino,
      type,
      mode,
      nlink: 0,
      mtimeNs: stamp,
      ctimeNs: stamp,
      bornNs: stamp,
      opens: 0,
      data: new Uint8Array(0),
      synced: { length: 0 },
      entries: new Map(),
      target: more.target ?? '',
      rdev: more.rdev ?? 0,
      xattrs: new Map(),
    };
  }

  #statOf(inode: Inode): FileStat {
    const { type, ino, mode, nlink, mtimeNs, ctimeNs, bornNs, rdev } = inode;
    const sizes: Partial<Record<Type, bigint>> = {
      file: BigInt(inode.data.length),
      directory: DIRECTORY_SIZE,
      symlink: BigInt(inode.target.length),
    };
    const size = sizes[type] ?? 0n;
    const owner = { uid: OWNER, gid: OWNER };
    return { type, dev: 7n, ino, mode, ...owner, size, nlink, mtimeNs, ctimeNs, bornNs, rdev };
  }

  /** Walks a path; a link in the last component is followed only if asked for. */
  #resolve(call: string, path: ByteString, follow: boolean): Place {
    if (path.length >= PATH_MAX) throw fsError('ENAMETOOLONG', call, path);
    let parts = path.split('/').filter((part) => part !== '');
    let dir = this.#root;
    let place: Place = { dir, name: '.', inode: dir };
    let links = 0;
    while (parts.length > 0) {
      const [name = '', ...rest] = parts;
      const at = place.inode;
      if (at === undefined) throw fsError('ENOENT', call, path);
      if (at.type !== 'directory') throw fsError('ENOTDIR', call, path);
      if (name.length > NAME_MAX) throw fsError('ENAMETOOLONG', call, path);
      dir = at;
      parts = rest;
      if (name === '.') place = { dir, name, inode: dir };
      else if (name === '..') {
        const above = this.#parents.get(dir)?.dir ?? this.#root;
        place = { dir: above, name: '.', inode: above };
      } else place = { dir, name, inode: dir.entries.get(name) };
      const found = place.inode;
      if (found?.type === 'symlink' && (rest.length > 0 || follow)) {
        links += 1;
        if (links > LINKS_MAX) throw fsError('ELOOP', call, path);
        parts = [...found.target.split('/').filter((part) => part !== ''), ...rest];
        const start = found.target.startsWith('/') ? this.#root : dir;
        place = { dir: start, name: '.', inode: start };
      }
    }
    return place;
  }

  #existing(call: string, path: ByteString, follow = false): Inode {
    const { inode } = this.#resolve(call, path, follow);
    if (inode === undefined) throw fsError('ENOENT', call, path);
    return inode;
  }

  /** A name that is free. */
  #vacant(call: string, path: ByteString): Place {
    const place = this.#resolve(call, path, false);
    if (place.inode !== undefined) throw fsError('EEXIST', call, path);
    return place;
  }

  /** Takes back what changes names and attributes, one step after the other, back to the last time that all was on disk. */
  #undo: (() => void)[] = [];

  /** About to change what a directory holds and the attributes of an inode. */
  #note(inode: Inode, place?: Place): void {
    const { mode, nlink, mtimeNs, ctimeNs } = inode;
    const parent = this.#parents.get(inode);
    if (place === undefined) {
      this.#undo.push(() => void Object.assign(inode, { mode, nlink, mtimeNs, ctimeNs }));
      return;
    }
    const { dir, name } = place;
    const before = { nlink: dir.nlink, mtimeNs: dir.mtimeNs, ctimeNs: dir.ctimeNs };
    const had = dir.entries.get(name);
    this.#undo.push(() => {
      Object.assign(inode, { mode, nlink, mtimeNs, ctimeNs });
      Object.assign(dir, before);
      if (had === undefined) dir.entries.delete(name);
      else dir.entries.set(name, had);
      if (parent === undefined) this.#parents.delete(inode);
      else this.#parents.set(inode, parent);
    });
  }

  /** What is on the disk of a file may be needed as it is now. */
  #aboutToOverwrite(inode: Inode, from: number): void {
    const { length, before } = inode.synced;
    if (before === undefined && from < length) inode.synced = { length, before: inode.data.slice(0, length) };
  }

  /**
   * The power fails, and the machine starts again: no process is left. Of the changes of names and attributes since the last sync
   * of a directory or of all, a first part is on disk: journals keep their order (ext4: Documentation/filesystems/ext4/journal.rst). What
   * was written to a file since its last fsync is there, in part, as zeros or not at all, whatever its name says: blocks are
   * allocated late (ext4: Documentation/admin-guide/ext4.rst, `auto_da_alloc`; fsync(2)).
   */
  cutPower(below: (below: number) => number): void {
    for (let lost = below(this.#undo.length + 1); lost > 0; lost -= 1) this.#undo.pop()?.();
    this.#undo = [];
    this.#descriptors.clear();
    this.#free.length = 0;
    const seen = new Set<Inode>();
    const visit = (inode: Inode): void => {
      if (seen.has(inode)) return;
      seen.add(inode);
      inode.opens = 0;
      if (inode.type === 'file') {
        inode.data = afterPowerCut(inode, below);
        inode.synced = { length: inode.data.length };
      }
      for (const child of inode.entries.values()) visit(child);
    };
    visit(this.#root);
  }

  #attach(place: Place, inode: Inode): void {
    const { dir, name } = place;
    this.#note(inode, place);
    dir.entries.set(name, inode);
    inode.nlink += 1;
    const stamp = this.#stamp();
    dir.mtimeNs = dir.ctimeNs = inode.ctimeNs = stamp;
    if (inode.type !== 'directory') return;
    this.#parents.set(inode, { dir, name });
    dir.nlink += 1;
  }

  #detach(place: Place, inode: Inode): void {
    const { dir, name } = place;
    this.#note(inode, place);
    dir.entries.delete(name);
    inode.nlink -= 1;
    const stamp = this.#stamp();
    dir.mtimeNs = dir.ctimeNs = inode.ctimeNs = stamp;
    if (inode.type !== 'directory') return;
    this.#parents.delete(inode);
    dir.nlink -= 1;
  }

  #forgetIfUnused(inode: Inode): void {
    if (inode.opens === 0 && inode.nlink <= (inode.type === 'directory' ? 1 : 0)) this.#free.push(inode.ino);
  }

  #open(inode: Inode, path: ByteString, access: Descriptor['access'], isAppending: boolean): number {
    const fd = this.#nextDescriptor;
    this.#nextDescriptor += 1;
    inode.opens += 1;
    this.#descriptors.set(fd, { inode, path, access, isAppending, position: 0 });
    return fd;
  }

  #descriptor(call: string, fd: number, access?: Descriptor['access']): Descriptor {
    const descriptor = this.#descriptors.get(fd);
    if (descriptor === undefined || (access !== undefined && descriptor.access !== access))
      throw fsError('EBADF', call, '');
    return descriptor;
  }

  /** open(2) for writing, by a program that is not the agent. */
  openWrite(path: ByteString, flags: OpenFlags = {}): number {
    let place = this.#resolve('open', path, flags.exclusive !== true);
    if (place.inode === undefined) {
      if (flags.create !== true) throw fsError('ENOENT', 'open', path);
      const inode = this.#newInode('file', 0o644);
      this.#attach(place, inode);
      place = { ...place, inode };
    } else if (flags.exclusive === true) throw fsError('EEXIST', 'open', path);
    const { inode } = place;
    if (inode === undefined) throw fsError('ENOENT', 'open', path);
    if (inode.type === 'directory') throw fsError('EISDIR', 'open', path);
    if (flags.truncate === true) {
      this.#aboutToOverwrite(inode, 0);
      this.#setData(inode, new Uint8Array(0));
    }
    return this.#open(inode, path, 'write', flags.append === true);
  }

  /** The whole content of a file, following links. */
  readFile(path: ByteString): Uint8Array {
    const inode = this.#existing('open', path, true);
    if (inode.type !== 'file') throw fsError('EISDIR', 'read', path);
    return inode.data.slice();
  }

  /** What is in an open file, and something that tells it from all others. */
  contentOf(fd: number): string {
    return Buffer.from(this.#descriptor('fstat', fd).inode.data).toString('latin1');
  }

  /** The path under which a descriptor was opened, and how many names its file has now. */
  pathOf(fd: number): ByteString {
    return this.#descriptor('fstat', fd).path;
  }

  linksOf(fd: number): number {
    return this.#descriptor('fstat', fd).inode.nlink;
  }

  /** The content of the file that a path leads to; `undefined` when there is none. */
  textAt(path: ByteString): string | undefined {
    const inode = this.identityAt(path) as Inode | undefined;
    return inode?.type === 'file' ? Buffer.from(inode.data).toString('latin1') : undefined;
  }

  identityAt(path: ByteString): unknown {
    try {
      return this.#resolve('stat', path, true).inode;
    } catch {
      return undefined;
    }
  }

  identityOf(fd: number): unknown {
    return this.#descriptor('fstat', fd).inode;
  }

  /** stat(2): what a path leads to; `undefined` when it leads nowhere. */
  stat(path: ByteString): FileStat | undefined {
    return this.#unlessMissing(() => this.#statOf(this.#existing('stat', path, true)));
  }

  /** The directory that the last name of a path stands in, without any link on the way; throws when there is none. */
  directoryOf(path: ByteString): ByteString {
    const names: ByteString[] = [];
    let at: Inode | undefined = this.#resolve('realpath', path, false).dir;
    while (at !== undefined && at !== this.#root) {
      const place = this.#parents.get(at);
      if (place === undefined) throw fsError('ENOENT', 'realpath', path);
      names.unshift(place.name);
      at = place.dir;
    }
    return `/${names.join('/')}`;
  }

  #unlessMissing<T>(find: () => T): T | undefined {
    try {
      return find();
    } catch (error) {
      const code = (error as { readonly code?: unknown }).code;
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
      throw error;
    }
  }

  #setData(inode: Inode, data: Uint8Array): void {
    inode.data = data;
    inode.mtimeNs = inode.ctimeNs = this.#stamp();
  }

  lstat(_label: string, path: ByteString): FileStat | undefined {
    return this.#unlessMissing(() => this.#statOf(this.#existing('lstat', path)));
  }

  readdir(_label: string, path: ByteString): ByteString[] {
    const inode = this.#existing('scandir', path, true);
    if (inode.type !== 'directory') throw fsError('ENOTDIR', 'scandir', path);
    // Node sorts the names it reads.
    return [...inode.entries.keys()].sort();
  }

  readlink(_label: string, path: ByteString): ByteString | undefined {
    return this.#unlessMissing(() => {
      const inode = this.#existing('readlink', path);
      return inode.type === 'symlink' ? inode.target : undefined;
    });
  }

  openRead(_label: string, path: ByteString): number {
    const inode = this.#existing('open', path);
    if (inode.type === 'symlink') throw fsError('ELOOP', 'open', path);
    if (inode.type === 'socket') throw fsError('ENXIO', 'open', path);
    return this.#open(inode, path, 'read', false);
  }

  openNew(_label: string, path: ByteString): number {
    const place = this.#vacant('open', path);
    const inode = this.#newInode('file', 0o600);
    this.#attach(place, inode);
    return this.#open(inode, path, 'write', false);
  }

  openAppend(label: string, path: ByteString): number {
    const { inode } = this.#resolve('open', path, false);
    if (inode === undefined) {
      this.close(label, this.openNew(label, path));
      return this.openAppend(label, path);
    }
    if (inode.type === 'symlink') throw fsError('ELOOP', 'open', path);
    if (inode.type === 'directory') throw fsError('EISDIR', 'open', path);
    return this.#open(inode, path, 'write', true);
  }

  fstat(_label: string, fd: number): FileStat {
    return this.#statOf(this.#descriptor('fstat', fd).inode);
  }

  read(_label: string, fd: number, into: Uint8Array, position: number): number {
    const { inode } = this.#descriptor('read', fd, 'read');
    if (inode.type === 'directory') throw fsError('EISDIR', 'read', '');
    const bytes = inode.data.subarray(position, position + into.length);
    into.set(bytes);
    return bytes.length;
  }

  write(_label: string, fd: number, bytes: Uint8Array, position?: number): void {
    const descriptor = this.#descriptor('write', fd, 'write');
    const { inode } = descriptor;
    const at = descriptor.isAppending ? inode.data.length : (position ?? descriptor.position);
    if (bytes.length === 0) return;
    this.#aboutToOverwrite(inode, at);
    const before = inode.data;
    const length = Math.max(before.length, at + bytes.length);
    // With room to grow: a log is appended to thousands of times. What lies behind the end is not known to be zeros.
    let whole = new Uint8Array(before.buffer, 0, before.buffer.byteLength);
    if (whole.length < length) {
      whole = new Uint8Array(length * 2);
      whole.set(before);
    } else whole.fill(0, before.length, length);
    whole.set(bytes, at);
    this.#setData(inode, whole.subarray(0, length));
    if (position === undefined) descriptor.position = at + bytes.length;
  }

  ftruncate(_label: string, fd: number, size: bigint): void {
    const { inode } = this.#descriptor('ftruncate', fd, 'write');
    this.#aboutToOverwrite(inode, Number(size));
    const data = new Uint8Array(Number(size));
    data.set(inode.data.subarray(0, data.length));
    this.#setData(inode, data);
  }

  fchmod(_label: string, fd: number, mode: number): void {
    this.#setMode(this.#descriptor('fchmod', fd).inode, mode);
  }

  #setMode(inode: Inode, mode: number): void {
    this.#note(inode);
    inode.mode = mode & 0o7777;
    inode.ctimeNs = this.#stamp();
  }

  futimes(_label: string, fd: number, mtimeNs: bigint): void {
    this.#setTimes(this.#descriptor('futime', fd).inode, mtimeNs);
  }

  /** Node sets microseconds. */
  #setTimes(inode: Inode, mtimeNs: bigint): void {
    this.#note(inode);
    inode.mtimeNs = (mtimeNs / 1000n) * 1000n;
    inode.ctimeNs = this.#stamp();
  }

  fsync(_label: string, fd: number): void {
    const { inode } = this.#descriptor('fdatasync', fd);
    inode.synced = { length: inode.data.length };
  }

  close(_label: string, fd: number): void {
    const { inode } = this.#descriptor('close', fd);
    this.#descriptors.delete(fd);
    inode.opens -= 1;
    this.#forgetIfUnused(inode);
  }

  /** Closes what a process that ended had open. */
  closeAll(descriptors: Iterable<number>): void {
    for (const fd of descriptors) if (this.#descriptors.has(fd)) this.close('exit', fd);
  }

  mkdir(_label: string, path: ByteString, mode: number): void {
    const place = this.#vacant('mkdir', path);
    const inode = this.#newInode('directory', mode & 0o7777 & ~0o022);
    inode.nlink = 1;
    this.#attach(place, inode);
  }

  rmdir(_label: string, path: ByteString): void {
    const place = this.#resolve('rmdir', path, false);
    const { inode } = place;
    if (inode === undefined) throw fsError('ENOENT', 'rmdir', path);
    if (inode.type !== 'directory') throw fsError('ENOTDIR', 'rmdir', path);
    if (place.name === '.') throw fsError('EINVAL', 'rmdir', path);
    if (inode.entries.size > 0) throw fsError('ENOTEMPTY', 'rmdir', path);
    this.#detach(place, inode);
    this.#forgetIfUnused(inode);
  }

  unlink(_label: string, path: ByteString): void {
    const place = this.#resolve('unlink', path, false);
    const { inode } = place;
    if (inode === undefined) throw fsError('ENOENT', 'unlink', path);
    if (inode.type === 'directory') throw fsError('EISDIR', 'unlink', path);
    this.#detach(place, inode);
    this.#forgetIfUnused(inode);
  }

  link(_label: string, from: ByteString, to: ByteString): void {
    const inode = this.#existing('link', from);
    const place = this.#vacant('link', to);
    if (inode.type === 'directory') throw fsError('EPERM', 'link', from);
    this.#attach(place, inode);
  }

  rename(_label: string, from: ByteString, to: ByteString): void {
    const source = this.#resolve('rename', from, false);
    const { inode } = source;
    if (inode === undefined) throw fsError('ENOENT', 'rename', from);
    const target = this.#resolve('rename', to, false);
    const { inode: replaced } = target;
    if (inode.type === 'directory') {
      for (let at: Inode | undefined = target.dir; at !== undefined; at = this.#parents.get(at)?.dir)
        if (at === inode) throw fsError('EINVAL', 'rename', from);
    }
    if (replaced === inode) return;
    if (replaced !== undefined) {
      if (replaced.type === 'directory' && inode.type !== 'directory')
        throw fsError('EISDIR', 'rename', from);
      if (replaced.type !== 'directory' && inode.type === 'directory')
        throw fsError('ENOTDIR', 'rename', from);
      if (replaced.entries.size > 0) throw fsError('ENOTEMPTY', 'rename', from);
    }
    this.#detach(source, inode);
    if (replaced !== undefined) {
      this.#detach(target, replaced);
      this.#forgetIfUnused(replaced);
    }
    this.#attach(target, inode);
  }

  exchange(_label: string, a: ByteString): void {
    throw fsError('ENOTSUP', 'exchange', a);
  }

  hasWriter(_label: string, path: ByteString): boolean {
    throw fsError('ENOTSUP', 'lease', path);
  }

  symlink(_label: string, target: ByteString, path: ByteString): void {
    const place = this.#vacant('symlink', path);
    this.#attach(place, this.#newInode('symlink', 0o777, { target }));
  }

  mknod(_label: string, path: ByteString, kind: SpecialKind, rdev: number): void {
    if (kind === 'block' || kind === 'char') throw fsError('EPERM', 'mknod', path);
    const place = this.#vacant('mknod', path);
    this.#attach(place, this.#newInode(kind, 0o600, { rdev }));
  }

  chmod(_label: string, path: ByteString, mode: number): void {
    this.#setMode(this.#existing('chmod', path, true), mode);
  }

  lchown(_label: string, path: ByteString, uid: number, gid: number): void {
    const inode = this.#existing('lchown', path);
    if (uid !== OWNER || gid !== OWNER) throw fsError('EPERM', 'lchown', path);
    inode.ctimeNs = this.#stamp();
  }

  lutimes(_label: string, path: ByteString, mtimeNs: bigint): void {
    this.#setTimes(this.#existing('lutime', path), mtimeNs);
  }

  #attributes(path: ByteString, name: ByteString): Inode {
    const inode = this.#existing('xattr', path);
    if (!name.startsWith('user.')) throw fsError('ENOTSUP', 'xattr', path);
    if (inode.type !== 'file' && inode.type !== 'directory') throw fsError('EPERM', 'xattr', path);
    return inode;
  }

  listXattrs(_label: string, path: ByteString): ByteString[] {
    return [...this.#existing('llistxattr', path).xattrs.keys()];
  }

  getXattr(_label: string, path: ByteString, name: ByteString): ByteString | undefined {
    return this.#attributes(path, name).xattrs.get(name);
  }

  setXattr(_label: string, path: ByteString, name: ByteString, value: ByteString): void {
    const inode = this.#attributes(path, name);
    inode.xattrs.set(name, value);
    inode.ctimeNs = this.#stamp();
  }

  removeXattr(_label: string, path: ByteString, name: ByteString): void {
    const inode = this.#attributes(path, name);
    if (!inode.xattrs.delete(name)) throw fsError('ENODATA', 'lremovexattr', path);
    inode.ctimeNs = this.#stamp();
  }

  syncDir(_label: string, path: ByteString): void {
    const inode = this.#existing('open', path);
    if (inode.type !== 'directory') throw fsError('ENOTDIR', 'open', path);
    this.#undo = [];
  }

  syncFs(_label: string, path: ByteString): void {
    this.#existing('open', path, true);
    this.#undo = [];
    const visit = (inode: Inode): void => {
      if (inode.type === 'file') inode.synced = { length: inode.data.length };
      for (const child of inode.entries.values()) visit(child);
    };
    visit(this.#root);
  }
}

/** What is left of a file's data. */
function afterPowerCut({ data, synced }: Inode, below: (below: number) => number): Uint8Array {
  const { length, before } = synced;
  if (before === undefined && data.length === length) return data.slice();
  const old = before ?? data.slice(0, length);
  switch (below(4)) {
    case 0:
      return old;
    case 1:
      return data.slice();
    case 2: {
      // The length is on disk, the end of the data is not.
      const torn = new Uint8Array(data.length);
      torn.set(old.subarray(0, data.length));
      torn.set(data.subarray(0, below(data.length + 1)));
      return torn;
    }
    default:
      return before === undefined ? old : new Uint8Array(0);
  }
}
