/** Laws of the three-way merge, on random small trees. */

import { expect } from 'chai';
import fc from 'fast-check';

import { parentOf, sameEntry, type Entry, type Path, type Tree } from '../../src/reconcile/entry.ts';
import type { Conflict } from '../../src/reconcile/conflict.ts';
import { seeded } from '../support/seed.ts';
import {
  applyChanges,
  describeTree,
  dirEntry,
  fileEntry,
  linkEntry,
  reconcileTrees,
} from '../support/trees.ts';

/** Few names, contents and modes, so that the sides meet. */
const content = fc.oneof(
  fc
    .tuple(fc.constantFrom('one', 'two', 'three'), fc.constantFrom(0o644, 0o600))
    .map(([text, mode]) => fileEntry(text, mode)),
  fc.constantFrom('here', 'there').map(linkEntry),
);

const PATHS = ['a', 'b', 'a/a', 'a/b', 'b/a', 'a/a/a', 'a/a/b'];

/** A tree: each path may hold something if its parent is a directory. */
const tree: fc.Arbitrary<Tree> = fc
  .tuple(
    ...PATHS.map(() =>
      fc.option(
        fc.oneof(
          content,
          fc.constantFrom(0o755, 0o700).map((mode) => dirEntry(mode)),
        ),
        { freq: 3 },
      ),
    ),
  )
  .map((nodes) => {
    const entries = new Map<Path, Entry>();
    for (const [index, path] of PATHS.entries()) {
      const node = nodes[index];
      const parent = parentOf(path);
      if (node && (parent === '' || entries.get(parent ?? '')?.type === 'directory')) entries.set(path, node);
    }
    return entries;
  });

/** A side that is often partly as the ancestor. */
function side(ancestor: Tree): fc.Arbitrary<Tree> {
  return fc
    .tuple(tree, fc.array(fc.boolean(), { minLength: PATHS.length, maxLength: PATHS.length }))
    .map(([other, keep]) => {
      const entries = new Map<Path, Entry>();
      for (const [index, path] of PATHS.entries()) {
        const node = (keep[index] ? ancestor : other).get(path);
        const parent = parentOf(path);
        if (node && (parent === '' || entries.get(parent ?? '')?.type === 'directory'))
          entries.set(path, node);
      }
      return entries;
    });
}

const three = fc
  .oneof(tree, fc.constant<Tree>(new Map()))
  .chain((ancestor) => fc.tuple(fc.constant(ancestor), side(ancestor), side(ancestor)));

interface Outcome {
  readonly local: Tree;
  readonly remote: Tree;
  readonly conflicts: readonly Conflict[];
}

function settle(ancestor: Tree, local: Tree, remote: Tree): Outcome {
  const { toLocal, toRemote, conflicts } = reconcileTrees(ancestor, local, remote);
  return { local: applyChanges(local, toLocal), remote: applyChanges(remote, toRemote), conflicts };
}

function law(title: string, check: (ancestor: Tree, local: Tree, remote: Tree) => void): void {
  it(title, () => {
    fc.assert(
      fc.property(three, ([ancestor, local, remote]) => check(ancestor, local, remote)),
      seeded({ numRuns: 3000 }),
    );
  });
}

/** Contents of files and links by themselves: what must not be lost. */
function payload(entry: Entry | undefined): string | undefined {
  if (entry?.type === 'file') return `file ${entry.digest}`;
  return entry?.type === 'symlink' ? `link ${entry.target}` : undefined;
}

describe('reconcile', () => {
  law('makes both sides equal', (ancestor, local, remote) => {
    const after = settle(ancestor, local, remote);
    expect(describeTree(after.local)).to.deep.equal(describeTree(after.remote));
  });

  law('leaves a tree: what is above an entry is a directory', (ancestor, local, remote) => {
    const after = settle(ancestor, local, remote);
    for (const path of after.local.keys()) {
      const parent = parentOf(path);
      if (parent !== '') expect(after.local.get(parent ?? '')?.type, path).to.equal('directory');
    }
  });

  law('loses no content that a side added or changed', (ancestor, local, remote) => {
    const after = settle(ancestor, local, remote);
    const kept = new Set<string | undefined>();
    for (const [path, entry] of after.local) kept.add(`${path} ${payload(entry)}`);
    for (const conflict of after.conflicts) {
      kept.add(`${conflict.path} ${payload(conflict.local)}`);
      kept.add(`${conflict.path} ${payload(conflict.remote)}`);
    }
    for (const [mine, theirs] of [
      [local, remote],
      [remote, local],
    ] as const) {
      for (const [path, entry] of mine) {
        const content = payload(entry);
        if (content === undefined || content === payload(ancestor.get(path))) continue;
        if (sameEntry(theirs.get(path), entry)) continue;
        expect([...kept], `${path} ${content}`).to.include(`${path} ${content}`);
      }
    }
  });

  law('removes only what a side removed', (ancestor, local, remote) => {
    const after = settle(ancestor, local, remote);
    for (const path of local.keys()) {
      if (!remote.has(path) || after.local.has(path)) continue;
      // Both have it and nobody removed it: then something above it is no directory any more.
      const above = parentOf(path) ?? '';
      expect(after.local.get(above)?.type, path).to.not.equal('directory');
    }
  });

  law('never lets the remote side lose', (ancestor, local, remote) => {
    const after = settle(ancestor, local, remote);
    for (const [path, entry] of remote) {
      const content = payload(entry);
      if (content === undefined || content === payload(ancestor.get(path))) continue;
      expect(payload(after.remote.get(path)), path).to.equal(content);
    }
  });

  law('takes over the changes of one side as they are', (ancestor, local) => {
    const fromLocal = settle(ancestor, local, ancestor);
    expect(describeTree(fromLocal.remote)).to.deep.equal(describeTree(local));
    const fromRemote = settle(ancestor, ancestor, local);
    expect(describeTree(fromRemote.local)).to.deep.equal(describeTree(local));
    expect([...fromLocal.conflicts, ...fromRemote.conflicts]).to.deep.equal([]);
  });

  law('has nothing to do where both sides are equal', (ancestor, local) => {
    const result = reconcileTrees(ancestor, local, local);
    expect(result.toLocal).to.deep.equal([]);
    expect(result.toRemote).to.deep.equal([]);
    expect(result.conflicts).to.deep.equal([]);
  });

  law('has nothing to do once its changes are made', (ancestor, local, remote) => {
    const { toLocal, toRemote, agreed } = reconcileTrees(ancestor, local, remote);
    const next = new Map(ancestor);
    const now = applyChanges(local, toLocal);
    for (const path of [...toLocal, ...toRemote].map((change) => change.path).concat([...agreed.keys()])) {
      const entry = now.get(path);
      if (entry === undefined) next.delete(path);
      else next.set(path, entry);
    }
    expect(describeTree(next)).to.deep.equal(describeTree(now));
    expect(reconcileTrees(next, now, applyChanges(remote, toRemote)).toLocal).to.deep.equal([]);
  });

  law('deletes nothing without an ancestor', (_, local, remote) => {
    const result = reconcileTrees(new Map(), local, remote);
    for (const change of result.toRemote) expect(change.new, change.path).to.not.equal(undefined);
    for (const change of result.toLocal.filter(({ new: next }) => next === undefined)) {
      expect(result.conflicts.map(({ path }) => path)).to.include(change.path);
    }
  });

  law('gives the same answer each time, whatever the order of the changes', (ancestor, local, remote) => {
    const reversed = (of: Tree): Tree => new Map([...of].reverse());
    expect(reconcileTrees(ancestor, local, remote)).to.deep.equal(
      reconcileTrees(reversed(ancestor), reversed(local), reversed(remote)),
    );
  });
});
