/** Where the loser of a conflict is kept in the volume, and the record of the conflict beside it. */

import type { ByteString } from '../codec/kv.ts';
import type { Path } from './entry.ts';

/** The directory of conflict copies in the volume's root. No view shows it. */
export const CONFLICTS = '.conflicts';
/** The directory of the records in it: no stamp is called so. */
export const RECORDS = '.records';

/**
 * The name of the directory of one agent's copies: `<UTC time>-r<revision>-<agent id>` (design 3.3). What an agent id has
 * besides letters, digits, dot and dash becomes `_`, so that it is one name.
 */
export function conflictStamp(conflict: {
  readonly timeNs: bigint;
  readonly revision: bigint;
  readonly agentId: ByteString;
}): ByteString {
  const time = new Date(Number(conflict.timeNs / 1_000_000n)).toISOString();
  const compact = `${time.slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
  const agent = conflict.agentId.replaceAll(/[^A-Za-z0-9.-]/g, '_').slice(0, 200);
  return `${compact}-r${conflict.revision}-${agent}`;
}

/** The path of a conflict copy from the volume's root; `path` is from the volume's root too. */
export function copyPath(stamp: ByteString, path: Path): Path {
  return `${CONFLICTS}/${stamp}/${path}`;
}

/** The path of the record about a copy; `id` is a name that stands for its path and content. */
export function recordPath(stamp: ByteString, id: ByteString): Path {
  return `${CONFLICTS}/${RECORDS}/${stamp}/${id}.json`;
}

/** The mode of a conflict copy: nobody but the owner may read what was never published (design 3.3). */
export function conflictMode(loserMode: number): number {
  return loserMode & 0o700;
}

/** The modes of what is made around conflict copies. */
export const CONFLICT_DIRECTORY_MODE = 0o700;
export const CONFLICT_RECORD_MODE = 0o600;
