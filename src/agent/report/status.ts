/** What is true right now, for `status` and the probes: one small JSON file in the state directory. */

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import { isMissing } from '../base/error.ts';
import type { Tripped } from '../guard/guards.ts';
import type { Layout } from '../disk/layout.ts';
import { readAll } from '../base/read-all.ts';
import type { FsPort } from '../base/ports.ts';

/** Paths are escaped text. Revisions are decimal strings. */
export interface Status {
  readonly version: 1;
  readonly pid: number;
  /** A published tree exists (design G10); a store outage does not change it. */
  readonly ready: boolean;
  /** The tree may be behind: the store cannot be followed now. */
  readonly stale: boolean;
  readonly volume?: string;
  readonly publishedRevision: string;
  readonly storeRevision: string;
  readonly files: number;
  readonly pendingEdits: number;
  /** Local contents that wait to become conflict copies. */
  readonly parked: readonly string[];
  readonly unadopted: readonly string[];
  readonly problems: Readonly<Record<string, string>>;
  /** The last push that was too large for one transaction, so that others saw its steps. */
  readonly cutPush?: { readonly revision: string; readonly steps: number };
  /** Why nothing is published or pushed until a person looks. */
  readonly guards: readonly Tripped[];
  /** How often each guard has tripped since the agent started. */
  readonly trips: Readonly<Record<string, number>>;
  /** What went wrong last with the store. */
  readonly storeError?: string;
  /** When this was written and when DIR was last looked at; ISO 8601. */
  readonly time: string;
  readonly lastScan: string;
}

/** What is true now, before it is written. */
export type CurrentStatus = Omit<Status, 'time' | 'lastScan'>;

/** Writes the status so that a reader sees the old one or the new one. */
export function writeStatus(fs: FsPort, layout: Layout, status: Status): void {
  const next = `${layout.status}.new`;
  if (fs.lstat('status', next) !== undefined) fs.unlink('status', next);
  const fd = fs.openNew('status', next);
  try {
    fs.write('status', fd, new TextEncoder().encode(`${JSON.stringify(status, null, 2)}\n`));
  } finally {
    fs.close('status', fd);
  }
  fs.rename('status', next, layout.status);
}

/** Reads the status; `undefined` when no agent has written one. */
export function readStatus(fs: FsPort, layout: Layout): Status | undefined {
  try {
    const read = JSON.parse(new TextDecoder().decode(readAll(fs, layout.status))) as Status;
    // An older agent wrote none of these.
    return { ...{ guards: [], trips: {} }, ...read };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Problems by escaped path, at most `limit` of them. */
export function describeProblems(
  problems: Iterable<readonly [ByteString, string]>,
  limit = 100,
): Record<string, string> {
  const described: Record<string, string> = {};
  for (const [path, reason] of problems) {
    if (Object.keys(described).length >= limit) break;
    described[escapeBytes(path)] = reason;
  }
  return described;
}
