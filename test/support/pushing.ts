/** A volume in a test's etcd, and changes to push into it written in few words. */

import { createHash } from 'node:crypto';
import { parseMetaUrl, type MetaAddress } from '../../src/codec/url.ts';
import { EtcdBlockStore } from '../../src/agent/volume/block-store.ts';
import { packingOf } from '../../src/agent/volume/packing.ts';
import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { EtcdStore, LeaseStore } from '../../src/agent/base/ports.ts';
import { Pusher, type Claim, type PushOptions, type PushOutcome } from '../../src/agent/push/push.ts';
import type { Claimed } from '../../src/agent/push/push-debris.ts';
import { format, type FormatOptions } from '../../src/agent/verbs/format.ts';
import type { Output, VerbContext } from '../../src/agent/verbs/context.ts';
import { openVolume, type Volume } from '../../src/agent/volume/volume.ts';
import type { DirectoryEntry, Entry, FileEntry, Path, SymlinkEntry } from '../../src/reconcile/entry.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import type { EtcdServer } from './etcd.ts';

const MTIME = 1_700_000_000_123_456_789n;

/** A file entry, and the bytes behind its digest. */
export function file(text: string | Uint8Array, fields: Partial<FileEntry> = {}): FileEntry {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const digest = createHash('sha256').update(bytes).digest('hex');
  contents.set(digest, bytes);
  return {
    type: 'file',
    ino: 0n,
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeNs: MTIME,
    size: BigInt(bytes.length),
    digest,
    nlink: 1,
    ...fields,
  };
}

export function directory(fields: Partial<DirectoryEntry> = {}): DirectoryEntry {
  return { type: 'directory', ino: 0n, mode: 0o755, uid: 0, gid: 0, mtimeNs: MTIME, ...fields };
}

export function symlink(target: string, fields: Partial<SymlinkEntry> = {}): SymlinkEntry {
  return { type: 'symlink', ino: 0n, mode: 0o777, uid: 0, gid: 0, mtimeNs: MTIME, target, ...fields };
}

const contents = new Map<string, Uint8Array>();

/** The bytes of a file entry made here. */
export function contentOf(entry: FileEntry): Uint8Array {
  const bytes = contents.get(entry.digest);
  if (bytes === undefined) throw new Error('the entry was not made by file()');
  return bytes;
}

/** Notes what a push claims, as the ledger of an agent does. */
export function claimsOf(): Claimed & { readonly note: (claim: Claim) => void } {
  const slices = new Set<bigint>();
  const holds = new Set<bigint>();
  let relied: Claimed['relied'];
  return {
    slices,
    holds,
    get relied() {
      return relied;
    },
    note(claim) {
      if (claim.kind === 'hold') holds.add(claim.ino);
      else if (claim.kind === 'relied') relied = claim;
      else for (const id of claim.ids) slices.add(id);
    },
  };
}

/** Collects what a verb prints. */
export class Collected implements Output {
  readonly #parts: Uint8Array[] = [];

  write(data: string | Uint8Array): boolean {
    this.#parts.push(Buffer.from(data));
    return true;
  }

  once(): void {}

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  get text(): string {
    return this.bytes.toString();
  }
}

export interface TestContext extends VerbContext {
  readonly out: Collected;
  readonly err: Collected;
}

/** What a verb needs, on an address in a server. Each has a store of its own: close it. */
export function verbContext(server: EtcdServer, path: string): TestContext {
  const address = parseMetaUrl(server.url + path);
  return {
    store: etcdStore(address, systemClock),
    address,
    clock: systemClock,
    out: new Collected(),
    err: new Collected(),
  };
}

/** The same volume through a store that a test meddles with: its metadata and its blocks, which are not encrypted. */
export async function volumeThrough(volume: Volume, store: EtcdStore): Promise<Volume> {
  const { setting } = volume;
  const packing = await packingOf(setting, undefined);
  const { name } = setting;
  return {
    ...volume,
    data: new EtcdBlockStore({ name, stores: [store], packing, clock: systemClock }),
  };
}

/** A volume, and what this test believes to be in it. */
export class TestVolume {
  readonly url: string;
  readonly address: MetaAddress;
  readonly store: LeaseStore;
  readonly volume: Volume;
  readonly pusher: Pusher;
  readonly tree = new Map<Path, Entry>();

  private constructor(url: string, address: MetaAddress, store: LeaseStore, volume: Volume) {
    this.url = url;
    this.address = address;
    this.store = store;
    this.volume = volume;
    this.pusher = new Pusher(store, volume, systemClock);
  }

  /** Opens the volume at `/path`. */
  static async open(server: EtcdServer, path: string): Promise<TestVolume> {
    const url = server.url + path;
    const address = parseMetaUrl(url);
    const store = etcdStore(address, systemClock);
    return new TestVolume(url, address, store, await openVolume(store, address));
  }

  /** Formats a volume by our own verb and opens it. */
  static async format(server: EtcdServer, options: FormatOptions): Promise<TestVolume> {
    const context = verbContext(server, `/${options.name}`);
    await format(context, options);
    await context.store.close();
    return TestVolume.open(server, `/${options.name}`);
  }

  /** The entry that an earlier push left. */
  at(path: Path): Entry {
    const entry = this.tree.get(path);
    if (entry === undefined) throw new Error(`nothing is believed to be at ${path}`);
    return entry;
  }

  make(path: Path, entry: Entry): PushChange {
    return { path, old: undefined, new: entry };
  }

  edit(path: Path, fields: Partial<FileEntry> | Partial<DirectoryEntry> | Entry): PushChange {
    const old = this.at(path);
    return { path, old, new: { ...old, ...fields } as Entry };
  }

  remove(path: Path): PushChange {
    return { path, old: this.at(path), new: undefined };
  }

  move(from: Path, to: Path, fields: Partial<PushChange> = {}): PushChange {
    return { path: to, movedFrom: from, old: this.at(from), new: this.at(from), ...fields };
  }

  /** Pushes and remembers what came of it. */
  async try(changes: readonly PushChange[], options: Partial<PushOptions> = {}): Promise<PushOutcome> {
    const outcome = await this.pusher.push(changes, {
      read: async (change, offset, length) => {
        if (change.new?.type !== 'file') throw new Error('only files are read');
        return contentOf(change.new).subarray(Number(offset), Number(offset) + length);
      },
      ...options,
    });
    this.#believe(outcome);
    return outcome;
  }

  /** Pushes, and fails unless everything was committed. */
  async push(...changes: readonly PushChange[]): Promise<PushOutcome> {
    const outcome = await this.try(changes);
    const failed = outcome.changes.filter((change) => change.outcome !== 'committed');
    if (failed.length > 0) {
      const lines = failed.map(
        (one) => `${one.change.path}: ${one.outcome} ${'reason' in one ? one.reason : ''}`,
      );
      throw new Error(`not committed:\n${lines.join('\n')}`);
    }
    return outcome;
  }

  #believe(outcome: PushOutcome): void {
    const committed = outcome.changes.filter((one) => one.outcome === 'committed');
    // Moves take what is below them along, but for what moves by itself; all leave before any arrives.
    const moved: [Path, Entry][] = [];
    const depth = (path: Path | undefined): number => path?.split('/').length ?? 0;
    const deepestFirst = committed.toSorted((a, b) => depth(b.change.movedFrom) - depth(a.change.movedFrom));
    for (const { change } of deepestFirst) {
      const from = change.movedFrom;
      if (from === undefined) continue;
      for (const [path, entry] of [...this.tree]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        this.tree.delete(path);
        moved.push([change.path + path.slice(from.length), entry]);
      }
    }
    for (const [path, entry] of moved) this.tree.set(path, entry);
    for (const { change, entry } of committed) {
      if (entry === undefined) this.tree.delete(change.path);
      else this.tree.set(change.path, entry);
    }
  }
}
