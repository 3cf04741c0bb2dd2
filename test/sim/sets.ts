/**
 * Files that belong together, as a certificate and its key: whoever owns a set writes all of it at once, and nobody else touches
 * it. So whoever sees one of its versions has to see all of that version.
 */

import type { Path } from '../../src/reconcile/entry.ts';

/** Directories that sets need. */
export const SET_DIRECTORIES: readonly Path[] = ['set', 'set/in'];

export function filesOfSet(owner: string): Path[] {
  return [`set/${owner}.crt`, `set/${owner}.key`, `set/in/${owner}.conf`];
}

/** A line of a set's version `generation`. */
export function lineOfSet(line: string, generation: number): string {
  return line.replace('\n', ` @${generation}\n`);
}

/** What is wrong with a set; `undefined` when it is whole or was never written. */
export function whyTorn(owner: string, read: (path: Path) => string | undefined): string | undefined {
  const seen = filesOfSet(owner).map((path) => {
    const text = read(path);
    if (text === undefined) return 'none';
    return /^#\d+ .* @(\d+)\n$/.exec(text)?.[1] ?? `half (${JSON.stringify(text)})`;
  });
  return new Set(seen).size === 1 && !seen[0]?.startsWith('half') ? undefined : seen.join(', ');
}
