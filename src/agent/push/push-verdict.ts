/** What a transaction that lost means: only accounts moved, or it had committed after all, or somebody came first. */

import { decodeAttr } from '../../codec/attr.ts';
import { equalBytes } from '../../codec/bytes.ts';
import { decodeKey, encodeKey, TRASH_INO } from '../../codec/key.ts';
import type { ByteString, Kv, StoreTransaction } from '../../codec/kv.ts';
import type { MetaView } from '../../reconcile/meta-view.ts';

/** What was found under compared keys when a transaction lost. */
export type Current = ReadonlyMap<ByteString, Kv | undefined>;

/**
 * Whether all that moved are accounts and times: then the same changes are planned again, and nobody is asked. `view` is
 * what the transaction was planned on, `prefix` the volume's.
 */
export function lostOnAccounts(
  view: MetaView,
  prefix: ByteString,
  transaction: StoreTransaction,
  current: Current,
): boolean {
  const moved = transaction.compares.filter(
    (compare) => 'key' in compare && (current.get(compare.key)?.modRevision ?? 0n) !== compare.modRevision,
  );
  // Nothing moved means that a range got a new key.
  return (
    moved.length > 0 &&
    moved.every(
      (compare) =>
        'key' in compare && isAccount(view, compare.key.slice(prefix.length), current.get(compare.key)),
    )
  );
}

function isAccount(view: MetaView, name: ByteString, now: Kv | undefined): boolean {
  const key = decodeKey(name);
  switch (key.kind) {
    case 'dirStat':
    case 'setting':
    case 'counter':
    case 'dirQuota':
    case 'userQuota':
    case 'groupQuota':
    case 'aclRule':
      return true;
    case 'dentry':
      // This hour's trash directory: somebody else made it.
      return key.parent === TRASH_INO;
    case 'attr': {
      const before = view.get(encodeKey(key));
      if (before === 'absent' || before === 'unknown' || now === undefined) return false;
      return sameDirectory(before.value, now.value);
    }
    default:
      return false;
  }
}

/** The revision of a transaction that shows in its compared keys; `undefined` if they are not as it would leave them. */
export function writtenAt(transaction: StoreTransaction, current: Current): bigint | undefined {
  const revisions = new Set<bigint>();
  for (const op of transaction.ops) {
    if (op.type === 'deleteRange' || !current.has(op.key)) continue;
    const now = current.get(op.key);
    if (op.type === 'delete') {
      if (now !== undefined) return undefined;
    } else {
      if (now === undefined || !equalBytes(now.value, op.value)) return undefined;
      revisions.add(now.modRevision);
    }
  }
  const [revision] = revisions;
  return revisions.size === 1 ? revision : undefined;
}

/** Whether two attrs are one directory but for its times and its number of subdirectories. */
function sameDirectory(before: Uint8Array, now: Uint8Array): boolean {
  const [a, b] = [decodeAttr(before), decodeAttr(now)];
  return (
    a.type === 'directory' &&
    b.type === 'directory' &&
    a.flags === b.flags &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.parent === b.parent &&
    a.accessAcl === b.accessAcl &&
    a.defaultAcl === b.defaultAcl &&
    a.tier === b.tier
  );
}
