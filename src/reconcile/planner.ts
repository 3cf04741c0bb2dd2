/** Turns changes into operations on one draft. */

import { decodeAttr, type Attr, type FileType } from '../codec/attr.ts';
import { toBytes } from '../codec/bytes.ts';
import { ROOT_INO } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { nameProblem } from '../codec/name.ts';
import { appendContent } from './append.ts';
import { nameOf, parentOf, sameContent, type Entry, type Path } from './entry.ts';
import { hold, putName } from './link.ts';
import {
  createDirectory,
  createFile,
  createSpecial,
  createSymlink,
  replaceContent,
  type Content,
  type NewInode,
} from './operations.ts';
import { isAtOrBelow, needsContent, needsInode, type FileLink, type PushChange } from './push-change.ts';
import { NotEmpty, Refused, Stale } from './refusal.ts';
import { remove } from './remove.ts';
import { attach, detach, type Detached } from './rename.ts';
import { setAttributes, setXattrs, type WantedAttributes, type Xattrs } from './set-attributes.ts';
import { swapContent } from './swap.ts';
import { find, type Found, type Place, type Work } from './work.ts';

/** What was claimed and stored for one change before it is planned. */
export interface Prepared {
  /** Claimed inode, if the change needs one (`needsInode`). */
  readonly ino?: bigint;
  /** Claimed inodes for the directories that `makeParents` may have to make, one for each part above the name. */
  readonly parentInos?: readonly bigint[];
  /** Contents, if the change stores some (`needsContent`). */
  readonly content?: Content;
  /** Blocks that the transaction itself is to put, with their full keys. */
  readonly blocks?: readonly { readonly key: ByteString; readonly value: Uint8Array }[];
}

/** A change that the transaction makes, and the entry that the volume then has; absent after a removal. */
export interface Planned {
  readonly change: PushChange;
  readonly entry: Entry | undefined;
}

/**
 * A change left out. `stale`: the volume is not what the change was made for; read again and reconcile. `refused`: it
 * cannot be pushed as things are.
 */
export interface GivenUp {
  readonly change: PushChange;
  readonly outcome: 'stale' | 'refused';
  /** Why, as a phrase. */
  readonly reason: string;
}

/** What the planner has to know of a push. */
export interface PlannerRequest {
  /** The directory that the changes' paths start from. */
  readonly root: bigint;
  readonly prepared: ReadonlyMap<PushChange, Prepared>;
  /** Paths that earlier transactions of this push gave up as refused. */
  readonly refused: readonly Path[];
  /** Which fields of `new` count beside type, contents and mode; a new inode has its owner and time in any case. */
  readonly owners: boolean;
  readonly times: boolean;
  readonly xattrs: boolean;
}

export class Planner {
  readonly #request: PlannerRequest;
  readonly #work: Work;

  constructor(request: PlannerRequest, work: Work) {
    this.#request = request;
    this.#work = work;
  }

  /** All changes of a group, or an exception. Moves that wait for each other leave their names first. */
  apply(group: readonly PushChange[], givenUp: readonly GivenUp[]): Planned[] {
    for (const change of group) this.#refuseDependent(change, givenUp);
    // All are found by their old paths before any leaves: one may stand above another.
    const leaving = group.flatMap((change) =>
      change.movedFrom === undefined ? [] : [{ change, ...this.#source(change, change.movedFrom) }],
    );
    const detached = new Map(
      leaving.map(({ change, place, found }) => [change, detach(this.#work, place, found)]),
    );
    try {
      // Before any name of these files goes, so that none of them goes with it.
      for (const { link } of group)
        if (link?.kind === 'name' || link?.kind === 'name-in-place') hold(this.#work, link.ino);
      const entries = new Map<Path, Entry | undefined>();
      for (const change of [...group.filter(isFree), ...group.filter((one) => !isFree(one))]) {
        entries.set(change.path, this.#apply(change, detached.get(change), entries));
      }
      return group.map((change) => ({ change, entry: entries.get(change.path) }));
    } catch (error) {
      // An entry that was refused keeps its directory from going: that is no news about the volume.
      const isHeld = (path: Path): boolean =>
        group.some((change) => path !== change.path && isAtOrBelow(path, change.path));
      if (error instanceof NotEmpty && this.#refusedPaths(givenUp).some(isHeld)) {
        throw new Refused('the directory holds entries that could not be removed');
      }
      throw error;
    }
  }

  #refusedPaths(givenUp: readonly GivenUp[]): Path[] {
    const now = givenUp.filter(({ outcome }) => outcome === 'refused').map(({ change }) => change.path);
    return [...this.#request.refused, ...now];
  }

  #refuseDependent(change: PushChange, givenUp: readonly GivenUp[]): void {
    const above = this.#refusedPaths(givenUp).find(
      (path) => path !== change.path && isAtOrBelow(change.path, path),
    );
    if (above !== undefined) throw new Refused('a directory above it could not be pushed');
  }

  #source(change: PushChange, path: Path): { readonly place: Place; readonly found: Found } {
    const place = this.#placeOf(path, undefined);
    return { place, found: this.#verified(place, change.old, change.expect) };
  }

  /** Makes one change; `done` has those of its group before it. Returns the entry that the volume then has. */
  #apply(
    change: PushChange,
    detached: Detached | undefined,
    done: ReadonlyMap<Path, Entry | undefined>,
  ): Entry | undefined {
    const { link } = change;
    if (link?.kind === 'follow') return done.get(link.leader);
    const place = this.#placeOf(change.path, change);
    this.#refuseName(place);
    if (detached !== undefined) {
      const over =
        change.over === undefined
          ? undefined
          : this.#verified(place, change.over, { isUntouched: change.expect?.isUntouched === true });
      if (over?.ino === detached.ino) throw new Refused('both names lead to the same file');
      attach(this.#work, place, detached, over);
    }
    const { old, new: wanted } = change;
    if (wanted !== undefined && namesInode(link)) {
      if (old !== undefined) remove(this.#work, place, this.#verified(place, old, change.expect));
      return this.#name(change, link, place, wanted, done);
    }
    if (old === undefined) return wanted === undefined ? undefined : this.#create(change, place, wanted);
    const found =
      detached === undefined ? this.#verified(place, old, change.expect) : find(this.#work, place);
    if (wanted === undefined) {
      remove(this.#work, place, found);
      return undefined;
    }
    const attributes = this.#attributes(wanted, old);
    if (needsContent(change) && found.attr.type === 'file') {
      const prepared = this.#prepared(change);
      if (prepared.content?.appendTo !== undefined) {
        // What was compared with the old digest is what the volume had then: any write since has moved the mtime.
        if (found.attr.mtimeNs !== old.mtimeNs) throw new Stale('the contents were changed');
        const appended = { ...attributes, mtimeNs: wanted.mtimeNs };
        const attr = appendContent(this.#work, found, appended, prepared.content);
        return this.#withXattrs({ ino: found.ino, attr }, wanted, old.xattrs);
      }
      const inode = { ...attributes, ino: inoOf(prepared), mtimeNs: wanted.mtimeNs };
      if (link?.kind === 'in-place') {
        const swapped = swapContent(this.#work, found, inode, contentOf(prepared));
        // Its mtime is set already, and not to what it was.
        const { mtimeNs: _, ...others } = attributes;
        const attr = setAttributes(this.#work, { ...found, attr: swapped }, others);
        return this.#withXattrs({ ino: found.ino, attr }, wanted, old.xattrs);
      }
      const attr = replaceContent(this.#work, place, found, inode, contentOf(prepared));
      return this.#withXattrs({ ino: inode.ino, attr }, wanted, old.xattrs);
    }
    if (!sameContent(old, wanted)) {
      remove(this.#work, place, found);
      return this.#create(change, place, wanted);
    }
    const attr = setAttributes(this.#work, found, attributes);
    return this.#withXattrs({ ino: found.ino, attr }, wanted, old.xattrs);
  }

  /** One more name of an inode. */
  #name(
    change: PushChange,
    link: NamingLink,
    place: Place,
    wanted: Entry,
    done: ReadonlyMap<Path, Entry | undefined>,
  ): Entry {
    const ino = link.kind === 'name-of-new' ? (done.get(link.maker)?.ino ?? 0n) : link.ino;
    if (link.kind === 'name-of-new') hold(this.#work, ino);
    let attr = putName(this.#work, place, ino);
    const found = { ino, dentry: { type: attr.type, ino } };
    if (link.kind === 'name-in-place') {
      if (attr.length !== link.size) throw new Stale('the contents were changed');
      const prepared = this.#prepared(change);
      const inode = { ino: inoOf(prepared), mtimeNs: wanted.mtimeNs };
      attr = swapContent(this.#work, { ...found, attr }, inode, contentOf(prepared));
    }
    // What is on disk is one inode: its attributes are those of the new name.
    const { mtimeNs: _, ...others } = this.#attributes(wanted, undefined);
    return this.#withXattrs(
      { ino, attr: setAttributes(this.#work, { ...found, attr }, others) },
      wanted,
      undefined,
    );
  }

  /** What of an entry is set on an inode that is there. The time of a directory is that of its entries. */
  #attributes(wanted: Entry, old: Entry | undefined): WantedAttributes {
    const { owners } = this.#request;
    const times = this.#request.times && wanted.type !== 'directory' && !sameTime(wanted, old);
    return {
      ...(wanted.type === 'symlink' ? {} : { permissions: wanted.mode & 0o777 }),
      ...(owners ? { owner: { uid: wanted.uid, gid: wanted.gid } } : {}),
      ...(times ? { mtimeNs: wanted.mtimeNs } : {}),
    };
  }

  /** Sets extended attributes if they are pushed, and returns the entry as the volume has it now. */
  #withXattrs({ ino, attr }: Pick<Found, 'ino' | 'attr'>, wanted: Entry, before: Xattrs | undefined): Entry {
    const pushed = this.#request.xattrs ? wanted.xattrs : undefined;
    if (pushed !== undefined) setXattrs(this.#work, { ino, attr }, before, pushed);
    const xattrs = pushed ?? before;
    return { ...entryOf(ino, attr, wanted), ...(xattrs === undefined ? {} : { xattrs }) };
  }

  #create(change: PushChange, place: Place, wanted: Entry): Entry {
    const prepared = this.#prepared(change);
    const inode: NewInode = {
      ino: needsInode(change) ? inoOf(prepared) : 0n,
      // suid and sgid are never set on a new entry.
      mode: wanted.mode & 0o1777,
      uid: wanted.uid,
      gid: wanted.gid,
      mtimeNs: wanted.mtimeNs,
    };
    const created = (): Attr => {
      switch (wanted.type) {
        case 'file':
          return createFile(this.#work, place, inode, contentOf(prepared));
        case 'directory':
          return createDirectory(this.#work, place, inode);
        case 'symlink':
          return createSymlink(this.#work, place, inode, toBytes(wanted.target));
        case 'special':
          return createSpecial(this.#work, place, inode, wanted);
      }
    };
    return this.#withXattrs({ ino: inode.ino, attr: created() }, wanted, undefined);
  }

  /** What a name leads to, if it is what the caller saw there; throws `Stale` if not. */
  #verified(place: Place, seen: Entry | undefined, expect: PushChange['expect']): Found {
    const { draft } = this.#work;
    if (seen !== undefined) {
      draft.expect(
        { kind: 'dentry', ...place },
        { kind: 'attr', ino: place.parent },
        { kind: 'attr', ino: seen.ino },
      );
    }
    const found = find(this.#work, place);
    if (seen === undefined) return found;
    if (found.ino !== seen.ino) throw new Stale('another entry has the name');
    if (!hasType(seen, found.attr.type)) throw new Stale('the entry has another type');
    if (seen.type === 'directory') return found;
    // Before this transaction: it may have given the file new contents under another of its names.
    const stored = draft.before({ kind: 'attr', ino: seen.ino });
    const { length, mtimeNs } = stored === undefined ? found.attr : decodeAttr(stored);
    const isTouched = expect?.isUntouched === true && mtimeNs !== seen.mtimeNs;
    if (seen.type === 'file' && (length !== seen.size || isTouched))
      throw new Stale('the contents were changed');
    const revision = expect?.attrModRevision;
    if (revision !== undefined && draft.modRevision({ kind: 'attr', ino: seen.ino }) !== revision) {
      throw new Stale('the entry was changed');
    }
    return found;
  }

  /** The directory and name of a path. With `makeParents` directories that are missing are made on the way. */
  #placeOf(path: Path, change: PushChange | undefined): Place {
    if (path === '') throw new Refused('the root of the view itself is not changed');
    let parent = this.#request.root;
    const parts = (parentOf(path) ?? '').split('/').filter((part) => part !== '');
    for (const [depth, name] of parts.entries()) {
      const dentry = this.#work.draft.dentry(parent, name);
      if (dentry !== undefined) {
        if (dentry.type !== 'directory') throw new Stale('a part of its path is no directory');
        parent = dentry.ino;
        continue;
      }
      if (change?.makeParents === undefined) throw new Stale('its directory is not there');
      const ino = this.#prepared(change).parentInos?.[depth];
      if (ino === undefined) throw new RangeError(`no inode was claimed for a parent of ${path}`);
      this.#refuseName({ parent, name });
      createDirectory(
        this.#work,
        { parent, name },
        { ...change.makeParents, ino, mtimeNs: this.#work.nowNs },
      );
      parent = ino;
    }
    return { parent, name: nameOf(path) };
  }

  #refuseName({ parent, name }: Place): void {
    const problem = nameProblem(name);
    if (problem !== undefined) throw new Refused(problem);
    if (parent === ROOT_INO && name === '.trash') throw new Refused('.trash in the root is the trash itself');
  }

  #prepared(change: PushChange): Prepared {
    return this.#request.prepared.get(change) ?? {};
  }
}

type NamingLink = Extract<FileLink, { kind: 'name' | 'name-in-place' | 'name-of-new' }>;

function namesInode(link: FileLink | undefined): link is NamingLink {
  return link?.kind === 'name' || link?.kind === 'name-in-place' || link?.kind === 'name-of-new';
}

/** Whether a change needs no result of another one of its group. */
function isFree({ link }: PushChange): boolean {
  return link?.kind !== 'follow' && link?.kind !== 'name-of-new';
}

function inoOf(prepared: Prepared): bigint {
  if (prepared.ino === undefined) throw new RangeError('no inode was claimed for the change');
  return prepared.ino;
}

/** A local file system was given the time without what is less than a microsecond: that is no change of it. */
function sameTime(a: Entry, b: Entry | undefined): boolean {
  return b !== undefined && a.mtimeNs / 1000n === b.mtimeNs / 1000n;
}

function contentOf(prepared: Prepared): Content {
  if (prepared.content === undefined) throw new RangeError('no contents were stored for the change');
  return prepared.content;
}

function hasType(entry: Entry, type: FileType): boolean {
  return entry.type === 'special' ? entry.kind === type : entry.type === type;
}

/** The entry as the volume has it now. */
function entryOf(ino: bigint, attr: Attr, wanted: Entry): Entry {
  const base = { ino, mode: attr.mode, uid: attr.uid, gid: attr.gid, mtimeNs: attr.mtimeNs };
  switch (wanted.type) {
    case 'file':
      return { ...base, type: 'file', size: attr.length, digest: wanted.digest, nlink: attr.nlink };
    case 'directory':
      return { ...base, type: 'directory' };
    case 'symlink':
      return { ...base, type: 'symlink', target: wanted.target };
    case 'special':
      return { ...base, type: 'special', kind: wanted.kind, rdev: wanted.rdev };
  }
}
