/** What the ledger is told of the tree that a publish works on: what it is about to hold, and what it holds then. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { targetInVolume } from '../../reconcile/target.ts';
import { rememberedOf, type AttributeWriter } from '../disk/attribute-writer.ts';
import type { IdleTree } from './idle-tree.ts';
import type { Layout, TreeName } from '../disk/layout.ts';
import type { FileStat, FsPort } from '../base/ports.ts';
import { sameButCtime, signatureOf, type Signature, type Slot, type SlotTree } from '../disk/slot.ts';
import type { Wanted } from './wanted.ts';

type WantedFile = Extract<Wanted, { type: 'file' }>;

/** A slot as the ledger writes it: `null` where nothing is. */
type SlotAt = [Path, Slot | null];

export interface PlacedSlotsOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly attributes: AttributeWriter;
  readonly tree: IdleTree;
  readonly idle: TreeName;
  /** Of the active tree. */
  readonly slots: SlotTree;
  readonly work: ReadonlyMap<Path, Wanted | undefined>;
  /** Staged contents as they were while nobody else could see them. */
  readonly stagedAs: ReadonlyMap<ByteString, Signature>;
}

/** Slots of what one publish puts into a tree. */
export class PlacedSlots {
  readonly #options: PlacedSlotsOptions;

  constructor(options: PlacedSlotsOptions) {
    this.#options = options;
  }

  /** What the tree is about to hold, as its sources are now. */
  intended(paths: Iterable<Path>): SlotAt[] {
    return [...paths].map((path): SlotAt => [path, this.#intendedSlot(this.#options.work.get(path)) ?? null]);
  }

  #intendedSlot(wanted: Wanted | undefined): Slot | undefined {
    if (wanted === undefined) return undefined;
    if (wanted.type === 'directory' || wanted.type === 'symlink') {
      const { mode, uid, gid, mtimeNs } = wanted.attributes;
      const signature = { ino: 0n, size: 0n, ctimeNs: 0n, mode, uid, gid, mtimeNs };
      const rest = rememberedOf(wanted.remembered ?? wanted.attributes);
      return wanted.type === 'directory'
        ? { type: 'directory', signature, ...rest }
        : { type: 'symlink', signature, target: wanted.target, ...rest };
    }
    const { fs, attributes } = this.#options;
    const stat = fs.lstat('lstat source', wanted.source);
    if (stat === undefined) return undefined;
    const signature = signatureOf(stat);
    if (wanted.type === 'other') return { type: 'other', signature };
    const rest = attributes.remembered(wanted.source, wanted.remembered);
    if (wanted.type === 'special')
      return { type: 'special', signature, kind: wanted.kind, rdev: wanted.rdev, ...rest };
    // Of when its digest was read: what was written to it since is nothing that we intend.
    const isEdited = 'seen' in wanted && !isAsSeen(wanted.seen, stat);
    return { type: 'file', signature: isEdited ? wanted.seen : signature, digest: wanted.digest, ...rest };
  }

  /** What the tree holds of what was only carried into it: inodes that nobody has read. */
  carried(paths: Iterable<Path>): SlotAt[] {
    return [...paths].map((path): SlotAt => {
      const stat = this.#options.tree.stat('lstat carried', path);
      if (stat === undefined) return [path, null];
      const type = stat.type === 'directory' ? 'directory' : 'other';
      return [path, { type, signature: signatureOf(stat) }];
    });
  }

  /** What the tree holds at these paths, if it is not to be shown. */
  left(paths: Iterable<Path>): SlotAt[] {
    const { tree } = this.#options;
    return this.placed(paths).map(([path, slot]) =>
      tree.stat('lstat left', path) === undefined ? [path, null] : [path, slot],
    );
  }

  /** Carried removals below what is no directory any more in a tree that holds this: no look comes by there. */
  goneBelow(shown: ReadonlyMap<Path, Slot | null>): Path[] {
    const { slots } = this.#options;
    return [...shown].flatMap(([dir, slot]) =>
      slot?.type === 'directory' || slots.get(dir)?.type !== 'directory'
        ? []
        : [...slots.below(dir)].filter((path) => path !== dir && !shown.has(path)),
    );
  }

  /** What the tree holds at these paths, now that it is shown. */
  placed(paths: Iterable<Path>): SlotAt[] {
    return [...paths].map((path): SlotAt => [path, this.#placedSlot(path) ?? null]);
  }

  #placedSlot(path: Path): Slot | undefined {
    const { tree, slots, work, layout, idle, attributes } = this.#options;
    const wanted = work.get(path);
    const stat = tree.stat('lstat placed', path);
    // A carried name that vanished meanwhile keeps its slot: the next look sees a removal.
    if (stat === undefined) return wanted === undefined ? undefined : slots.get(path);
    const signature = signatureOf(stat);
    if (tree.problems.has(path) || wanted === undefined)
      return stat.type === 'directory' ? { type: 'directory', signature } : slots.get(path);
    const at = layout.inTree(idle, path);
    switch (wanted.type) {
      case 'directory':
        return { type: 'directory', signature, ...attributes.remembered(at, wanted.remembered) };
      case 'symlink': {
        const target = this.#targetIn(path, stat) ?? wanted.target;
        return { type: 'symlink', signature, target, ...attributes.remembered(at, wanted.remembered) };
      }
      case 'special': {
        const { kind, rdev, source } = wanted;
        return {
          type: 'special',
          signature,
          kind,
          rdev,
          ...attributes.remembered(source, wanted.remembered),
        };
      }
      case 'other':
        return { type: 'other', signature };
      case 'file':
        return this.#placedFile(at, wanted, stat);
    }
  }

  /**
   * It may have been written since it was read, or since it became visible: then the old signature stays, and the next look
   * reads it again. Our own links and unlinks moved its ctime.
   */
  #placedFile(at: ByteString, wanted: WantedFile, stat: FileStat): Slot {
    const { attributes } = this.#options;
    const isOwnCopy = 'copy' in wanted && typeof wanted.copy === 'object';
    const rest = attributes.remembered(isOwnCopy ? at : wanted.source, wanted.remembered);
    const { seen, stat: found } = this.#seenOf(wanted, stat);
    const isEdited =
      seen !== undefined && (!isAsSeen(seen, found) || (!isOwnCopy && attributes.hasOtherXattrs(at, rest)));
    const { digest } = wanted;
    return { type: 'file', signature: isEdited ? seen : signatureOf(stat), digest, ...rest };
  }

  /** How the inode was whose content is in a file of the tree, and how it is now. */
  #seenOf(
    wanted: WantedFile,
    placed: FileStat,
  ): { readonly seen: Signature | undefined; readonly stat: FileStat | undefined } {
    const { fs, stagedAs } = this.#options;
    if (!('seen' in wanted)) return { seen: stagedAs.get(wanted.source), stat: placed };
    if (wanted.copy === undefined) return { seen: wanted.seen, stat: placed };
    // Nobody else has written to a copy yet; but its source may have changed before it was read.
    return { seen: wanted.seen, stat: fs.lstat('lstat copied', wanted.source) };
  }

  /** Where a link in the tree leads now: somebody may have changed it since the flip. */
  #targetIn(path: Path, stat: FileStat): string | undefined {
    if (stat.type !== 'symlink') return undefined;
    const { fs, layout, idle } = this.#options;
    const text = fs.readlink('read placed', layout.inTree(idle, path));
    return text === undefined ? undefined : targetInVolume(text, path, layout.root);
  }
}

/** Whether a file is as it was when it was read, but for its ctime, which our own links move. */
export function isAsSeen(seen: Signature, stat: FileStat | undefined): boolean {
  return sameButCtime({ type: 'file', signature: seen, digest: '' }, stat);
}
