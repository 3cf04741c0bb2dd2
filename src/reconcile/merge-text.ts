/** Joins the edits that two sides made to one text, line by line, where they do not touch. */

import { diff3Merge } from 'node-diff3';

/** Texts of at most this many bytes are merged (design 4.4). */
export const MERGE_BYTES = 256 * 1024;
/** Lines that a side may have, once what all three share at both ends is left out. */
const MERGE_LINES = 8_000;
/** Pairs of equal lines of two texts: what the comparison of texts full of equal lines would cost. */
const MERGE_PAIRS = 2_000_000;

/** Whether bytes are a text that can be merged: valid UTF-8 without NUL, and not too long. */
export function isText(bytes: Uint8Array): boolean {
  return bytes.length <= MERGE_BYTES && textOf(bytes) !== undefined;
}

/**
 * The text with the edits of both sides. `undefined` when edits touch each other, when one of the three is no text, or when
 * they are too long. A line ends with its LF, so that CR LF and a last line without an end are told from others.
 */
export function mergeTexts(
  ancestor: Uint8Array,
  local: Uint8Array,
  remote: Uint8Array,
): Uint8Array | undefined {
  const three = [linesOf(ancestor), linesOf(local), linesOf(remote)] as const;
  const [o, a, b] = three;
  if (o === undefined || a === undefined || b === undefined) return undefined;
  const { start, end } = sharedEnds(o, a, b);
  const inner = (lines: readonly string[]): string[] => lines.slice(start, lines.length - end);
  const middle = mergeLines(inner(o), inner(a), inner(b));
  if (middle === undefined) return undefined;
  const merged = [...o.slice(0, start), ...middle, ...o.slice(o.length - end)];
  // A last line without an end that is last no more: what follows it would become a part of it.
  if (merged.slice(0, -1).some((line) => !line.endsWith('\n'))) return undefined;
  return new TextEncoder().encode(merged.join(''));
}

function mergeLines(o: string[], a: string[], b: string[]): string[] | undefined {
  if ([o, a, b].some(({ length }) => length > MERGE_LINES)) return undefined;
  if (equalPairs(o, a) + equalPairs(o, b) > MERGE_PAIRS) return undefined;
  const lines: string[] = [];
  for (const { ok } of diff3Merge(a, o, b)) {
    if (ok === undefined) return undefined;
    lines.push(...ok);
  }
  return lines;
}

/** How many lines all three have in common at their starts, and behind that at their ends. */
function sharedEnds(
  o: readonly string[],
  a: readonly string[],
  b: readonly string[],
): { readonly start: number; readonly end: number } {
  const length = Math.min(o.length, a.length, b.length);
  let start = 0;
  while (start < length && o[start] === a[start] && o[start] === b[start]) start += 1;
  let end = 0;
  while (end < length - start && o.at(-1 - end) === a.at(-1 - end) && o.at(-1 - end) === b.at(-1 - end))
    end += 1;
  return { start, end };
}

function equalPairs(a: readonly string[], b: readonly string[]): number {
  const counts = new Map<string, number>();
  for (const line of a) counts.set(line, (counts.get(line) ?? 0) + 1);
  return b.reduce((sum, line) => sum + (counts.get(line) ?? 0), 0);
}

/** Each with the LF that ends it; the last one may have none. */
function linesOf(bytes: Uint8Array): string[] | undefined {
  const text = bytes.length > MERGE_BYTES ? undefined : textOf(bytes);
  return text === undefined ? undefined : (text.match(/[^\n]*\n|[^\n]+$/g) ?? []);
}

function textOf(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
