/**
 * Puts a tree on disk so that a reader sees the old one or the new one (design 4.3; watch-and-flip 5).
 *
 * 1. Flush staged contents and give them their attributes; nothing is visible yet.
 * 2. Log the intent: what the idle tree is about to hold, and which inodes leave it.
 * 3. Change the idle tree: removals deepest first, then directories, then files. A replaced inode is linked into `kept`
 *    before it loses a name.
 * 4. Sync the directories.
 * 5. Look once more at the changed paths and the directories of the active tree: an edit that came meanwhile stops this
 *    publish.
 * 6. Flip `..data` by renaming a symlink. The commit point. Links at the top that somebody moved lead into the old tree before.
 * 7. Mend the names at the top: new ones, real files that a symlink replaces again, removed ones. Take along modes that
 *    directories got since step 5.
 * 8. Log the commit with the final signatures. A crash before it makes recovery repeat step 7, so that a top-level
 *    name that is missing for this reason is never taken for a removal by somebody.
 */

import type { ByteString } from '../../codec/kv.ts';
import type { Held } from '../../reconcile/attributes.ts';
import { parentOf, type Path } from '../../reconcile/entry.ts';
import { attributesOnDisk, AttributeWriter, type Attributes } from '../disk/attribute-writer.ts';
import { flushAll, IdleTree, SYNC_EACH_LIMIT } from './idle-tree.ts';
import { otherTree, type Layout, type TreeName } from '../disk/layout.ts';
import { isAsSeen, PlacedSlots } from './placed-slots.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import type { KeptRecord } from '../state/ledger-record.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Clock, FsPort } from '../base/ports.ts';
import { sameButCtime, signatureOf, type Signature, type Slot } from '../disk/slot.ts';
import type { SeenAtTop } from '../look/top-memory.ts';
import { hasLeftTop, isNewInDirectory } from '../look/top-place.ts';
import { holdMovedLinks, mendTop, takeModeAlong } from './top.ts';
import { otherModes, statInTree } from '../disk/tree-stat.ts';
import type { Wanted } from './wanted.ts';

export interface PublishRequest {
  readonly items: ReadonlyMap<Path, Wanted | undefined>;
  /** What both sides agree on once this is published. */
  readonly ancestor: readonly (readonly [Path, AncestorEntry | null])[];
  readonly revision: bigint;
  /** What differs in the active tree and has not settled: the next tree has it as it is, and the ledger has it as before. */
  readonly unsettled?: ReadonlySet<Path>;
  /** Items that a look has found at the top. */
  readonly fromTop?: ReadonlySet<Path>;
  /** Directories of the active tree in which names came or went since they were looked at. */
  readonly touchedSince?: (tree: TreeName) => readonly Path[];
  /** Names at the top that the last look knew to have gone from there. */
  readonly leaving?: ReadonlySet<ByteString>;
}

export type PublishResult = (
  | {
      readonly outcome: 'published';
      readonly problems: ReadonlyMap<Path, string>;
      /** What had gone from directories that went, and had not settled. */
      readonly gone: readonly Path[];
    }
  /** Local edits came in between, at these paths and in these directories; nothing was flipped. */
  | { readonly outcome: 'edited'; readonly paths: readonly Path[]; readonly directories: readonly Path[] }
) & {
  /** The directories on disk that the publish itself changed. */
  readonly touched: ReadonlySet<ByteString>;
  /** Files that lost their name in the tree it worked on, by that name, and where they are now. */
  readonly movedToKept: ReadonlyMap<Path, { readonly ino: bigint; readonly at: ByteString }>;
};

/** What a publish works on and with. */
export interface PublishContext {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly held: Held;
  /** Throws when another agent took the state over. */
  readonly assertOwner: () => void;
  /** What the last looks have seen at the top. */
  readonly seenAtTop?: SeenAtTop;
  /** Whether two names can change places in one step. */
  readonly exchanges?: boolean;
}

/** Publishes one tree. Synchronous: nothing else of this process runs in between. */
export function publish(context: PublishContext, request: PublishRequest): PublishResult {
  return new Publication(context, request).run();
}

class Publication {
  readonly #fs: FsPort;
  readonly #layout: Layout;
  readonly #context: PublishContext;
  readonly #request: PublishRequest;
  readonly #active: TreeName | undefined;
  readonly #idle: TreeName;
  /** Everything the idle tree must be told: the changes, and what it missed since it was last live. */
  readonly #work = new Map<Path, Wanted | undefined>();
  /** The unsettled part of the work. */
  readonly #carried = new Set<Path>();
  /** Staged contents as they were while nobody else could see them. */
  readonly #stagedAs = new Map<ByteString, Signature>();
  readonly #attributes: AttributeWriter;
  readonly #tree: IdleTree;
  readonly #slots: PlacedSlots;

  constructor(context: PublishContext, request: PublishRequest) {
    this.#fs = context.fs;
    this.#layout = context.layout;
    this.#context = context;
    this.#request = request;
    this.#active = context.ledger.state.active;
    this.#idle = this.#active === undefined ? 'a' : otherTree(this.#active);
    this.#attributes = new AttributeWriter(context.fs, context.held);
    const { fs, layout, ledger } = context;
    this.#tree = new IdleTree({
      fs,
      layout,
      ledger,
      attributes: this.#attributes,
      active: this.#active,
      idle: this.#idle,
      exchanges: context.exchanges === true,
      work: this.#work,
      serial: context.clock.nowNs().toString(36),
    });
    this.#slots = new PlacedSlots({
      fs,
      layout,
      attributes: this.#attributes,
      tree: this.#tree,
      idle: this.#idle,
      slots: ledger.state.slots,
      work: this.#work,
      stagedAs: this.#stagedAs,
    });
  }

  run(): PublishResult {
    const { ledger } = this.#context;
    this.#collectWork();
    this.#prepareStaged();
    const leftAsFound = this.#leftAsFound();
    this.#logIntent(leftAsFound);
    this.#tree.change();
    for (const path of this.#carried) this.#tree.problems.delete(path);
    this.#tree.sync();
    const edited = this.#editedMeanwhile();
    const directories = this.#touchedMeanwhile();
    const { touched, movedToKept, problems } = this.#tree;
    if (edited.length > 0 || directories.length > 0) {
      const changed = this.#settledWork().filter((path) => !leftAsFound.has(path));
      const stale = [...this.#slots.left(changed), ...this.#slots.carried(this.#carried)];
      ledger.write([{ t: 'look', slots: [], stale, same: [] }], false);
      return { outcome: 'edited', paths: edited, directories, touched, movedToKept };
    }
    this.#context.assertOwner();
    this.#holdMovedLinks();
    this.#flip();
    this.#dropStaged();
    const slots = this.#slots.placed(this.#settledWork());
    const shown = new Map(slots);
    const slotAt = (name: Path): Slot | undefined =>
      shown.has(name) ? (shown.get(name) ?? undefined) : ledger.state.slots.get(name);
    const shownPaths = [...this.#request.items.keys()].filter((path) => !this.#changedAtTop(path));
    mendTop(this.#context, shownPaths, slotAt);
    this.#takeModesAlong();
    const gone = this.#slots.goneBelow(shown);
    this.#logCommit(slots, gone);
    return { outcome: 'published', problems, gone, touched, movedToKept };
  }

  /**
   * What was taken over from the top and is not there any more was removed since: its name is not put back. Nor does the
   * agent's own link go that was not there, and is again: it was moved, and moved back.
   */
  #changedAtTop(path: Path): boolean {
    if (this.#request.fromTop?.has(path) !== true) return false;
    const [name = path] = path.split('/', 1);
    const stat = this.#fs.lstat('look at top', this.#layout.top(name));
    if (this.#request.items.get(path) !== undefined) return stat === undefined;
    return name === path && stat?.type === 'symlink';
  }

  /** The idle tree alone; a crash leaves it partly done, which the inodes of both trees tell. */
  catchUp(): void {
    this.#collectWork();
    const paths = [...this.#work.keys()];
    this.#tree.change();
    for (const path of this.#carried) this.#tree.problems.delete(path);
    const same = paths.filter((path) => !this.#tree.problems.has(path));
    this.#context.ledger.write([{ t: 'look', slots: this.#slots.placed(same), stale: [], same }], false);
  }

  // Step 0: the changes, and for each path that the idle tree missed, what the active tree holds.
  #collectWork(): void {
    const { state } = this.#context.ledger;
    for (const path of state.staleOrFound())
      this.#work.set(path, this.#asActive(path, state.slots.get(path)));
    for (const [path, wanted] of this.#request.items) this.#work.set(path, wanted);
    for (const path of this.#request.unsettled ?? []) this.#carry(path);
    for (const [path, wanted] of [...this.#work]) if (wanted !== undefined) this.#keepDirectories(path);
  }

  /** Without this a flip would take back for a while what somebody has just made, replaced or removed. */
  #carry(path: Path): void {
    const active = this.#active;
    if (active === undefined || this.#request.items.has(path)) return;
    const stat = statInTree(this.#fs, 'lstat unsettled', this.#layout, active, path);
    if (sameButCtime(this.#context.ledger.state.slots.get(path), stat)) return;
    this.#carried.add(path);
    if (stat === undefined) this.#work.set(path, undefined);
    else if (stat.type === 'directory') this.#work.set(path, { type: 'directory', attributes: stat });
    else this.#work.set(path, { type: 'other', source: this.#layout.inTree(active, path) });
  }

  #settledWork(): Path[] {
    return [...this.#work.keys()].filter((path) => !this.#carried.has(path));
  }

  /** A directory stays, whatever the volume says, as long as the tree carries something in it. */
  #keepDirectories(path: Path): void {
    const { slots } = this.#context.ledger.state;
    for (let dir = parentOf(path); dir !== undefined && dir !== ''; dir = parentOf(dir)) {
      if (!this.#work.has(dir) || this.#work.get(dir)?.type === 'directory') continue;
      const slot = slots.get(dir);
      if (slot?.type !== 'directory') continue;
      this.#work.set(dir, this.#asActive(dir, slot));
      this.#tree.problems.set(dir, 'the volume has no directory here any more, and it holds local entries');
    }
  }

  #asActive(path: Path, slot: Slot | undefined): Wanted | undefined {
    if (slot === undefined || this.#active === undefined) return undefined;
    const source = this.#layout.inTree(this.#active, path);
    switch (slot.type) {
      case 'directory':
        return { type: 'directory', attributes: attributesOnDisk(slot), remembered: slot };
      case 'file':
        return { type: 'file', source, digest: slot.digest, seen: slot.signature, remembered: slot };
      case 'symlink':
        return {
          type: 'symlink',
          target: slot.target,
          attributes: slot.signature,
          source,
          remembered: slot,
        };
      case 'special':
        return { type: 'special', kind: slot.kind, rdev: slot.rdev, source, remembered: slot };
      case 'other':
        return { type: 'other', source };
    }
  }

  // Step 1. A file is flushed while it can still be opened: its mode may deny that to its owner.
  #prepareStaged(): void {
    const staged = new Map<ByteString, Attributes>();
    for (const wanted of this.#request.items.values()) {
      if (wanted?.type === 'file' && 'attributes' in wanted) staged.set(wanted.source, wanted.attributes);
      if (wanted?.type === 'special' && wanted.attributes !== undefined)
        this.#setStaged(wanted.source, wanted.attributes);
    }
    const flushed = staged.size <= SYNC_EACH_LIMIT || flushAll(this.#fs, this.#layout);
    for (const [source, attributes] of staged) {
      if (staged.size <= SYNC_EACH_LIMIT || !flushed) this.#syncFile(source);
      this.#setStaged(source, attributes);
    }
  }

  #setStaged(path: ByteString, attributes: Attributes): void {
    this.#attributes.write(path, attributes);
    const stat = this.#fs.lstat('lstat staged', path);
    if (stat !== undefined) this.#stagedAs.set(path, signatureOf(stat));
  }

  #syncFile(path: ByteString): void {
    const fd = this.#fs.openRead('sync file', path);
    try {
      this.#fs.fsync('sync file', fd);
    } finally {
      this.#fs.close('sync file', fd);
    }
  }

  // Step 2. A crash from here on finds in the log every inode of ours that may have become visible.
  #logIntent(found: ReadonlySet<Path>): void {
    const { ledger } = this.#context;
    const slots = this.#slots.intended(this.#settledWork());
    const carried = this.#slots.intended(this.#carried);
    const { ancestor, revision } = this.#request;
    ledger.write(
      [{ t: 'intent', tree: this.#idle, revision, slots, ancestor, carried, found: [...found] }],
      true,
    );
  }

  /**
   * Paths at which a look has found something in the idle tree, and which are to stay so. Until the flip it is a find like
   * before: only in what is published it is taken over.
   */
  #leftAsFound(): ReadonlySet<Path> {
    const { found } = this.#context.ledger.state;
    const isLeft = (path: Path, slot: Slot | undefined): boolean => {
      const wanted = this.#work.get(path);
      if (wanted === undefined || slot === undefined) return wanted === undefined && slot === undefined;
      if (wanted.type === 'directory') return slot.type === 'directory';
      if (wanted.type === 'symlink') return slot.type === 'symlink' && wanted.target === slot.target;
      return wanted.source === this.#layout.inTree(this.#idle, path);
    };
    return new Set([...found.idle].flatMap(([path, slot]) => (isLeft(path, slot) ? [path] : [])));
  }

  // Step 5.
  #editedMeanwhile(): Path[] {
    if (this.#active === undefined) return [];
    const { slots } = this.#context.ledger.state;
    const edited: Path[] = [];
    for (const [path, wanted] of this.#request.items) {
      const stat = statInTree(this.#fs, 'look before flip', this.#layout, this.#active, path);
      // What shall go may have gone by itself.
      if (wanted === undefined && stat === undefined) continue;
      if (!sameButCtime(slots.get(path), stat)) edited.push(path);
      const from = this.#changedSource(wanted);
      if (from !== undefined) edited.push(from);
    }
    return [...edited, ...this.#changedAtTopMeanwhile()];
  }

  /** Paths at the top where something was to come below, and where somebody has put or removed something since the last look. */
  #changedAtTopMeanwhile(): Path[] {
    const { fs, layout, ledger, seenAtTop } = this.#context;
    const { items, leaving } = this.#request;
    if (leaving === undefined) return [];
    const changed = new Set<Path>();
    for (const path of items.keys()) {
      const [name = path] = path.split('/', 1);
      if (name === path) continue;
      const isKnown = items.has(name) || leaving.has(name);
      if (!isKnown && hasLeftTop(fs, layout, ledger.state, name)) changed.add(name);
      else if (seenAtTop !== undefined && isNewInDirectory(fs, layout, seenAtTop, path)) changed.add(name);
    }
    return [...changed];
  }

  /** The path in the active tree from which something was to be linked, if that is not there any more as it was. */
  #changedSource(wanted: Wanted | undefined): Path | undefined {
    if (this.#active === undefined || wanted?.type !== 'file' || !('seen' in wanted)) return undefined;
    const root = `${this.#layout.tree(this.#active)}/`;
    if (!wanted.source.startsWith(root)) return undefined;
    const path = wanted.source.slice(root.length);
    const stat = statInTree(this.#fs, 'look at source', this.#layout, this.#active, path);
    return isAsSeen(wanted.seen, stat) ? undefined : path;
  }

  #touchedMeanwhile(): readonly Path[] {
    const { touchedSince } = this.#request;
    return this.#active === undefined || touchedSince === undefined ? [] : touchedSince(this.#active);
  }

  #holdMovedLinks(): void {
    const { items, fromTop } = this.#request;
    if (this.#active === undefined || fromTop === undefined) return;
    const names = [...fromTop].filter((path) => !path.includes('/') && items.get(path) !== undefined);
    holdMovedLinks(this.#context, this.#active, names, (path) => items.has(path));
  }

  /** RACE: somebody changed the mode of a directory after step 5 and before the flip. Its signature is that from before. */
  #takeModesAlong(): void {
    const { ledger } = this.#context;
    if (this.#active === undefined) return;
    for (const { path, slot, stat } of otherModes(this.#fs, this.#layout, this.#active, ledger.state.slots))
      takeModeAlong(this.#context, this.#idle, path, stat, slot);
  }

  // Step 6.
  #flip(): void {
    const { data, dataTmp, root } = this.#layout;
    if (this.#fs.lstat('flip', dataTmp) !== undefined) this.#fs.unlink('flip', dataTmp);
    this.#fs.symlink('flip', `..${this.#idle}`, dataTmp);
    this.#fs.rename('flip', dataTmp, data);
    this.#fs.syncDir('sync flip', root);
  }

  // The last unlink of ours that moves a published inode's ctime: the signatures taken afterwards stay true.
  #dropStaged(): void {
    for (const wanted of this.#request.items.values()) {
      const isStaged =
        (wanted?.type === 'file' || wanted?.type === 'special') &&
        'attributes' in wanted &&
        wanted.attributes !== undefined;
      if (!isStaged) continue;
      if (this.#fs.lstat('drop staged', wanted.source) !== undefined)
        this.#fs.unlink('drop staged', wanted.source);
    }
  }

  // Step 8.
  #logCommit(placed: readonly (readonly [Path, Slot | null])[], gone: readonly Path[]): void {
    const { ledger } = this.#context;
    const old = ledger.state.slots;
    const items = [...this.#request.items.keys()];
    const carried = this.#slots.carried(this.#carried);
    const stale =
      this.#active === undefined
        ? [...this.#work.keys()].map((path) => [path, null] as const)
        : [
            ...items.map((path) => [path, old.get(path) ?? null] as const),
            ...this.#leftBehind(placed),
            ...carried,
          ];
    const { revision } = this.#request;
    // What could not be put here is agreed on by nobody: that it is missing is no removal of somebody's.
    const missing = new Set(placed.flatMap(([path, slot]) => (slot === null ? [path] : [])));
    const ancestor = this.#request.ancestor.filter(
      ([path, entry]) => entry === null || !missing.has(path) || !this.#tree.problems.has(path),
    );
    const kept = this.#keptFinds();
    const slots = [...placed, ...gone.map((path) => [path, null] as const)];
    ledger.write([{ t: 'commit', tree: this.#idle, revision, slots, stale, ancestor, kept }], true);
  }

  /** What was found in kept inodes and is dealt with by this publish. */
  #keptFinds(): [string, KeptRecord][] {
    const { found, kept } = this.#context.ledger.state;
    const all = new Map(this.#tree.keptFinds);
    for (const [name, slot] of found.kept) all.set(name, { path: kept.get(name)?.path ?? '', slot });
    return [...all].filter(([, { path }]) => this.#request.items.has(path));
  }

  /**
   * What was to be as in the tree that goes and is not: a directory that could not be removed, for what somebody had made in
   * it. The tree that goes has to be told of it, like of a change.
   */
  #leftBehind(placed: readonly (readonly [Path, Slot | null])[]): [Path, Slot | null][] {
    const old = this.#context.ledger.state.slots;
    return placed.flatMap(([path, slot]): [Path, Slot | null][] => {
      const before = old.get(path) ?? null;
      const isCaughtUp = this.#request.items.has(path) || slot?.type === before?.type;
      return isCaughtUp ? [] : [[path, before]];
    });
  }
}

/** Brings the idle tree up to date without a flip, so that the next publish has only its own change to make. */
export function catchUp(context: PublishContext): void {
  if (context.ledger.state.staleOrFound().next().done === true) return;
  new Publication(context, {
    items: new Map(),
    ancestor: [],
    revision: context.ledger.state.revision,
  }).catchUp();
}
