/** Loads captured volumes and recordings of single operations from `test/fixtures`. */

import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { ByteString, Kv, StoreEvent } from '../../src/codec/kv.ts';

/** Of the test keys that the encrypted volumes were made with. */
export const FIXTURE_PASSPHRASE = 'fixture-passphrase';

const FOLDER = new URL('../fixtures/', import.meta.url);

/** A captured volume: the whole key space of its etcd, and what a fresh mount of it showed. */
export interface FixtureVolume {
  readonly name: string;
  readonly header: FixtureHeader;
  /** What every metadata key starts with. */
  readonly metaPrefix: ByteString;
  /** All keys, metadata and objects, sorted. */
  readonly kvs: readonly Kv[];
  readonly tree: TreeFile;
}

export interface FixtureHeader {
  readonly volume: string;
  readonly etcd_revision: number;
  readonly format_options: readonly string[];
  readonly mount_options: readonly string[];
  readonly meta_prefix_b64: string;
  readonly live_session: boolean;
  readonly keys: number;
}

export interface TreeFile {
  readonly entries: readonly TreeFileEntry[];
  readonly trash?: readonly TreeFileEntry[];
  /** By path, what a mount of that directory alone showed. */
  readonly subdirs?: Readonly<Record<string, readonly TreeFileEntry[]>>;
}

/** One entry as the fixtures' README describes it. */
export interface TreeFileEntry {
  readonly path: string;
  readonly path_b64: string;
  readonly type: 'file' | 'dir' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block';
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly ino: string;
  readonly mtime_ns: string;
  readonly ctime_ns: string;
  readonly atime_ns: string;
  readonly target?: string;
  readonly target_b64?: string;
  readonly rdev?: { readonly major: number; readonly minor: number };
  readonly sha256?: string;
  readonly xattrs?: Readonly<Record<string, string | { readonly error: string }>>;
}

/** The revisions of one operation of the real client, metadata and objects. */
export interface Recording {
  readonly operation: string;
  readonly metaPrefix: ByteString;
  /** What stood, before the operation, at the keys that it changed. */
  readonly start: readonly Kv[];
  readonly revisions: readonly { readonly revision: bigint; readonly events: readonly StoreEvent[] }[];
}

/** Names of all captured volumes. */
export function volumeNames(): string[] {
  return namesEndingIn('', '.etcd.jsonl.gz');
}

/** Names of all recordings. */
export function recordingNames(): string[] {
  return namesEndingIn('events/', '.jsonl');
}

function namesEndingIn(folder: string, suffix: string): string[] {
  return readdirSync(new URL(folder, FOLDER))
    .filter((name) => name.endsWith(suffix))
    .map((name) => name.slice(0, -suffix.length))
    .sort();
}

export function loadVolume(name: string): FixtureVolume {
  const [first = '', ...lines] = unzip(`${name}.etcd.jsonl.gz`).trimEnd().split('\n');
  const header = JSON.parse(first) as FixtureHeader;
  const kvs = lines.map((line): Kv => {
    const kv = JSON.parse(line) as {
      key_b64: string;
      value_b64: string;
      create_revision: number;
      mod_revision: number;
    };
    return {
      key: fromBase64(kv.key_b64),
      value: bytesOfBase64(kv.value_b64),
      createRevision: BigInt(kv.create_revision),
      modRevision: BigInt(kv.mod_revision),
    };
  });
  if (kvs.length !== header.keys) throw new Error(`${name} has ${kvs.length} keys, not ${header.keys}`);
  const tree = JSON.parse(unzip(`${name}.tree.json.gz`)) as TreeFile;
  return { name, header, metaPrefix: fromBase64(header.meta_prefix_b64), kvs, tree };
}

/** The metadata keys of a volume without their prefix. */
export function metaKvs(volume: Pick<FixtureVolume, 'kvs' | 'metaPrefix'>): Kv[] {
  const { kvs, metaPrefix } = volume;
  return kvs.flatMap((kv) =>
    kv.key.startsWith(metaPrefix) ? [{ ...kv, key: kv.key.slice(metaPrefix.length) }] : [],
  );
}

/** Those of the events that are about metadata, their keys without the prefix. */
export function metaEvents(events: readonly StoreEvent[], prefix: ByteString): StoreEvent[] {
  return events.flatMap((event): StoreEvent[] => {
    const key = event.type === 'put' ? event.kv.key : event.key;
    if (!key.startsWith(prefix)) return [];
    const short = key.slice(prefix.length);
    return [event.type === 'put' ? { ...event, kv: { ...event.kv, key: short } } : { ...event, key: short }];
  });
}

interface RecordedEvent {
  type: 'PUT' | 'DELETE';
  key_b64: string;
  value_b64?: string;
  create_revision?: number;
  prev_value_b64: string | null;
  prev_mod_revision?: number;
}

export function loadRecording(name: string): Recording {
  const text = readFileSync(new URL(`events/${name}.jsonl`, FOLDER), 'utf8');
  const [first = '', ...lines] = text.trimEnd().split('\n');
  const header = JSON.parse(first) as { operation: string; meta_prefix_b64: string; revisions: number };
  const start = new Map<ByteString, Kv | undefined>();
  const revisions = lines.map((line) => {
    const { revision, events } = JSON.parse(line) as { revision: number; events: RecordedEvent[] };
    for (const event of events) {
      const key = fromBase64(event.key_b64);
      if (!start.has(key)) start.set(key, previousOf(key, event));
    }
    return { revision: BigInt(revision), events: events.map((event) => storeEvent(event, BigInt(revision))) };
  });
  if (revisions.length !== header.revisions) throw new Error(`${name} has ${revisions.length} revisions`);
  return {
    operation: header.operation,
    metaPrefix: fromBase64(header.meta_prefix_b64),
    start: [...start.values()].filter((kv) => kv !== undefined),
    revisions,
  };
}

function previousOf(key: ByteString, event: RecordedEvent): Kv | undefined {
  if (event.prev_value_b64 === null) return undefined;
  const modRevision = BigInt(event.prev_mod_revision ?? 0);
  return {
    key,
    value: bytesOfBase64(event.prev_value_b64),
    modRevision,
    // A DELETE does not tell when its key was created.
    createRevision: BigInt(event.create_revision || modRevision),
  };
}

function storeEvent(event: RecordedEvent, revision: bigint): StoreEvent {
  const key = fromBase64(event.key_b64);
  if (event.type === 'DELETE') return { type: 'delete', key, modRevision: revision };
  const kv = {
    key,
    value: bytesOfBase64(event.value_b64 ?? ''),
    modRevision: revision,
    createRevision: BigInt(event.create_revision ?? 0),
  };
  return { type: 'put', kv };
}

function unzip(file: string): string {
  return gunzipSync(readFileSync(new URL(file, FOLDER))).toString('utf8');
}

/** Base64 as a byte string. */
export function fromBase64(text: string): ByteString {
  return Buffer.from(text, 'base64').toString('latin1');
}

function bytesOfBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'));
}
