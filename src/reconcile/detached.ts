/**
 * Inodes that are made before they get their names: below a directory without a name, as the real client builds a clone
 * (layout 10.11), so that whoever finds it left over can take all of it away (ADR 6).
 */

import { encodeAttr, type Attr } from '../codec/attr.ts';
import { ByteReader, ByteWriter } from '../codec/bytes.ts';
import { encodeDirStat } from '../codec/counter.ts';
import { encodeDentry } from '../codec/dentry.ts';
import { dentryRange, encodeKey, type MetaKey } from '../codec/key.ts';
import type { ByteString, StoreTransaction } from '../codec/kv.ts';
import { Accounting, NO_STAT, statOf, sum, type AccountSettings } from './accounting.ts';
import { Draft, Unanswered, type NewInodeKeys } from './draft.ts';
import type { MetaNeed, MetaView } from './meta-view.ts';
import type { Limits } from './limits.ts';
import { OverLimit, Stale } from './refusal.ts';
import type { Work } from './work.ts';

/** The real client's gc takes such a tree for forgotten after 24 h; nothing of it is named after half of that. */
const MAX_AGE_SECONDS = 12n * 3600n;
/** Keys that stay together; a file may have more chunks than a transaction has room for. */
const PIECE_KEYS = 64;
/** Keys of accounts that a transaction may have besides, and the directory itself. */
const ACCOUNT_KEYS = 16;

/** What stands ready without names. */
export interface Hold {
  /** The directory without a name. */
  readonly ino: bigint;
  /** What was stored below it, by key without the volume's prefix. */
  readonly built: ReadonlyMap<ByteString, Uint8Array>;
  /** The attrs of the inodes in it. */
  readonly inodes: readonly Attr[];
}

/** What goes into one transaction whole. */
export interface Piece {
  /** Of the inode that begins here. */
  readonly attr?: Attr;
  readonly puts: readonly { readonly key: MetaKey; readonly value: Uint8Array }[];
}

/** A tree to be built, parents first. */
export interface DetachedTree {
  readonly ino: bigint;
  readonly attr: Attr;
  readonly stat: Uint8Array;
  readonly pieces: readonly Piece[];
}

/** The tree that has new inodes below the directory `ino`: as they will stand, or under their number. */
export function detachedTree(inodes: readonly NewInodeKeys[], ino: bigint, nowNs: bigint): DetachedTree {
  // A file that has names elsewhere as well could not be taken away with those that stand here.
  const isWhole = ({ attr, places }: NewInodeKeys): boolean =>
    attr.type === 'directory' || attr.nlink === Math.max(1, places.length);
  const buildable = new Map(inodes.filter(isWhole).map((inode) => [inode.ino, inode]));
  const pieces: Piece[] = [];
  const done = new Set<bigint>();
  let stat = NO_STAT;
  let directories = 0;
  const build = (inode: NewInodeKeys): void => {
    if (done.has(inode.ino)) return;
    done.add(inode.ino);
    const isRoot = inode.places.length === 0;
    for (const { parent } of inode.places) {
      const above = buildable.get(parent);
      if (above !== undefined) build(above);
    }
    const places = isRoot ? [{ parent: ino, name: String(inode.ino) }] : inode.places;
    const { type } = inode.attr;
    // A directory that stands here says so: its quotas are those of the directories above it.
    const attr = isRoot && type === 'directory' ? { ...inode.attr, parent: ino } : inode.attr;
    if (isRoot) {
      stat = sum(stat, statOf(attr));
      if (type === 'directory') directories += 1;
    }
    const puts = [
      { key: { kind: 'attr', ino: inode.ino } as const, value: encodeAttr(attr) },
      ...places.map((place) => {
        return { key: { kind: 'dentry', ...place } as const, value: encodeDentry({ type, ino: inode.ino }) };
      }),
      ...inode.others,
    ];
    for (let at = 0; at < puts.length; at += PIECE_KEYS) {
      pieces.push({ ...(at === 0 ? { attr } : {}), puts: puts.slice(at, at + PIECE_KEYS) });
    }
  };
  for (const inode of buildable.values()) build(inode);
  const attr: Attr = {
    flags: 0,
    type: 'directory',
    mode: 0o700,
    uid: 0,
    gid: 0,
    atimeNs: nowNs,
    mtimeNs: nowNs,
    ctimeNs: nowNs,
    nlink: 2 + directories,
    length: 4096n,
    rdev: 0,
    // Below no directory: nothing in it counts in anybody's quota.
    parent: 0n,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
    rest: new Uint8Array(0),
  };
  return { ino, attr, stat: encodeDirStat(stat), pieces };
}

export interface BuildRequest {
  readonly view: MetaView;
  /** The volume's prefix of metadata keys. */
  readonly prefix: ByteString;
  readonly tree: DetachedTree;
  /** Pieces that are built. */
  readonly done: number;
  readonly setting: AccountSettings;
  readonly nowNs: bigint;
  readonly limits: Limits;
}

export type BuildPlan =
  | {
      readonly status: 'plan';
      readonly transaction: StoreTransaction;
      /** Pieces that are built after it. */
      readonly done: number;
    }
  /** Somebody took the directory away, or the room that the survey found. */
  | { readonly status: 'gone' }
  | ({ readonly status: 'need' } & MetaNeed);

/**
 * The next transaction that builds a tree: the first one makes its directory. What is in it is counted at once, because
 * whoever takes it away subtracts it (upstream `doCleanupDetachedNode`).
 */
export function planBuild(request: BuildRequest): BuildPlan {
  const { tree, limits } = request;
  const draft = new Draft(request.view, request.prefix);
  const accounting = new Accounting(request.setting);
  const mark: MetaKey = { kind: 'detached', ino: tree.ino };
  try {
    const stored = draft.get(mark);
    const isFirst = request.done === 0;
    if (isFirst !== (stored === undefined)) return { status: 'gone' };
    if (isFirst) {
      draft.newInode(tree.ino);
      draft.put(mark, new ByteWriter().i64be(request.nowNs / 1_000_000_000n).finish());
      draft.putAttr(tree.ino, tree.attr);
      draft.put({ kind: 'dirStat', ino: tree.ino }, tree.stat);
      accounting.addUnowned(tree.attr);
    }
    let { done } = request;
    for (; done < tree.pieces.length; done += 1) {
      const undo = draft.checkpoint();
      const { attr, puts } = tree.pieces[done] ?? { puts: [] };
      for (const { key, value } of puts) draft.put(key, value);
      const { ops, bytes } = draft.size();
      if (ops + ACCOUNT_KEYS > limits.ops || bytes + ACCOUNT_KEYS * 100 > limits.bytes) {
        undo();
        break;
      }
      if (attr !== undefined) accounting.add(attr);
    }
    accounting.settle(draft, request.nowNs);
    return { status: 'plan', transaction: draft.finish(), done };
  } catch (error) {
    if (error instanceof Unanswered) return { status: 'need', ...error.need };
    if (error instanceof OverLimit) return { status: 'gone' };
    throw error;
  }
}

/** What a tree then holds, for the transaction that sets the names. */
export function holdOf({ ino, pieces }: DetachedTree): Hold {
  const puts = pieces.flatMap((piece) => piece.puts);
  return {
    ino,
    built: new Map(puts.map(({ key, value }) => [encodeKey(key), value])),
    inodes: pieces.flatMap(({ attr }) => attr ?? []),
  };
}

/**
 * Takes the directory away, whose entries get their names in the same transaction. Throws `Stale` if somebody took it
 * away, or may be about to.
 */
export function releaseHold({ draft, accounting, nowNs }: Work, { ino, inodes }: Hold): void {
  const mark: MetaKey = { kind: 'detached', ino };
  draft.expect(mark, { kind: 'attr', ino });
  const stored = draft.get(mark);
  const attr = draft.attr(ino);
  if (stored === undefined || attr === undefined) throw new Stale('what was prepared for it is gone');
  const seconds = new ByteReader(stored, 'detached').i64be();
  if (nowNs / 1_000_000_000n - seconds > MAX_AGE_SECONDS)
    throw new Stale('what was prepared for it is too old');
  draft.delete(mark);
  draft.delete({ kind: 'attr', ino });
  draft.delete({ kind: 'dirStat', ino });
  draft.deleteRange(dentryRange(ino));
  accounting.dropUnowned(attr);
  for (const one of inodes) accounting.drop(one);
}
