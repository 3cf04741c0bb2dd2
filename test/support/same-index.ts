/** Compares two inode indexes by everything they hold. */

import { toByteString } from '../../src/codec/bytes.ts';
import type { InodeIndex } from '../../src/reconcile/inode-index.ts';

/** Everything an index holds in an order of its own: equal lists mean equal indexes. */
export function contentsOf(index: InodeIndex): string[] {
  const targets = new Set<bigint>();
  const lines: string[] = [];
  for (const [key, { raw, modRevision }] of index.entries()) {
    lines.push(`${JSON.stringify(key)} ${JSON.stringify(toByteString(raw))} ${modRevision}`);
    // Names are held apart from the keys: each inode that a dentry could lead to is asked for its own.
    if (raw.length === 9) targets.add(inoIn(raw));
  }
  for (const ino of targets) {
    for (const { parent, name } of index.namesOf(ino)) {
      lines.push(`${ino} is ${JSON.stringify(name)} in ${parent}`);
    }
  }
  return lines.sort();
}

/** The inode in a dentry's value. */
function inoIn(dentry: Uint8Array): bigint {
  return new DataView(dentry.buffer, dentry.byteOffset, dentry.byteLength).getBigUint64(1);
}
