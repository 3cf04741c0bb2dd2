/** Tiny trees by name, and what a reconciliation makes of them. */

import type { Change } from '../../src/reconcile/change.ts';
import { NOTHING_HELD, type Held } from '../../src/reconcile/attributes.ts';
import {
  sameEntry,
  type DirectoryEntry,
  type Entry,
  type FileEntry,
  type Path,
  type SymlinkEntry,
  type Tree,
} from '../../src/reconcile/entry.ts';
import {
  reconcile,
  type Delta,
  type Reconciled,
  type ReconcileInput,
} from '../../src/reconcile/reconcile.ts';

const BASE = { ino: 0n, uid: 0, gid: 0, mtimeNs: 0n } as const;

/** The content is the digest: what counts is whether two are equal. */
export function fileEntry(content: string, mode = 0o644, fields: Partial<FileEntry> = {}): FileEntry {
  const size = BigInt(content.length);
  return { ...BASE, type: 'file', mode, size, digest: content, nlink: 1, ...fields };
}

export function dirEntry(mode = 0o755, fields: Partial<DirectoryEntry> = {}): DirectoryEntry {
  return { ...BASE, type: 'directory', mode, ...fields };
}

export function linkEntry(target: string): SymlinkEntry {
  return { ...BASE, type: 'symlink', mode: 0o777, target };
}

/** A tree in few words: `content`, `content 600`, `dir`, `dir 700`, `-> target`; what `describeTree` gives back. */
export function treeOf(lines: Readonly<Record<Path, string>>): Tree {
  return new Map(Object.entries(lines).map(([path, line]) => [path, parseEntry(line)]));
}

function parseEntry(line: string): Entry {
  const [word = '', rest] = line.split(' ');
  if (word === '->') return linkEntry(rest ?? '');
  const mode = rest === undefined ? undefined : Number.parseInt(rest, 8);
  return word === 'dir' ? dirEntry(mode) : fileEntry(word, mode);
}

/** The paths at which a tree differs from the ancestor, and what it has there. */
function deltaOf(ancestor: Tree, tree: Tree): Delta {
  const paths = new Set([...ancestor.keys(), ...tree.keys()]);
  const differing = [...paths].filter((path) => !identical(ancestor.get(path), tree.get(path)));
  return new Map(differing.map((path) => [path, tree.get(path)]));
}

function identical(a: Entry | undefined, b: Entry | undefined): boolean {
  return sameEntry(a, b) && a?.uid === b?.uid && a?.gid === b?.gid;
}

export function reconcileTrees(
  ancestor: Tree,
  local: Tree,
  remote: Tree,
  held: Held = NOTHING_HELD,
  more: Pick<ReconcileInput, 'policy' | 'merged'> = {},
): Reconciled {
  return reconcile({
    ancestor,
    local: deltaOf(ancestor, local),
    remote: deltaOf(ancestor, remote),
    held,
    ...more,
  });
}

/** The tree with the changes made. Throws when it is not what a change was made for. */
export function applyChanges(tree: Tree, changes: readonly Change[]): Tree {
  const result = new Map(tree);
  for (const { path, old, new: next } of changes) {
    if (!sameEntry(tree.get(path), old)) throw new Error(`${path} is not what the change was made for`);
    if (next === undefined) result.delete(path);
    else result.set(path, next);
  }
  return result;
}

/** An entry in few words: `content 644`, `dir 755`, `-> target`. */
export function describeEntry(entry: Entry | undefined): string {
  if (entry === undefined) return '-';
  const mode = (entry.mode & 0o7777).toString(8);
  switch (entry.type) {
    case 'file':
      return entry.mode === 0o644 ? entry.digest : `${entry.digest} ${mode}`;
    case 'directory':
      return entry.mode === 0o755 ? 'dir' : `dir ${mode}`;
    case 'symlink':
      return `-> ${entry.target}`;
    case 'special':
      return entry.kind;
  }
}

export function describeTree(tree: Tree): Record<Path, string> {
  return Object.fromEntries([...tree].sort().map(([path, entry]) => [path, describeEntry(entry)]));
}

export function describeChanges(changes: readonly Change[]): Record<Path, string> {
  return Object.fromEntries(
    changes.map(({ path, old, new: next }) => [path, `${describeEntry(old)} => ${describeEntry(next)}`]),
  );
}
