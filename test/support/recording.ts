/** What a recording of a single operation lacks to be a volume. */

import { ROOT_INO, TRASH_INO, decodeKey } from '../../src/codec/key.ts';
import type { Kv, StoreEvent } from '../../src/codec/kv.ts';
import { putAttr, putDentry } from './meta.ts';
import { indexOf } from './remote.ts';

/**
 * A recording has only the keys that its operation changed. What else makes them a tree: a name in a root of ours for
 * each inode that the recording has no name for, and an attr for each directory that it has none for.
 */
export function rootFor(start: readonly Kv[], revisions: readonly (readonly StoreEvent[])[]): Kv[] {
  const values = [...start, ...revisions.flat().flatMap((event) => (event.type === 'put' ? [event.kv] : []))];
  const all = indexOf(values);
  const inodes = new Set<bigint>();
  for (const { key } of values) {
    const decoded = decodeKey(key);
    if (decoded.kind === 'attr') inodes.add(decoded.ino);
    if (decoded.kind === 'dentry') inodes.add(decoded.parent);
  }
  inodes.delete(ROOT_INO);
  const events = all.get(ROOT_INO)?.attr === undefined ? [putAttr(ROOT_INO, 'directory')] : [];
  for (const ino of inodes) {
    if (ino >= TRASH_INO || [...all.namesOf(ino)].length > 0) continue;
    const attr = all.get(ino)?.attr?.value;
    if (attr instanceof Error) throw attr;
    if (attr === undefined) events.push(putAttr(ino, 'directory'));
    events.push(putDentry(ROOT_INO, `i${ino}`, ino, attr?.type ?? 'directory'));
  }
  return events.flatMap((event) => (event.type === 'put' ? [event.kv] : []));
}
