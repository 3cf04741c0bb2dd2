/** The state that the lines of the ledger's log fold to. */

import type { ByteString } from '../../codec/kv.ts';
import { NOTHING_HELD } from '../../reconcile/attributes.ts';
import type { Entry, FileEntry, Path } from '../../reconcile/entry.ts';
import type { AncestorEntry } from './ancestor-entry.ts';
import type { Anchor } from '../follow/history.ts';
import type { TreeName } from '../disk/layout.ts';
import type { KeptRecord, LedgerRecord, Pairs, ParkedRecord, StateOwner } from './ledger-record.ts';
import type { Claimed } from '../push/push-debris.ts';
import { PushDoubts, pushRecord } from './push-doubts.ts';
import { inodePairs, ReplacedInodes, type InodePairs, type ReplacedInode } from './replaced-inodes.ts';
import { SlotTree, type Slot } from '../disk/slot.ts';

/** How much is remembered of what was agreed on before; forgetting it makes a conflict copy too many. */
const AGREED_PATHS = 10_000;
const AGREED_DIGESTS = 8;
/** How many accepted trips are told from the same once more. */
const ACCEPTED_TRIPS = 1_000;

/**
 * What looks have found in the idle tree and among the kept inodes, for as long as it is not on disk what becomes of it. It
 * is in no line of the log, which says what was there before: the next start finds it again.
 */
interface Finds {
  readonly idle: Map<Path, Slot | undefined>;
  /** By name in `kept`. */
  readonly kept: Map<string, Slot>;
}

/** What is known of one directory. */
export class LedgerState {
  owner: StateOwner | undefined;
  /** The published tree; `undefined` before the first publish. */
  active: TreeName | undefined;
  /** Store revision of the published tree; 0n before the first publish. */
  revision = 0n;
  /** What the active tree holds, as last looked at. */
  readonly slots = new SlotTree();
  /** Where the idle tree differs from the active one: what it holds there (`undefined`: nothing). */
  readonly stale = new Map<Path, Slot | undefined>();
  readonly found: Finds = { idle: new Map(), kept: new Map() };
  readonly ancestor = new Map<Path, AncestorEntry>();
  /** Files whose entry was agreed on since somebody took the path from here. */
  readonly newlyAgreed = new Set<Path>();
  readonly #agreedBefore = new Map<Path, readonly string[]>();
  /**
   * Where the inode on disk is no more the one that was agreed on: that one. For a path of the ancestor without such a
   * note it is the slot's.
   */
  readonly replaced = new ReplacedInodes();
  readonly kept = new Map<string, KeptRecord>();
  readonly mending = new Set<ByteString>();
  readonly unadopted = new Set<Path>();
  readonly parked = new Map<string, ParkedRecord>();
  /** What a push that has not been answered yet makes the volume hold. */
  readonly pushing = new Map<Path, Entry | undefined>();
  /** The inodes on disk that it was made of: paths may hold others when its answer comes. */
  readonly pushed = new ReplacedInodes();
  /** What became of earlier ones is not known. */
  readonly doubts = new PushDoubts();
  /** What pushes may have left without names. */
  readonly claimed = {
    slices: new Set<bigint>(),
    holds: new Set<bigint>(),
    relied: undefined as Claimed['relied'],
  };
  anchor: Anchor | undefined;
  boot: string | undefined;
  /** Paths by name in the quarantine. */
  readonly quarantined = new Map<string, Path>();
  /** What is left out; `undefined` before the first start that noted it. */
  filter: readonly string[] | undefined;
  /** Paths that were left out before and have not been compared since. */
  readonly entered = new Set<Path>();
  /** How often a person has accepted a trip. */
  readonly accepted = new Map<string, number>();
  intent: Extract<LedgerRecord, { t: 'intent' }> | undefined;
  held = NOTHING_HELD;

  apply(record: LedgerRecord): void {
    switch (record.t) {
      case 'owner':
        this.owner = record.owner;
        return;
      case 'intent':
        this.intent = record;
        return;
      case 'commit':
        this.intent = undefined;
        this.active = record.tree;
        this.revision = record.revision;
        this.stale.clear();
        this.found.idle.clear();
        this.#commit(record);
        for (const [name, kept] of record.kept ?? []) this.apply({ t: 'kept', name, record: kept });
        return;
      case 'settled':
        this.intent = undefined;
        return;
      case 'mending':
        this.mending.clear();
        for (const name of record.names) this.mending.add(name);
        return;
      case 'unadopted':
        for (const path of record.add) {
          this.unadopted.add(path);
          this.entered.delete(path);
        }
        for (const path of record.remove) this.unadopted.delete(path);
        return;
      case 'look':
        this.#look(record.slots, record.stale);
        for (const path of record.same) {
          this.stale.delete(path);
          this.found.idle.delete(path);
        }
        return;
      case 'replaced':
        this.replaced.setAll(record);
        return;
      case 'ancestor':
        if (record.revision !== undefined) this.revision = record.revision;
        this.#agree(record.entries, record);
        return;
      case 'held':
        this.held = record.held;
        return;
      case 'pushing':
        this.doubts.add(this.pushing, this.pushed);
        this.pushing.clear();
        this.pushed.clear();
        for (const [path, entry] of record.entries) this.pushing.set(path, entry ?? undefined);
        this.pushed.setAll(record);
        return;
      case 'pushed':
        this.pushing.clear();
        this.pushed.clear();
        if (record.all === true) this.doubts.clear();
        return;
      case 'claimed':
        for (const id of record.slices ?? []) this.claimed.slices.add(id);
        if (record.hold !== undefined) this.claimed.holds.add(record.hold);
        if (record.relied !== undefined) this.claimed.relied = record.relied;
        return;
      case 'boot':
        this.boot = record.id;
        return;
      case 'quarantined':
        if (record.path === null) this.quarantined.delete(record.name);
        else this.quarantined.set(record.name, record.path);
        return;
      case 'filter':
        this.filter = record.patterns;
        for (const path of record.entered) this.entered.add(path);
        return;
      case 'anchor':
        this.anchor = record.anchor;
        return;
      case 'accepted':
        this.#accept(record.trip, record.times ?? 1);
        return;
      case 'forgotten':
        this.#forget();
        if (record.trees === true) this.#forgetTrees();
        return;
      case 'reused':
        for (const ino of record.inodes) this.#forgetInode(ino);
        return;
      case 'unclaimed':
        this.claimed.slices.clear();
        this.claimed.holds.clear();
        this.claimed.relied = undefined;
        return;
      case 'kept':
        this.found.kept.delete(record.name);
        if (record.record === null) this.kept.delete(record.name);
        else this.kept.set(record.name, record.record);
        return;
      case 'parked':
        if (record.record === null) this.parked.delete(record.name);
        else this.parked.set(record.name, record.record);
        return;
    }
  }

  /** The state as few records. */
  *records(): Generator<LedgerRecord> {
    if (this.owner !== undefined) yield { t: 'owner', owner: this.owner };
    if (this.active !== undefined) {
      yield { t: 'commit', tree: this.active, revision: this.revision, slots: [], stale: [], ancestor: [] };
    }
    const stale = [...this.stale].map(([path, slot]) => [path, slot ?? null] as const);
    yield { t: 'look', slots: [...this.slots.entries()], stale, same: [] };
    yield { t: 'ancestor', entries: [...this.ancestor], revision: this.revision };
    if (this.replaced.size > 0) yield { t: 'replaced', ...inodePairs(this.replaced.entries()) };
    yield { t: 'held', held: this.held };
    if (this.mending.size > 0) yield { t: 'mending', names: [...this.mending] };
    if (this.unadopted.size > 0) yield { t: 'unadopted', add: [...this.unadopted], remove: [] };
    for (const [name, record] of this.kept) yield { t: 'kept', name, record };
    for (const [name, record] of this.parked) yield { t: 'parked', name, record };
    yield* this.pushRecords();
    const { slices, holds, relied } = this.claimed;
    if (slices.size > 0) yield { t: 'claimed', slices: [...slices] };
    for (const hold of holds) yield { t: 'claimed', hold };
    if (relied !== undefined) yield { t: 'claimed', relied };
    if (this.boot !== undefined) yield { t: 'boot', id: this.boot };
    for (const [name, path] of this.quarantined) yield { t: 'quarantined', name, path };
    if (this.filter !== undefined) yield { t: 'filter', patterns: this.filter, entered: [...this.entered] };
    if (this.anchor !== undefined) yield { t: 'anchor', anchor: this.anchor };
    for (const [trip, times] of this.accepted) yield { t: 'accepted', trip, times };
    if (this.intent !== undefined) yield this.intent;
  }

  /** The pushes that were not answered, without some paths. */
  *pushRecords(except: ReadonlySet<Path> = new Set()): Generator<LedgerRecord> {
    yield* this.doubts.records(except);
    const isLeft = ([path]: readonly [Path, unknown]): boolean => !except.has(path);
    if (this.pushing.size + this.doubts.size > 0)
      yield pushRecord([...this.pushing].filter(isLeft), [...this.pushed.entries()].filter(isLeft));
  }

  #accept(trip: string, times: number): void {
    const before = this.accepted.get(trip) ?? 0;
    this.accepted.delete(trip);
    this.accepted.set(trip, before + times);
    const [oldest] = this.accepted.keys();
    if (this.accepted.size > ACCEPTED_TRIPS && oldest !== undefined) this.accepted.delete(oldest);
  }

  #forget(): void {
    this.owner = undefined;
    this.anchor = undefined;
    this.revision = 0n;
    this.ancestor.clear();
    this.#agreedBefore.clear();
    this.replaced.clear();
    this.unadopted.clear();
    this.apply({ t: 'pushed', all: true });
    this.apply({ t: 'unclaimed' });
  }

  #forgetTrees(): void {
    this.active = undefined;
    this.intent = undefined;
    for (const path of [...this.slots.entries()].map(([at]) => at)) this.slots.set(path, undefined);
    this.stale.clear();
    this.forgetFinds();
    this.mending.clear();
  }

  /** What the idle tree holds at a path, as far as it is known. */
  idleAt(path: Path): Slot | undefined {
    return this.found.idle.has(path) ? this.found.idle.get(path) : this.loggedIdleAt(path);
  }

  /** The same, as the log has it and a next start would. */
  loggedIdleAt(path: Path): Slot | undefined {
    return this.stale.has(path) ? this.stale.get(path) : this.slots.get(path);
  }

  /** Where the idle tree is known to differ from the active one. */
  *staleOrFound(): Generator<Path> {
    yield* this.stale.keys();
    for (const path of this.found.idle.keys()) if (!this.stale.has(path)) yield path;
  }

  isStaleOrFound(path: Path): boolean {
    return this.stale.has(path) || this.found.idle.has(path);
  }

  /** What was known of a kept inode when it was looked at last. */
  keptSlot(name: string): Slot | undefined {
    return this.found.kept.get(name) ?? this.kept.get(name)?.slot;
  }

  /** Whoever was to deal with the finds is gone. */
  forgetFinds(): void {
    this.found.idle.clear();
    this.found.kept.clear();
  }

  /** The inode on disk that was agreed on at a path; `undefined` if no file was. */
  agreedInode(path: Path): bigint | undefined {
    if (this.ancestor.get(path)?.type !== 'file') return undefined;
    const slot = this.slots.get(path);
    return this.replaced.inoAt(path) ?? (slot?.type === 'file' ? slot.signature.ino : undefined);
  }

  /** The paths at which an inode on disk was agreed on. */
  *pathsAgreedOn(ino: bigint): Generator<Path> {
    for (const path of this.slots.namesOf(ino)) if (this.agreedInode(path) === ino) yield path;
    yield* this.replaced.leftBy(ino);
  }

  /** The path at which an inode on disk was agreed on, and where another one or none is now. */
  leftBy(ino: bigint): Path | undefined {
    return [...this.replaced.leftBy(ino)].at(-1);
  }

  /** The same, with when it was seen there last. */
  agreedInodeSeen(path: Path): ReplacedInode | undefined {
    if (this.ancestor.get(path)?.type !== 'file') return undefined;
    return this.replaced.at(path) ?? this.inodeSeen(path);
  }

  /** The inode that the active tree has at a path, and when it was seen there last; `undefined` if that is no file. */
  inodeSeen(path: Path): ReplacedInode | undefined {
    const slot = this.slots.get(path);
    return slot?.type === 'file' ? { ino: slot.signature.ino, seenNs: slot.signature.ctimeNs } : undefined;
  }

  /** It stays one inode to all who had it, under a number that nothing on disk has. */
  #forgetInode(ino: bigint): void {
    this.replaced.renumber(ino, -ino);
    this.pushed.renumber(ino, -ino);
    this.doubts.renumber(ino, { ino: -ino });
    for (const path of this.slots.namesOf(ino)) {
      const slot = this.slots.get(path);
      if (slot !== undefined) this.slots.set(path, { ...slot, signature: { ...slot.signature, ino: -ino } });
    }
  }

  #setSlot(path: Path, slot: Slot | undefined): void {
    const agreed = this.agreedInode(path);
    const before = this.slots.get(path)?.signature;
    this.slots.set(path, slot);
    if (agreed === undefined) return;
    if (slot?.type === 'file' && slot.signature.ino === agreed) this.replaced.delete(path);
    else
      this.replaced.set(path, { ino: agreed, seenNs: before?.ino === agreed ? before.ctimeNs : undefined });
  }

  #look(slots: Pairs<Slot>, stale: Pairs<Slot>): void {
    for (const [path, slot] of slots) this.#setSlot(path, slot ?? undefined);
    for (const [path, slot] of stale) {
      this.stale.set(path, slot ?? undefined);
      this.found.idle.delete(path);
    }
  }

  #commit({ slots, stale, ancestor }: Extract<LedgerRecord, { t: 'commit' }>): void {
    for (const [path, slot] of slots) {
      const before = this.slots.get(path);
      // A tree may hold a copy, where the kernel forbids a second name: the same file all the same.
      const isCopy = slot?.type === 'file' && before?.type === 'file' && slot.digest === before.digest;
      if (isCopy) {
        this.slots.set(path, slot);
        const { ino, ctimeNs: seenNs } = slot.signature;
        if (this.pushed.inoAt(path) === before.signature.ino) this.pushed.set(path, { ino, seenNs });
        this.doubts.renumber(before.signature.ino, { ino, seenNs }, path);
      } else this.#setSlot(path, slot ?? undefined);
    }
    for (const [path, slot] of stale) this.stale.set(path, slot ?? undefined);
    // A replacement that nobody has agreed on stays one, if what the volume changed meanwhile is made part of it.
    const isStillNew = ([path, entry]: Pairs<AncestorEntry>[number]): boolean =>
      entry?.type === 'file' && this.replaced.has(path) && !hasContent(this.slots.get(path), entry);
    this.#agree(ancestor.filter((pair) => !isStillNew(pair)));
    this.#agree(ancestor.filter(isStillNew), { sameInodes: true });
  }

  /** Whether both sides had this content at a path before the one they have now; of some paths and contents only. */
  hadAgreed(path: Path, digest: string): boolean {
    return this.#agreedBefore.get(path)?.includes(digest) === true;
  }

  #noteAgreed(path: Path, next: AncestorEntry | null): void {
    const before = this.ancestor.get(path);
    if (before?.type !== 'file' || (next?.type === 'file' && next.digest === before.digest)) return;
    const digests = this.#agreedBefore.get(path) ?? [];
    if (this.#agreedBefore.size >= AGREED_PATHS) this.#agreedBefore.clear();
    this.#agreedBefore.set(path, [before.digest, ...digests].slice(0, AGREED_DIGESTS));
  }

  #agree(entries: Pairs<AncestorEntry>, how: InodePairs & { readonly sameInodes?: true } = {}): void {
    const inodes = new ReplacedInodes();
    inodes.setAll(how);
    for (const [path, entry] of entries) {
      const inode = entry?.type === 'file' ? inodes.at(path) : undefined;
      if (inode !== undefined && inode.ino !== this.inodeSeen(path)?.ino) this.replaced.set(path, inode);
      else if (inode !== undefined || how.sameInodes !== true) this.replaced.delete(path);
      // One transaction may have changed this name as well as another one of its file.
      if (how.sameInodes !== true) this.doubts.delete(path);
      this.entered.delete(path);
      this.#noteAgreed(path, entry);
      if (entry?.type === 'file') this.newlyAgreed.add(path);
      else this.newlyAgreed.delete(path);
      if (entry === null) this.ancestor.delete(path);
      else this.ancestor.set(path, entry);
      if (entry !== null) this.unadopted.delete(path);
    }
  }
}

function hasContent(slot: Slot | undefined, { digest }: FileEntry): boolean {
  return slot?.type === 'file' && slot.digest === digest;
}
