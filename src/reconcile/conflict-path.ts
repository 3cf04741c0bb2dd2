/** Where the loser of a conflict is kept in the volume. */

import type { ByteString } from '../codec/kv.ts';
import type { Path } from './entry.ts';

/** The directory of conflict copies in the volume's root. No view shows it. */
const CONFLICTS = '.conflicts';

/**
 * The path of a conflict copy from the volume's root: `.conflicts/<UTC time>-r<revision>-<agent id>/<path>` (design 3.3).
 * `path` is from the volume's root too. What an agent id has besides letters, digits, dot and dash becomes `_`, so that
 * it is one name.
 */
export function conflictPath(
  path: Path,
  conflict: { readonly timeNs: bigint; readonly revision: bigint; readonly agentId: ByteString },
): Path {
  const time = new Date(Number(conflict.timeNs / 1_000_000n)).toISOString();
  const compact = `${time.slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
  const agent = conflict.agentId.replaceAll(/[^A-Za-z0-9.-]/g, '_').slice(0, 200);
  return `${CONFLICTS}/${compact}-r${conflict.revision}-${agent}/${path}`;
}

/** The mode of a conflict copy: nobody but the owner may read what was never published (design 3.3). */
export function conflictMode(loserMode: number): number {
  return loserMode & 0o700;
}

/** The mode of the directories that are made for conflict copies. */
export const CONFLICT_DIRECTORY_MODE = 0o700;
