/** The digest by which contents are told apart. */

import { createHash } from 'node:crypto';

/** SHA-256, lower-case hex. */
export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
