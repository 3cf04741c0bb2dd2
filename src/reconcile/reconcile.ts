/** Three-way merge of ancestor, local and remote: changes for each side, and conflicts. Reads no clock and no disk. */

import type { Change } from './change.ts';
import type { Conflict } from './conflict.ts';
import {
  COMPARED_MODE,
  parentOf,
  sameContent,
  sameEntry,
  type Entry,
  type Path,
  type Tree,
} from './entry.ts';

/** Entries that differ from the ancestor, by path; `undefined` is absence. */
export type Delta = ReadonlyMap<Path, Entry | undefined>;

export interface ReconcileInput {
  readonly ancestor: Tree;
  /** Paths whose local entry may differ from the ancestor's; all others are as the ancestor has them. */
  readonly local: Delta;
  readonly remote: Delta;
  /** Whether this side can hold owners: then a remote change of owner alone is a change. */
  readonly owners: boolean;
}

export interface Reconciled {
  /** What both sides have now; `undefined`: nothing. Nothing to do but to remember. */
  readonly agreed: ReadonlyMap<Path, Entry | undefined>;
  /** What the local side must become. `old` is the local entry. */
  readonly toLocal: readonly Change[];
  /** What the volume must become. `old` is the remote entry. */
  readonly toRemote: readonly Change[];
  readonly conflicts: readonly Conflict[];
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
  readonly #conflicts: Conflict[] = [];

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
      conflicts: this.#conflicts,
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
    if (sameEntry(l, r) && !this.#ownersDiffer(a, r)) {
      this.#agreed.set(path, r);
      return;
    }
    if (sameEntry(l, a)) {
      this.#toLocal.set(path, { path, old: l, new: r });
      return;
    }
    if (sameEntry(r, a)) {
      this.#toRemote.set(path, { path, old: r, new: l === undefined ? undefined : carryOver(l, r) });
      return;
    }
    // Both sides changed, differently.
    if (l === undefined || r === undefined) {
      this.#editBeatsDelete(path, a, l, r);
      return;
    }
    if (l.type === 'directory' && r.type === 'directory') {
      this.#toLocal.set(path, { path, old: l, new: r });
      return;
    }
    if (a !== undefined && l.type === 'file' && r.type === 'file' && a.type === 'file') {
      const localContent = !sameContent(l, a);
      const remoteContent = !sameContent(r, a);
      if (!localContent || !remoteContent || sameContent(l, r)) {
        this.#combine(path, a, l, r, localContent && !remoteContent);
        return;
      }
    }
    this.#lose(path, a, l, r);
  }

  #ownersDiffer(a: Entry | undefined, r: Entry | undefined): boolean {
    return this.#input.owners && a !== undefined && r !== undefined && (a.uid !== r.uid || a.gid !== r.gid);
  }

  // One side deleted, the other changed: the change stays (design 4.4).
  #editBeatsDelete(path: Path, a: Entry | undefined, l: Entry | undefined, r: Entry | undefined): void {
    if (l === undefined) {
      this.#toLocal.set(path, { path, old: undefined, new: r });
      this.#conflicts.push({ path, ancestor: a, local: l, remote: r, winner: 'remote' });
    } else {
      this.#toRemote.set(path, { path, old: undefined, new: carryOver(l, undefined) });
      this.#conflicts.push({ path, ancestor: a, local: l, remote: r, winner: 'local' });
    }
  }

  // One side changed the content, the other the mode (or both the same content): both changes stand.
  #combine(path: Path, a: Entry, l: Entry, r: Entry, contentIsLocal: boolean): void {
    const bits = (entry: Entry): number => entry.mode & COMPARED_MODE;
    const mode = bits(r) !== bits(a) ? bits(r) : bits(l);
    const content = contentIsLocal ? l : r;
    const both: Entry = {
      ...content,
      ino: r.ino,
      uid: r.uid,
      gid: r.gid,
      mode: (r.mode & ~COMPARED_MODE) | mode,
    };
    if (!sameEntry(both, l)) this.#toLocal.set(path, { path, old: l, new: both });
    if (!sameEntry(both, r)) this.#toRemote.set(path, { path, old: r, new: both });
  }

  // The remote version stays in place, the local one is kept elsewhere.
  #lose(path: Path, a: Entry | undefined, l: Entry, r: Entry): void {
    this.#conflicts.push({ path, ancestor: a, local: l, remote: r, winner: 'remote' });
    this.#toLocal.set(path, { path, old: l, new: r });
  }

  /**
   * A directory that one side removed and the other has work in stays; a file that one side put where the other has
   * work below loses to the remote side.
   */
  #keepParents(): void {
    for (const [path, change] of [...this.#toRemote]) {
      if (change.new !== undefined) this.#needParents(path, change);
    }
    for (const [path, change] of [...this.#toLocal]) {
      if (change.new !== undefined) this.#needLocalParents(path);
    }
  }

  // `path` is created in the volume: each directory above it must be there.
  #needParents(path: Path, change: Change): void {
    for (let dir = parentOf(path); dir !== undefined && dir !== ''; dir = parentOf(dir)) {
      const remote = this.#remote(dir);
      if (remote?.type === 'directory') {
        if (this.#toRemote.get(dir)?.new === undefined) this.#toRemote.delete(dir);
        continue;
      }
      const local = this.#local(dir);
      if (remote === undefined && local?.type === 'directory') {
        this.#agreed.delete(dir);
        this.#toLocal.delete(dir);
        this.#toRemote.set(dir, { path: dir, old: undefined, new: carryOver(local, undefined) });
        continue;
      }
      if (remote === undefined) continue;
      // The volume has something else than a directory there: it stays, and the work below it loses.
      this.#toRemote.delete(path);
      this.#toLocal.set(path, { path, old: change.new, new: undefined });
      const ancestor = this.#input.ancestor.get(path);
      this.#conflicts.push({ path, ancestor, local: change.new, remote: undefined, winner: 'remote' });
      return;
    }
  }

  // `path` appears locally: a directory above it that was removed locally comes back.
  #needLocalParents(path: Path): void {
    for (let dir = parentOf(path); dir !== undefined && dir !== ''; dir = parentOf(dir)) {
      const local = this.#local(dir);
      const remote = this.#remote(dir);
      if (remote?.type !== 'directory') return;
      if (local?.type === 'directory') continue;
      this.#agreed.delete(dir);
      this.#toRemote.delete(dir);
      this.#toLocal.set(dir, { path: dir, old: local, new: remote });
      if (local !== undefined) {
        const ancestor = this.#input.ancestor.get(dir);
        this.#conflicts.push({ path: dir, ancestor, local, remote, winner: 'remote' });
      }
    }
  }
}

/**
 * A local entry as it goes to the volume: bits and owners that this side does not hold come from the volume's entry
 * (design 4.4: suid, sgid, sticky and foreign owners are remembered and never pushed back).
 */
function carryOver(local: Entry, remote: Entry | undefined): Entry {
  if (remote === undefined) return { ...local, ino: 0n, mode: local.mode & COMPARED_MODE };
  const mode = (remote.mode & ~COMPARED_MODE) | (local.mode & COMPARED_MODE);
  return { ...local, ino: remote.ino, uid: remote.uid, gid: remote.gid, mode };
}
