/** The lines of the log: records as JSON, the header that says whose log it is, and what the bytes of a file are worth. */

import type { LedgerRecord } from './ledger-record.ts';

/** Version of the log's format. 1 had no header. */
export const FORMAT = 2;

/** The first line of a log. */
export interface Header {
  readonly t: 'format';
  readonly format: number;
  /** Another one for each file that is begun. */
  readonly id: string;
  /** Inode of DIR: a log that was copied to another directory says nothing of that. */
  readonly root: bigint;
}

/** What the bytes of a log file are. */
export type ReadLog =
  /** `end`: length of the whole lines; what follows was torn by a crash. */
  | {
      readonly kind: 'log';
      readonly header: Header | undefined;
      readonly records: readonly LedgerRecord[];
      readonly end: number;
    }
  | { readonly kind: 'newer'; readonly format: number }
  | { readonly kind: 'lost'; readonly reason: string };

/**
 * Reads a log. A log of which a part is damaged is worth nothing: an older state of what was agreed on would make
 * removals out of what came since.
 */
export function readLog(bytes: Uint8Array): ReadLog {
  const end = bytes.lastIndexOf(0x0a) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, end)).split('\n').slice(0, -1);
  const records: LedgerRecord[] = [];
  let header: Header | undefined;
  for (const [index, line] of lines.entries()) {
    let record: LedgerRecord | Header;
    try {
      record = decode(line);
    } catch {
      return { kind: 'lost', reason: `line ${index + 1} is no record` };
    }
    if ((record.t === 'format' || record.t === 'owner') && (record.format ?? 0) > FORMAT)
      return { kind: 'newer', format: record.format ?? 0 };
    if (record.t !== 'format') records.push(record);
    else if (index === 0) header = record;
    else return { kind: 'lost', reason: `line ${index + 1} is the first one of another log` };
  }
  return { kind: 'log', header, records, end };
}

/** A bigint in the log is a string of digits and a closing `n`; no other string of the log looks like that by chance, because strings that do are marked. */
export function encode(record: LedgerRecord | Header): Uint8Array {
  const text = JSON.stringify(record, (_key, value: unknown) => {
    if (typeof value === 'bigint') return `${value}n`;
    return typeof value === 'string' && /^'*-?\d+n$/.test(value) ? `'${value}` : value;
  });
  return new TextEncoder().encode(`${text}\n`);
}

function decode(line: string): LedgerRecord | Header {
  const record = JSON.parse(line, (_key, value: unknown) => {
    if (typeof value !== 'string') return value;
    if (/^-?\d+n$/.test(value)) return BigInt(value.slice(0, -1));
    return /^'+-?\d+n$/.test(value) ? value.slice(1) : value;
  }) as LedgerRecord | Header | null;
  if (typeof record?.t !== 'string') throw new TypeError('no record');
  return record;
}
