/** All metadata of a volume as one revision had them, decoded: what an audit and a clean-up decide on. */

import { decodeAttr, type Attr } from '../codec/attr.ts';
import {
  decodeCounter,
  decodeDirStat,
  decodeQuota,
  decodeTimeCounter,
  type DirStat,
  type Quota,
} from '../codec/counter.ts';
import { decodeDelayedSlices } from '../codec/delayed-slices.ts';
import { decodeDentry, type Dentry } from '../codec/dentry.ts';
import { DecodeError } from '../codec/error.ts';
import { decodeKey, ROOT_INO, TRASH_INO, type MetaKey } from '../codec/key.ts';
import type { ByteString } from '../codec/kv.ts';
import { decodeSlices, type SliceRecord } from '../codec/slice.ts';
import type { MetaKv } from './meta-view.ts';
import type { Place } from './work.ts';

/** A decoded value, and the mod revision that a writer compares. */
export interface Fact<T> {
  readonly value: T;
  readonly modRevision: bigint;
}

/** A slice by what its references are kept under. */
export interface SliceName {
  readonly id: bigint;
  readonly size: number;
}

/** A slice as the key of a map. */
export function sliceKey({ id, size }: SliceName): string {
  return `${id}/${size}`;
}

/** A value that is not the layout. */
export interface BrokenValue {
  readonly key: MetaKey;
  readonly reason: string;
}

/** The slices of one `L` key. */
export interface DelayedSlices {
  readonly seconds: bigint;
  readonly id: bigint;
  readonly slices: readonly SliceName[];
}

/** The trash's folder in paths for people; no volume has a name like it in its root. */
const TRASH_NAME = '.trash';

/** Collects keys of one revision, without the volume's prefix; whatever is not of the layout is ignored. */
export class VolumeFacts {
  readonly attrs = new Map<bigint, Fact<Attr>>();
  /** By directory, then by name. */
  readonly dentries = new Map<bigint, Map<ByteString, Fact<Dentry>>>();
  /** Where each inode's names stand, the trash included. */
  readonly names = new Map<bigint, Place[]>();
  /** By inode, then by parent. */
  readonly parents = new Map<bigint, Map<bigint, Fact<bigint>>>();
  /** By inode, then by index. */
  readonly chunks = new Map<bigint, Map<number, Fact<readonly SliceRecord[]>>>();
  /** Bytes of each target. */
  readonly symlinks = new Map<bigint, Fact<number>>();
  /** Inodes that have xattrs. */
  readonly xattrs = new Set<bigint>();
  readonly dirStats = new Map<bigint, Fact<DirStat>>();
  readonly dirQuotas = new Map<bigint, Fact<Quota>>();
  readonly userQuotas = new Map<bigint, Fact<Quota>>();
  readonly groupQuotas = new Map<bigint, Fact<Quota>>();
  /** `K`: references minus one, by `sliceKey`. */
  readonly references = new Map<string, Fact<bigint> & SliceName>();
  readonly delayed: Fact<DelayedSlices>[] = [];
  /** `D`: seconds of the deletion, by inode and length. */
  readonly deleted: (Fact<bigint> & { readonly ino: bigint; readonly length: bigint })[] = [];
  /** `SS`. */
  readonly sustained: { readonly sid: bigint; readonly ino: bigint; readonly modRevision: bigint }[] = [];
  /** `SE`: seconds at which each session expires. */
  readonly sessions = new Map<bigint, Fact<bigint>>();
  /** Sessions that have any key, and when one of those was written last. */
  readonly sessionRevisions = new Map<bigint, bigint>();
  /** `N`: seconds at which each tree was begun. */
  readonly detached = new Map<bigint, Fact<bigint>>();
  /** `F` and `P`: inodes with locks, and the raw values. */
  readonly locks: { readonly key: MetaKey; readonly raw: Uint8Array; readonly modRevision: bigint }[] = [];
  readonly counters = new Map<ByteString, Fact<bigint>>();
  readonly broken: BrokenValue[] = [];

  add(kv: MetaKv): void {
    const key = decodeKey(kv.key);
    try {
      this.#add(key, kv);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.broken.push({ key, reason: error.message });
    }
  }

  #add(key: MetaKey, { value: raw, modRevision }: MetaKv): void {
    switch (key.kind) {
      case 'attr':
        this.attrs.set(key.ino, { value: decodeAttr(raw), modRevision });
        break;
      case 'dentry': {
        const dentry = decodeDentry(raw);
        within(this.dentries, key.parent).set(key.name, { value: dentry, modRevision });
        const place = { parent: key.parent, name: key.name };
        const names = this.names.get(dentry.ino);
        if (names === undefined) this.names.set(dentry.ino, [place]);
        else names.push(place);
        break;
      }
      case 'parent':
        within(this.parents, key.ino).set(key.parent, { value: decodeCounter(raw), modRevision });
        break;
      case 'chunk':
        if (raw.length === 0) throw new DecodeError('chunk', 0, 'the value is empty');
        within(this.chunks, key.ino).set(key.index, { value: decodeSlices(raw), modRevision });
        break;
      case 'symlink':
        this.symlinks.set(key.ino, { value: raw.length, modRevision });
        break;
      case 'xattr':
        this.xattrs.add(key.ino);
        break;
      case 'dirStat':
        this.dirStats.set(key.ino, { value: decodeDirStat(raw), modRevision });
        break;
      case 'dirQuota':
        this.dirQuotas.set(key.ino, { value: decodeQuota(raw), modRevision });
        break;
      case 'userQuota':
        this.userQuotas.set(key.uid, { value: decodeQuota(raw), modRevision });
        break;
      case 'groupQuota':
        this.groupQuotas.set(key.gid, { value: decodeQuota(raw), modRevision });
        break;
      case 'sliceRef': {
        const { id, size } = key;
        this.references.set(sliceKey(key), { value: decodeCounter(raw), modRevision, id, size });
        break;
      }
      case 'delayedSlices': {
        const { seconds, id } = key;
        this.delayed.push({ value: { seconds, id, slices: decodeDelayedSlices(raw) }, modRevision });
        break;
      }
      case 'deletedFile':
        this.deleted.push({ value: decodeTimeCounter(raw), modRevision, ino: key.ino, length: key.length });
        break;
      case 'sustained':
        this.#sawSession(key.sid, modRevision);
        this.sustained.push({ sid: key.sid, ino: key.ino, modRevision });
        break;
      case 'sessionExpire':
        this.#sawSession(key.sid, modRevision);
        this.sessions.set(key.sid, { value: decodeTimeCounter(raw), modRevision });
        break;
      case 'sessionHeartbeat':
      case 'sessionInfo':
        this.#sawSession(key.sid, modRevision);
        break;
      case 'detached':
        this.detached.set(key.ino, { value: decodeTimeCounter(raw), modRevision });
        break;
      case 'flock':
      case 'plock':
        this.locks.push({ key, raw, modRevision });
        break;
      case 'counter':
        // The times that jobs are elected by are of no interest here (layout 8.1).
        if (!/^(last|next)Cleanup/.test(key.name)) {
          this.counters.set(key.name, { value: decodeCounter(raw), modRevision });
        }
        break;
      case 'setting':
      case 'aclRule':
      case 'kerberosToken':
      case 'changeLog':
      case 'unknown':
        break;
    }
  }

  #sawSession(sid: bigint, modRevision: bigint): void {
    const before = this.sessionRevisions.get(sid) ?? 0n;
    this.sessionRevisions.set(sid, before > modRevision ? before : modRevision);
  }

  attr(ino: bigint): Attr | undefined {
    return this.attrs.get(ino)?.value;
  }

  /** The entries of a directory; empty for anything else. */
  list(ino: bigint): ReadonlyMap<ByteString, Fact<Dentry>> {
    return this.dentries.get(ino) ?? new Map<never, never>();
  }

  namesOf(ino: bigint): readonly Place[] {
    return this.names.get(ino) ?? [];
  }

  /** A path for people, by the first name found; of what no name leads to, `undefined`. */
  pathOf(ino: bigint): ByteString | undefined {
    const parts: ByteString[] = [];
    const seen = new Set<bigint>();
    for (let at = ino; at !== ROOT_INO;) {
      if (at === TRASH_INO) return `/${[TRASH_NAME, ...parts].join('/')}`;
      const place = this.namesOf(at)[0];
      if (place === undefined || seen.has(at)) return undefined;
      seen.add(at);
      parts.unshift(place.name);
      at = place.parent;
    }
    return `/${parts.join('/')}`;
  }

  /** The path of a name, whether or not it leads anywhere. */
  pathOfName({ parent, name }: Place): ByteString | undefined {
    const above = this.pathOf(parent);
    return above === undefined ? undefined : `${above === '/' ? '' : above}/${name}`;
  }

  /** How often each slice is named by chunks and by delayed slices: what `K` + 1 is to be (layout 5.4). */
  countReferences(): Map<string, SliceName & { readonly count: bigint }> {
    const counts = new Map<string, SliceName & { readonly count: bigint }>();
    const name = ({ id, size }: SliceName): void => {
      if (id === 0n) return;
      const key = sliceKey({ id, size });
      counts.set(key, { id, size, count: (counts.get(key)?.count ?? 0n) + 1n });
    };
    for (const chunks of this.chunks.values()) for (const { value } of chunks.values()) value.forEach(name);
    for (const { value } of this.delayed) value.slices.forEach(name);
    return counts;
  }
}

function within<K, L, V>(outer: Map<K, Map<L, V>>, key: K): Map<L, V> {
  const found = outer.get(key);
  if (found !== undefined) return found;
  const made = new Map<L, V>();
  outer.set(key, made);
  return made;
}
