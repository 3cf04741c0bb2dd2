/**
 * After a reboot: what a power cut has left of files that were not on disk yet (design, G2). Such a file is empty, holds nothing but
 * zeros, or has another content or length although its time says that nobody has written it since: it is set aside and never pushed,
 * and the volume's content comes back.
 */

import { createHash } from 'node:crypto';

import type { Path } from '../../reconcile/entry.ts';
import { codeOf } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import type { Ledger } from '../state/ledger.ts';
import type { LedgerRecord } from '../state/ledger-record.ts';
import { log } from '../base/log.ts';
import type { Clock, FsPort } from '../base/ports.ts';
import { signatureOf, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

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
  const damagedPaths = new Set<Path>();
  if (before !== undefined && state.active !== undefined) {
    const serial = clock.nowNs().toString(36);
    for (const [path, slot] of state.slots.entries()) {
      const found = damaged(fs, layout, path, slot, ledger);
      if (found === undefined) continue;
      const name = `${serial}-${records.length}`;
      const at = layout.inTree(state.active, path);
      if (fs.lstat('quarantine', layout.quarantine) === undefined)
        fs.mkdir('quarantine', layout.quarantine, 0o700);
      fs.link('quarantine', at, `${layout.quarantine}/${name}`);
      log('warn', 'quarantined', { path, reason: 'damaged by a reboot' });
      records.push({ t: 'quarantined', name, path }, ...asAgreed(path, found, state.ancestor.get(path)));
      damagedPaths.add(path);
    }
    // Of a push whose answer was not lived to see: what the volume has of it is not what is here now.
    if (damagedPaths.size > 0) records.push({ t: 'pushed', all: true }, ...state.pushRecords(damagedPaths));
  }
  ledger.write([...records, { t: 'boot', id: bootId }], true);
}

/** What a file is now that a power cut has damaged; `undefined` for all others. */
function damaged(
  fs: FsPort,
  layout: Layout,
  path: Path,
  slot: Slot,
  { state }: Ledger,
): Extract<Slot, { type: 'file' }> | undefined {
  if (slot.type !== 'file' || slot.signature.size === 0n || state.active === undefined) return undefined;
  const stat = statInTree(fs, 'look after reboot', layout, state.active, path);
  if (stat?.type !== 'file') return undefined;
  const content = contentOf(fs, layout.inTree(state.active, path));
  if (content === undefined) return undefined;
  const { digest, isZeros } = content;
  // Whoever writes moves the time, and that can be on disk without the data and without the length.
  const { ino, mtimeNs } = slot.signature;
  const isUnwritten = stat.ino === ino && stat.mtimeNs === mtimeNs;
  if (digest === slot.digest || !(isZeros || isUnwritten)) return undefined;
  return { ...slot, digest, signature: { ...slot.signature, ...signatureOf(stat) } };
}

/** Of a file: the digest, and whether it holds nothing but zeros, if anything; `undefined` of one that not even its owner may read. */
function contentOf(
  fs: FsPort,
  at: string,
): { readonly digest: string; readonly isZeros: boolean } | undefined {
  const hash = createHash('sha256');
  let fd: number;
  try {
    fd = fs.openRead('read after reboot', at);
  } catch (error) {
    if (codeOf(error) === 'EACCES') return undefined;
    throw error;
  }
  try {
    const buffer = new Uint8Array(BUFFER_BYTES);
    let isZeros = true;
    for (let done = 0; ;) {
      const length = fs.read('read after reboot', fd, buffer, done);
      if (length === 0) return { digest: hash.digest('hex'), isZeros };
      const bytes = buffer.subarray(0, length);
      isZeros &&= bytes.every((byte) => byte === 0);
      hash.update(bytes);
      done += length;
    }
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
