/**
 * How old a revision is, measured by the store itself: a key beside a timer that a lease takes away. No clock of any client
 * is asked, and what one run began the next one finishes (ADR 7).
 */

import { toByteString, toBytes } from '../../codec/bytes.ts';
import { ownKey } from '../volume/own-keys.ts';
import { requireGuard, type CleanupContext } from './transact.ts';
import { withSignal } from '../base/signal.ts';

interface AgeRecord {
  /** Was the store's head at least the age ago. */
  readonly safe: string;
  /** Was the store's head when the timer was started. */
  readonly next: string;
}

/**
 * The newest revision known to be older than `seconds`; 0 while none is. Starts the timer for the next run when it has run
 * out. With `seconds` 0 it is the newest revision of all: for a volume that nobody writes to.
 */
export async function safeRevision(
  { store, volume, guard, signal }: CleanupContext,
  seconds: number,
  options: { readonly dryRun: boolean },
): Promise<bigint> {
  if (seconds === 0) return (await store.status(signal)).revision;
  const { uuid } = volume.setting;
  const recordKey = ownKey(uuid, `gc/age-${seconds}`);
  const timerKey = ownKey(uuid, `gc/timer-${seconds}`);
  const readOptions = withSignal(signal);
  for (;;) {
    const { kvs, revision } = await store.get([recordKey, timerKey], readOptions);
    const [record, timer] = kvs;
    const known = record === undefined ? undefined : recordOf(record.value, revision);
    const isRunning = timer !== undefined && known !== undefined;
    const safe = known === undefined ? 0n : BigInt(isRunning ? known.safe : known.next);
    if (isRunning || options.dryRun) return safe;
    const lease = await store.grantLease(seconds, signal);
    const next: AgeRecord = { safe: String(safe), next: String(revision) };
    const result = await store.commit(
      {
        compares: [
          ...guard,
          { key: recordKey, modRevision: record?.modRevision ?? 0n },
          { key: timerKey, modRevision: timer?.modRevision ?? 0n },
        ],
        ops: [
          { type: 'put', key: recordKey, value: toBytes(JSON.stringify(next)) },
          { type: 'put', key: timerKey, value: toBytes(String(revision)), lease },
        ],
      },
      signal,
    );
    if (result.outcome === 'committed') return safe;
    requireGuard(guard, result.current);
    // Another run was first: what it wrote is as good.
    await store.revokeLease(lease, signal);
  }
}

/** A record from a store that was restored to an earlier state, or no record at all, tells nothing. */
function recordOf(value: Uint8Array, head: bigint): AgeRecord | undefined {
  let json: unknown;
  try {
    json = JSON.parse(toByteString(value));
  } catch {
    return undefined;
  }
  if (typeof json !== 'object' || json === null) return undefined;
  const { safe, next } = json as Readonly<Record<string, unknown>>;
  if (typeof safe !== 'string' || typeof next !== 'string') return undefined;
  if (!/^\d+$/.test(safe) || !/^\d+$/.test(next)) return undefined;
  return BigInt(safe) > head || BigInt(next) > head ? undefined : { safe, next };
}
