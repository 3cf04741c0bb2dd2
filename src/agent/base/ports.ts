/** The interfaces to the world: `EtcdStore`, `FsPort`, `WatchPort`, `Clock`, and all of it as `Ports`. Types only. */

import type { ByteString, KeyRange, Kv, StoreEvent, StoreTransaction } from '../../codec/kv.ts';
import type { MetaAddress } from '../../codec/url.ts';
import type { SpecialEntry } from '../../reconcile/entry.ts';

/**
 * How a transaction ended. `lost`: a compared key had moved, nothing was written by this attempt; `current` holds, for
 * each compare by key, what is there now. `ambiguous` on a lost transaction: an earlier attempt of the identical
 * transaction had no known outcome, so the key may have moved because that attempt committed: read back before
 * anything is cleaned up.
 */
export type CommitResult =
  | { readonly outcome: 'committed'; readonly revision: bigint }
  | {
      readonly outcome: 'lost';
      readonly revision: bigint;
      readonly ambiguous: boolean;
      readonly current: ReadonlyMap<ByteString, Kv | undefined>;
    };

/** What a watch tells. Callbacks run in order and are never called after the watch promise has settled. */
export interface WatchHandlers {
  /**
   * All events of one revision in one of the watched ranges, each revision of a range once and in order.
   * Ranges are independent: no order holds between them.
   */
  onRevision(range: number, revision: bigint, events: readonly StoreEvent[]): void;
  /** Everything up to and including this revision has been delivered for this range. */
  onProgress(range: number, revision: bigint): void;
  /** The stream went up or down; `reason` says why it went down (`cut`, `canceled`, `no leader`, `silent`, ...). */
  onState(up: boolean, reason?: string): void;
}

export interface StoreStatus {
  /** Version of the member that answered, such as `3.5.33`. */
  readonly version: string;
  readonly clusterId: string;
  readonly revision: bigint;
}

export interface SnapshotOptions {
  readonly revision?: bigint;
  readonly signal?: AbortSignal;
  /** The values are left out, and come as nothing. */
  readonly keysOnly?: boolean;
  /** Only keys that changed at this revision or later. */
  readonly changedSince?: bigint;
}

/**
 * The store. Errors that cross the port are those of `error.ts` (UnavailableError, CompactedError, AuthError,
 * LimitError); nothing of the transport leaks out.
 */
export interface EtcdStore {
  /**
   * Reads whole ranges at one revision, paged, and returns that revision. Without `revision` the first page is
   * linearizable and pins it; later pages are serializable at the pinned revision.
   * Throws CompactedError when the revision is gone: start over.
   */
  snapshot(
    ranges: readonly KeyRange[],
    onKv: (kv: Kv, range: number) => void,
    options?: SnapshotOptions,
  ): Promise<bigint>;
  /**
   * Reads single keys, all at one revision (read-only transactions of at most 128 gets). Without `revision` linearizable.
   * The result has one element per key, in order. The caller bounds the size of one call's values.
   */
  get(
    keys: readonly ByteString[],
    options?: { readonly revision?: bigint; readonly signal?: AbortSignal },
  ): Promise<{ readonly revision: bigint; readonly kvs: readonly (Kv | undefined)[] }>;
  /**
   * Follows ranges from a revision on (inclusive), for ever: reconnects by itself and resumes after the last revision
   * delivered in each range. Ends only by rejecting: CompactedError (list again), AuthError (denied for good),
   * AbortError (the signal), VolumeError never.
   */
  watch(
    ranges: readonly KeyRange[],
    from: bigint,
    handlers: WatchHandlers,
    signal: AbortSignal,
  ): Promise<never>;
  /**
   * Commits or loses. When the outcome of an attempt is unknown (deadline, lost connection), the identical transaction
   * is sent again until it passes or loses (design 4.4); rejects with UnknownOutcomeError only when `signal` ends that.
   * Throws LimitError when the request can never pass (too large, too many operations, store out of space).
   */
  commit(txn: StoreTransaction, signal?: AbortSignal): Promise<CommitResult>;
  /** Linearizable status of the store. */
  status(signal?: AbortSignal): Promise<StoreStatus>;
  /** Ends everything, bounded in time, waiting for nobody. */
  close(): Promise<void>;
}

/** A store that can also tell who is alive. A lease is the server's: it lives on at least as long as it was asked to. */
export interface LeaseStore extends EtcdStore {
  /** A lease that ends after `seconds` without a renewal. */
  grantLease(seconds: number, signal?: AbortSignal): Promise<bigint>;
  /** Starts the lease's time again; false if it has ended. */
  renewLease(lease: bigint, signal?: AbortSignal): Promise<boolean>;
  /** Ends a lease, and with it the keys that were put with it. One that has ended is no error. */
  revokeLease(lease: bigint, signal?: AbortSignal): Promise<void>;
}

/** Puts blocks, small ones together, a few requests at a time. */
export interface BlockWriter {
  /** Takes a block as it is in the file; waits while enough others are under way. Rejects with the first error of any put. */
  put(key: ByteString, block: Uint8Array): Promise<void>;
  /** The same for a value that is packed already. */
  putPacked(key: ByteString, value: Uint8Array): Promise<void>;
  /** Resolves once all blocks are stored. */
  finish(): Promise<void>;
  /** Resolves once no request is under way, however they ended. */
  settle(): Promise<void>;
}

/**
 * The blocks of a volume, wherever they are and however they are packed (layout 6). Keys are whole keys of the data's
 * key space. Blocks never change, so what is found is right at any revision. Errors are those of `EtcdStore`.
 */
export interface BlockStore {
  /** The etcds that hold the blocks, by shard. */
  readonly stores: readonly EtcdStore[];
  /** The same where they are not the metadata's own; else none. */
  readonly elsewhere: readonly LeaseStore[];
  /** Whether all are the metadata's own store: its transactions may put blocks, and its revisions are theirs. */
  readonly besideMetadata: boolean;
  /**
   * Stored values in the order of the keys; `undefined` for what is missing. `revision` is the metadata's: what was deleted
   * since is found where it means anything. What came later is found as well. The caller bounds the size of one call.
   */
  get(
    keys: readonly ByteString[],
    options?: { readonly revision?: bigint; readonly signal?: AbortSignal },
  ): Promise<readonly (Uint8Array | undefined)[]>;
  /** What is to be stored for a block. */
  pack(block: Uint8Array): Promise<Uint8Array>;
  /** The `length` bytes of a block from its stored value. Throws `DecodeError`. */
  unpack(stored: Uint8Array, length: number): Promise<Uint8Array>;
  writer(signal?: AbortSignal): BlockWriter;
  /** Deletes blocks; those that are not there do not matter. */
  delete(keys: readonly ByteString[], signal?: AbortSignal): Promise<void>;
  /**
   * Tells of blocks as they are stored, until `signal`; a hint that may miss any. Not for blocks beside the metadata:
   * there one watch has both.
   */
  follow(onBlock: (key: ByteString, stored: Uint8Array) => void, signal: AbortSignal): Promise<void>;
  /** Ends the stores that were opened for the blocks alone. */
  close(): Promise<void>;
}

/** Nanosecond times and identity of one name on disk, as `lstat` has them. */
export interface FileStat {
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'char';
  readonly dev: bigint;
  readonly ino: bigint;
  /** Permission bits with suid, sgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: bigint;
  readonly nlink: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** When the inode was made, which no rename, link or write moves; 0n where the file system does not tell. */
  readonly bornNs: bigint;
  /** Linux's 32-bit device encoding; 0 for what is no device. */
  readonly rdev: number;
}

/** What is neither a file, a directory nor a symlink. */
export type SpecialKind = SpecialEntry['kind'];

/**
 * The local file system. Every call names its step (`label`), so that a test can fail or stop exactly one of them.
 * Paths are absolute byte strings. Errors are Node's own (`code` ENOENT, ...); only `lstat` and `readlink` answer
 * `undefined`, because what they ask for may be gone at any moment: `lstat` for ENOENT, ENOTDIR and ELOOP, `readlink` for EINVAL too
 * (what stands there is no symlink any more). Nothing follows a symlink in the last component.
 */
export interface FsPort {
  lstat(label: string, path: ByteString): FileStat | undefined;
  readdir(label: string, path: ByteString): ByteString[];
  readlink(label: string, path: ByteString): ByteString | undefined;
  /** Opens for reading with O_NOFOLLOW | O_NONBLOCK. */
  openRead(label: string, path: ByteString): number;
  /** Creates a new file for writing, exclusively (O_EXCL), mode 0600. */
  openNew(label: string, path: ByteString): number;
  /** Opens for appending, creating it with mode 0600. */
  openAppend(label: string, path: ByteString): number;
  fstat(label: string, fd: number): FileStat;
  read(label: string, fd: number, into: Uint8Array, position: number): number;
  write(label: string, fd: number, bytes: Uint8Array, position?: number): void;
  ftruncate(label: string, fd: number, size: bigint): void;
  fchmod(label: string, fd: number, mode: number): void;
  futimes(label: string, fd: number, mtimeNs: bigint): void;
  fsync(label: string, fd: number): void;
  close(label: string, fd: number): void;
  mkdir(label: string, path: ByteString, mode: number): void;
  rmdir(label: string, path: ByteString): void;
  unlink(label: string, path: ByteString): void;
  link(label: string, from: ByteString, to: ByteString): void;
  rename(label: string, from: ByteString, to: ByteString): void;
  /** Lets two names change places in one step; ENOTSUP where this system has no way to. */
  exchange(label: string, a: ByteString, b: ByteString): void;
  symlink(label: string, target: ByteString, path: ByteString): void;
  /** Makes a special file with mode 0600; ENOTSUP where this system has no way to make one of that kind. */
  mknod(label: string, path: ByteString, kind: SpecialKind, rdev: number): void;
  chmod(label: string, path: ByteString, mode: number): void;
  lchown(label: string, path: ByteString, uid: number, gid: number): void;
  /** Sets the mtime (and atime) without following a symlink. */
  lutimes(label: string, path: ByteString, mtimeNs: bigint): void;
  /** Names of all extended attributes with their namespace. This and the three below: ENOTSUP where there are none. */
  listXattrs(label: string, path: ByteString): ByteString[];
  /** `undefined` when there is none of that name. */
  getXattr(label: string, path: ByteString, name: ByteString): ByteString | undefined;
  setXattr(label: string, path: ByteString, name: ByteString, value: ByteString): void;
  removeXattr(label: string, path: ByteString, name: ByteString): void;
  /** Whether anybody can write to a file through a descriptor or a mapping that is open now; ENOTSUP where that cannot be told. */
  hasWriter(label: string, path: ByteString): boolean;
  /** Opens a directory, fsyncs it, closes it. */
  syncDir(label: string, path: ByteString): void;
  /** Flushes the whole file system that holds `path`; used above some 20 files. */
  syncFs(label: string, path: ByteString): void;
}

/** Hints that something changed below a directory. A hint may be late, doubled or missing: the scan is the truth. */
export interface WatchPort {
  /**
   * `onHint` gets the directory (absolute byte string) to look at, or `undefined` for "anywhere", as when the watches stand
   * at last. `onError` is told why something is not watched, and `undefined` once all is.
   */
  start(onHint: (dir: ByteString | undefined) => void, onError: (error: Error | undefined) => void): void;
  close(): Promise<void>;
}

/** Time and randomness. */
export interface Clock {
  /** Nanoseconds since 1970, UTC. */
  nowNs(): bigint;
  /** Milliseconds on a clock that never jumps. */
  monotonicMs(): number;
  /** Resolves after `ms`, or rejects with AbortError. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Lets everything that waits go on before a long piece of work does. */
  breathe(): Promise<void>;
  /** In [0, 1). */
  random(): number;
  /** A name that nothing else has: a UUID. */
  uuid(): string;
}

/** Held until the process ends or `release` is called. */
export interface Lock {
  release(): Promise<void>;
}

/** All of the world that a run uses. */
export interface Ports {
  readonly fs: FsPort;
  readonly clock: Clock;
  /** Connects with the first call. Whoever opens it closes it. */
  openStore(address: MetaAddress): EtcdStore;
  /** Hints about DIR, of which `stateDir` is no part; byte strings. */
  openWatch(root: ByteString, stateDir: ByteString): WatchPort;
  /** Another one after each start of the machine; absent: not known. */
  readonly bootId?: string;
  /** One agent a directory. Throws ConfigError when another one serves it. */
  lock(stateDir: ByteString): Promise<Lock>;
}
