/** One audit of a volume: reads it, and again while mounts that are alive may still owe accounts. */

import { audit } from '../../reconcile/audit.ts';
import { identityOf, type Finding } from '../../reconcile/finding.ts';
import type { VolumeFacts } from '../../reconcile/volume-facts.ts';
import { CompactedError } from '../base/error.ts';
import type { Clock, EtcdStore } from '../base/ports.ts';
import type { Volume } from '../volume/volume.ts';
import { readBlocks, readFacts } from './read-volume.ts';

/**
 * Mounts keep statistics and counters to themselves for a second and quotas for three (layout 8): looks that are further
 * apart in all, and at no fixed distance, never see the same amount that is only on its way.
 */
const LOOKS = 4;
const BETWEEN_MS = 1_500;

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
 * off by the same each time, and blocks that are missing.
 */
export async function check(
  store: EtcdStore,
  volume: Volume,
  clock: Clock,
  signal?: AbortSignal,
): Promise<Checked> {
  const first = await look(store, volume, clock, true, signal);
  const isUsed = first.liveSessions > 0;
  const isUnsettled = ({ kind, drift }: Finding): boolean =>
    (drift !== undefined && isUsed) ||
    // A mount with --writeback stores blocks late; those elsewhere were read a moment after what names them.
    (kind === 'block-missing' && (isUsed || !volume.data.besideMetadata));
  let checked = first;
  for (let looks = 1; looks < LOOKS && checked.findings.some(isUnsettled); looks += 1) {
    await clock.sleep(BETWEEN_MS * (1 + clock.random()), signal);
    const isMissing = checked.findings.some(({ kind }) => kind === 'block-missing');
    const next = await look(store, volume, clock, isMissing, signal);
    const before = new Set(checked.findings.map(identityOf));
    const stays = (finding: Finding): boolean => !isUnsettled(finding) || before.has(identityOf(finding));
    const unlooked = isMissing ? [] : checked.findings.filter(({ kind }) => kind === 'block-bytes');
    checked = { ...next, findings: [...next.findings.filter(stays), ...unlooked] };
  }
  return checked;
}

async function look(
  store: EtcdStore,
  volume: Volume,
  clock: Clock,
  withBlocks: boolean,
  signal: AbortSignal | undefined,
): Promise<Checked> {
  for (;;) {
    const { facts, revision } = await readFacts(store, volume, signal);
    try {
      const blocks = withBlocks ? await readBlocks(volume, revision, signal) : undefined;
      const nowNs = clock.nowNs();
      const { setting } = volume;
      const findings = audit({ facts, setting, nowNs, ...(blocks === undefined ? {} : { blocks }) });
      const seconds = nowNs / 1_000_000_000n;
      const liveSessions = [...facts.sessions.values()].filter(({ value }) => value >= seconds).length;
      return { findings, facts, revision, liveSessions };
    } catch (error) {
      // Compacted while it was read: a volume this large is read again from the newest revision.
      if (!(error instanceof CompactedError)) throw error;
    }
  }
}
