/** Builds the remote tree from decoded keys at one revision, and says which paths cannot be shown. */

import type { Attr } from '../codec/attr.ts';
import { escapeBytes, toByteString } from '../codec/bytes.ts';
import { DecodeError } from '../codec/error.ts';
import { ROOT_INO } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { nameProblem } from '../codec/name.ts';
import { sameXattrs, type Xattrs } from './attributes.ts';
import { join, type DirectoryEntry, type Path, type SpecialEntry, type SymlinkEntry } from './entry.ts';
import { contentKey } from './extents.ts';
import type { DentryName, InodeIndex, InodeRecord, StoredDentry, Touched } from './inode-index.ts';

export { fileExtents } from './extents.ts';

/** A file of the volume whose content has not been read. */
export interface RemoteFile {
  readonly type: 'file';
  readonly ino: bigint;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  /** Bytes. */
  readonly size: bigint;
  readonly nlink: number;
  readonly xattrs?: Xattrs;
  /** Equal keys mean equal content. */
  readonly contentKey: string;
}

/** Ids of the access rule and of the default rule (`R` keys), with a colon between; absent: neither. */
interface AclIds {
  readonly aclIds?: string;
}

export type RemoteEntry = (RemoteFile | DirectoryEntry | SymlinkEntry | SpecialEntry) & AclIds;

/** A path that is left out of the tree with all below it, and why. */
export interface TreeProblem {
  readonly path: Path;
  readonly kind:
    /** The name cannot be a path component. In `path` its slashes are spelled NUL `s` and its NULs NUL `0`. */
    | 'unsafe-name'
    /** The path is longer than any call of the system takes. */
    | 'long-path'
    | 'bad-dentry'
    /** The dentry leads to an inode without an attr. */
    | 'dangling'
    /** The dentry leads to an inode number of the trash or of a client's control files. */
    | 'reserved-inode'
    /** A directory inside itself. */
    | 'cycle'
    /** A directory that already has a name elsewhere. */
    | 'second-name'
    | 'bad-attr'
    | 'bad-chunk'
    | 'bad-symlink';
  readonly message: string;
}

export interface RemoteViewOptions {
  /** Parts of the path of the directory that is the view's root; none for the volume's root. */
  readonly subdir: readonly ByteString[];
  /** Whether a path of the view, and all below it, is to be left out silently. Must answer the same each time. */
  hidden(path: Path, isDirectory: boolean): boolean;
  /** Whether a path of the view belongs to the agent itself, so that the volume's entry is a problem. */
  reserved?(path: Path): boolean;
}

/** Inodes from here up belong to the trash and to the control files of a mount (layout 4.1). */
const FIRST_RESERVED_INO = 0x7fffffff00000000n;

/** The longest symlink target of the store (layout 3). */
const MAX_TARGET_BYTES = 4096;

/** Linux's PATH_MAX without the closing NUL. It also bounds the depth of a view. */
const MAX_PATH_BYTES = 4095;

/** What stands at a path: at most one of the two. */
type Outcome =
  | { readonly entry: RemoteEntry; readonly problem?: never }
  | { readonly problem: TreeProblem; readonly entry?: never };

/** A directory that is shown, with its names that have an entry or a problem. */
interface ShownDirectory {
  readonly path: Path;
  readonly names: Set<ByteString>;
}

/**
 * The tree below one directory of a volume, kept up to date with an index. Empty until the first `refresh`.
 *
 * Invariant: what is shown depends on the index alone, not on the order of events. That needs a rule for broken
 * volumes in which a directory has several names: exactly one of them counts (`#isHome`), told from that inode alone.
 * So the directories that count form a tree, and walking it from the root ends and meets each of them once.
 */
export class RemoteView {
  readonly #index: InodeIndex;
  readonly #options: RemoteViewOptions;
  readonly #entries = new Map<Path, RemoteEntry>();
  readonly #problems = new Map<Path, TreeProblem>();
  readonly #directories = new Map<bigint, ShownDirectory>();
  #root: bigint | undefined;
  /** While refreshing: what stood at each path that was written. */
  #before = new Map<Path, RemoteEntry | undefined>();

  constructor(index: InodeIndex, options: RemoteViewOptions) {
    this.#index = index;
    this.#options = options;
  }

  /** The root itself is no entry. */
  get entries(): ReadonlyMap<Path, RemoteEntry> {
    return this.#entries;
  }

  get problems(): ReadonlyMap<Path, TreeProblem> {
    return this.#problems;
  }

  /** The inode of the view's root; `undefined` while the subdirectory does not exist or is no directory. */
  get root(): bigint | undefined {
    return this.#root;
  }

  /** The paths at which an inode is shown; `''` is the root. */
  pathsOf(ino: bigint): Path[] {
    const paths = ino === this.#root ? [''] : [];
    for (const { parent, name } of this.#index.namesOf(ino)) {
      const directory = this.#directories.get(parent);
      if (directory === undefined) continue;
      const path = pathAt(directory.path, name);
      if (this.#entries.get(path)?.ino === ino) paths.push(path);
    }
    return paths;
  }

  /**
   * Catches up with the index and returns the paths whose entry is another now (new, gone or changed in any field).
   * With `touched` (all that was applied since the last refresh) the cost is that of the change, not of the tree.
   */
  refresh(touched?: Touched): Set<Path> {
    this.#before = new Map();
    const root = this.#resolveRoot();
    if (touched === undefined || root !== this.#root) this.#rebuild(root);
    else this.#update(touched);
    const changed = new Set<Path>();
    for (const [path, entry] of this.#before) {
      if (!sameRemoteEntry(entry, this.#entries.get(path))) changed.add(path);
    }
    this.#before = new Map();
    return changed;
  }

  #resolveRoot(): bigint | undefined {
    let ino = ROOT_INO;
    if (!this.#isDirectory(ino)) return undefined;
    for (const name of this.#options.subdir) {
      const dentry = this.#index.list(ino).get(name)?.dentry;
      if (dentry === undefined || dentry instanceof DecodeError) return undefined;
      ino = dentry.ino;
      if (ino >= FIRST_RESERVED_INO || !this.#isDirectory(ino)) return undefined;
    }
    return ino;
  }

  #isDirectory(ino: bigint): boolean {
    return attrOf(this.#index.get(ino))?.type === 'directory';
  }

  #rebuild(root: bigint | undefined): void {
    if (this.#root !== undefined) this.#leaveDirectory(this.#root);
    this.#root = root;
    if (root !== undefined) this.#enterDirectory(root, '');
  }

  #update(touched: Touched): void {
    const dirty: DentryName[] = [...touched.dentries];
    for (const ino of new Set([...touched.inodes, ...touched.relinked])) {
      dirty.push(...this.#index.namesOf(ino));
    }
    // Everything that goes has to go before anything comes: a directory that moved is shown once at any time.
    for (const name of dirty) this.#clearStale(name);
    for (const name of dirty) this.#show(name);
  }

  /** Takes down what a name shows, unless it is a directory that stays one: what is below that is not looked at. */
  #clearStale({ parent, name }: DentryName): void {
    const directory = this.#directories.get(parent);
    if (directory === undefined) return;
    const path = pathAt(directory.path, name);
    const shown = this.#entries.get(path);
    const entry = this.#outcome(parent, directory.path, name)?.entry;
    if (shown?.type === 'directory' && entry?.type === 'directory' && shown.ino === entry.ino) return;
    this.#remove(directory, name);
  }

  /** Puts up what a name stands for now, with all below it if that is a directory not shown yet. */
  #show({ parent, name }: DentryName): void {
    const directory = this.#directories.get(parent);
    if (directory === undefined) return;
    const entered = this.#place(parent, directory, name);
    if (entered !== undefined) this.#enterDirectory(entered, pathAt(directory.path, name));
  }

  /** Shows a directory and all below it. */
  #enterDirectory(ino: bigint, path: Path): void {
    const waiting = [{ ino, path }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const directory = { path: next.path, names: new Set<ByteString>() };
      this.#directories.set(next.ino, directory);
      for (const name of this.#index.list(next.ino).keys()) {
        const entered = this.#place(next.ino, directory, name);
        if (entered !== undefined) waiting.push({ ino: entered, path: pathAt(next.path, name) });
      }
    }
  }

  /** Takes down all below a directory, and the directory from those that are shown. */
  #leaveDirectory(ino: bigint): void {
    const waiting = [ino];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const directory = this.#directories.get(next);
      this.#directories.delete(next);
      for (const name of directory?.names ?? []) {
        const path = pathAt(directory?.path ?? '', name);
        const entry = this.#entries.get(path);
        if (entry?.type === 'directory') waiting.push(entry.ino);
        this.#write(path, undefined);
      }
    }
  }

  #remove(directory: ShownDirectory, name: ByteString): void {
    const path = pathAt(directory.path, name);
    const entry = this.#entries.get(path);
    if (entry?.type === 'directory') this.#leaveDirectory(entry.ino);
    directory.names.delete(name);
    this.#write(path, undefined);
  }

  /** Writes what one name stands for; returns its inode if it is a directory that has to be entered. */
  #place(parent: bigint, directory: ShownDirectory, name: ByteString): bigint | undefined {
    const path = pathAt(directory.path, name);
    const outcome = this.#outcome(parent, directory.path, name);
    if (outcome === undefined) directory.names.delete(name);
    else directory.names.add(name);
    this.#write(path, outcome);
    const entry = outcome?.entry;
    return entry?.type === 'directory' && !this.#directories.has(entry.ino) ? entry.ino : undefined;
  }

  #write(path: Path, outcome: Outcome | undefined): void {
    if (!this.#before.has(path)) this.#before.set(path, this.#entries.get(path));
    if (outcome?.entry === undefined) this.#entries.delete(path);
    else this.#entries.set(path, outcome.entry);
    if (outcome?.problem === undefined) this.#problems.delete(path);
    else this.#problems.set(path, outcome.problem);
  }

  /** What a name in a shown directory stands for; `undefined` if it is absent or hidden. */
  #outcome(parent: bigint, directory: Path, name: ByteString): Outcome | undefined {
    const stored = this.#index.list(parent).get(name);
    if (stored === undefined) return undefined;
    const path = pathAt(directory, name);
    const problem = (kind: TreeProblem['kind'], message: string): Outcome => ({
      problem: { path, kind, message },
    });
    const unsafe = nameProblem(name);
    if (unsafe !== undefined) {
      const spelled = path === join(directory, name) ? unsafe : `${unsafe}: ${escapeBytes(name)}`;
      return problem('unsafe-name', spelled);
    }
    if (parent === ROOT_INO && name === '.trash') {
      return problem('unsafe-name', "the name belongs to the client's own view of the trash");
    }
    if (path.length > MAX_PATH_BYTES) {
      return problem('long-path', `the path has ${path.length} bytes, more than ${MAX_PATH_BYTES}`);
    }
    if (this.#options.reserved?.(path) === true) {
      return problem('unsafe-name', 'the name is one that the agent itself uses at the top of its directory');
    }
    if (this.#options.hidden(path, this.#looksLikeDirectory(stored))) return undefined;
    if (stored.dentry instanceof DecodeError) return problem('bad-dentry', stored.dentry.message);
    const { ino } = stored.dentry;
    if (ino >= FIRST_RESERVED_INO) {
      return problem('reserved-inode', `the name leads to inode ${ino}, which is no part of the tree`);
    }
    const record = this.#index.get(ino);
    const attr = record?.attr?.value;
    if (record === undefined || attr === undefined) {
      return problem('dangling', `the name leads to inode ${ino}, which does not exist`);
    }
    if (attr instanceof DecodeError) return problem('bad-attr', attr.message);
    if (attr.type === 'directory') {
      if (this.#contains(ino, directory)) return problem('cycle', 'the directory lies inside itself');
      if (!this.#isHome(ino, attr, parent, name)) {
        return problem('second-name', 'the directory has another name, and only one can be shown');
      }
    }
    return readEntry(ino, attr, record, path);
  }

  #looksLikeDirectory({ dentry }: StoredDentry): boolean {
    if (dentry instanceof DecodeError) return false;
    return (attrOf(this.#index.get(dentry.ino)) ?? dentry).type === 'directory';
  }

  /** Whether an inode is the volume's root, or is shown as the directory at `path` or above it. */
  #contains(ino: bigint, path: Path): boolean {
    if (ino === ROOT_INO) return true;
    const above = this.#directories.get(ino)?.path;
    return above !== undefined && (above === '' || above === path || path.startsWith(`${above}/`));
  }

  /**
   * Whether this is the one name of a directory that counts: the only one, or the least of those where the attr says
   * that the directory is, or the least of all.
   */
  #isHome(ino: bigint, attr: Attr, parent: bigint, name: ByteString): boolean {
    const names = this.#index.namesOf(ino);
    if (names.length === 1) return true;
    const told = names.filter((candidate) => candidate.parent === attr.parent);
    const home = (told.length > 0 ? told : names).reduce((a, b) => (comesBefore(b, a) ? b : a));
    return home.parent === parent && home.name === name;
  }
}

/** The path of a name. One with a slash must not be taken for a path below another directory. */
function pathAt(directory: Path, name: ByteString): Path {
  const unsafe = name.includes('/') || name.includes('\0');
  return join(directory, unsafe ? name.replaceAll('\0', '\x000').replaceAll('/', '\0s') : name);
}

function comesBefore(a: DentryName, b: DentryName): boolean {
  return a.parent === b.parent ? a.name < b.name : a.parent < b.parent;
}

function attrOf(record: InodeRecord | undefined): Attr | undefined {
  const attr = record?.attr?.value;
  return attr instanceof DecodeError ? undefined : attr;
}

function readEntry(ino: bigint, attr: Attr, record: InodeRecord, path: Path): Outcome {
  const { mode, uid, gid, mtimeNs } = attr;
  const xattrs = userXattrs(record);
  const aclIds =
    attr.accessAcl === 0 && attr.defaultAcl === 0 ? undefined : `${attr.accessAcl}:${attr.defaultAcl}`;
  // Spelled out: most have neither, and V8 gives each set of fields a hidden class of its own.
  const plain = { ino, mode, uid, gid, mtimeNs };
  const base =
    xattrs === undefined && aclIds === undefined
      ? plain
      : {
          ...plain,
          ...(xattrs === undefined ? {} : { xattrs }),
          ...(aclIds === undefined ? {} : { aclIds }),
        };
  switch (attr.type) {
    case 'directory':
      return { entry: { type: 'directory', ...base } };
    case 'file':
      return readFile(base, attr, record, path);
    case 'symlink': {
      const target = toByteString(record.symlink?.raw ?? new Uint8Array());
      const message = targetProblem(target);
      if (message !== undefined) return { problem: { path, kind: 'bad-symlink', message } };
      return { entry: { type: 'symlink', ...base, target } };
    }
    default:
      return { entry: { type: 'special', ...base, kind: attr.type, rdev: attr.rdev } };
  }
}

/** Only what files and directories can have on any disk; what else the volume holds, such as its own notes, stays there. */
function userXattrs({ xattrs }: InodeRecord): Xattrs | undefined {
  const found: Record<ByteString, ByteString> = {};
  for (const [name, { raw }] of xattrs) if (name.startsWith('user.')) found[name] = toByteString(raw);
  return Object.keys(found).length === 0 ? undefined : found;
}

function readFile(base: Omit<DirectoryEntry, 'type'>, attr: Attr, record: InodeRecord, path: Path): Outcome {
  try {
    const content = { size: attr.length, contentKey: contentKey(record.chunks, attr.length) };
    return { entry: { type: 'file', ...base, ...content, nlink: attr.nlink } };
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { problem: { path, kind: 'bad-chunk', message: error.message } };
  }
}

function targetProblem(target: ByteString): string | undefined {
  if (target === '') return 'the symlink has no target';
  if (target.includes('\0')) return "the symlink's target has a NUL byte";
  if (target.length > MAX_TARGET_BYTES) return `the symlink's target has ${target.length} bytes`;
  return undefined;
}

/** Whether two remote entries are the same in every field. */
export function sameRemoteEntry(a: RemoteEntry | undefined, b: RemoteEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const sameBase =
    a.ino === b.ino &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.mtimeNs === b.mtimeNs &&
    a.aclIds === b.aclIds &&
    sameXattrs(a.xattrs, b.xattrs);
  if (!sameBase) return false;
  switch (a.type) {
    case 'file':
      return b.type === 'file' && a.contentKey === b.contentKey && a.size === b.size && a.nlink === b.nlink;
    case 'directory':
      return b.type === 'directory';
    case 'symlink':
      return b.type === 'symlink' && a.target === b.target;
    case 'special':
      return b.type === 'special' && a.kind === b.kind && a.rdev === b.rdev;
  }
}
