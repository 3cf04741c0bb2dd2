/** Repairs what an audit found, as transactions that compare all that the audit relied on. */

import { prefixRange } from '../../codec/bytes.ts';
import { encodeKey } from '../../codec/key.ts';
import type { ByteString, Compare, StoreOp, StoreTransaction } from '../../codec/kv.ts';
import type { Finding, Repair } from '../../reconcile/finding.ts';
import type { EtcdStore } from '../base/ports.ts';
import type { Volume } from '../volume/volume.ts';

/** Room for the compares of a transaction: etcd takes 128. */
const MAX_EDITS = 100;

/** The findings of one round that can be repaired beside each other: accounts only once everything else is right. */
export function repairable(findings: readonly Finding[]): (Finding & { readonly repair: Repair })[] {
  const open = findings.filter(hasRepair);
  const structural = open.filter(({ drift }) => drift === undefined);
  const round = structural.length > 0 ? structural : open;
  // Two repairs of one key are computed from the same value: the second one waits for the next round.
  const taken = new Set<ByteString>();
  return round.filter(({ repair }) => {
    const keys = repair.edits.filter(({ value }) => value !== 'same').map(({ key }) => encodeKey(key));
    if (keys.some((key) => taken.has(key))) return false;
    for (const key of keys) taken.add(key);
    return true;
  });
}

function hasRepair(finding: Finding): finding is Finding & { readonly repair: Repair } {
  return finding.repair !== undefined;
}

/**
 * Writes repairs that were decided at a revision, and returns those that were written: fewer if somebody else wrote the
 * tree meanwhile, and what is left has to be decided anew. Every transaction compares that no key of an inode is newer than what was read, so that an account
 * is never set to what the tree was a moment ago.
 */
export async function writeRepairs(
  store: EtcdStore,
  volume: Volume,
  repairs: readonly Repair[],
  revision: bigint,
  signal?: AbortSignal,
): Promise<readonly Repair[]> {
  const written: Repair[] = [];
  let readAt = revision;
  let batch: Repair[] = [];
  let edits = 0;
  const flush = async (): Promise<boolean> => {
    if (batch.length === 0) return true;
    const result = await store.commit(transactionOf(volume, batch, readAt), signal);
    if (result.outcome === 'lost') return false;
    readAt = result.revision;
    written.push(...batch);
    batch = [];
    edits = 0;
    return true;
  };
  for (const repair of repairs) {
    if (edits + repair.edits.length > MAX_EDITS && !(await flush())) return written;
    batch.push(repair);
    edits += repair.edits.length + (repair.clear?.length ?? 0);
  }
  await flush();
  return written;
}

function transactionOf(volume: Volume, repairs: readonly Repair[], readAt: bigint): StoreTransaction {
  const compares = new Map<ByteString, Compare>();
  const ops: StoreOp[] = [];
  for (const { edits, clear = [] } of repairs) {
    for (const edit of edits) {
      const key = volume.keyOf(edit.key);
      compares.set(key, { key, modRevision: edit.modRevision });
      if (edit.value === 'same') continue;
      ops.push(edit.value === undefined ? { type: 'delete', key } : { type: 'put', key, value: edit.value });
    }
    for (const { start, end } of clear) {
      ops.push({ type: 'deleteRange', range: { start: volume.prefix + start, end: volume.prefix + end } });
    }
  }
  const range = prefixRange(`${volume.prefix}A`);
  return { compares: [...compares.values(), { range, maxModRevision: readAt }], ops };
}
