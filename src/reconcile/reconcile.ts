/** Three-way merge of ancestor, local and remote: changes for each side, and conflicts. Reads no clock and no disk. */

import type { Held } from './attributes.ts';
import { carryOver, combine } from './combine.ts';
import {
  parentOf,
  sameContent,
  sameEntry,
  type Entry,
  type FileEntry,
  type Path,
  type Tree,
} from './entry.ts';
import type { Change } from './change.ts';
import type { Conflict, ConflictPolicy, MergedContent, Versions } from './conflict.ts';

/** Entries that differ from the ancestor, by path; `undefined` is absence. */
export type Delta = ReadonlyMap<Path, Entry | undefined>;

export interface ReconcileInput {
  readonly ancestor: Tree;
  /** Paths whose local entry may differ from the ancestor's; all others are as the ancestor has them. */
  readonly local: Delta;
  readonly remote: Delta;
  /** What this side can hold: a change of it alone is a change. */
  readonly held: Held;
  /** Who decides where both sides changed a content; absent: `remote`. */
  readonly policy?: ConflictPolicy;
  /**
   * With the policy `merge`: what joining the edits of both sides gave, `undefined` where that has been tried and they
   * touch, `untried` where it has not.
   */
  readonly merged?: (versions: Versions) => MergedContent | 'untried' | undefined;
}

export interface Reconciled {
  /** What both sides have now; `undefined`: nothing. Nothing to do but to remember. */
  readonly agreed: ReadonlyMap<Path, Entry | undefined>;
  /** What the local side must become. `old` is the local entry. */
  readonly toLocal: readonly Change[];
  /** What the volume must become. `old` is the remote entry. */
  readonly toRemote: readonly Change[];
  readonly conflicts: readonly Conflict[];
  /** The edits of both sides stand in one text. */
  readonly merged: readonly Versions[];
  /** What `merged` calls untried: nothing is said of these paths before it has been. */
  readonly untried: readonly Versions[];
}

/** Deterministic and total: every path of either delta ends in exactly one of the lists, or in none when nothing is to do. */
export function reconcile(input: ReconcileInput): Reconciled {
  return new Reconciliation(input).run();
}

class Reconciliation {
  readonly #input: ReconcileInput;
  readonly #agreed = new Map<Path, Entry | undefined>();
  readonly #toLocal = new Map<Path, Change>();
  readonly #toRemote = new Map<Path, Change>();
  readonly #conflicts = new Map<Path, Conflict>();
  readonly #merged = new Map<Path, Versions>();
  readonly #untried: Versions[] = [];

  constructor(input: ReconcileInput) {
    this.#input = input;
  }

  run(): Reconciled {
    const { local, remote } = this.#input;
    // Parents before children, so that a verdict on a directory is known when its entries are judged.
    for (const path of [...new Set([...local.keys(), ...remote.keys()])].sort()) this.#judge(path);
    this.#keepParents();
    return {
      agreed: this.#agreed,
      toLocal: [...this.#toLocal.values()],
      toRemote: [...this.#toRemote.values()],
      conflicts: [...this.#conflicts.values()],
      merged: [...this.#merged.values()],
      untried: this.#untried,
    };
  }

  #local(path: Path): Entry | undefined {
    const { local, ancestor } = this.#input;
    return local.has(path) ? local.get(path) : ancestor.get(path);
  }

  #remote(path: Path): Entry | undefined {
    const { remote, ancestor } = this.#input;
    return remote.has(path) ? remote.get(path) : ancestor.get(path);
  }

  #judge(path: Path): void {
    const a = this.#input.ancestor.get(path);
    const l = this.#local(path);
    const r = this.#remote(path);
    if (this.#same(l, r)) {
      this.#agreed.set(path, r);
      return;
    }
    if (this.#same(l, a)) {
      this.#toLocal.set(path, { path, old: l, new: r });
      return;
    }
    if (this.#same(r, a)) {
      this.#toRemote.set(path, { path, old: r, new: l === undefined ? undefined : this.#carryOver(l, r) });
      return;
    }
    // Both sides changed, differently.
    if (l === undefined || r === undefined) {
      this.#editBeatsDelete(path, a, l, r);
      return;
    }
    if (a !== undefined && a.type === l.type && a.type === r.type) {
      const localContent = !sameContent(l, a);
      const remoteContent = !sameContent(r, a);
      if (!localContent || !remoteContent || sameContent(l, r)) {
        this.#combine(path, a, l, r, localContent && !remoteContent ? 'local' : 'remote');
        return;
      }
    }
    // Nobody remembers what it was: of directories, and of what differs in nothing but what is easily lost, the
    // volume's attributes count.
    if ((l.type === 'directory' && r.type === 'directory') || sameEntry(l, r)) {
      this.#toLocal.set(path, { path, old: l, new: r });
      return;
    }
    this.#decide(path, a, l, r);
  }

  // Both sides have something else than before, and only one of the two can be there.
  #decide(path: Path, a: Entry | undefined, l: Entry, r: Entry): void {
    const { policy, merged } = this.#input;
    const versions = policy === 'merge' ? mergeable(path, a, l, r) : undefined;
    if (versions !== undefined && merged !== undefined) {
      const content = merged(versions);
      if (content === 'untried') {
        this.#untried.push(versions);
        return;
      }
      if (content !== undefined) {
        this.#merge(versions, content);
        return;
      }
    }
    // What is below a directory is decided path by path: the volume's is the one that is safe.
    const hasDirectory = l.type === 'directory' || r.type === 'directory';
    const isLocal = policy === 'local' || (policy === 'newest' && l.mtimeNs > r.mtimeNs);
    if (isLocal && !hasDirectory) {
      this.#conflicts.set(path, { path, ancestor: a, local: l, remote: r, winner: 'local' });
      this.#toRemote.set(path, { path, old: r, new: this.#carryOver(l, r) });
    } else {
      this.#lose(path, a, l, r);
    }
  }

  // Both edits stand, in one text; attributes join as always.
  #merge(versions: Versions, { digest, size }: MergedContent): void {
    const { path, ancestor, local, remote } = versions;
    const mtimeNs = local.mtimeNs > remote.mtimeNs ? local.mtimeNs : remote.mtimeNs;
    this.#merged.set(path, versions);
    this.#setBoth(path, local, remote, {
      ...combine(ancestor, local, remote, 'local', this.#input.held),
      ...{ type: 'file' as const, nlink: 1, digest, size, mtimeNs },
    });
  }

  #same(a: Entry | undefined, b: Entry | undefined): boolean {
    return sameEntry(a, b, this.#input.held);
  }

  #carryOver(local: Entry, remote: Entry | undefined): Entry {
    return carryOver(local, remote, this.#input.held);
  }

  // One side deleted, the other changed: the change stays (design 4.4).
  #editBeatsDelete(path: Path, a: Entry | undefined, l: Entry | undefined, r: Entry | undefined): void {
    if (l === undefined) {
      this.#toLocal.set(path, { path, old: undefined, new: r });
      this.#conflicts.set(path, { path, ancestor: a, local: l, remote: r, winner: 'remote' });
    } else {
      this.#toRemote.set(path, { path, old: undefined, new: this.#carryOver(l, undefined) });
      this.#conflicts.set(path, { path, ancestor: a, local: l, remote: r, winner: 'local' });
    }
  }

  // Each side changed something else, such as one the content and the other the mode: both changes stand.
  #combine(path: Path, a: Entry, l: Entry, r: Entry, content: 'local' | 'remote'): void {
    this.#setBoth(path, l, r, combine(a, l, r, content, this.#input.held));
  }

  #setBoth(path: Path, l: Entry, r: Entry, both: Entry): void {
    if (!this.#same(both, l)) this.#toLocal.set(path, { path, old: l, new: both });
    if (!this.#same(both, r)) this.#toRemote.set(path, { path, old: r, new: both });
  }

  // The remote version stays in place, the local one is kept elsewhere.
  #lose(path: Path, a: Entry | undefined, l: Entry | undefined, r: Entry | undefined): void {
    this.#conflicts.set(path, { path, ancestor: a, local: l, remote: r, winner: 'remote' });
    this.#agreed.delete(path);
    this.#merged.delete(path);
    this.#toRemote.delete(path);
    this.#toLocal.set(path, { path, old: l, new: r });
  }

  /** What both sides have at a path once all changes are made. */
  #result(path: Path): Entry | undefined {
    const change = this.#toRemote.get(path) ?? this.#toLocal.get(path);
    return change === undefined ? this.#remote(path) : change.new;
  }

  /** Whatever appears on a side needs the directories above it: those that the other side removed or replaced. */
  #keepParents(): void {
    const appearing = [...this.#toLocal.values(), ...this.#toRemote.values()]
      .filter((change) => change.new !== undefined)
      .map(({ path }) => path);
    for (const path of new Set(appearing.sort())) {
      for (const dir of directoriesAbove(path)) if (!this.#keepDirectory(dir, path)) break;
    }
  }

  /** Whether `dir` is a directory in the end, so that `path` below it can be there. */
  #keepDirectory(dir: Path, path: Path): boolean {
    const result = this.#result(dir);
    if (result?.type === 'directory') return true;
    const l = this.#local(dir);
    const r = this.#remote(dir);
    if (r?.type === 'directory') {
      // Removed or replaced locally, and the volume has work in it.
      if (l === undefined) {
        this.#toRemote.delete(dir);
        this.#toLocal.set(dir, { path: dir, old: l, new: r });
      } else {
        this.#lose(dir, this.#input.ancestor.get(dir), l, r);
      }
      return true;
    }
    if (result === undefined && l?.type === 'directory') {
      this.#toLocal.delete(dir);
      this.#toRemote.set(dir, { path: dir, old: r, new: this.#carryOver(l, undefined) });
      return true;
    }
    // The volume has something else than a directory there: it stays, and the local work below it loses.
    this.#lose(path, this.#input.ancestor.get(path), this.#local(path), undefined);
    return false;
  }
}

/** The versions of a file that an attempt to merge is worth; one with several names has its contents once. */
function mergeable(path: Path, a: Entry | undefined, l: Entry, r: Entry): Versions | undefined {
  if (a?.type !== 'file' || l.type !== 'file' || r.type !== 'file') return undefined;
  const hasOneName = ({ nlink }: FileEntry): boolean => nlink <= 1;
  return [a, l, r].every(hasOneName) ? { path, ancestor: a, local: l, remote: r } : undefined;
}

/** From the top down, without the root. */
function directoriesAbove(path: Path): Path[] {
  const dirs: Path[] = [];
  for (let dir = parentOf(path); dir !== undefined && dir !== ''; dir = parentOf(dir)) dirs.unshift(dir);
  return dirs;
}
