/** The signatures of what we published, the last agreed tree, and the intents that recovery finishes: one append-only log. */

import { randomUUID } from 'node:crypto';

import type { ByteString } from '../codec/kv.ts';
import { NOTHING_HELD, sameXattrs, type Held } from '../reconcile/attributes.ts';
import type { Entry, Path } from '../reconcile/entry.ts';
import { codeOf, ConfigError } from './error.ts';
import type { Anchor } from './history.ts';
import type { Layout, TreeName } from './layout.ts';
import { encode, FORMAT, readLog, type Header, type ReadLog } from './ledger-log.ts';
import { MarkFile, parseMark } from './ledger-mark.ts';
import { log } from './log.ts';
import type { FsPort } from './ports.ts';
import type { Claimed } from './push-debris.ts';
import { SlotTree, type Slot } from './slot.ts';

/** The log is rewritten once it is this much longer than at its last rewriting, and twice as long. */
const COMPACT_SLACK_BYTES = 1 << 20;

/** An entry both sides agreed on. `contentKey` names the volume's content, so that a restart fetches nothing. */
export type AncestorEntry = Entry & { readonly contentKey?: string };

/** Equal in every field, those that reconcile does not count included. */
export function sameFields(a: AncestorEntry | undefined, b: AncestorEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const fields = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof AncestorEntry>;
  fields.delete('xattrs');
  for (const field of fields) if (a[field] !== b[field]) return false;
  return sameXattrs(a.xattrs, b.xattrs);
}

/** What this state belongs to; another volume or view is refused. */
export interface StateOwner {
  readonly uuid: string;
  readonly subdir: string;
}

/** An inode that left a tree, and the content it had then. */
export interface KeptRecord {
  readonly path: Path;
  readonly slot: Slot;
}

/** A local content that lost and waits to become a conflict copy. */
export interface ParkedRecord {
  readonly path: Path;
  /** The file or symlink, as it goes into the volume. */
  readonly entry: Entry;
  /** Revision of the version it lost against. */
  readonly revision: bigint;
  /** One sentence for people. */
  readonly reason: string;
  /** The volume's version, which loses to a local one: it is kept before that is pushed. Absent: the local version. */
  readonly side?: 'remote';
  /** When it lost; nanoseconds since the epoch. */
  readonly timeNs?: bigint;
  /** Revision that was published then. */
  readonly base?: bigint;
  readonly versions?: {
    readonly ancestor: Entry | null;
    readonly local: Entry | null;
    readonly remote: Entry | null;
  };
}

type Pairs<T> = readonly (readonly [Path, T | null])[];

/** One line of the log. Replaying all lines gives the state. */
export type LedgerRecord =
  /** `format`: in logs of format 1. */
  | { readonly t: 'owner'; readonly format?: number; readonly owner: StateOwner }
  /** The idle tree is about to hold these; written before the first of them gets a visible name. */
  | {
      readonly t: 'intent';
      readonly tree: TreeName;
      readonly revision: bigint;
      readonly slots: Pairs<Slot>;
      readonly ancestor: Pairs<AncestorEntry>;
      /** What has not settled in the active tree and gets a second name in this one; absent: nothing. */
      readonly carried?: Pairs<Slot>;
    }
  /** The intent's tree is published; final signatures, and what the other tree still holds at these paths. */
  | {
      readonly t: 'commit';
      readonly tree: TreeName;
      readonly revision: bigint;
      readonly slots: Pairs<Slot>;
      readonly stale: Pairs<Slot>;
      readonly ancestor: Pairs<AncestorEntry>;
    }
  /** What a look found in the active tree, and what the idle tree holds at some paths (`same`: what the active holds). */
  | {
      readonly t: 'look';
      readonly slots: Pairs<Slot>;
      readonly stale: Pairs<Slot>;
      readonly same: readonly Path[];
    }
  /** Recovery has dealt with the intent. */
  | { readonly t: 'settled' }
  /** Names at the top that are missing until their symlinks are back: nobody has removed them. Replaces the ones before. */
  | { readonly t: 'mending'; readonly names: readonly ByteString[] }
  /** Local entries that were there before the first publish and are not pushed (`--adopt` does). */
  | { readonly t: 'unadopted'; readonly add: readonly Path[]; readonly remove: readonly Path[] }
  /** The state's `replaced`, where the log is written afresh; elsewhere it follows from slots and ancestor. */
  | { readonly t: 'replaced'; readonly inodes: Pairs<bigint> }
  /** `sameInodes`: the inodes on disk that were agreed on there stay those, whatever the paths hold now. */
  | {
      readonly t: 'ancestor';
      readonly entries: Pairs<AncestorEntry>;
      readonly revision?: bigint;
      readonly sameInodes?: true;
    }
  /** Which attributes this side holds from now on; what differed in others before is no edit. */
  | { readonly t: 'held'; readonly held: Held }
  /** A transaction that makes the volume hold these is about to be sent. */
  | { readonly t: 'pushing'; readonly entries: Pairs<Entry> }
  | { readonly t: 'pushed' }
  /** Pushes are about to store this, which nothing names yet; adds to what was claimed before. */
  | {
      readonly t: 'claimed';
      /** Ids. */
      readonly slices?: readonly bigint[];
      readonly hold?: bigint;
      readonly relied?: Claimed['relied'];
    }
  /** Which boot of the machine this state was used in last. */
  | { readonly t: 'boot'; readonly id: string }
  /** What a reboot had left empty at a path; `null`: somebody has taken it away. */
  | { readonly t: 'quarantined'; readonly name: string; readonly path: Path | null }
  /** Which patterns take no part from now on, and paths that did not before and are here. */
  | { readonly t: 'filter'; readonly patterns: readonly string[]; readonly entered: readonly Path[] }
  /** The newest key of the volume that was taken in. */
  | { readonly t: 'anchor'; readonly anchor: Anchor }
  /** A guard's trip that a person has accepted, by what tripped: an acceptance is spent once. */
  | { readonly t: 'accepted'; readonly trip: string; readonly times?: number }
  /**
   * Nothing that was agreed on counts any more: the volume is another one, or has another history. What is on disk is
   * known as before, and equal agrees, different conflicts, nothing is removed. `trees`: of those nothing is known either.
   */
  | { readonly t: 'forgotten'; readonly trees?: true }
  /** Whatever was claimed has names or is gone. */
  | { readonly t: 'unclaimed' }
  | { readonly t: 'kept'; readonly name: string; readonly record: KeptRecord | null }
  | { readonly t: 'parked'; readonly name: string; readonly record: ParkedRecord | null };

/** How much is remembered of what was agreed on before; forgetting it makes a conflict copy too many. */
const AGREED_PATHS = 10_000;
const AGREED_DIGESTS = 8;
/** How many accepted trips are told from the same once more. */
const ACCEPTED_TRIPS = 1_000;

/** The state that the log folds to. */
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
  readonly ancestor = new Map<Path, AncestorEntry>();
  /** Files whose entry was agreed on since somebody took the path from here. */
  readonly newlyAgreed = new Set<Path>();
  readonly #agreedBefore = new Map<Path, readonly string[]>();
  /**
   * Where the inode on disk is no more the one that was agreed on: that one. For a path of the ancestor without such a
   * note it is the slot's.
   */
  readonly replaced = new Map<Path, bigint>();
  /** The same by inode: where it was. */
  readonly #left = new Map<bigint, Set<Path>>();
  readonly kept = new Map<string, KeptRecord>();
  readonly mending = new Set<ByteString>();
  readonly unadopted = new Set<Path>();
  readonly parked = new Map<string, ParkedRecord>();
  /** What a push that has not been answered yet makes the volume hold. */
  readonly pushing = new Map<Path, Entry | undefined>();
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
        this.#commit(record);
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
        for (const path of record.same) this.stale.delete(path);
        return;
      case 'replaced':
        for (const [path, ino] of record.inodes) this.#noteReplaced(path, ino ?? undefined);
        return;
      case 'ancestor':
        if (record.revision !== undefined) this.revision = record.revision;
        this.#agree(record.entries, record.sameInodes);
        return;
      case 'held':
        this.held = record.held;
        return;
      case 'pushing':
        this.pushing.clear();
        for (const [path, entry] of record.entries) this.pushing.set(path, entry ?? undefined);
        return;
      case 'pushed':
        this.pushing.clear();
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
      case 'unclaimed':
        this.claimed.slices.clear();
        this.claimed.holds.clear();
        this.claimed.relied = undefined;
        return;
      case 'kept':
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
    if (this.replaced.size > 0) yield { t: 'replaced', inodes: [...this.replaced] };
    yield { t: 'held', held: this.held };
    if (this.mending.size > 0) yield { t: 'mending', names: [...this.mending] };
    if (this.unadopted.size > 0) yield { t: 'unadopted', add: [...this.unadopted], remove: [] };
    for (const [name, record] of this.kept) yield { t: 'kept', name, record };
    for (const [name, record] of this.parked) yield { t: 'parked', name, record };
    if (this.pushing.size > 0) {
      yield {
        t: 'pushing',
        entries: [...this.pushing].map(([path, entry]) => [path, entry ?? null] as const),
      };
    }
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
    this.#left.clear();
    this.unadopted.clear();
    this.pushing.clear();
    this.apply({ t: 'unclaimed' });
  }

  #forgetTrees(): void {
    this.active = undefined;
    this.intent = undefined;
    for (const path of [...this.slots.entries()].map(([at]) => at)) this.slots.set(path, undefined);
    this.stale.clear();
    this.mending.clear();
  }

  /** The inode on disk that was agreed on at a path; `undefined` if no file was. */
  agreedInode(path: Path): bigint | undefined {
    if (this.ancestor.get(path)?.type !== 'file') return undefined;
    const slot = this.slots.get(path);
    return this.replaced.get(path) ?? (slot?.type === 'file' ? slot.signature.ino : undefined);
  }

  /** The paths at which an inode on disk was agreed on. */
  *pathsAgreedOn(ino: bigint): Generator<Path> {
    for (const path of this.slots.namesOf(ino)) if (this.agreedInode(path) === ino) yield path;
    yield* this.#left.get(ino) ?? [];
  }

  /** The path at which an inode on disk was agreed on, and where another one or none is now. */
  leftBy(ino: bigint): Path | undefined {
    return [...(this.#left.get(ino) ?? [])].at(-1);
  }

  #noteReplaced(path: Path, ino: bigint | undefined): void {
    const before = this.replaced.get(path);
    if (before === ino) return;
    if (before !== undefined) {
      const paths = this.#left.get(before);
      paths?.delete(path);
      if (paths?.size === 0) this.#left.delete(before);
    }
    if (ino === undefined) {
      this.replaced.delete(path);
      return;
    }
    this.replaced.set(path, ino);
    this.#left.set(ino, (this.#left.get(ino) ?? new Set()).add(path));
  }

  #setSlot(path: Path, slot: Slot | undefined): void {
    const agreed = this.agreedInode(path);
    this.slots.set(path, slot);
    if (agreed === undefined) return;
    this.#noteReplaced(path, slot?.type === 'file' && slot.signature.ino === agreed ? undefined : agreed);
  }

  #look(slots: Pairs<Slot>, stale: Pairs<Slot>): void {
    for (const [path, slot] of slots) this.#setSlot(path, slot ?? undefined);
    for (const [path, slot] of stale) this.stale.set(path, slot ?? undefined);
  }

  #commit({ slots, stale, ancestor }: Extract<LedgerRecord, { t: 'commit' }>): void {
    for (const [path, slot] of slots) {
      const before = this.slots.get(path);
      // A tree may hold a copy, where the kernel forbids a second name: the same file all the same.
      const isCopy = slot?.type === 'file' && before?.type === 'file' && slot.digest === before.digest;
      if (isCopy) this.slots.set(path, slot);
      else this.#setSlot(path, slot ?? undefined);
    }
    for (const [path, slot] of stale) this.stale.set(path, slot ?? undefined);
    this.#agree(ancestor);
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

  #agree(entries: Pairs<AncestorEntry>, sameInodes = false): void {
    for (const [path, entry] of entries) {
      if (!sameInodes) this.#noteReplaced(path, undefined);
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

/** What is known of the log file when it is opened. */
interface Opened {
  readonly header: Header;
  readonly fd: number;
  /** Bytes; 0: the header is not written yet. */
  readonly length: number;
  readonly lost?: string;
}

/** The log file and the state it folds to. One process at a time (the lock) has it open. */
export class Ledger {
  readonly state: LedgerState;
  /** Why the state of an earlier run was not used; `undefined` when there was none, or it was. */
  readonly lost: string | undefined;
  readonly #fs: FsPort;
  readonly #layout: Layout;
  readonly #mark: MarkFile;
  #header: Header;
  #fd: number;
  #length: number;
  #compactedLength: number;
  /** The last append failed, and may have left a part of its line. */
  #isTorn = false;

  private constructor(fs: FsPort, layout: Layout, state: LedgerState, opened: Opened) {
    this.#fs = fs;
    this.#layout = layout;
    this.state = state;
    this.lost = opened.lost;
    this.#header = opened.header;
    this.#fd = opened.fd;
    this.#length = opened.length;
    this.#compactedLength = opened.length;
    this.#mark = new MarkFile(fs, layout.mark);
  }

  /** Throws ConfigError when the log is of a newer format or of another user: then nothing must be touched. */
  static assertReadable(fs: FsPort, layout: Layout): void {
    if (fs.lstat('ledger open', layout.ledger)?.type !== 'file') return;
    const bytes = readOwn(fs, layout.ledger);
    refuseNewer(readLog(bytes.subarray(0, bytes.indexOf(0x0a) + 1)), layout.ledger);
  }

  /**
   * Reads the log. A torn last line (a crash while appending) is cut off. A log that is damaged, shorter than it was, or of
   * another directory is set aside as `ledger.lost`, and the state is empty. Throws ConfigError, and touches nothing,
   * when the log is of a newer format or cannot be read.
   */
  static open(fs: FsPort, layout: Layout): Ledger {
    const root = fs.lstat('ledger open', layout.root)?.ino ?? 0n;
    const header: Header = { t: 'format', format: FORMAT, id: randomUUID(), root };
    const read = readLedger(fs, layout, root);
    const state = new LedgerState();
    if (read.kind === 'lost') {
      log('warn', 'state lost', { reason: read.reason });
      if (fs.lstat('ledger open', layout.ledger) !== undefined) {
        const lost = `${layout.ledger}.lost`;
        if (fs.lstat('ledger lost', lost)?.type === 'file') fs.unlink('ledger lost', lost);
        fs.rename('ledger lost', layout.ledger, lost);
      }
      const fd = fs.openAppend('ledger open', layout.ledger);
      return new Ledger(fs, layout, state, { header, fd, length: 0, lost: read.reason });
    }
    for (const record of read.records) state.apply(record);
    const fd = fs.openAppend('ledger open', layout.ledger);
    if (read.end < read.size) fs.ftruncate('ledger cut', fd, BigInt(read.end));
    const ledger = new Ledger(fs, layout, state, { header: read.header ?? header, fd, length: read.end });
    if (read.end > 0 && read.header?.format !== FORMAT) {
      ledger.#compact();
      log('info', 'state upgraded', { from: String(read.header?.format ?? 1), to: String(FORMAT) });
    }
    return ledger;
  }

  /**
   * Appends records and applies them. With `sync` they are on disk when this returns. Throws the disk's error; the
   * records before the one that failed are applied then, it and those after it are not.
   */
  write(records: readonly LedgerRecord[], sync: boolean): void {
    for (const record of records) {
      this.#append(encode(record));
      this.state.apply(record);
    }
    if (sync) {
      this.#fs.fsync('ledger sync', this.#fd);
      this.#mark.write({ id: this.#header.id, length: this.#length });
    }
    if (this.#length > 2 * this.#compactedLength + COMPACT_SLACK_BYTES) this.#compact();
  }

  /** Nothing was ever written. */
  get isNew(): boolean {
    return this.#length === 0;
  }

  close(): void {
    this.#mark.close();
    this.#fs.close('ledger close', this.#fd);
  }

  #append(line: Uint8Array): void {
    const bytes = this.#length > 0 ? line : Buffer.concat([encode(this.#header), line]);
    if (this.#isTorn) this.#fs.ftruncate('ledger cut', this.#fd, BigInt(this.#length));
    // A full disk may take a part of the line: the next one must not continue it.
    this.#isTorn = true;
    this.#fs.write('ledger append', this.#fd, bytes);
    this.#isTorn = false;
    this.#length += bytes.length;
  }

  #compact(): void {
    const next: ByteString = `${this.#layout.ledger}.new`;
    // A disk that is full now may have room when the log has grown as much again.
    this.#compactedLength = this.#length;
    const header = { ...this.#header, format: FORMAT, id: randomUUID() };
    let written: { readonly fd: number; readonly length: number };
    try {
      written = this.#writeAfresh(next, header);
    } catch {
      return;
    }
    const { fd, length } = written;
    this.#header = header;
    this.#fs.close('ledger close', this.#fd);
    this.#fd = fd;
    this.#length = length;
    this.#compactedLength = length;
    this.#fs.syncDir('ledger replace', this.#layout.state);
    this.#mark.write({ id: header.id, length });
  }

  #writeAfresh(next: ByteString, header: Header): { readonly fd: number; readonly length: number } {
    if (this.#fs.lstat('ledger new', next) !== undefined) this.#fs.unlink('ledger new', next);
    const fd = this.#fs.openAppend('ledger new', next);
    let length = 0;
    try {
      for (const record of [header, ...this.state.records()]) {
        const bytes = encode(record);
        this.#fs.write('ledger new', fd, bytes);
        length += bytes.length;
      }
      this.#fs.fsync('ledger new', fd);
      this.#fs.rename('ledger replace', next, this.#layout.ledger);
    } catch (error) {
      this.#fs.close('ledger new', fd);
      throw error;
    }
    return { fd, length };
  }
}

/** Reads the log as far as it is worth anything. Throws ConfigError when it must not be touched. */
function readLedger(
  fs: FsPort,
  layout: Layout,
  root: bigint,
): (Extract<ReadLog, { kind: 'log' }> & { readonly size: number }) | Extract<ReadLog, { kind: 'lost' }> {
  const path = layout.ledger;
  const stat = fs.lstat('ledger open', path);
  if (stat !== undefined && stat.type !== 'file') return { kind: 'lost', reason: `it is a ${stat.type}` };
  const mark = parseMark(readOwn(fs, layout.mark));
  const bytes = readOwn(fs, path);
  const read = refuseNewer(readLog(bytes), path);
  if (read.kind === 'lost') return read;
  const { header, end } = read;
  if (header !== undefined && header.root !== root)
    return { kind: 'lost', reason: 'it is of another directory' };
  const isMarked = mark !== undefined && (header === undefined ? end === 0 : header.id === mark.id);
  if (isMarked && end < mark.length)
    return { kind: 'lost', reason: `it was cut: ${end} of at least ${mark.length} bytes` };
  return { ...read, size: bytes.length };
}

function refuseNewer(read: ReadLog, path: ByteString): Exclude<ReadLog, { kind: 'newer' }> {
  if (read.kind !== 'newer') return read;
  const reason = `the state is of format ${read.format}, and this version knows formats up to ${FORMAT}: use a newer one`;
  throw new ConfigError(reason, { path });
}

/** A file of ours; nothing when there is none. Throws ConfigError when it is another user's. */
function readOwn(fs: FsPort, path: ByteString): Uint8Array {
  try {
    return readAll(fs, path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return new Uint8Array(0);
    if (codeOf(error) !== 'EACCES' && codeOf(error) !== 'EPERM') throw error;
    throw new ConfigError('the state is of another user: run init container and sidecar as the same one', {
      path,
      cause: error,
    });
  }
}

/** Reads a whole small file. */
export function readAll(fs: FsPort, path: ByteString): Uint8Array {
  const fd = fs.openRead('read', path);
  try {
    const size = Number(fs.fstat('read', fd).size);
    const bytes = new Uint8Array(size);
    let done = 0;
    while (done < size) {
      const n = fs.read('read', fd, bytes.subarray(done), done);
      if (n === 0) break;
      done += n;
    }
    return bytes.subarray(0, done);
  } finally {
    fs.close('read', fd);
  }
}
