/** One audit of a volume: reads it, and a second time when mounts that are alive may still owe accounts. */

import { audit } from '../../reconcile/audit.ts';
import { identityOf, type Finding } from '../../reconcile/finding.ts';
import type { VolumeFacts } from '../../reconcile/volume-facts.ts';
import { CompactedError } from '../error.ts';
import type { Clock, EtcdStore } from '../ports.ts';
import type { Volume } from '../volume.ts';
import { readBlocks, readFacts } from './read-volume.ts';

/** Longer than mounts keep statistics (1 s), quotas (3 s) and counters (1 s) to themselves (layout 8). */
const FLUSHED_MS = 4_500;

export interface Checked {
  readonly findings: readonly Finding[];
  readonly facts: VolumeFacts;
  /** At which everything was read. */
  readonly revision: bigint;
  /** Sessions of mounts that are alive. */
  readonly liveSessions: number;
}

/**
 * Everything that is wrong with a volume. Of one in use, what may be on its way counts only if it stays: accounts that are
 * off by the same, and blocks that are missing.
 */
export async function check(
  store: EtcdStore,
  volume: Volume,
  clock: Clock,
  signal?: AbortSignal,
): Promise<Checked> {
  const first = await checkOnce(store, volume, clock, signal);
  const isUnsettled = ({ kind, drift }: Finding): boolean =>
    (drift !== undefined && first.liveSessions > 0) ||
    // A mount with --writeback stores blocks late; those elsewhere were read a moment after what names them.
    (kind === 'block-missing' && (first.liveSessions > 0 || !volume.data.besideMetadata));
  if (!first.findings.some(isUnsettled)) return first;
  await clock.sleep(FLUSHED_MS, signal);
  const second = await checkOnce(store, volume, clock, signal);
  const before = new Set(first.findings.map(identityOf));
  return {
    ...second,
    findings: second.findings.filter((finding) => !isUnsettled(finding) || before.has(identityOf(finding))),
  };
}

async function checkOnce(
  store: EtcdStore,
  volume: Volume,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<Checked> {
  for (;;) {
    const { facts, revision } = await readFacts(store, volume, signal);
    try {
      const blocks = await readBlocks(volume, revision, signal);
      const nowNs = clock.nowNs();
      const findings = audit({ facts, blocks, setting: volume.setting, nowNs });
      const seconds = nowNs / 1_000_000_000n;
      const liveSessions = [...facts.sessions.values()].filter(({ value }) => value >= seconds).length;
      return { findings, facts, revision, liveSessions };
    } catch (error) {
      // Compacted while it was read: a volume this large is read again from the newest revision.
      if (!(error instanceof CompactedError)) throw error;
    }
  }
}
