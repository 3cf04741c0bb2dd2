/** Which attributes and kinds of entries this side can hold on disk: found out at start by trying, in the state directory. */

import type { ByteString } from '../codec/kv.ts';
import type { Held } from '../reconcile/attributes.ts';
import { codeOf } from './error.ts';
import type { Layout } from './layout.ts';
import { tryAcl } from './posix-acl.ts';
import type { FsPort, SpecialKind } from './ports.ts';

/** Which special files of the volume are wanted on disk. */
export type SpecialFiles = 'none' | 'fifo' | 'all';

/** What this side holds. What it cannot hold is remembered, and never pushed back as a change (design G12). */
export interface Abilities {
  readonly held: Held;
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
  return { held, specialRefusal: (kind) => refusals.get(kind) };
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
