/** Brings what was parked into the volume: conflict copies, each with its record. */

import type { ByteString } from '../../codec/kv.ts';
import { codeOf } from '../base/error.ts';
import type { Owner } from '../../reconcile/owners.ts';
import type { Layout } from '../disk/layout.ts';
import type { Parked } from '../state/parked.ts';
import type { FsPort } from '../base/ports.ts';
import type { Claim, Pusher } from './push.ts';
import type { Remote } from '../follow/remote.ts';
import type { IsSameStore } from '../base/same-store.ts';

interface CopiesContext {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly parked: Parked;
  readonly remote: Remote;
  /** Who gets new files; `undefined`: whoever has them here. */
  readonly owner: Owner | undefined;
  /** Whether the store is still the one that the push began with. */
  readonly isSameStore: IsSameStore;
  readonly signal: AbortSignal;
  readonly onClaim: (claim: Claim) => void;
}

/** Pushes all that is parked. Returns whether each copy is in the volume or refused; the others are to be tried again. */
export async function pushCopies(pusher: Pusher, context: CopiesContext): Promise<boolean> {
  const { fs, layout, parked, remote, owner, isSameStore, signal, onClaim } = context;
  const copies = parked.pushes(owner);
  if (copies.length === 0) return true;
  const names = new Map(copies.map(({ name, copy }) => [copy.path, name]));
  const records = new Map(copies.map(({ record, recordBytes }) => [record.path, recordBytes]));
  const { changes } = await pusher.push(
    copies.flatMap(({ copy, record }) => [copy, record]),
    {
      live: { index: remote.index, revision: () => remote.head },
      read: (change, offset, length) => {
        const record = records.get(change.path);
        const bytes =
          record === undefined
            ? readPart(fs, `${layout.parked}/${names.get(change.path)}`, offset, length)
            : record.subarray(Number(offset), Number(offset) + length);
        return Promise.resolve(bytes);
      },
      isSameStore,
      signal,
      onClaim,
    },
  );
  let isDone = true;
  for (const outcome of changes) {
    const { path } = outcome.change;
    const name = names.get(path);
    if (name === undefined) continue;
    if (outcome.outcome === 'committed') parked.release(name, path, outcome.revision);
    else if (outcome.outcome === 'refused') parked.refuse(name, outcome.reason);
    else {
      if (outcome.outcome === 'stale') parked.noteStale(name, outcome.reason);
      if (outcome.outcome === 'changed') parked.readAgain(name);
      isDone = false;
    }
  }
  return isDone;
}

/** Errors of a call that opens a file which are about this file alone: it went, was replaced or was closed to us. */
const SAYS_OF_THE_FILE: ReadonlySet<string> = new Set([
  'ENOENT',
  'ENOTDIR',
  'ELOOP',
  'EACCES',
  'EPERM',
  'ENXIO',
]);

/**
 * Part of a file. Gone since the look: fewer bytes than the entry says make the pusher set the change aside. Throws what a failing disk
 * says.
 */
export function readPart(fs: FsPort, at: ByteString, offset: bigint, length: number): Uint8Array {
  let fd: number;
  try {
    fd = fs.openRead('read for push', at);
  } catch (error) {
    // A disk that fails says nothing of this file: what belongs together is not to be cut by it.
    if (!SAYS_OF_THE_FILE.has(codeOf(error) ?? '')) throw error;
    return new Uint8Array(0);
  }
  try {
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, fs.read('read for push', fd, bytes, Number(offset)));
  } finally {
    fs.close('read for push', fd);
  }
}
