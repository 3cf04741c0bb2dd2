/** Which calls of an agent fail on a disk that is ill, and how. */

import type { FsPort } from '../../src/agent/base/ports.ts';

export const DISK_ERRORS = ['EIO', 'ENOSPC', 'EROFS', 'EMFILE', 'EDQUOT'] as const;

/** How a disk is ill. */
export interface Illness {
  readonly code: (typeof DISK_ERRORS)[number];
  /** How likely it is that a call fails; in (0, 1]. */
  readonly chance: number;
}

const NEEDS_ROOM: ReadonlySet<keyof FsPort> = new Set([
  'openNew',
  'openAppend',
  'write',
  'mkdir',
  'link',
  'rename',
  'symlink',
  'mknod',
  'setXattr',
]);
const NEEDS_A_DESCRIPTOR: ReadonlySet<keyof FsPort> = new Set([
  'openRead',
  'openNew',
  'openAppend',
  'readdir',
  'syncDir',
  'syncFs',
]);

/** Whether a call can fail with an error (the ERRORS of its page in section 2 of the manual). Closing frees the descriptor in any case. */
export function canFail(call: keyof FsPort, isChange: boolean, code: Illness['code']): boolean {
  if (call === 'close') return false;
  switch (code) {
    case 'EIO':
      return true;
    case 'ENOSPC':
    case 'EDQUOT':
      return NEEDS_ROOM.has(call);
    case 'EROFS':
      return isChange && call !== 'fsync' && call !== 'syncDir' && call !== 'syncFs';
    case 'EMFILE':
      return NEEDS_A_DESCRIPTOR.has(call);
  }
}
