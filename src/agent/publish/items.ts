/** From what the local side must become to what the publish puts on disk: where each content comes from. */

import type { ByteString } from '../../codec/kv.ts';
import { sameXattrs, COMPARED_MODE } from '../../reconcile/attributes.ts';
import type { Path, SpecialEntry } from '../../reconcile/entry.ts';
import type { Change } from '../../reconcile/change.ts';
import type { Layout } from '../disk/layout.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import type { Adoption } from '../look/look.ts';
import { attributesOnDisk, type Attributes } from '../disk/attribute-writer.ts';
import type { FsPort } from '../base/ports.ts';
import { sameButCtime } from '../disk/slot.ts';
import type { StagedFile, WantedContent } from '../follow/stage.ts';
import { statInTree } from '../disk/tree-stat.ts';
import type { Wanted } from './wanted.ts';

type RemoteFileEntry = AncestorEntry & { readonly type: 'file' };

/** A path of the next tree with the volume's entry behind it; `undefined`: it goes. */
export interface LocalItem {
  readonly path: Path;
  readonly entry: AncestorEntry | undefined;
}

/** The changes with the volume's content key. */
export function localItems(changes: readonly Change[], tree: ReadonlyMap<Path, AncestorEntry>): LocalItem[] {
  return changes.map(({ path, new: wanted }) => {
    const remote = tree.get(path);
    if (wanted === undefined) return { path, entry: undefined };
    const key =
      remote?.type === 'file' && wanted.type === 'file' && remote.digest === wanted.digest
        ? remote.contentKey
        : undefined;
    return { path, entry: key === undefined ? wanted : { ...wanted, contentKey: key } };
  });
}

/** Contents that must be staged first: nothing on disk can be linked for them. */
export function contentsToStage(
  items: readonly LocalItem[],
  linkable: (item: LocalItem) => boolean,
): WantedContent[] {
  const wanted: WantedContent[] = [];
  for (const item of items) {
    const { entry } = item;
    if (entry?.type !== 'file' || entry.contentKey === undefined || linkable(item)) continue;
    wanted.push({ ino: entry.ino, key: entry.contentKey, size: entry.size });
  }
  return wanted;
}

/**
 * Published inodes that can get one more name: the volume's inode at another path, with the same content and
 * attributes. So a rename in the volume moves nothing, and hard links stay hard links.
 */
export class LinkSources {
  readonly #fs: FsPort;
  readonly #state: LedgerState;
  readonly #layout: Layout;
  readonly #pathsOf = new Map<bigint, Path[]>();

  constructor(
    { fs, layout }: { readonly fs: FsPort; readonly layout: Layout },
    state: LedgerState,
    items: readonly LocalItem[],
    pathsOf: (ino: bigint) => Path[],
  ) {
    this.#fs = fs;
    this.#state = state;
    this.#layout = layout;
    for (const { path, entry } of items) {
      const before = state.ancestor.get(path);
      if (before?.type === 'file' && (entry === undefined || entry.ino !== before.ino))
        this.#add(before.ino, path);
      if (entry?.type === 'file' && entry.nlink > 1) {
        for (const other of pathsOf(entry.ino)) if (other !== path) this.#add(entry.ino, other);
      }
    }
  }

  #add(ino: bigint, path: Path): void {
    const paths = this.#pathsOf.get(ino);
    if (paths === undefined) this.#pathsOf.set(ino, [path]);
    else paths.push(path);
  }

  /** What to link for an item; `undefined` when its content must be staged. */
  find({ entry }: LocalItem): Extract<Wanted, { seen: unknown }> | undefined {
    const { active } = this.#state;
    if (entry?.type !== 'file' || active === undefined) return undefined;
    for (const path of this.#pathsOf.get(entry.ino) ?? []) {
      const before = this.#state.ancestor.get(path);
      const slot = this.#state.slots.get(path);
      if (before?.type !== 'file' || slot?.type !== 'file' || slot.digest !== entry.digest) continue;
      // Another inode with the same contents: the volume's is news there as well, or somebody put it there.
      if (before.ino !== entry.ino || this.#state.replaced.has(path)) continue;
      const sameAttributes =
        (slot.signature.mode & COMPARED_MODE) === (entry.mode & COMPARED_MODE) &&
        before.mtimeNs === entry.mtimeNs &&
        before.uid === entry.uid &&
        before.gid === entry.gid &&
        before.acl === entry.acl &&
        sameXattrs(before.xattrs, entry.xattrs);
      if (!sameAttributes) continue;
      // What has just been moved away or written there has not settled, and is no slot yet.
      if (!sameButCtime(slot, statInTree(this.#fs, 'look at source', this.#layout, active, path))) continue;
      const source = this.#layout.inTree(active, path);
      return { type: 'file', source, digest: slot.digest, seen: slot.signature, remembered: slot };
    }
    return undefined;
  }
}

/**
 * The local content of an item with attributes that came from the volume: a copy of the published inode, which is never
 * changed itself.
 */
export function ownCopy(state: LedgerState, layout: Layout, { path, entry }: LocalItem): Wanted | undefined {
  const slot = state.slots.get(path);
  if (entry?.type !== 'file' || slot?.type !== 'file' || slot.digest !== entry.digest) return undefined;
  // A copy is a file of its own: of one with several names the attributes come with the next change.
  if (entry.contentKey !== undefined || entry.nlink > 1 || state.active === undefined) return undefined;
  const { digest, signature: seen } = slot;
  const source = layout.inTree(state.active, path);
  return { type: 'file', source, digest, seen, remembered: slot, copy: attributesOf(entry) };
}

function attributesOf({ mode, uid, gid, mtimeNs, xattrs = {}, acl = '' }: AncestorEntry): Attributes {
  return { mode, uid, gid, mtimeNs, xattrs, acl };
}

/** What the publish makes of an item; a string says why it cannot be made now. */
export function wantedFor(
  { entry }: LocalItem,
  link: Wanted | undefined,
  staged: (file: RemoteFileEntry) => StagedFile | undefined,
  stageSpecial: (entry: SpecialEntry) => ByteString | undefined,
): Wanted | undefined | string {
  if (entry === undefined) return undefined;
  const attributes = attributesOf(entry);
  switch (entry.type) {
    case 'directory':
      return { type: 'directory', attributes };
    case 'symlink':
      return { type: 'symlink', target: entry.target, attributes };
    case 'special': {
      const source = stageSpecial(entry);
      if (source === undefined) return 'it could not be made';
      return { type: 'special', kind: entry.kind, rdev: entry.rdev, source, attributes };
    }
    case 'file': {
      if (link !== undefined) return link;
      const file = staged(entry);
      return file === undefined
        ? 'its content could not be read'
        : { type: 'file', source: file.path, digest: file.digest, attributes };
    }
  }
}

/** What the publish makes of something that was found outside the active tree. */
export function wantedForAdoption({ slot, source, copy }: Adoption): Wanted {
  switch (slot.type) {
    case 'directory':
      return { type: 'directory', attributes: attributesOnDisk(slot), remembered: slot };
    case 'symlink':
      return { type: 'symlink', target: slot.target, attributes: slot.signature, remembered: slot };
    case 'file': {
      const { digest, signature: seen } = slot;
      return { type: 'file', source, digest, seen, remembered: slot, ...(copy ? { copy } : {}) };
    }
    case 'special':
      return { type: 'special', kind: slot.kind, rdev: slot.rdev, source, remembered: slot };
    case 'other':
      return { type: 'other', source };
  }
}
