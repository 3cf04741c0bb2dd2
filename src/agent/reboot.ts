/**
 * After a reboot: what a power cut has left of files that were not on disk yet (design, G2). Such a file is empty or holds
 * nothing but zeros, and nobody has written that: it is set aside and never pushed, and the volume's content comes back.
 */

import { createHash } from 'node:crypto';

import type { Path } from '../reconcile/entry.ts';
import type { Layout } from './layout.ts';
import type { AncestorEntry } from './ancestor-entry.ts';
import type { Ledger } from './ledger.ts';
import type { LedgerRecord } from './ledger-record.ts';
import { log } from './log.ts';
import type { Clock, FileStat, FsPort } from './ports.ts';
import { sameSignature, signatureOf, type Slot } from './slot.ts';
import { statInTree } from './tree-stat.ts';

interface Context {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
}

const BUFFER_BYTES = 1 << 16;

/** Notes which boot this is, and looks at what was served when it is another one. */
export function checkAfterReboot({ fs, layout, ledger, clock }: Context, bootId: string): void {
  const { state } = ledger;
  const before = state.boot;
  if (before === bootId) return;
  const records: LedgerRecord[] = [];
  if (before !== undefined && state.active !== undefined) {
    const serial = clock.nowNs().toString(36);
    for (const [path, slot] of state.slots.entries()) {
      const found = emptied(fs, layout, path, slot, ledger);
      if (found === undefined) continue;
      const name = `${serial}-${records.length}`;
      const at = layout.inTree(state.active, path);
      if (fs.lstat('quarantine', layout.quarantine) === undefined)
        fs.mkdir('quarantine', layout.quarantine, 0o700);
      fs.link('quarantine', at, `${layout.quarantine}/${name}`);
      log('warn', 'quarantined', { path, reason: 'empty or zeros after a reboot' });
      records.push({ t: 'quarantined', name, path }, ...asAgreed(path, found, state.ancestor.get(path)));
    }
  }
  ledger.write([...records, { t: 'boot', id: bootId }], true);
}

/** What a file is now that had contents and has none; `undefined` for all others. */
function emptied(
  fs: FsPort,
  layout: Layout,
  path: Path,
  slot: Slot,
  { state }: Ledger,
): Extract<Slot, { type: 'file' }> | undefined {
  if (slot.type !== 'file' || slot.signature.size === 0n || state.active === undefined) return undefined;
  const stat = statInTree(fs, 'look after reboot', layout, state.active, path);
  if (stat?.type !== 'file' || sameSignature(slot, stat)) return undefined;
  const digest = digestOfZeros(fs, layout.inTree(state.active, path), stat);
  if (digest === undefined || digest === slot.digest) return undefined;
  return { ...slot, digest, signature: { ...slot.signature, ...signatureOf(stat) } };
}

/** Of a file that holds nothing but zeros; `undefined` of any other. */
function digestOfZeros(fs: FsPort, at: string, { size }: FileStat): string | undefined {
  const hash = createHash('sha256');
  const fd = fs.openRead('read after reboot', at);
  try {
    const buffer = new Uint8Array(BUFFER_BYTES);
    for (let done = 0; done < Number(size);) {
      const length = fs.read('read after reboot', fd, buffer, done);
      if (length === 0) break;
      const bytes = buffer.subarray(0, length);
      if (bytes.some((byte) => byte !== 0)) return undefined;
      hash.update(bytes);
      done += length;
    }
    return hash.digest('hex');
  } finally {
    fs.close('read after reboot', fd);
  }
}

/**
 * As if both sides had agreed on nothing being there: then it is the volume that has news, and nothing here is an edit.
 * What the volume never had stays, unpushed.
 */
function asAgreed(
  path: Path,
  slot: Extract<Slot, { type: 'file' }>,
  agreed: AncestorEntry | undefined,
): LedgerRecord[] {
  const look: LedgerRecord = { t: 'look', slots: [[path, slot]], stale: [], same: [] };
  if (agreed?.type !== 'file') return [look, { t: 'unadopted', add: [path], remove: [] }];
  const { contentKey: _, ...rest } = agreed;
  const { size, mode } = slot.signature;
  const entry = { ...rest, digest: slot.digest, size, mode };
  return [look, { t: 'ancestor', entries: [[path, entry]], sameInodes: true }];
}
