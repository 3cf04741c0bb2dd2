/** A plain watch on each directory, kept up with directories that come, go and are renamed: hints that a look is due. */

import fs from 'node:fs';

import createDebug from 'debug';

import type { ByteString } from '../../codec/kv.ts';
import { codeOf } from '../base/error.ts';
import type { WatchPort } from '../base/ports.ts';

const debug = createDebug('etcd-etc-agent:local');

/** Events of names that come and go are followed up together after this long; milliseconds. */
const FOLLOW_UP_MS = 10;
/** Everything is visited again this often: the kernel's queue may have run over, and a limit may have room again; milliseconds. */
const SWEEP_MS = 60_000;
/** Directories between two breaths of the event loop. */
const BREATH = 50;

/** The kernel's limits: instances, watches, memory. */
const LIMITS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOSPC', 'ENOMEM']);

interface Watched {
  readonly watcher: fs.FSWatcher;
  /** Tells the directory from any other that ever had this path. */
  readonly identity: string;
  /** Names of the directories in it that are or shall be watched. */
  readonly children: Set<ByteString>;
}

type Names = Set<ByteString> | 'all';

type OpenWatch = (at: ByteString) => fs.FSWatcher;

function openWatch(at: ByteString): fs.FSWatcher {
  return fs.watch(raw(at), { encoding: 'buffer' });
}

/**
 * Watches a directory before it lists it, so that nothing that comes meanwhile is missed. Its own state is only what it
 * watches; the runner's scan finds what a lost event was about.
 */
export class DirectoryWatch implements WatchPort {
  readonly #root: ByteString;
  readonly #ignored: ByteString;
  readonly #open: OpenWatch;
  readonly #watched = new Map<ByteString, Watched>();
  /** Could not be watched for want of resources or permission. */
  readonly #unwatched = new Set<ByteString>();
  readonly #toVisit = new Set<ByteString>();
  readonly #toFollowUp = new Map<ByteString, Names>();
  #onHint: (dir: ByteString | undefined) => void = () => undefined;
  #onError: (error: Error | undefined) => void = () => undefined;
  #limit: Error | undefined;
  #isComplete = false;
  #followUp: NodeJS.Timeout | undefined;
  #sweep: NodeJS.Timeout | undefined;
  #visit: NodeJS.Immediate | undefined;

  /** `root` is DIR, `ignored` what is left out below it; byte strings. `open` is Node's, and throws where a limit is reached. */
  constructor(root: ByteString, ignored: ByteString, open: OpenWatch = openWatch) {
    this.#root = root;
    this.#ignored = ignored;
    this.#open = open;
  }

  start(onHint: (dir: ByteString | undefined) => void, onError: (error: Error | undefined) => void): void {
    this.#onHint = onHint;
    this.#onError = onError;
    this.#sweep = setInterval(() => this.check(), SWEEP_MS);
    this.#later(this.#root);
  }

  async close(): Promise<void> {
    clearTimeout(this.#followUp);
    clearInterval(this.#sweep);
    clearImmediate(this.#visit);
    for (const { watcher } of this.#watched.values()) watcher.close();
    this.#watched.clear();
  }

  /** How many directories are watched. */
  get size(): number {
    return this.#watched.size;
  }

  /** Looks whether every directory is watched as it should be. */
  check(): void {
    for (const at of [this.#root, ...this.#watched.keys(), ...this.#unwatched]) this.#later(at);
  }

  #later(at: ByteString): void {
    this.#toVisit.add(at);
    this.#visit ??= setImmediate(() => this.#visitSome());
  }

  #visitSome(): void {
    this.#visit = undefined;
    let left = BREATH;
    for (const at of this.#toVisit) {
      this.#toVisit.delete(at);
      this.#visitDirectory(at);
      left -= 1;
      if (left === 0) break;
    }
    if (this.#toVisit.size > 0) {
      this.#visit ??= setImmediate(() => this.#visitSome());
      return;
    }
    if (this.#limit !== undefined && this.#unwatched.size === 0) {
      this.#limit = undefined;
      this.#onError(undefined);
    }
    if (this.#isComplete) return;
    this.#isComplete = true;
    debug('%d directories are watched', this.size);
    // What came before the watches is found by a look everywhere.
    this.#onHint(undefined);
  }

  /** Watches a directory, unless it is, and sees to those in it. */
  #visitDirectory(at: ByteString, isSuspect = false): void {
    const known = this.#watched.get(at);
    const identity = identityOf(at);
    if (identity === undefined) {
      this.#drop(at);
      return;
    }
    const isKept = known?.identity === identity && !isSuspect;
    const watched = isKept ? known : this.#watch(at, identity, known);
    if (watched === undefined) return;
    for (const name of directoriesIn(at)) this.#seeTo(at, watched, name);
    for (const name of [...watched.children]) {
      if (identityOf(`${at}/${name}`) === undefined) this.#forget(at, watched, name);
    }
  }

  #seeTo(at: ByteString, watched: Watched, name: ByteString): void {
    const below = `${at}/${name}`;
    if (below === this.#ignored) return;
    const identity = identityOf(below);
    if (identity === undefined) {
      this.#forget(at, watched, name);
      return;
    }
    watched.children.add(name);
    const known = this.#watched.get(below);
    if (known?.identity === identity) return;
    // Another directory has the name: what is watched below it is watched elsewhere or gone.
    this.#drop(below);
    this.#later(below);
  }

  #forget(at: ByteString, watched: Watched, name: ByteString): void {
    if (watched.children.delete(name)) this.#drop(`${at}/${name}`);
  }

  /** Opens a watch in place of the one that is known; `undefined` when it cannot be had now. */
  #watch(at: ByteString, identity: string, known: Watched | undefined): Watched | undefined {
    let watcher: fs.FSWatcher;
    try {
      watcher = this.#open(at);
    } catch (error) {
      this.#noteFailure(at, error);
      return undefined;
    }
    const isSame = identityOf(at) === identity;
    if (!isSame) {
      // RACE: the directory was replaced meanwhile. Whatever it is now is visited again.
      watcher.close();
      this.#later(at);
      return undefined;
    }
    if (known !== undefined && known.identity !== identity) this.#drop(at);
    known?.watcher.close();
    const children = known?.identity === identity ? known.children : new Set<ByteString>();
    const watched = { watcher, identity, children };
    watcher.on('change', (event, name) => {
      if (this.#watched.get(at) === watched) this.#onEvent(at, event, name);
    });
    watcher.on('error', (error) => {
      debug('watch of %s ended: %s', at, error.message);
      this.#drop(at);
      this.#later(at);
    });
    this.#watched.set(at, watched);
    this.#unwatched.delete(at);
    if (this.#isComplete) this.#onHint(at);
    return watched;
  }

  #noteFailure(at: ByteString, error: unknown): void {
    const code = codeOf(error) ?? '';
    if (code === 'ENOENT' || code === 'ENOTDIR') return;
    this.#drop(at);
    this.#unwatched.add(at);
    if (!LIMITS.has(code) || this.#limit !== undefined) return;
    this.#limit = error instanceof Error ? error : new Error(String(error));
    this.#onError(this.#limit);
  }

  #onEvent(at: ByteString, event: string, name: string | Buffer | null): void {
    const text = name === null ? undefined : Buffer.from(name as Buffer).toString('latin1');
    this.#onHint(at);
    const isSelf = text === undefined || text === at.slice(at.lastIndexOf('/') + 1);
    // A directory that becomes readable says so with a change of its attributes.
    if (event !== 'rename' && !isSelf && !this.#unwatched.has(`${at}/${text}`)) return;
    const names = this.#toFollowUp.get(at);
    // Events of the directory itself, such as its removal, have its own name.
    if (isSelf) this.#toFollowUp.set(at, 'all');
    else if (names === undefined) this.#toFollowUp.set(at, new Set([text]));
    else if (names !== 'all') names.add(text);
    this.#followUp ??= setTimeout(() => this.#followUpEvents(), FOLLOW_UP_MS);
  }

  #followUpEvents(): void {
    this.#followUp = undefined;
    const events = [...this.#toFollowUp];
    this.#toFollowUp.clear();
    for (const [at, names] of events) {
      const watched = this.#watched.get(at);
      if (watched === undefined) continue;
      if (names === 'all') this.#visitDirectory(at, true);
      else for (const name of names) this.#seeTo(at, watched, name);
    }
  }

  /** Ends the watches of a path and of all below it. */
  #drop(at: ByteString): void {
    this.#unwatched.delete(at);
    const watched = this.#watched.get(at);
    if (watched === undefined) return;
    this.#watched.delete(at);
    watched.watcher.close();
    for (const name of watched.children) this.#drop(`${at}/${name}`);
  }
}

function raw(path: ByteString): Buffer {
  return Buffer.from(path, 'latin1');
}

/** `undefined` when there is no directory. A number may be given out again, but not with the same time of birth. */
function identityOf(at: ByteString): string | undefined {
  try {
    const stat = fs.lstatSync(raw(at), { bigint: true, throwIfNoEntry: false });
    return stat?.isDirectory() === true ? `${stat.dev}:${stat.ino}:${stat.birthtimeNs}` : undefined;
  } catch {
    // A directory above it went or is closed.
    return undefined;
  }
}

function directoriesIn(at: ByteString): ByteString[] {
  try {
    return fs
      .readdirSync(raw(at), { withFileTypes: true, encoding: 'buffer' })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name.toString('latin1'));
  } catch {
    return [];
  }
}
