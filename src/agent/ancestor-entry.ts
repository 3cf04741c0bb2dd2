/** An entry that both sides agreed on. */

import { sameXattrs } from '../reconcile/attributes.ts';
import type { Entry } from '../reconcile/entry.ts';

/** An entry both sides agreed on. `contentKey` names the volume's content, so that a restart fetches nothing. */
export type AncestorEntry = Entry & { readonly contentKey?: string };

/** Equal in every field, those that reconcile does not count included. */
export function sameFields(a: AncestorEntry | undefined, b: AncestorEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const fields = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof AncestorEntry>;
  fields.delete('xattrs');
  for (const field of fields) if (a[field] !== b[field]) return false;
  return sameXattrs(a.xattrs, b.xattrs);
}
