/** An entry that both sides agreed on. */

import { sameXattrs } from '../../reconcile/attributes.ts';
import type { Entry } from '../../reconcile/entry.ts';

/**
 * An entry both sides agreed on. `contentKey` names the volume's content, so that a restart fetches nothing. `at` is a
 * revision at which the volume had it; absent: that of the published tree is one.
 */
export type AncestorEntry = Entry & { readonly contentKey?: string; readonly at?: bigint };

/** The entry, which the volume has at a revision. */
export function agreedAt(entry: AncestorEntry, at: bigint): AncestorEntry {
  return { ...entry, at };
}

/** Equal in every field, those that reconcile does not count included; since when does not matter. */
export function sameFields(a: AncestorEntry | undefined, b: AncestorEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const fields = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof AncestorEntry>;
  fields.delete('xattrs');
  fields.delete('at');
  for (const field of fields) if (a[field] !== b[field]) return false;
  return sameXattrs(a.xattrs, b.xattrs);
}
