/** The conflict copies of a volume with their records, for the verbs. */

import { createHash } from 'node:crypto';

import { CONFLICTS, RECORDS } from '../../reconcile/conflict-path.ts';
import { join, parentOf, type Path } from '../../reconcile/entry.ts';
import { decodeRecord, shownInRecord, type ConflictRecord } from '../state/conflict-record.ts';
import { contentOf, type VolumeNode, type VolumeTree } from '../volume/volume-tree.ts';

/** A copy; one that somebody made by hand, or whose record is lost, has none. */
export interface KeptCopy {
  /** Eight hex digits that stand for the copy's path. */
  readonly id: string;
  /** What lost, from the volume's root. */
  readonly path: Path;
  /** When and by whom, as the directory's name says. */
  readonly stamp: string;
  readonly node: VolumeNode;
  readonly record?: { readonly node: VolumeNode; readonly says: ConflictRecord };
}

/** Records are small; what is larger is none. */
const RECORD_BYTES = 65_536n;

/** All copies, oldest first. */
export async function listCopies(tree: VolumeTree): Promise<KeptCopy[]> {
  const top = await tree.find(CONFLICTS);
  if (top?.type !== 'directory') return [];
  const records = new Map<string, NonNullable<KeptCopy['record']>>();
  const found: VolumeNode[] = [];
  for await (const node of tree.below(top)) {
    if (node.type === 'directory') continue;
    if (!node.path.startsWith(`${CONFLICTS}/${RECORDS}/`)) {
      found.push(node);
    } else if (node.type === 'file' && (node.attr?.length ?? RECORD_BYTES) < RECORD_BYTES) {
      const says = decodeRecord(await contentOf(tree, node));
      if (says !== undefined) records.set(says.copy, { node, says });
    }
  }
  const copies = found.flatMap((node): KeptCopy[] => {
    const below = node.path.slice(CONFLICTS.length + 1);
    const slash = below.indexOf('/');
    if (slash < 0) return [];
    const record = records.get(shownInRecord(node.path));
    const id = createHash('sha256').update(node.path, 'latin1').digest('hex').slice(0, 8);
    const named = { id, path: below.slice(slash + 1), stamp: below.slice(0, slash), node };
    return [record === undefined ? named : { ...named, record }];
  });
  return copies.sort((a, b) => (a.node.path < b.node.path ? -1 : 1));
}

/** The copy and its record, and the directories above them that are empty without them, deepest first. */
export async function leftovers(tree: VolumeTree, copies: readonly KeptCopy[]): Promise<VolumeNode[]> {
  const gone = new Map<Path, VolumeNode>();
  for (const { node, record } of copies) {
    gone.set(node.path, node);
    if (record !== undefined) gone.set(record.node.path, record.node);
  }
  for (const path of [...gone.keys()]) {
    for (let dir = parentOf(path); dir !== undefined && dir !== ''; dir = parentOf(dir)) {
      const node = gone.has(dir) ? undefined : await tree.find(dir);
      if (node === undefined) break;
      const names = (await tree.children(node)).map(({ name }) => name);
      if (!names.every((name) => gone.has(join(dir ?? '', name)))) break;
      gone.set(dir, node);
    }
  }
  return [...gone.values()].sort((a, b) => b.path.length - a.path.length);
}
