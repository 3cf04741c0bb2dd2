/** The part of a look that reads the kept inodes: what was written to files after they had been replaced. */

import type { ByteString } from '../../codec/kv.ts';
import { KeepTime } from '../state/keep-time.ts';
import { otherTree } from '../disk/layout.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Look } from './look.ts';
import type { FileStat, FsPort } from '../base/ports.ts';
import { isPublished, isPublishedAt } from './published-inode.ts';
import { wasKnown, type Replaced } from './replaced.ts';
import type { ScanReader, ScannerOptions } from './scan-reader.ts';
import { QUIET_MS } from './settle.ts';
import { sameButCtime, sameSignature, sameSlotContent, signatureOf, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** Remembers between looks how long each inode has been kept. */
export class KeptScanner {
  readonly #o: ScannerOptions;
  readonly #reader: ScanReader;
  readonly #replaced: Replaced;
  readonly #keepTime = new KeepTime();

  constructor(options: ScannerOptions, reader: ScanReader, replaced: Replaced) {
    this.#o = options;
    this.#reader = reader;
    this.#replaced = replaced;
  }

  /** `atTop`: inodes that stand at the top in place of a link; edits of them are found there. */
  look(state: LedgerState, atTop: ReadonlySet<bigint>, look: Look): void {
    const { fs, layout, clock, keepMs } = this.#o;
    this.#keepTime.forgetAllBut(state.kept);
    for (const [name, record] of state.kept) {
      const at = `${layout.kept}/${name}`;
      const known = state.found.kept.get(name) ?? record.slot;
      const stat = fs.lstat('look kept', at);
      if (stat === undefined || this.#o.excluded(record.path)) {
        look.kept.set(name, null);
        continue;
      }
      const isOld = this.#keepTime.ageMs(name, stat.ctimeNs, clock.monotonicMs()) >= keepMs;
      if (sameSignature(known, stat)) {
        this.#reader.settling.forget(`kept:${name}`);
        // What was found in it may wait for a store that is away.
        const isDone = isOld && !state.found.kept.has(name);
        if (isDone && this.#reader.hasWriter(at) !== true) look.kept.set(name, null);
        continue;
      }
      if (atTop.has(stat.ino)) continue;
      const isFromHere = wasKnown(record, stat);
      if (isPublished(this.#o, state, record.path, stat.ino, look)) {
        // Edits of it are seen in the tree, if only under another name; when it leaves that, it is kept again. But if somebody
        // gave it this name and nobody had seen that yet, the other one may be about to end.
        if (isFromHere || isOld || isPublishedAt(this.#o, state, record.path, stat.ino))
          look.kept.set(name, null);
        continue;
      }
      if (isFromHere && this.#isKnownElsewhere(state, name, stat, look)) {
        look.kept.set(name, null);
        continue;
      }
      const onlyCtime = sameButCtime(known, stat);
      if (!this.#reader.isSettled('kept', name, stat, onlyCtime ? 0 : QUIET_MS.content, at)) continue;
      // Our own link moved the ctime. What not even its owner may read is known by its size and mtime alone.
      const slot =
        onlyCtime && !canOpen(fs, at)
          ? { ...known, signature: signatureOf(stat) }
          : this.#reader.read(record.path, at, stat, look);
      if (slot === undefined) continue;
      look.kept.set(name, { path: record.path, slot });
      // A find that changes before it is dealt with is found as a whole once more.
      if (slot.type !== 'file' || sameSlotContent(slot, record.slot)) continue;
      if (this.#replaced.isKeptSuperseded(record, stat)) continue;
      const current = state.slots.get(record.path);
      if (sameSlotContent(slot, current)) continue;
      // It was in the volume, and whoever replaced it there had it.
      if (state.hadAgreed(record.path, slot.digest)) continue;
      // What somebody has put there in the published tree meanwhile is newer.
      const isCurrent = sameSlotContent(record.slot, current) && !look.edits.has(record.path);
      if (isCurrent) look.adoptions.set(record.path, { slot, source: at });
      else look.losers.push({ path: record.path, slot, source: at, kept: name });
      look.kept.delete(name);
      look.found.kept.set(name, slot);
    }
  }

  /** Whether what is in a kept inode is what it was published with at another path, to which it had been moved. */
  #isKnownElsewhere(state: LedgerState, name: string, stat: FileStat, look: Look): boolean {
    const { fs, layout } = this.#o;
    const isIt = (slot: Slot | undefined): boolean =>
      slot?.type === 'file' && (sameSignature(slot, stat) || sameButCtime(slot, stat));
    for (const [other, { slot }] of state.kept) {
      // Of two that say the same one stays.
      if (other === name || look.kept.get(other) === null || !isIt(slot)) continue;
      if (fs.lstat('look at kept twice', `${layout.kept}/${other}`)?.ino === stat.ino) return true;
    }
    if (state.active === undefined) return false;
    const idle = otherTree(state.active);
    for (const [path, slot] of state.stale) {
      if (isIt(slot) && statInTree(fs, 'look at idle', layout, idle, path)?.ino === stat.ino) return true;
    }
    return false;
  }
}

function canOpen(fs: FsPort, at: ByteString): boolean {
  try {
    fs.close('look kept', fs.openRead('look kept', at));
    return true;
  } catch {
    return false;
  }
}
