/** Laws of the three-way merge, on random small trees and with each conflict policy. */

import { expect } from 'chai';
import fc from 'fast-check';

import { NOTHING_HELD } from '../../src/reconcile/attributes.ts';
import { parentOf, sameEntry, type Entry, type Path, type Tree } from '../../src/reconcile/entry.ts';
import {
  CONFLICT_POLICIES,
  type Conflict,
  type ConflictPolicy,
  type MergedContent,
  type Versions,
} from '../../src/reconcile/conflict.ts';
import { isAtOrBelow } from '../../src/reconcile/push-change.ts';
import type { Reconciled } from '../../src/reconcile/reconcile.ts';
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
    .tuple(fc.constantFrom('one', 'two', 'three'), fc.constantFrom(0o644, 0o600), fc.constantFrom(1n, 2n))
    .map(([text, mode, mtimeNs]) => fileEntry(text, mode, { mtimeNs })),
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
  readonly merged: readonly Versions[];
}

/** Contents merge when one of them is `one`; what is made of them names both. */
function merged({ local, remote }: Versions): MergedContent | undefined {
  if (local.digest !== 'one' && remote.digest !== 'one') return undefined;
  const digest = [local.digest, remote.digest].sort().join(' and ');
  return { digest, size: BigInt(digest.length) };
}

function plan(ancestor: Tree, local: Tree, remote: Tree, policy: ConflictPolicy): Reconciled {
  return reconcileTrees(ancestor, local, remote, NOTHING_HELD, { policy, merged });
}

function settle(ancestor: Tree, local: Tree, remote: Tree, policy: ConflictPolicy): Outcome {
  const { toLocal, toRemote, conflicts, merged: joined } = plan(ancestor, local, remote, policy);
  return {
    local: applyChanges(local, toLocal),
    remote: applyChanges(remote, toRemote),
    conflicts,
    merged: joined,
  };
}

/** Contents of files and links by themselves: what must not be lost. */
function payload(entry: Entry | undefined): string | undefined {
  if (entry?.type === 'file') return `file ${entry.digest}`;
  return entry?.type === 'symlink' ? `link ${entry.target}` : undefined;
}

/** The contents of a tree by path. */
function payloads(tree: Tree): Record<Path, string | undefined> {
  return Object.fromEntries([...tree].sort().map(([path, entry]) => [path, payload(entry) ?? entry.type]));
}

function hasDirectories(...trees: Tree[]): boolean {
  return trees.some((entries) => [...entries.values()].some(({ type }) => type === 'directory'));
}

type Law = (ancestor: Tree, local: Tree, remote: Tree, policy: ConflictPolicy) => void;

function laws(policy: ConflictPolicy, table: Readonly<Record<string, Law>>): void {
  for (const [title, check] of Object.entries(table)) {
    it(title, () => {
      fc.assert(
        fc.property(three, ([ancestor, local, remote]) => check(ancestor, local, remote, policy)),
        seeded({ numRuns: 1500 }),
      );
    });
  }
}

const LAWS: Readonly<Record<string, Law>> = {
  'makes both sides equal': (ancestor, local, remote, policy) => {
    const after = settle(ancestor, local, remote, policy);
    expect(describeTree(after.local)).to.deep.equal(describeTree(after.remote));
  },

  'leaves a tree: what is above an entry is a directory': (ancestor, local, remote, policy) => {
    const after = settle(ancestor, local, remote, policy);
    for (const path of after.local.keys()) {
      const parent = parentOf(path);
      if (parent !== '') expect(after.local.get(parent ?? '')?.type, path).to.equal('directory');
    }
  },

  'loses no content that a side added or changed': (ancestor, local, remote, policy) => {
    const after = settle(ancestor, local, remote, policy);
    const kept = new Set<string | undefined>();
    for (const [path, entry] of after.local) kept.add(`${path} ${payload(entry)}`);
    for (const { path, local: mine, remote: theirs, winner } of after.conflicts)
      kept.add(`${path} ${payload(winner === 'local' ? theirs : mine)}`);
    for (const { path, local: mine, remote: theirs } of after.merged) {
      expect(payload(after.local.get(path)), path).to.match(/ and /);
      for (const side of [mine, theirs]) kept.add(`${path} ${payload(side)}`);
    }
    for (const [mine, theirs] of [
      [local, remote],
      [remote, local],
    ] as const) {
      for (const [path, entry] of mine) {
        const wanted = payload(entry);
        if (wanted === undefined || wanted === payload(ancestor.get(path))) continue;
        if (sameEntry(theirs.get(path), entry)) continue;
        expect([...kept], `${path} ${wanted}`).to.include(`${path} ${wanted}`);
      }
    }
  },

  'removes only what a side removed': (ancestor, local, remote, policy) => {
    const after = settle(ancestor, local, remote, policy);
    for (const path of local.keys()) {
      if (!remote.has(path) || after.local.has(path)) continue;
      // Both have it and nobody removed it: then something above it is no directory any more.
      const above = parentOf(path) ?? '';
      expect(after.local.get(above)?.type, path).to.not.equal('directory');
    }
  },

  'has conflicts only where both sides changed something': (ancestor, local, remote, policy) => {
    const after = settle(ancestor, local, remote, policy);
    for (const { path } of [...after.conflicts, ...after.merged]) {
      const isBelow = (tree: Tree): boolean =>
        [...tree].some(
          ([other, entry]) => isAtOrBelow(other, path) && !sameEntry(entry, ancestor.get(other)),
        );
      const isAbove = (tree: Tree): boolean =>
        [...ancestor.keys(), ...tree.keys()].some(
          (other) => isAtOrBelow(path, other) && !sameEntry(tree.get(other), ancestor.get(other)),
        );
      expect(
        [local, remote].filter((tree) => isBelow(tree) || isAbove(tree)),
        path,
      ).to.have.length(2);
    }
  },

  'takes over the changes of one side as they are': (ancestor, local, _, policy) => {
    const fromLocal = settle(ancestor, local, ancestor, policy);
    expect(describeTree(fromLocal.remote)).to.deep.equal(describeTree(local));
    const fromRemote = settle(ancestor, ancestor, local, policy);
    expect(describeTree(fromRemote.local)).to.deep.equal(describeTree(local));
    expect([...fromLocal.conflicts, ...fromRemote.conflicts]).to.deep.equal([]);
  },

  'has nothing to do where both sides are equal': (ancestor, local, _, policy) => {
    const { toLocal, toRemote, conflicts, merged: joined } = plan(ancestor, local, local, policy);
    expect({ toLocal, toRemote, conflicts, joined }).to.deep.equal({
      toLocal: [],
      toRemote: [],
      conflicts: [],
      joined: [],
    });
  },

  'has nothing to do once its changes are made': (ancestor, local, remote, policy) => {
    const { toLocal, toRemote, agreed } = plan(ancestor, local, remote, policy);
    const next = new Map(ancestor);
    const now = applyChanges(local, toLocal);
    for (const path of [...toLocal, ...toRemote].map((change) => change.path).concat([...agreed.keys()])) {
      const entry = now.get(path);
      if (entry === undefined) next.delete(path);
      else next.set(path, entry);
    }
    expect(describeTree(next)).to.deep.equal(describeTree(now));
    const again = plan(next, now, applyChanges(remote, toRemote), policy);
    expect([...again.toLocal, ...again.toRemote, ...again.conflicts]).to.deep.equal([]);
  },

  'deletes nothing without an ancestor': (_, local, remote, policy) => {
    const result = plan(new Map(), local, remote, policy);
    for (const change of result.toRemote) expect(change.new, change.path).to.not.equal(undefined);
    for (const change of result.toLocal.filter(({ new: next }) => next === undefined)) {
      expect(result.conflicts.map(({ path }) => path)).to.include(change.path);
    }
  },

  'gives the same answer each time, whatever the order of the changes': (ancestor, local, remote, policy) => {
    const reversed = (of: Tree): Tree => new Map([...of].reverse());
    expect(plan(ancestor, local, remote, policy)).to.deep.equal(
      plan(reversed(ancestor), reversed(local), reversed(remote), policy),
    );
  },

  'treats both sides alike where the policy does not decide': (ancestor, local, remote, policy) => {
    const one = settle(ancestor, local, remote, policy);
    const other = settle(ancestor, remote, local, policy);
    const isDecided = ({ local: mine, remote: theirs }: Conflict): boolean =>
      mine === undefined || theirs === undefined;
    if (!one.conflicts.every(isDecided) || !other.conflicts.every(isDecided)) return;
    expect(payloads(one.local)).to.deep.equal(payloads(other.local));
  },

  'says nothing of what has not been tried': (ancestor, local, remote, policy) => {
    const whole = plan(ancestor, local, remote, policy);
    const first = reconcileTrees(ancestor, local, remote, NOTHING_HELD, { policy, merged: () => 'untried' });
    const open = new Set(first.untried.map(({ path }) => path));
    const judged = [...whole.toLocal, ...whole.toRemote, ...whole.conflicts];
    const said = [...first.toLocal, ...first.toRemote, ...first.conflicts];
    for (const { path } of said) expect(open.has(path), path).to.equal(false);
    expect(said).to.deep.equal(judged.filter(({ path }) => !open.has(path)));
  },
};

/** The content that a side put at a path must be there in the end. */
function wins(side: 'local' | 'remote'): Law {
  return (ancestor, local, remote, policy) => {
    const mine = side === 'local' ? local : remote;
    const after = settle(ancestor, local, remote, policy);
    for (const [path, entry] of mine) {
      const wanted = payload(entry);
      if (wanted === undefined || wanted === payload(ancestor.get(path))) continue;
      expect(payload(after.remote.get(path)), path).to.equal(wanted);
    }
  };
}

const OWN_LAWS: Readonly<Record<ConflictPolicy, Readonly<Record<string, Law>>>> = {
  merge: {
    'does as remote where the edits do not join': (ancestor, local, remote, policy) => {
      const after = settle(ancestor, local, remote, policy);
      if (after.merged.length > 0) return;
      expect(after).to.deep.equal(settle(ancestor, local, remote, 'remote'));
    },
  },
  remote: { 'never lets the remote side lose': wins('remote') },
  local: {
    'never lets the local side lose, directories apart': (ancestor, local, remote, policy) => {
      if (!hasDirectories(ancestor, local, remote)) wins('local')(ancestor, local, remote, policy);
    },
    'is the mirror of remote, directories apart': (ancestor, local, remote, policy) => {
      if (hasDirectories(ancestor, local, remote)) return;
      const one = settle(ancestor, local, remote, policy);
      const other = settle(ancestor, remote, local, 'remote');
      expect(payloads(one.local)).to.deep.equal(payloads(other.local));
    },
  },
  newest: {
    'lets the older file lose': (ancestor, local, remote, policy) => {
      for (const conflict of settle(ancestor, local, remote, policy).conflicts) {
        const { local: mine, remote: theirs, winner } = conflict;
        if (mine?.type !== 'file' || theirs?.type !== 'file') continue;
        expect(winner).to.equal(mine.mtimeNs > theirs.mtimeNs ? 'local' : 'remote');
      }
    },
  },
};

describe('reconcile', () => {
  for (const policy of CONFLICT_POLICIES) {
    describe(`with the policy ${policy}`, () => {
      laws(policy, LAWS);
      laws(policy, OWN_LAWS[policy]);
    });
  }
});
