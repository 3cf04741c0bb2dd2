/** Keys that agents keep for themselves beside a volume, outside all that belongs to it (design 3.3). */

import type { ByteString } from '../../codec/kv.ts';

/** A key of ours about the volume with this UUID. */
export function ownKey(uuid: string, name: string): ByteString {
  return `etcd-etc-agent/${uuid}/${name}`;
}

/** Written whenever blocks that nothing named were deleted: whoever stored some before compares it (ADR 7). */
export function fenceKey(uuid: string): ByteString {
  return ownKey(uuid, 'gc/fence');
}
