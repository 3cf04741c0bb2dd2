/** What looks have seen at the top of DIR in the place of the agent's own links. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import type { Slot, SlotTree } from '../disk/slot.ts';

/** Paths of the view, the directory's own among them. */
export type Seen = Set<Path>;

interface Paths {
  has(path: Path): boolean;
}

/** What has been seen there; what differs from it by now is news, and nothing may take its place. */
export interface SeenAtTop {
  /**
   * In a real directory that somebody made where the view had none. `undefined` for any other one, which is united with
   * what its link led to. `ino` is the one that stands there now.
   */
  inDirectory(name: ByteString, ino: bigint): ReadonlySet<Path> | undefined;
  /** Whether a file that stands there, or in a real directory there, has been seen. */
  hasFile(ino: bigint): boolean;
  /** The text of a symlink that is not the agent's own. */
  textOf(name: ByteString): ByteString | undefined;
  /** What was known of a file that stands there and was the tree's as well, when it last was. */
  sharedAt(name: ByteString, ino: bigint): Slot | undefined;
  /** Whether `now` is what a link in a real directory led to, taken over in its place: the link is of no use any more. */
  isFollowed(path: Path, ino: bigint, now: Slot | undefined): boolean;
  /** Where the view has what a link with this name in its text led to when it was made; the name itself if that is unknown. */
  pathNow(name: ByteString, slots: Paths): Path;
  /** Whether the last look has seen this inode in a real directory there, that directory's own among them. */
  hasSeen(path: Path, ino: bigint): boolean;
  /** Whether what stands there, a file or a link, was seen and waits, or what it would end does: it stays. */
  isWaiting(name: ByteString): boolean;
}

/**
 * A directory in the place of a link is united with what the link leads to, because `tar x` and `rsync -a` make it. Where
 * there was none, what is in the tree came from the directory: what leaves it again or gets another mode until its link
 * stands is an edit. A restart forgets, and then it is a union.
 */
export class TopMemory implements SeenAtTop {
  readonly #directories = new Map<ByteString, { readonly ino: bigint; readonly seen: Seen }>();
  readonly #links = new Map<ByteString, ByteString>();
  readonly #waiting = new Set<ByteString>();
  readonly #shared = new Map<ByteString, Slot>();
  /** All that stands in real directories, by path. */
  readonly #standing = new Map<Path, bigint>();
  readonly #followed = new Map<Path, { readonly ino: bigint; readonly before: Slot | undefined }>();

  /** Files that stand at the top in place of a link, as of the last look: edits of them are found there. */
  readonly files = new Set<bigint>();

  /** Names whose link was moved into a directory that is still being made, as of the last look. */
  readonly heldByLinks = new Set<ByteString>();

  /** By old path. A link that was moved on before the tree followed still has the old one in its text. */
  readonly #renamed = new Map<Path, { readonly to: Path; isDone: boolean }>();

  /** What a link led to gets another place in the view. */
  noteRename(from: Path, to: Path): void {
    this.#renamed.set(from, { to, isDone: false });
  }

  pathNow(name: ByteString, slots: Paths): Path {
    const seen = new Set<Path>();
    let now: Path = name;
    for (let next: Path | undefined = name; next !== undefined && !seen.has(next);) {
      seen.add(next);
      now = next;
      next = slots.has(next) ? undefined : this.#renamed.get(next)?.to;
    }
    return slots.has(now) ? now : name;
  }

  /** The same for one link, which may have been followed before something else took that name. */
  linkNow(ino: bigint, name: ByteString, slots: Pick<SlotTree, 'has' | 'get'>): Path {
    for (const [path, followed] of this.#followed)
      if (followed.ino === ino && this.isFollowed(path, ino, slots.get(path))) return path;
    return this.pathNow(name, slots);
  }

  inDirectory(name: ByteString, ino: bigint): Seen | undefined {
    const directory = this.#directories.get(name);
    return directory?.ino === ino ? directory.seen : undefined;
  }

  hasFile(ino: bigint): boolean {
    return this.files.has(ino);
  }

  textOf(name: ByteString): ByteString | undefined {
    return this.#links.get(name);
  }

  sharedAt(name: ByteString, ino: bigint): Slot | undefined {
    const slot = this.#shared.get(name);
    return slot?.signature.ino === ino ? slot : undefined;
  }

  /** A look found a file that is the inode in the tree. */
  noteShared(name: ByteString, slot: Slot): void {
    this.#shared.set(name, slot);
  }

  isFollowed(path: Path, ino: bigint, now: Slot | undefined): boolean {
    const followed = this.#followed.get(path);
    if (followed?.ino !== ino || now === undefined) return false;
    return now.type !== followed.before?.type || now.signature.ino !== followed.before.signature.ino;
  }

  /** What a link leads to is about to take its place, where the tree has `before`. */
  noteFollowed(path: Path, ino: bigint, before: Slot | undefined): void {
    if (this.#followed.get(path)?.ino !== ino) this.#followed.set(path, { ino, before });
  }

  hasSeen(path: Path, ino: bigint): boolean {
    return this.#standing.get(path) === ino;
  }

  noteStanding(path: Path, ino: bigint): void {
    this.#standing.set(path, ino);
  }

  isWaiting(name: ByteString): boolean {
    return this.#waiting.has(name);
  }

  noteWaiting(name: ByteString): void {
    this.#waiting.add(name);
  }

  /** A look begins: it comes by all links and files. */
  startLook(slots: Paths): void {
    for (const [path, renamed] of this.#renamed) {
      // What comes to that path afterwards is another one.
      if (renamed.isDone && slots.has(path)) this.#renamed.delete(path);
      renamed.isDone ||= !slots.has(path);
    }
    this.#links.clear();
    this.#waiting.clear();
    this.#standing.clear();
    this.files.clear();
    this.heldByLinks.clear();
  }

  /** A look found a symlink that is not the agent's own. */
  noteLink(name: ByteString, text: ByteString): void {
    this.#links.set(name, text);
  }

  /** A look found a real directory; `isNew` when the view has none of that name. */
  noteDirectory(name: ByteString, ino: bigint, isNew: boolean): Seen | undefined {
    const directory = this.#directories.get(name);
    if (directory?.ino === ino) return directory.seen;
    this.#directories.delete(name);
    if (!isNew) return undefined;
    const seen: Seen = new Set();
    this.#directories.set(name, { ino, seen });
    return seen;
  }

  /** The agent itself has removed a name: that is nobody's removal. */
  forget(path: Path): void {
    for (const { seen } of this.#directories.values()) seen.delete(path);
  }

  /** A look is over: directories and files that it did not find stand no more, whatever comes back. */
  endLook(directories: ReadonlySet<ByteString>, files: ReadonlyMap<ByteString, bigint>): void {
    for (const [name, { signature }] of this.#shared)
      if (files.get(name) !== signature.ino) this.#shared.delete(name);
    for (const path of this.#followed.keys())
      if (!directories.has(path.split('/', 1)[0] ?? path)) this.#followed.delete(path);
    for (const name of this.#directories.keys()) if (!directories.has(name)) this.#directories.delete(name);
  }
}
