/** The local side as the loop sees it: what looks have found and nobody has dealt with yet. */

import type { ByteString } from '../../codec/kv.ts';
import { sameXattrs, type Held } from '../../reconcile/attributes.ts';
import { withAcl } from '../../reconcile/combine.ts';
import { parentOf, sameEntry, type Entry, type FileEntry, type Path } from '../../reconcile/entry.ts';
import { ancestorsOf } from '../../reconcile/push-change.ts';
import { asAgreed, withLacks } from '../disk/lacks.ts';
import type { Ledger } from '../state/ledger.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Adoption, Look, Loser } from './look.ts';
import { ownLink } from './own-link.ts';
import { entryOfSlot, isReused, sameSlotContent, type Slot, type SlotTree } from '../disk/slot.ts';

/** Local changes by path, on top of the ledger's slots. */
export class Local {
  readonly #ledger: Ledger;
  readonly #excluded: (path: Path) => boolean;
  readonly #held: Held;
  /** Paths whose slot may differ from the ancestor. */
  readonly dirty = new Set<Path>();
  /** To be brought into the trees by a publish. */
  readonly adoptions = new Map<Path, Adoption | undefined>();
  /** Those of them that the last look at the top found; the next one finds them again or not. */
  tops: ReadonlySet<Path> = new Set();
  /** Contents written over a version that is not the published one any more. */
  losers: Loser[] = [];
  /** Differ, and have not settled. */
  busy: ReadonlySet<Path> = new Set();
  /** Names of the view that have left the top, or where a directory is being made: nobody there sees what comes below them. */
  leaving: ReadonlySet<ByteString> = new Set();
  readonly problems = new Map<Path, string>();
  /** Sockets, fifos and devices: carried, and shown as problems. */
  readonly #specials = new Set<Path>();
  /** Links with the text of the agent's own. */
  readonly #ownLinks = new Set<Path>();
  /** Names that have an ACL on disk. */
  readonly #withAcl = new Set<Path>();
  /** Where inodes were that vanished from their paths, and what they were; moves are told by them. */
  readonly #vanished = new Map<bigint, { readonly path: Path; readonly slot: Slot }>();

  constructor(ledger: Ledger, excluded: (path: Path) => boolean, held: Held) {
    this.#ledger = ledger;
    this.#excluded = excluded;
    this.#held = held;
    const { state } = ledger;
    state.forgetFinds();
    const orphans = [...state.slots.entries()]
      .filter(([path]) => isOrphan(path, state.slots))
      .map(([path]) => path);
    if (orphans.length > 0) {
      ledger.write([{ t: 'look', slots: orphans.map((path) => [path, null]), stale: [], same: [] }], false);
    }
    this.#noteHeld();
    for (const [path, slot] of state.slots.entries()) {
      this.#noteSpecial(path, slot);
      if (this.#differs(path)) this.dirty.add(path);
    }
    for (const path of state.ancestor.keys()) if (!state.slots.has(path)) this.dirty.add(path);
  }

  /** What is held from this start on: what is on disk of it was not looked at before, and is no edit. */
  #noteHeld(): void {
    const { slots, ancestor, held: before } = this.#state;
    const now = this.#held;
    if ((Object.keys(now) as (keyof Held)[]).every((what) => before[what] === now[what])) return;
    const newly: Held = {
      owners: now.owners && !before.owners,
      times: now.times && !before.times,
      xattrs: now.xattrs && !before.xattrs,
      acls: now.acls && !before.acls,
    };
    const agreed: [Path, Slot][] = [];
    for (const [path, slot] of slots.entries()) {
      const next = asAgreed(slot, ancestor.get(path), newly);
      if (next !== slot) agreed.push([path, next]);
    }
    if (agreed.length > 0) this.#ledger.write([{ t: 'look', slots: agreed, stale: [], same: [] }], false);
    this.#ledger.write([{ t: 'held', held: now }], false);
  }

  get #state(): LedgerState {
    return this.#ledger.state;
  }

  #differs(path: Path): boolean {
    return !sameEntry(this.entryAt(path), this.#state.ancestor.get(path), this.#held);
  }

  /** Takes in a look: what the trees hold goes into the ledger, the rest waits here. Returns whether anything is new. */
  absorb(look: Look): boolean {
    this.#forgetReused(look.born);
    const { slots, stale } = this.#state;
    const found: [Path, Slot | null][] = [];
    const idle = new Map<Path, Slot | null>();
    const edits = withWhatWasBelow(look.edits, slots);
    for (const [path, slot] of edits) this.#noteVanished(path, slot);
    for (const [path, read] of edits) {
      const before = slots.get(path);
      const slot = this.#withLacks(path, read);
      found.push([path, slot ?? null]);
      this.#noteSpecial(path, slot);
      // What the active tree held is what the idle tree still has, unless both names are one inode.
      const shared =
        before?.signature.ino === slot?.signature.ino &&
        before?.type !== 'directory' &&
        !look.parted.has(path);
      const bothDirectories = before?.type === 'directory' && slot?.type === 'directory';
      // A look that found both trees alike and the name gone saw the idle tree as it was before.
      const isUnknown = !stale.has(path) || look.same.has(path);
      if (isUnknown && !shared && !(bothDirectories && sameDirectory(before, slot))) {
        idle.set(path, before ?? null);
      }
      this.dirty.add(path);
    }
    for (const [path, slot] of look.idle) idle.set(path, slot ?? null);
    this.#dropUnfound(look);
    this.#overtake(look);
    const finds = this.#findsBeside(look, idle);
    const same = [...look.same].filter((path) => !idle.has(path) && !look.edits.has(path));
    if (found.length > 0 || idle.size > 0 || same.length > 0) {
      this.#ledger.write([{ t: 'look', slots: found, stale: [...idle], same }], false);
    }
    for (const [path, slot] of finds) this.#state.found.idle.set(path, slot);
    for (const [name, slot] of look.found.kept) this.#state.found.kept.set(name, slot);
    this.#noteInKept(look.edits);
    if (look.tops !== undefined) {
      for (const path of this.tops) this.#forgetAdoption(path);
      this.tops = new Set(look.tops.keys());
      this.leaving = look.leaving;
    }
    for (const [path, adoption] of [...look.adoptions, ...(look.tops ?? [])]) {
      this.#noteVanished(path, adoption?.slot);
      const slot = this.#withLacks(path, adoption?.slot);
      this.adoptions.set(
        path,
        adoption === undefined || slot === undefined ? undefined : { ...adoption, slot },
      );
    }
    this.#addLosers(look.losers);
    this.busy = look.busy;
    this.problems.clear();
    for (const [path, reason] of look.problems) this.problems.set(path, reason);
    for (const path of this.#specials) this.problems.set(path, 'special files stay local');
    for (const path of this.#ownLinks)
      if (this.#isDead(path))
        this.problems.set(path, 'a link to a name at the top that has gone stays local');
    for (const path of this.#withAcl) {
      const agreed = this.#state.ancestor.get(path);
      if (agreed !== undefined && (agreed.acl ?? '') !== this.#state.slots.get(path)?.acl)
        this.problems.set(path, 'an ACL that was set here stays here: ACLs are set in the volume');
    }
    return look.edits.size > 0 || this.adoptions.size > 0 || look.losers.length > 0;
  }

  /** What was made after an inode of that number was seen last is another file, and did not come from where that was. */
  #forgetReused(born: Look['born']): void {
    const { slots, replaced, pushed, doubts } = this.#state;
    const reused = [...born].flatMap(([ino, bornNs]) => {
      const known = [...slots.namesOf(ino).map((path) => slots.get(path)), this.#vanished.get(ino)?.slot];
      const isOlder = known.some((slot) => slot !== undefined && isReused(slot, bornNs));
      const hasLeft = [replaced, pushed, doubts].some((inodes) => inodes.isReused(ino, bornNs));
      return isOlder || hasLeft ? [ino] : [];
    });
    if (reused.length === 0) return;
    for (const ino of reused) this.#vanished.delete(ino);
    this.#ledger.write([{ t: 'reused', inodes: reused }], false);
  }

  /** Where the idle tree holds a find: that stays one, whatever is written about the active tree. */
  #findsBeside({ idle, found }: Look, written: ReadonlyMap<Path, unknown>): Map<Path, Slot | undefined> {
    const finds = new Map(found.idle);
    for (const [path, slot] of this.#state.found.idle)
      if (written.has(path) && !idle.has(path) && !finds.has(path)) finds.set(path, slot);
    return finds;
  }

  /** What a look before this one has found beside the active tree, and what this one has found to be as it was. */
  #dropUnfound({ idle, kept }: Look): void {
    const { found } = this.#state;
    for (const path of idle.keys())
      if (found.idle.has(path) && !this.tops.has(path)) this.#forgetAdoption(path);
    this.losers = this.losers.filter(({ path, kept: name }) =>
      name === undefined ? !idle.has(path) : !kept.has(name),
    );
  }

  /** Not found any more: what counts is the tree again, and that may differ where what was found had been agreed on. */
  #forgetAdoption(path: Path): void {
    if (this.adoptions.delete(path)) this.dirty.add(path);
  }

  #addLosers(losers: readonly Loser[]): void {
    const sources = new Set(losers.map(({ source }) => source));
    this.losers = [...this.losers.filter(({ source }) => !sources.has(source)), ...losers];
    for (const { path, source } of losers)
      if (this.adoptions.get(path)?.source === source) this.#forgetAdoption(path);
  }

  /**
   * A loser is dealt with. When it is parked, what is left of it where it was found is no news to a later start either; when
   * it is not there any more, the next look finds it where it went.
   */
  dropLoser(loser: Loser, isParked: boolean): void {
    const { path, slot, kept: name } = loser;
    const { found, kept } = this.#state;
    this.losers = this.losers.filter((other) => other !== loser);
    if (name === undefined && found.idle.get(path)?.signature === slot.signature) {
      if (isParked) this.#ledger.write([{ t: 'look', slots: [], stale: [[path, slot]], same: [] }], false);
      else found.idle.delete(path);
    }
    if (name !== undefined && kept.has(name)) {
      if (isParked) this.#ledger.write([{ t: 'kept', name, record: { path, slot } }], false);
      else found.kept.delete(name);
    }
  }

  /**
   * What was found beside the active tree and is overtaken in it before it is adopted: nobody who wrote the one had seen the
   * other. A removal gives way, unless it is of what was below something that is no directory any more. The adoption says so
   * itself: where it was found may not be known any more, as a publish that left it waiting brought the idle tree up to date.
   */
  #overtake({ edits, adoptions }: Look): void {
    const { kept, found } = this.#state;
    for (const [path, slot] of edits) {
      if (slot === undefined || adoptions.has(path) || this.tops.has(path)) continue;
      if (!this.adoptions.has(path)) continue;
      const adoption = this.adoptions.get(path);
      if (adoption === undefined && !found.idle.has(path) && this.#isBelowFound(path)) continue;
      if (sameSlotContent(slot, this.#state.loggedIdleAt(path)) || slot.type === 'directory') continue;
      this.adoptions.delete(path);
      if (adoption?.slot.type !== 'file' || adoption.slot.signature.ino === slot.signature.ino) continue;
      const name = [...kept].find(
        ([other, record]) => record.path === path && adoption.source.endsWith(`/${other}`),
      )?.[0];
      const { slot: lost, source } = adoption;
      this.losers.push({ path, slot: lost, source, ...(name === undefined ? {} : { kept: name }) });
    }
  }

  /** Whether something that is no directory waits to take the place of a directory above a path. */
  #isBelowFound(path: Path): boolean {
    for (const above of ancestorsOf(path)) {
      const adoption = this.adoptions.get(above);
      if (adoption !== undefined && adoption.slot.type !== 'directory') return true;
    }
    return false;
  }

  /** A publish has taken the names of inodes in the idle tree: where they are now. */
  movedToKept(moved: ReadonlyMap<Path, { readonly ino: bigint; readonly at: ByteString }>): void {
    for (const [path, { ino, at }] of moved) {
      const adoption = this.adoptions.get(path);
      if (adoption?.slot.type === 'file' && adoption.slot.signature.ino === ino)
        this.adoptions.set(path, { ...adoption, source: at });
    }
  }

  #noteVanished(path: Path, now: Slot | undefined): void {
    const slot = this.#state.slots.get(path);
    if (now === undefined && slot?.type === 'file') this.#vanished.set(slot.signature.ino, { path, slot });
  }

  /** A slot with what it lacks of what its inode was before, here or where it came from, or else its path. */
  #withLacks(path: Path, slot: Slot | undefined): Slot | undefined {
    if (slot === undefined) return undefined;
    const { slots } = this.#state;
    const { ino } = slot.signature;
    const before = slots.get(path);
    if (before?.signature.ino === ino) return withLacks(slot, before);
    const [other] = slots.namesOf(ino);
    const known = this.#vanished.get(ino)?.slot ?? (other === undefined ? before : slots.get(other));
    return withLacks(slot, known);
  }

  /** An edited inode that has a name in `kept` as well is no late edit there once it has left the tree. */
  #noteInKept(edits: Look['edits']): void {
    if (edits.size === 0) return;
    for (const [name, { path, slot: before }] of this.#state.kept) {
      const slot = edits.get(path);
      if (slot === undefined || slot.signature.ino !== before.signature.ino) continue;
      this.#ledger.write([{ t: 'kept', name, record: { path, slot } }], false);
    }
  }

  #noteSpecial(path: Path, slot: Slot | undefined): void {
    if (slot?.type === 'other' && !this.#excluded(path)) this.#specials.add(path);
    else this.#specials.delete(path);
    if (slot !== undefined && ownLink(this.#state, path, slot) !== undefined) this.#ownLinks.add(path);
    else this.#ownLinks.delete(path);
    if (slot?.acl !== undefined && slot.acl !== '' && !this.#excluded(path)) this.#withAcl.add(path);
    else this.#withAcl.delete(path);
  }

  /** Whether one of our own links led to what has gone since: nothing is known to put in its place. */
  #isDead(path: Path): boolean {
    const slot = this.#state.slots.get(path);
    const top = slot === undefined || this.adoptions.has(path) ? undefined : ownLink(this.#state, path, slot);
    return top !== undefined && !this.#state.slots.has(top);
  }

  /** The slot a path has, or is about to have. */
  slotAt(path: Path): Slot | undefined {
    return this.adoptions.has(path) ? this.adoptions.get(path)?.slot : this.#state.slots.get(path);
  }

  /** The entry that counts for reconcile: what takes no part in the sync is as the ancestor has it. */
  entryAt(path: Path): Entry | undefined {
    const ancestor = this.#state.ancestor.get(path);
    if (this.#excluded(path)) return ancestor;
    const slot = this.slotAt(path);
    if (slot === undefined) return undefined;
    if (ownLink(this.#state, path, slot) !== undefined) return ancestor;
    if (slot.type === 'other' || (ancestor === undefined && this.#onlyCarried(path, slot))) return ancestor;
    const entry = entryOfSlot(slot);
    if (entry === undefined) return undefined;
    const known = withAgreedAcl(entry, slot, ancestor);
    return known.type === 'file' ? { ...known, ...this.inodeAt(path) } : known;
  }

  /** The inode on disk that a path has or is about to have; `undefined` if that is no file, or one still to be made. */
  diskInode(path: Path): bigint | undefined {
    if (this.adoptions.get(path)?.copy === true) return undefined;
    const slot = this.slotAt(path);
    return slot?.type === 'file' ? slot.signature.ino : undefined;
  }

  /**
   * The volume's inode that the file at a path is, and how many names that has. An inode on disk stands for the one that
   * was agreed on where it is, or was until it left.
   */
  inodeAt(path: Path): Pick<FileEntry, 'ino' | 'nlink'> {
    const disk = this.diskInode(path);
    if (disk === undefined) return { ino: 0n, nlink: 1 };
    const names = this.#namesOf(disk);
    const here = names.length + (names.includes(path) ? 0 : 1);
    const agreed = this.agreedFile(path);
    return agreed === undefined
      ? { ino: 0n, nlink: here }
      : { ino: agreed.ino, nlink: Math.max(here, agreed.nlink) };
  }

  /** What was agreed on last about the inode on disk that a path has. */
  agreedFile(path: Path): FileEntry | undefined {
    const disk = this.diskInode(path);
    if (disk === undefined) return undefined;
    const { ancestor } = this.#state;
    const left = this.#state.leftBy(disk) ?? this.#vanished.get(disk)?.path;
    for (const name of [path, ...this.#namesOf(disk), ...(left === undefined ? [] : [left])]) {
      const agreed = ancestor.get(name);
      if (agreed?.type === 'file' && this.#state.agreedInode(name) === disk) return agreed;
    }
    return undefined;
  }

  #namesOf(disk: bigint): readonly Path[] {
    return this.#state.slots.namesOf(disk).filter((name) => this.diskInode(name) === disk);
  }

  /** A directory that the volume removed and that stays for what it carries. */
  #onlyCarried(path: Path, slot: Slot): boolean {
    if (slot.type !== 'directory') return false;
    const below = [...this.#state.slots.below(path)].filter((other) => other !== path);
    return (
      below.length > 0 &&
      below.every((other) => this.#excluded(other) || this.#state.slots.get(other)?.type === 'other')
    );
  }

  /** Where the inode now at `path` was before it vanished there. */
  cameFrom(path: Path): Path | undefined {
    const disk = this.diskInode(path);
    return disk === undefined ? undefined : this.leftBy(disk, path);
  }

  /** Whether a new name has the inode of another one that is not known to be there still: then both are judged together. */
  arrivesEarly(path: Path): boolean {
    if (this.busy.size === 0 || this.#state.ancestor.has(path)) return false;
    const disk = this.diskInode(path);
    if (disk === undefined) return false;
    return this.#state.slots.namesOf(disk).some((name) => name !== path && this.busy.has(name));
  }

  /** Where an inode on disk that is at `path` now was before it vanished there. */
  leftBy(disk: bigint, path: Path): Path | undefined {
    // It may have lost another of its names.
    if (this.#state.agreedInode(path) === disk) return undefined;
    const from = this.#vanished.get(disk)?.path ?? this.#state.leftBy(disk);
    return from === undefined || from === path || this.diskInode(from) === disk ? undefined : from;
  }

  /**
   * The path is dealt with if what it holds is what both sides agreed on. It may have been that before, and differ by what was
   * agreed on now: a push ends with what it began with, whatever was done here since.
   */
  settle(path: Path): void {
    if (this.#differs(path)) this.dirty.add(path);
    else this.dirty.delete(path);
  }

  /** Everything has been dealt with: an inode number seen now means nothing later. */
  forgetMoves(): void {
    if (this.dirty.size === 0 && this.adoptions.size === 0) this.#vanished.clear();
  }

  /** A publish that failed after its flip has brought some of it into the view: that is not to be done again. */
  forgetAdopted(): void {
    const { slots } = this.#state;
    for (const [path, adoption] of [...this.adoptions]) {
      const slot = slots.get(path);
      const isIt =
        adoption?.copy === true
          ? sameSlotContent(slot, adoption.slot)
          : slot?.signature.ino === adoption?.slot.signature.ino;
      if (isIt) this.adopted(path);
    }
  }

  /** An adoption is in the trees now. */
  adopted(path: Path): void {
    this.adoptions.delete(path);
    this.dirty.add(path);
    this.#noteSpecial(path, this.#state.slots.get(path));
  }

  /** Whether the slot of a path is what a publish would make of an adoption anyway. */
  isAdopted(path: Path, adoption: Adoption): boolean {
    const slot = this.#state.slots.get(path);
    return sameSlotContent(slot, adoption.slot) && slot?.signature.ino === adoption.slot.signature.ino;
  }
}

/**
 * A local entry with the ACLs that both sides agreed on. Where the disk has others, or has lost them, its group bits do
 * not mean what the volume's do: a mask is never pushed as if somebody had changed the mode.
 */
function withAgreedAcl(entry: Entry, slot: Slot, agreed: Entry | undefined): Entry {
  if (agreed === undefined || agreed.type !== entry.type) return entry;
  const hasOthers = slot.acl !== undefined && slot.acl !== (agreed.acl ?? '');
  const mode = hasOthers ? (entry.mode & ~0o070) | (agreed.mode & 0o070) : entry.mode;
  return withAcl({ ...entry, mode }, agreed.acl);
}

/** Whether two directories have the same attributes on disk. */
function sameDirectory(a: Slot, b: Slot): boolean {
  const [was, now] = [a.signature, b.signature];
  const sameOwner = was.uid === now.uid && was.gid === now.gid;
  return was.mode === now.mode && sameOwner && sameXattrs(a.xattrs, b.xattrs);
}

/** The edits, and for each directory that is none any more the end of everything that was below it. */
function withWhatWasBelow(edits: Look['edits'], slots: SlotTree): Map<Path, Slot | undefined> {
  const all = new Map(edits);
  for (const [path, slot] of edits) {
    if (slot?.type === 'directory' || slots.get(path)?.type !== 'directory') continue;
    for (const below of slots.below(path)) if (below !== path) all.set(below, undefined);
  }
  return all;
}

/** What stands below something that is no directory cannot be there. */
function isOrphan(path: Path, slots: SlotTree): boolean {
  const parent = parentOf(path);
  return parent !== undefined && parent !== '' && slots.get(parent)?.type !== 'directory';
}
