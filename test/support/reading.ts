/** Reading what somebody else may take away in that moment. */

import { readFileSync } from 'node:fs';
import { codeOf } from '../../src/agent/base/error.ts';

/** What a path is answered with that was there right before. */
export const GONE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ESTALE']);

/** The text of a file; `undefined` while there is none. */
export function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (GONE.has(codeOf(error))) return undefined;
    throw error;
  }
}
