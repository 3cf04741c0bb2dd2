/** The JSON beside a conflict copy: who, when, which versions, and why. */

import { createHash } from 'node:crypto';

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Entry, FileEntry, Path, SymlinkEntry } from '../../reconcile/entry.ts';

/** One of the versions. Digests are SHA-256, lower-case hex; sizes are bytes; names and targets are escaped text. */
export interface RecordedVersion {
  readonly type: Entry['type'];
  readonly mode: string;
  readonly mtime: string;
  readonly size?: number;
  readonly digest?: string;
  readonly target?: string;
}

/** Paths are absolute in the volume and escaped text, revisions decimal strings, times ISO 8601. */
export interface ConflictRecord {
  readonly version: 1;
  readonly path: string;
  readonly copy: string;
  readonly time: string;
  readonly agent: string;
  readonly why: string;
  /** Whose version the copy is: the one of the agent's directory, or the one that the volume had. */
  readonly kept: 'local' | 'remote';
  /** Of the store: what the agent had published, and what the volume was at. */
  readonly revisions: { readonly ancestor: string; readonly volume: string };
  /** `null`: there was nothing; absent: not known. */
  readonly ancestor?: RecordedVersion | null;
  readonly local?: RecordedVersion | null;
  readonly remote?: RecordedVersion | null;
}

/** A name for a content of a path: the same for the same. */
export function conflictId(path: Path, entry: FileEntry | SymlinkEntry): string {
  const content = entry.type === 'file' ? `file ${entry.digest}` : `symlink ${entry.target}`;
  return createHash('sha256').update(`${path}\0${content}`, 'latin1').digest('hex').slice(0, 32);
}

export function recordedVersion(entry: Entry | undefined): RecordedVersion | null {
  if (entry === undefined) return null;
  const milliseconds = Number(entry.mtimeNs / 1_000_000n);
  return {
    type: entry.type,
    mode: entry.mode.toString(8).padStart(4, '0'),
    mtime: Math.abs(milliseconds) > 8.64e15 ? '' : new Date(milliseconds).toISOString(),
    ...(entry.type === 'file' ? { size: Number(entry.size), digest: entry.digest } : {}),
    ...(entry.type === 'symlink' ? { target: escapeBytes(entry.target) } : {}),
  };
}

export function encodeRecord(record: ConflictRecord): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`);
}

/** What a record says; `undefined` for what is none. */
export function decodeRecord(bytes: Uint8Array): ConflictRecord | undefined {
  try {
    const record = JSON.parse(new TextDecoder().decode(bytes)) as Partial<ConflictRecord> | null;
    const isRecord = [record?.path, record?.copy, record?.time, record?.agent, record?.why].every(
      (field) => typeof field === 'string',
    );
    return isRecord && record?.version === 1 ? (record as ConflictRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** An absolute path of the volume, for people. */
export function shownInRecord(path: ByteString): string {
  return escapeBytes(`/${path}`);
}
