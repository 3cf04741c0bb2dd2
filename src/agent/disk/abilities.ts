/** Which attributes and kinds of entries this side can hold on disk: found out at start by trying, in the state directory. */

import type { ByteString } from '../../codec/kv.ts';
import type { Held } from '../../reconcile/attributes.ts';
import { codeOf } from '../base/error.ts';
import type { Layout } from './layout.ts';
import { tryAcl } from './posix-acl.ts';
import type { FsPort, SpecialKind } from '../base/ports.ts';

/** Which special files of the volume are wanted on disk. */
export type SpecialFiles = 'none' | 'fifo' | 'all';

/** What this side holds. What it cannot hold is remembered, and never pushed back as a change (design G12). */
export interface Abilities {
  readonly held: Held;
  /** Whether two names can change places in one step. */
  readonly exchanges: boolean;
  /** Whether it can be told that nobody can write to a file any more. */
  readonly leases: boolean;
  /** Why special files of a kind take no part, as a phrase that names the kind; `undefined` when they do. */
  specialRefusal(kind: SpecialKind): string | undefined;
}

interface Wishes {
  readonly specialFiles: SpecialFiles;
  /** Whether a change of times alone is a change. */
  readonly syncTimes: boolean;
}

/** `/dev/null` as the store encodes it: a device that does no harm while its name is there. */
const NULL_DEVICE = 0x103;

/** Tries what the wishes ask for. */
export function findAbilities(fs: FsPort, layout: Layout, { specialFiles, syncTimes }: Wishes): Abilities {
  const refusals = new Map<SpecialKind, string>();
  for (const kind of ['fifo', 'socket', 'block', 'char'] as const) {
    const isWanted = specialFiles === 'all' || (specialFiles === 'fifo' && kind === 'fifo');
    const refusal = isWanted ? triedNode(fs, layout, kind) : `--special-files ${specialFiles} leaves it out`;
    if (refusal !== undefined) refusals.set(kind, `a ${kind} is not shown: ${refusal}`);
  }
  const held = {
    owners: canGiveAway(fs, layout),
    times: syncTimes,
    xattrs: takes(fs, layout, tryXattr),
    acls: takes(fs, layout, tryAcl),
  };
  return {
    held,
    exchanges: canExchange(fs, layout),
    leases: canTellWriters(fs, layout),
    specialRefusal: (kind) => refusals.get(kind),
  };
}

function canExchange(fs: FsPort, layout: Layout): boolean {
  const [a, b] = [`${layout.stage}/try-one`, `${layout.stage}/try-other`];
  const error = tried(fs, a, () => {
    fs.close('try exchange', fs.openNew('try exchange', a));
    const before = fs.lstat('try exchange', a)?.ino;
    const other = tried(fs, b, () => {
      fs.symlink('try exchange', 'nowhere', b);
      fs.exchange('try exchange', a, b);
      if (fs.lstat('try exchange', b)?.ino !== before) throw new Error('it did something else');
    });
    if (other !== undefined) throw new Error('names cannot be exchanged', { cause: other });
  });
  return error === undefined;
}

/** Both answers are tried: some file systems grant any lease. */
function canTellWriters(fs: FsPort, layout: Layout): boolean {
  const at = `${layout.stage}/try-lease`;
  const error = tried(fs, at, () => {
    const fd = fs.openNew('try lease', at);
    try {
      if (!fs.hasWriter('try lease', at)) throw new Error('a writer was not seen');
    } finally {
      fs.close('try lease', fd);
    }
    if (fs.hasWriter('try lease', at)) throw new Error('a writer was seen where there is none');
  });
  return error === undefined;
}

function triedNode(fs: FsPort, layout: Layout, kind: SpecialKind): string | undefined {
  const at = `${layout.stage}/try-${kind}`;
  const rdev = kind === 'block' || kind === 'char' ? NULL_DEVICE : 0;
  const error = tried(fs, at, () => fs.mknod('try special', at, kind, rdev));
  if (error === undefined) return undefined;
  return codeOf(error) === 'ENOENT'
    ? 'the program that makes it is missing'
    : `it cannot be made here (${codeOf(error)})`;
}

function canGiveAway(fs: FsPort, layout: Layout): boolean {
  if (process.geteuid?.() !== 0) return false;
  const at = `${layout.stage}/try-owner`;
  const error = tried(fs, at, () => {
    fs.close('try owner', fs.openNew('try owner', at));
    fs.lchown('try owner', at, 1, 1);
  });
  return error === undefined;
}

function takes(fs: FsPort, layout: Layout, set: (fs: FsPort, path: ByteString) => void): boolean {
  const at = `${layout.stage}/try-xattr`;
  const error = tried(fs, at, () => {
    fs.close('try xattr', fs.openNew('try xattr', at));
    set(fs, at);
  });
  return error === undefined;
}

function tryXattr(fs: FsPort, path: ByteString): void {
  fs.setXattr('try xattr', path, 'user.etcd-etc-agent', 'try');
}

/** Does something that may leave a name behind; returns what it threw. */
function tried(fs: FsPort, at: ByteString, make: () => void): unknown {
  const clean = (): void => {
    if (fs.lstat('try', at) !== undefined) fs.unlink('try', at);
  };
  try {
    clean();
    make();
    return undefined;
  } catch (error) {
    return error ?? new Error('it failed');
  } finally {
    clean();
  }
}
