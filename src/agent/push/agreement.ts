/** What both sides agree on once a push has had its answer. */

import { prefixRange } from '../../codec/bytes.ts';
import { COMPARED_MODE, NOTHING_HELD, sameAttributes } from '../../reconcile/attributes.ts';
import { withAcl } from '../../reconcile/combine.ts';
import { sameContent, sameEntry, type Entry, type FileEntry, type Path } from '../../reconcile/entry.ts';
import type { Change } from '../../reconcile/change.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import { agreedAt, sameFields, type AncestorEntry } from '../state/ancestor-entry.ts';
import type { Ledger } from '../state/ledger.ts';
import { inodePairs, type ReplacedInode } from '../state/replaced-inodes.ts';
import type { Local } from '../look/local.ts';
import type { ChangeOutcome } from './push-outcome.ts';

type Committed = Extract<ChangeOutcome, { outcome: 'committed' }>;

/** Writes the ancestor after pushes. */
export class Agreement {
  readonly #ledger: Ledger;
  readonly #local: Local;

  constructor(ledger: Ledger, local: Local) {
    this.#ledger = ledger;
    this.#local = local;
  }

  /** Pushes whose outcome is not known: what the volume has come to have of them was ours. Those that are under way wait. */
  onShown(remote: ReadonlyMap<Path, AncestorEntry>, revision: bigint, pushing: ReadonlySet<Path>): void {
    const { ancestor, doubts } = this.#ledger.state;
    const agreed: [Path, AncestorEntry | null][] = [];
    const same: [Path, FileEntry][] = [];
    const inodes: [Path, ReplacedInode][] = [];
    for (const [path, intended] of doubts.entries()) {
      const there = remote.get(path);
      const ours = intended.findLast(({ entry }) => isOurs(entry, there));
      if (pushing.has(path) || ours === undefined) continue;
      const now = there && agreedAt(there, revision);
      if (now?.type === 'file' && now.ino === ancestor.get(path)?.ino) same.push([path, now]);
      // Nothing has come of it, or not yet; or it was agreed on here when an agent ended, and not yet under the other names.
      if (isAsAgreed(ancestor.get(path), there)) continue;
      agreed.push([path, now ?? null]);
      if (ours.inode !== undefined) inodes.push([path, ours.inode]);
    }
    if (agreed.length > 0)
      this.#ledger.write([{ t: 'ancestor', entries: agreed, ...inodePairs(inodes) }], false);
    for (const [path, entry] of same) this.#agreeOnOtherNames(path, entry);
    // What was removed here before this start differed from nothing until now.
    for (const [path] of agreed) {
      this.#local.dirty.add(path);
      this.#local.settle(path);
    }
  }

  /** A change that is in the volume. */
  onCommitted({ change, entry: planned, revision }: Committed): void {
    const { path, old, link } = change;
    const entry = planned && agreedAt(this.#withAcl(planned, change), revision);
    // What the path holds by now may be another file, of which nothing is in the volume.
    const inode = this.#ledger.state.pushed.at(path);
    const inodes = inodePairs(inode === undefined ? [] : [[path, inode]]);
    const entries = [[path, agreed(entry, change) ?? null]] as const;
    this.#ledger.write([{ t: 'ancestor', entries, ...inodes }], false);
    const isSame = entry?.ino === old?.ino || link?.kind === 'name' || link?.kind === 'name-in-place';
    if (entry?.type === 'file' && isSame) this.#agreeOnOtherNames(path, entry);
    this.#local.settle(path);
  }

  /**
   * What was agreed on at and below moved paths is agreed on at their new ones: all at once, as some may trade places. Returns the new
   * ones: what the volume had removed there before shows as no news of it.
   */
  onMoves(outcomes: readonly ChangeOutcome[]): Path[] {
    const { ancestor } = this.#ledger.state;
    const left: Path[] = [];
    const arrived: [Path, AncestorEntry][] = [];
    const inodes: [Path, ReplacedInode][] = [];
    for (const outcome of outcomes) {
      const { path: to, movedFrom: from } = outcome.change;
      if (outcome.outcome !== 'committed' || from === undefined) continue;
      const { start, end } = prefixRange(`${from}/`);
      for (const [path, entry] of ancestor) {
        if (path !== from && (path < start || path >= end)) continue;
        const there = to + path.slice(from.length);
        left.push(path);
        arrived.push([there, agreedAt(entry, outcome.revision)]);
        const inode = this.#ledger.state.agreedInodeSeen(path);
        if (inode !== undefined) inodes.push([there, inode]);
      }
    }
    if (left.length === 0) return [];
    const entries = [...left.map((path) => [path, null] as const), ...arrived];
    this.#ledger.write([{ t: 'ancestor', entries, ...inodePairs(inodes) }], false);
    for (const [path] of entries) this.#local.settle(path);
    return arrived.map(([path]) => path);
  }

  /** The planner knows of no ACLs: those of what is there stay, and what is new has most likely inherited what the disk shows. */
  #withAcl(entry: Entry, { path, old, new: pushed }: Change): Entry {
    if (old?.type === entry.type) return withAcl(entry, pushed?.acl);
    const onDisk = this.#local.slotAt(path)?.acl;
    return withAcl(entry, onDisk === '' ? undefined : onDisk);
  }

  /**
   * New contents and modes of a file are agreed on under all its names: one that goes or is replaced at the same time must not look
   * as if the volume had been edited there.
   */
  #agreeOnOtherNames(path: Path, entry: FileEntry): void {
    const { state } = this.#ledger;
    const disk = state.agreedInode(path);
    if (disk === undefined) return;
    const others = [...state.pathsAgreedOn(disk)].filter((name) => {
      const known = state.ancestor.get(name);
      return name !== path && known?.ino === entry.ino && !sameFields(known, entry);
    });
    if (others.length === 0) return;
    const entries = others.map((name) => [name, entry] as const);
    this.#ledger.write([{ t: 'ancestor', entries, sameInodes: true }], false);
    for (const name of others) this.#local.settle(name);
  }
}

/**
 * What both sides have now. Where an ACL cut the mode that was pushed, or a directory with sgid gave its group, what the
 * volume has is news for this side, and what this side has is no change that would undo it.
 */
function agreed(
  entry: Entry | undefined,
  { old, new: pushed }: Pick<PushChange, 'old' | 'new'>,
): Entry | undefined {
  if (entry === undefined || pushed === undefined) return entry;
  const { uid, gid } = old === undefined ? pushed : entry;
  if (entry.type === 'symlink') return { ...entry, uid, gid };
  return { ...entry, uid, gid, mode: (entry.mode & ~COMPARED_MODE) | (pushed.mode & COMPARED_MODE) };
}

/** Whether the volume has what was agreed on, and in the same inode. */
function isAsAgreed(agreed: Entry | undefined, now: Entry | undefined): boolean {
  return agreed?.ino === now?.ino && sameEntry(agreed, now);
}

/** Whether an entry of the volume is what a push was to make. */
function isOurs(intended: Entry | undefined, now: Entry | undefined): boolean {
  if (intended === undefined || now === undefined) return intended === now;
  if (!sameContent(intended, now)) return false;
  // An ACL cuts the mode that is pushed.
  const isMode =
    now.type === 'symlink' || now.acl !== undefined || sameAttributes(intended, now, NOTHING_HELD);
  const isOther =
    intended.type === 'file' && intended.nlink > 1 && intended.ino > 0n && intended.ino !== now.ino;
  return isMode && !isOther;
}
