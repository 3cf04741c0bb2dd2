/** Whether slices are counted as often as they are named, and whether their blocks are stored (layout 5.4, 6). */

import { blocksOfSlice } from '../codec/block.ts';
import { encodeCounter } from '../codec/counter.ts';
import type { MetaKey } from '../codec/key.ts';
import type { Finding } from './finding.ts';
import { sliceKey, type VolumeFacts } from './volume-facts.ts';

/**
 * What is stored of the blocks: by slice id, then `index_length` of each block. `undefined` is a block whose value is
 * right, a text says why it is not.
 */
export type StoredBlocks = ReadonlyMap<bigint, ReadonlyMap<string, string | undefined>>;

/** How a block is called within its slice. */
export function blockName(index: number, length: number): string {
  return `${index}_${length}`;
}

export function auditReferences(facts: VolumeFacts): Finding[] {
  return [...referenceFindings(facts), ...sizeFindings(facts)];
}

function referenceFindings(facts: VolumeFacts): Finding[] {
  const counts = facts.countReferences();
  // What a broken value names is not known: then a count may only be too low.
  const isComplete = !facts.broken.some(({ key }) => key.kind === 'chunk' || key.kind === 'delayedSlices');
  const findings: Finding[] = [];
  for (const { id, size, count } of counts.values()) {
    const stored = facts.references.get(sliceKey({ id, size }));
    const is = (stored?.value ?? 0n) + 1n;
    if (is === count || (is > count && !isComplete)) continue;
    const key: MetaKey = { kind: 'sliceRef', id, size };
    const value = encodeCounter(count - 1n);
    findings.push({
      kind: 'reference',
      what: `slice ${id} of ${size} bytes is counted ${is} times and named ${count} times`,
      ...pathOfSlice(facts, id),
      repair: {
        what: `it is counted ${count} times`,
        edits: [{ key, modRevision: stored?.modRevision ?? 0n, value }],
      },
    });
  }
  for (const { id, size, value, modRevision } of facts.references.values()) {
    // Below zero it waits for its blocks to be deleted; zero is one reference, as if it were not there.
    if (value < 0n || counts.has(sliceKey({ id, size })) || !isComplete) continue;
    findings.push({
      kind: 'reference',
      what: `slice ${id} of ${size} bytes is counted ${value + 1n} times and nothing names it`,
      repair: {
        what: 'it is given to the deletion of blocks',
        edits: [{ key: { kind: 'sliceRef', id, size }, modRevision, value: encodeCounter(-1n) }],
      },
    });
  }
  return findings;
}

function sizeFindings(facts: VolumeFacts): Finding[] {
  const sizes = new Map<bigint, Set<number>>();
  for (const { id, size } of facts.countReferences().values()) {
    const known = sizes.get(id);
    if (known === undefined) sizes.set(id, new Set([size]));
    else known.add(size);
  }
  return [...sizes].flatMap(([id, { size }]): Finding[] =>
    size === 1
      ? []
      : [{ kind: 'slice', what: `slice ${id} is named with ${size} sizes`, ...pathOfSlice(facts, id) }],
  );
}

/** Blocks of files that are there, open ones without a name and the trash included. */
export function auditBlocks(facts: VolumeFacts, blocks: StoredBlocks, blockSize: number): Finding[] {
  const findings: Finding[] = [];
  const seen = new Set<string>();
  for (const [ino, chunks] of facts.chunks) {
    if (facts.attr(ino) === undefined) continue;
    const path = facts.pathOf(ino);
    const where = { ...(path === undefined ? {} : { path }), ino };
    for (const { value: records } of chunks.values()) {
      for (const { id, size } of records) {
        const slice = sliceKey({ id, size });
        if (id === 0n || seen.has(slice)) continue;
        seen.add(slice);
        for (const { index, length } of blocksOfSlice(size, blockSize)) {
          const name = blockName(index, length);
          const stored = blocks.get(id);
          const block = `block ${id}_${name}`;
          if (stored?.has(name) !== true) {
            findings.push({ kind: 'block-missing', ...where, what: `${block} is not stored` });
            continue;
          }
          const problem = stored.get(name);
          if (problem !== undefined)
            findings.push({ kind: 'block-bytes', ...where, what: `${block}: ${problem}` });
        }
      }
    }
  }
  return findings;
}

/** One file that names a slice. */
function pathOfSlice(facts: VolumeFacts, id: bigint): Pick<Finding, 'path' | 'ino'> {
  for (const [ino, chunks] of facts.chunks) {
    for (const { value } of chunks.values()) {
      if (!value.some((record) => record.id === id)) continue;
      const path = facts.pathOf(ino);
      return { ino, ...(path === undefined ? {} : { path }) };
    }
  }
  return {};
}
