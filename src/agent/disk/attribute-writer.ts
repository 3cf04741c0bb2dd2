/** Gives the inodes of the next tree their attributes, as far as the disk takes them, and knows what became of each. */

import type { ByteString } from '../../codec/kv.ts';
import type { AclText } from '../../reconcile/acl-text.ts';
import { sameXattrs, type Held, type Xattrs } from '../../reconcile/attributes.ts';
import type { Owner } from '../../reconcile/owners.ts';
import { codeOf } from '../base/error.ts';
import { applyAcls } from './posix-acl.ts';
import type { FileStat, FsPort } from '../base/ports.ts';
import type { Slot } from './slot.ts';
import { applyXattrs, readXattrs } from './xattrs.ts';

/** Attributes to give an inode that nobody else sees. */
export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  /** All of the namespace `user`; absent: as they are. */
  readonly xattrs?: Xattrs;
  /** `''` for none; absent: as they are. */
  readonly acl?: AclText;
}

/** What is known of an inode besides its signature and content. */
export type Remembered = Pick<Slot, 'xattrs' | 'acl' | 'lacks'>;

/** The attributes that a slot has on disk. */
export function attributesOnDisk({ signature, xattrs, acl }: Slot): Attributes {
  const { mode, uid, gid, mtimeNs } = signature;
  return { mode, uid, gid, mtimeNs, ...rememberedOf({ xattrs, acl }) };
}

/** What is remembered of a slot or of attributes, as fields to spread into another slot. */
export function rememberedOf({ xattrs, acl, lacks }: Partial<Record<keyof Remembered, unknown>>): Remembered {
  return {
    ...(xattrs === undefined ? {} : { xattrs }),
    ...(acl === undefined ? {} : { acl }),
    ...(lacks === undefined ? {} : { lacks }),
  } as Remembered;
}

export class AttributeWriter {
  readonly #fs: FsPort;
  readonly #held: Held;
  /** By place on disk. */
  readonly #written = new Map<ByteString, Remembered>();

  constructor(fs: FsPort, held: Held) {
    this.#fs = fs;
    this.#held = held;
  }

  /** All attributes of a file or special file in the stage. */
  write(path: ByteString, attributes: Attributes): void {
    // Before the mode, which may close the file to its owner.
    this.#writeHeld(path, attributes);
    this.#fs.chmod('chmod staged', path, attributes.mode & 0o777);
    this.#fs.lutimes('utimes staged', path, attributes.mtimeNs);
  }

  /** Those of a directory of the idle tree; `mode` is the one it has. */
  writeDirectory(path: ByteString, attributes: Attributes, mode: number): void {
    // Extended attributes take the right to write.
    if ((this.#held.xattrs || this.#held.acls) && (mode & 0o700) !== 0o700)
      this.#fs.chmod('open directory', path, mode | 0o700);
    this.#writeHeld(path, attributes);
    this.#fs.chmod('chmod directory', path, attributes.mode & 0o777);
  }

  /** Those of a symlink in the stage, which is about to be at `place`. */
  writeLink(path: ByteString, attributes: Attributes, place: ByteString): void {
    this.#written.set(place, withOwner({}, this.#chown(path, attributes)));
    this.#fs.lutimes('utimes symlink', path, attributes.mtimeNs);
  }

  /** What was written at `path` is about to be at `place`. */
  moved(path: ByteString, place: ByteString): void {
    this.#written.set(place, this.#written.get(path) ?? {});
  }

  /** What is known of what is at a place: what was written there, else what came with it. */
  remembered(place: ByteString, came: Remembered = {}): Remembered {
    const written = this.#written.get(place);
    return rememberedOf({ ...(written ?? came), lacks: written?.lacks ?? came.lacks });
  }

  /** The attributes of an inode, for a copy of it. */
  attributesAt(path: ByteString, stat: FileStat): Attributes {
    return this.#held.xattrs ? { ...stat, xattrs: readXattrs(this.#fs, path) } : stat;
  }

  /** Whether somebody changed extended attributes since they were read. */
  hasOtherXattrs(path: ByteString, { xattrs }: Remembered): boolean {
    if (!this.#held.xattrs || xattrs === undefined) return false;
    try {
      return !sameXattrs(readXattrs(this.#fs, path), xattrs);
    } catch {
      // Closed to this agent: then nothing is known of them.
      return false;
    }
  }

  #writeHeld(path: ByteString, attributes: Attributes): void {
    const written = { ...this.#writeXattrs(path, attributes), acl: this.#writeAcls(path, attributes) };
    this.#written.set(path, withOwner(rememberedOf(written), this.#chown(path, attributes)));
  }

  /** Sets ACLs, which the mode that is set afterwards completes; returns what is on disk then. */
  #writeAcls(path: ByteString, { acl, mode }: Attributes): AclText | undefined {
    if (acl === undefined || !this.#held.acls) return undefined;
    return applyAcls(this.#fs, path, acl === '' ? undefined : acl, mode) ? acl : '';
  }

  #writeXattrs(path: ByteString, { xattrs }: Attributes): Remembered {
    if (xattrs === undefined || !this.#held.xattrs) return {};
    const refused = applyXattrs(this.#fs, path, xattrs);
    if (Object.keys(refused).length === 0) return { xattrs };
    const taken = Object.entries(xattrs).filter(([name]) => refused[name] === undefined);
    return { xattrs: Object.fromEntries(taken), lacks: { xattrs: refused } };
  }

  /** Gives a name to its owner; returns the owner if that is not permitted. */
  #chown(path: ByteString, { uid, gid }: Attributes): Owner | undefined {
    if (!this.#held.owners) return undefined;
    try {
      this.#fs.lchown('chown', path, uid, gid);
      return undefined;
    } catch (error) {
      // A user namespace does not know every owner.
      const code = codeOf(error);
      if (code === 'EPERM' || code === 'EINVAL') return { uid, gid };
      throw error;
    }
  }
}

function withOwner(remembered: Remembered, owner: Owner | undefined): Remembered {
  return owner === undefined ? remembered : { ...remembered, lacks: { ...remembered.lacks, owner } };
}
