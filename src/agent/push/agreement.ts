/** What both sides agree on once a push has had its answer. */

import { prefixRange } from '../../codec/bytes.ts';
import { COMPARED_MODE } from '../../reconcile/attributes.ts';
import { withAcl } from '../../reconcile/combine.ts';
import type { Entry, FileEntry, Path } from '../../reconcile/entry.ts';
import type { Change } from '../../reconcile/change.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import { agreedAt, type AncestorEntry } from '../state/ancestor-entry.ts';
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

  /** A push whose answer an earlier run did not live to see: what the volume has now of it was ours. */
  onInterrupted(remote: ReadonlyMap<Path, AncestorEntry>, revision: bigint): void {
    const { ancestor, pushing } = this.#ledger.state;
    if (pushing.size === 0) return;
    const agreed: [Path, AncestorEntry | null][] = [];
    const same: [Path, FileEntry][] = [];
    const inodes = inodePairs(this.#ledger.state.pushed.entries());
    for (const [path, intended] of pushing) {
      const there = remote.get(path);
      const now = there && agreedAt(there, revision);
      const ours = intended === undefined ? now === undefined : now !== undefined && isOurs(intended, now);
      if (ours) agreed.push([path, now ?? null]);
      if (ours && now?.type === 'file' && now.ino === ancestor.get(path)?.ino) same.push([path, now]);
    }
    this.#ledger.write([{ t: 'ancestor', entries: agreed, ...inodes }, { t: 'pushed' }], false);
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
    const others = [...state.pathsAgreedOn(disk)].filter(
      (name) => name !== path && state.ancestor.get(name)?.ino === entry.ino,
    );
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

function isOurs(intended: Entry, now: AncestorEntry): boolean {
  if (intended.type === 'file')
    return now.type === 'file' && now.digest === intended.digest && now.size === intended.size;
  if (intended.type === 'symlink') return now.type === 'symlink' && now.target === intended.target;
  return intended.type === now.type;
}
