/** The order in which changes are pushed: parents first, removals last, and a name is free before it is given away. */

import { ancestorsOf, type PushChange } from './push-change.ts';
import type { Path } from './entry.ts';

/**
 * Changes in groups: each group must be in one transaction, and needs only what the groups before it did. A group has
 * one change but where changes belong together, or where moves wait for each other in a circle, such as two files that swap names. A removal and a move
 * to the same path become one move over what was there. `path` is where things are after all moves, `movedFrom` where
 * they were before.
 */
export function orderPush(changes: readonly PushChange[]): PushChange[][] {
  const steps = mergeRemovals(changes).sort(parentsFirst);
  const needs = dependencies(steps);
  return components(steps, (step) => needs.get(step) ?? []);
}

function isRemoval(change: PushChange): boolean {
  return change.new === undefined;
}

/** Makes come parents first, removals after them and deepest first; for the rest bytes decide. */
function parentsFirst(a: PushChange, b: PushChange): number {
  if (isRemoval(a) !== isRemoval(b)) return isRemoval(a) ? 1 : -1;
  const byDepth = depthOf(a.path) - depthOf(b.path);
  if (byDepth !== 0) return isRemoval(a) ? -byDepth : byDepth;
  return a.path < b.path ? -1 : 1;
}

function depthOf(path: Path): number {
  return path.split('/').length;
}

function mergeRemovals(changes: readonly PushChange[]): PushChange[] {
  const moveTargets = new Set(
    changes.filter((change) => change.movedFrom !== undefined).map(({ path }) => path),
  );
  const removed = new Map(
    changes
      .filter((change) => isRemoval(change) && moveTargets.has(change.path))
      .map((change) => [change.path, change]),
  );
  return changes
    .filter((change) => removed.get(change.path) !== change)
    .map((change) => {
      const over = removed.get(change.path)?.old;
      return over === undefined ? change : { ...change, over };
    });
}

/** Whether the change leaves a directory under its path that was not there before. */
function bringsDirectory(change: PushChange): boolean {
  if (change.new?.type !== 'directory') return false;
  return change.movedFrom !== undefined || change.old?.type !== 'directory';
}

/** Whether the change takes away a directory that stood under its path. */
function takesDirectory(change: PushChange): boolean {
  if (change.over?.type === 'directory') return true;
  return (
    change.movedFrom === undefined && change.old?.type === 'directory' && change.new?.type !== 'directory'
  );
}

/** For each change those that must come before it. */
function dependencies(steps: readonly PushChange[]): Map<PushChange, PushChange[]> {
  const byPath = new Map(steps.map((step) => [step.path, step]));
  const bySource = new Map<Path, PushChange>();
  for (const step of steps) if (step.movedFrom !== undefined) bySource.set(step.movedFrom, step);

  const needs = new Map<PushChange, PushChange[]>();
  const need = (step: PushChange, before: PushChange | undefined): void => {
    if (before === undefined || before === step) return;
    const list = needs.get(step);
    if (list === undefined) needs.set(step, [before]);
    else list.push(before);
  };
  const needsOfLinks = linkDependencies(steps, byPath);
  for (const [step, before] of needsOfLinks) need(step, before);
  for (const step of steps) {
    const partner = step.goesWith === undefined ? undefined : byPath.get(step.goesWith);
    need(step, partner);
    if (partner !== undefined) need(partner, step);
    // What stood under the path may be on its way elsewhere.
    need(step, bySource.get(step.path));
    for (const ancestor of ancestorsOf(step.path)) {
      const above = byPath.get(ancestor);
      if (above === undefined) continue;
      if (bringsDirectory(above)) need(step, above);
      else if (takesDirectory(above)) need(above, step);
    }
    if (step.movedFrom === undefined) continue;
    for (const ancestor of ancestorsOf(step.movedFrom)) {
      const above = byPath.get(ancestor);
      // The source is told by its old path, so what stands above it stays until it left.
      if (above !== undefined && (takesDirectory(above) || bringsDirectory(above))) need(above, step);
      need(bySource.get(ancestor) ?? step, step);
    }
  }
  return needs;
}

/** What depends on what because of files with several names: pairs of a step and one that must come before it. */
function linkDependencies(
  steps: readonly PushChange[],
  byPath: ReadonlyMap<Path, PushChange>,
): (readonly [PushChange, PushChange | undefined])[] {
  const pairs: (readonly [PushChange, PushChange | undefined])[] = [];
  const namers = new Map<bigint, PushChange[]>();
  for (const step of steps) {
    const { link } = step;
    if (link?.kind === 'follow' || link?.kind === 'name-of-new') {
      const other = byPath.get(link.kind === 'follow' ? link.leader : link.maker);
      // Both, so that they are in one transaction.
      pairs.push([step, other]);
      if (other !== undefined) pairs.push([other, step]);
    } else if (link?.kind === 'name' || link?.kind === 'name-in-place') {
      namers.set(link.ino, [...(namers.get(link.ino) ?? []), step]);
    }
  }
  if (namers.size === 0) return pairs;
  for (const step of steps) {
    const { link } = step;
    if (link?.kind === 'name-in-place') {
      for (const namer of namers.get(link.ino) ?? []) pairs.push([namer, step], [step, namer]);
    }
    for (const namer of namers.get(step.old?.ino ?? 0n) ?? []) {
      // The new name has the contents that the inode gets, or there is none; and it comes before an old name goes.
      if (link?.kind === 'in-place') pairs.push([namer, step], [step, namer]);
      else if (step.movedFrom === undefined) pairs.push([step, namer]);
    }
    for (const namer of namers.get(step.over?.ino ?? 0n) ?? []) pairs.push([step, namer]);
  }
  return pairs;
}

/**
 * The strongly connected components of a graph, each after those it depends on, otherwise in the order given
 * (Tarjan 1972).
 */
function components<T>(nodes: readonly T[], before: (node: T) => readonly T[]): T[][] {
  const index = new Map<T, number>();
  const stack: T[] = [];
  const onStack = new Set<T>();
  const result: T[][] = [];
  const visit = (node: T): number => {
    const own = index.size;
    index.set(node, own);
    stack.push(node);
    onStack.add(node);
    let lowest = own;
    for (const next of before(node)) {
      const seen = index.get(next);
      if (seen === undefined) lowest = Math.min(lowest, visit(next));
      else if (onStack.has(next)) lowest = Math.min(lowest, seen);
    }
    if (lowest === own) {
      const component = stack.splice(stack.lastIndexOf(node));
      for (const member of component) onStack.delete(member);
      // The given order holds within a component.
      result.push(component.length === 1 ? component : nodes.filter((member) => component.includes(member)));
    }
    return lowest;
  };
  for (const node of nodes) if (!index.has(node)) visit(node);
  return result;
}
