/** The remote tree as it is shown: the entries of the view, path by path, with the digests of contents that were read. */

import type { RemoteEntry, RemoteFile, RemoteView } from '../../reconcile/assemble.ts';
import { parentOf, type Path } from '../../reconcile/entry.ts';
import type { HoldTracker } from '../../reconcile/hold.ts';
import type { InodeIndex } from '../../reconcile/inode-index.ts';
import type { Abilities } from '../disk/abilities.ts';
import type { AclRules } from '../volume/acl-rules.ts';
import { digestOf } from '../base/digest.ts';
import { sameFields, type AncestorEntry } from '../state/ancestor-entry.ts';
import { log } from '../base/log.ts';
import type { StageResult, WantedContent } from './stage.ts';

/** A file that stays unfinished this long after it was shown so is taken as it is; milliseconds (design 4.1.5). */
const UNFINISHED_MS = 10_000;
const EMPTY_DIGEST = digestOf(new Uint8Array(0));

/** An inode whose content the agent wrote itself: its digest needs no reading. */
export interface KnownContent {
  readonly digest: string;
  readonly size: bigint;
  /** The revision at which its attributes were written: of any later one it says nothing. */
  readonly writtenAt: bigint;
}

/** The volume as it was taken in, all of one revision. */
export interface Taken {
  readonly index: InodeIndex;
  readonly view: RemoteView;
  readonly holds: HoldTracker;
}

interface Unfinished {
  readonly dueMs: number;
  readonly ino: bigint;
  readonly missing: boolean;
}

/** Changes only by `take`. */
export class ShownTree {
  readonly #abilities: Abilities;
  readonly #rules: AclRules;
  readonly #entries = new Map<Path, AncestorEntry>();
  readonly #problems = new Map<Path, string>();
  readonly #digests = new Map<string, string>();
  /** By inode. */
  readonly #known = new Map<bigint, KnownContent>();
  readonly #unfinished = new Map<Path, Unfinished>();
  /** Paths that show what was there before, because the volume's entry or a directory above it is broken. */
  readonly #lastGood = new Set<Path>();

  constructor(abilities: Abilities, rules: AclRules) {
    this.#abilities = abilities;
    this.#rules = rules;
  }

  get entries(): ReadonlyMap<Path, AncestorEntry> {
    return this.#entries;
  }

  get problems(): ReadonlyMap<Path, string> {
    return this.#problems;
  }

  /** Whether some file waits for the rest of its content. */
  get isUnfinished(): boolean {
    return this.#unfinished.size > 0;
  }

  /** Files that have held back a publish for as long as one may. */
  get givenUp(): Set<bigint> {
    return new Set([...this.#unfinished.values()].map(({ ino }) => ino));
  }

  /** What an earlier run showed at a path: its content is not fetched again. */
  remember(path: Path, entry: AncestorEntry): void {
    this.#entries.set(path, entry);
    if (entry.type === 'file' && entry.contentKey !== undefined)
      this.#digests.set(entry.contentKey, entry.digest);
  }

  /** What this agent wrote itself. */
  noteOwn(contents: ReadonlyMap<bigint, KnownContent>): void {
    for (const [ino, content] of contents) this.#known.set(ino, content);
  }

  /** Paths that are broken or not as in the view: looked at each time something is taken. */
  *unsettledPaths(view: RemoteView): Iterable<Path> {
    yield* view.problems.keys();
    yield* this.#lastGood;
    for (const path of this.#problems.keys()) if (!view.entries.has(path)) yield path;
  }

  /** Paths of unfinished files that may have got their content, or have been waited for long enough. */
  revive({ holds }: Taken, nowMs: number): Path[] {
    const paths: Path[] = [];
    for (const [path, { dueMs, ino, missing }] of this.#unfinished) {
      if (nowMs >= dueMs) holds.accept(ino);
      if (!missing && nowMs < dueMs && holds.isEmptied(ino)) continue;
      if (!missing) this.#unfinished.delete(path);
      paths.push(path);
    }
    return paths;
  }

  /** Contents at these paths that nobody has read yet. */
  unread(taken: Taken, paths: Iterable<Path>): WantedContent[] {
    const wanted = new Map<string, WantedContent>();
    for (const path of paths) {
      const entry = taken.view.entries.get(path);
      if (entry?.type !== 'file' || this.#digestOf(taken, entry) !== undefined) continue;
      wanted.set(entry.contentKey, { ino: entry.ino, key: entry.contentKey, size: entry.size });
    }
    return [...wanted.values()];
  }

  /** Whether a block is missing that nobody has waited for yet. */
  awaitsBlocks({ view }: Taken, paths: Iterable<Path>, results: ReadonlyMap<string, StageResult>): boolean {
    for (const path of paths) {
      const entry = view.entries.get(path);
      const result = entry?.type === 'file' ? results.get(entry.contentKey) : undefined;
      if (result !== undefined && 'missing' in result && !this.#unfinished.has(path)) return true;
    }
    return false;
  }

  /** Takes one path over as it is in the view; true when its entry is another now. */
  take(taken: Taken, path: Path, results: ReadonlyMap<string, StageResult>, nowMs: number): boolean {
    const before = this.#entries.get(path);
    const inView = taken.view.entries.get(path);
    const entry = inView === undefined ? undefined : this.#withAcl(inView);
    const problem = taken.view.problems.get(path)?.message;
    if (entry?.type !== 'file') this.#unfinished.delete(path);
    const refusal = entry?.type === 'special' ? this.#abilities.specialRefusal(entry.kind) : undefined;
    if (entry === undefined || refusal !== undefined) {
      this.#setProblem(path, refusal ?? problem);
      // What is broken keeps its last good content; what is gone goes.
      if (before !== undefined && entry === undefined && isBroken(taken.view, path)) {
        this.#lastGood.add(path);
        return false;
      }
      this.#lastGood.delete(path);
      return this.#entries.delete(path);
    }
    this.#lastGood.delete(path);
    if (entry.type !== 'file') {
      this.#setProblem(path, undefined);
      this.#entries.set(path, entry);
      return before === undefined || !sameFields(before, entry);
    }
    return this.#takeFile(taken, path, entry, before, results.get(entry.contentKey), nowMs);
  }

  #takeFile(
    taken: Taken,
    path: Path,
    entry: RemoteFile,
    before: AncestorEntry | undefined,
    result: StageResult | undefined,
    nowMs: number,
  ): boolean {
    if (result !== undefined && 'staged' in result) this.#digests.set(entry.contentKey, result.staged.digest);
    const digest = this.#digestOf(taken, entry);
    const emptied = taken.holds.isEmptied(entry.ino);
    if (emptied || digest === undefined) {
      const missing = result !== undefined && 'missing' in result;
      const dueMs = this.#unfinished.get(path)?.dueMs ?? nowMs + UNFINISHED_MS;
      if (emptied || missing) this.#unfinished.set(path, { dueMs, ino: entry.ino, missing });
      const bad = result !== undefined && 'bad' in result ? result.bad : undefined;
      this.#setProblem(
        path,
        bad ?? (missing ? 'unfinished: a block is missing in the store' : 'unfinished: being written'),
      );
      if (digest === undefined || before !== undefined) return false;
    } else {
      this.#unfinished.delete(path);
      this.#setProblem(path, undefined);
    }
    // The spread comes last: with it first V8 gives each object a hidden class of its own.
    const next: AncestorEntry = { digest, ...entry };
    this.#entries.set(path, next);
    return before === undefined || !sameFields(before, next);
  }

  #digestOf({ index }: Taken, file: RemoteFile): string | undefined {
    const read = this.#digests.get(file.contentKey);
    if (read !== undefined) return read;
    if (file.size === 0n) return EMPTY_DIGEST;
    const own = this.#known.get(file.ino);
    // Every change of contents writes the attr (layout 10.2, 10.3).
    const revision = index.get(file.ino)?.attr?.modRevision ?? 0n;
    if (own !== undefined && revision >= own.writtenAt) this.#known.delete(file.ino);
    if (own === undefined || own.writtenAt !== revision || own.size !== file.size) return undefined;
    this.#digests.set(file.contentKey, own.digest);
    return own.digest;
  }

  /** An entry of the view as the tree has it: with ACLs in place of their ids. */
  #withAcl<T extends RemoteEntry>(entry: T): T {
    if (entry.aclIds === undefined) return entry;
    const { aclIds, ...rest } = entry;
    const acl = this.#rules.textOf(aclIds);
    return (acl === undefined ? rest : { ...rest, acl }) as T;
  }

  #setProblem(path: Path, message: string | undefined): void {
    if (this.#problems.get(path) === message) return;
    if (message === undefined) {
      this.#problems.delete(path);
      log('info', 'problem solved', { path });
    } else {
      this.#problems.set(path, message);
      log('warn', 'problem', { path, reason: message });
    }
  }
}

/** Whether the volume's entry at a path, or one above it, cannot be shown. */
function isBroken(view: RemoteView, path: Path): boolean {
  for (let at: Path | undefined = path; at !== undefined; at = parentOf(at))
    if (view.problems.has(at)) return true;
  return false;
}
