/** A process that tells when a reader of DIR sees a file's content change, on the clock that all processes share. */

import { readFileSync, watch } from 'node:fs';
import { join } from 'node:path';

/** What it sends to its parent; the first is what was there at the start. */
export interface Sight {
  readonly text: string;
  /** Nanoseconds of `process.hrtime`, in digits. */
  readonly atNs: string;
}

const [dir, file] = process.argv.slice(2);
if (dir === undefined || file === undefined) throw new Error('observer DIR FILE');
let last: string | undefined;

function look(path: string): void {
  const text = readFileSync(path, 'utf8');
  const atNs = String(process.hrtime.bigint());
  if (text === last) return;
  last = text;
  process.send?.({ text, atNs } satisfies Sight);
}

// The kernel tells of the renamed `..data`: nothing spins beside what is measured.
watch(dir, () => look(join(dir, file)));
look(join(dir, file));
process.on('disconnect', () => process.exit(0));
