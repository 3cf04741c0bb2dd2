/** Merges of texts that both sides edited: reads the three versions, and keeps what came of them until it is published. */

import createDebug from 'debug';

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { MergedContent, Versions } from '../../reconcile/conflict.ts';
import { join, type FileEntry, type Path } from '../../reconcile/entry.ts';
import { MERGE_BYTES, mergeTexts } from '../../reconcile/merge-text.ts';
import { readBytes, type AncestorCache } from '../state/ancestor-cache.ts';
import { digestOf } from '../base/digest.ts';
import { CompactedError, DecodeError, VolumeError } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import type { Connection } from '../push/outbox.ts';
import type { FsPort } from '../base/ports.ts';
import type { StagedFile } from '../follow/stage.ts';
import { contentOf, VolumeTree } from '../volume/volume-tree.ts';

const debug = createDebug('etcd-etc-agent:merge');

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly cache: AncestorCache;
  /** Path of the view from the volume's root. */
  readonly subdir: Path;
  /** Where the local version of a path is on disk. */
  readonly localAt: (path: Path) => ByteString | undefined;
}

/** Results by the three contents; they live until the next publish. */
export class Merger {
  readonly #o: Options;
  readonly #results = new Map<string, StagedFile | undefined>();
  #counter = 0;

  constructor(options: Options) {
    this.#o = options;
  }

  /** What joining three versions gave; `undefined`: they do not join. */
  result(versions: Versions): MergedContent | 'untried' | undefined {
    const key = keyOf(versions);
    return this.#results.has(key) ? this.#results.get(key) : 'untried';
  }

  /** A merged content in the stage. */
  stagedFile(digest: string): StagedFile | undefined {
    for (const staged of this.#results.values()) if (staged?.digest === digest) return staged;
    return undefined;
  }

  /**
   * Tries to join the versions; `revision` is one of the store at which a path still had the ancestor's content. What cannot
   * be read just now stays untried. Throws what the store throws.
   */
  async attempt(
    candidates: readonly Versions[],
    connection: Connection,
    revision: (path: Path) => bigint,
    signal: AbortSignal,
  ): Promise<void> {
    for (const versions of candidates) {
      const { path, ancestor, local, remote } = versions;
      if ([ancestor, local, remote].some(({ size }) => size > MERGE_BYTES)) {
        this.#results.set(keyOf(versions), undefined);
        continue;
      }
      const mine = this.#local(path, local);
      const theirs = await readRemote(this.#o.fs, connection, remote, signal);
      if (mine === undefined || theirs === undefined) continue;
      const base = await this.#ancestor(versions, connection, revision(path), signal);
      const merged = base === undefined ? undefined : mergeTexts(base, mine, theirs);
      const outcome = merged === undefined ? (base === undefined ? 'no ancestor' : 'edits touch') : 'merged';
      debug('%s: %s', escapeBytes(path), outcome);
      this.#results.set(keyOf(versions), merged === undefined ? undefined : this.#stage(merged));
    }
  }

  /** Everything merged is published, or will be merged again. */
  clear(): void {
    const { fs } = this.#o;
    for (const staged of this.#results.values()) {
      if (staged !== undefined && fs.lstat('clear merged', staged.path) !== undefined)
        fs.unlink('clear merged', staged.path);
    }
    this.#results.clear();
  }

  #stage(bytes: Uint8Array): StagedFile {
    const { fs, layout } = this.#o;
    const path = `${layout.stage}/m-${(this.#counter += 1)}`;
    const fd = fs.openNew('stage merged', path);
    try {
      fs.write('stage merged', fd, bytes);
    } finally {
      fs.close('stage merged', fd);
    }
    return { path, digest: digestOf(bytes), size: BigInt(bytes.length) };
  }

  #local(path: Path, { digest }: FileEntry): Uint8Array | undefined {
    const at = this.#o.localAt(path);
    return at === undefined ? undefined : readAs(this.#o.fs, at, digest);
  }

  /** From the state, from its inode (which may be in the trash by now), or from the store's past. */
  async #ancestor(
    { path, ancestor }: Versions & { readonly ancestor: Pick<AncestorEntry, 'at'> },
    connection: Connection,
    revision: bigint,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { cache, fs } = this.#o;
    const own = cache.read(ancestor.digest) ?? (await readRemote(fs, connection, ancestor, signal));
    if (own !== undefined) return own;
    // What was pushed after `revision` is agreed on since the push, whose news may not have come yet.
    for (const past of new Set([ancestor.at ?? 0n, revision])) {
      const bytes = past === 0n ? undefined : await this.#asOf(past, path, ancestor, connection, signal);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }

  /** The ancestor's content, if the volume had that at a revision which the store still knows. */
  async #asOf(
    revision: bigint,
    path: Path,
    { size, digest }: FileEntry,
    { store, volume }: Connection,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { subdir } = this.#o;
    try {
      const tree = new VolumeTree(store, volume, revision, signal);
      const node = await tree.find(subdir === '' ? path : join(subdir, path));
      if (node?.type !== 'file' || node.attr?.length !== size) return undefined;
      const bytes = await contentOf(tree, node);
      return digestOf(bytes) === digest ? bytes : undefined;
    } catch (error) {
      const isGone =
        error instanceof CompactedError || error instanceof VolumeError || error instanceof DecodeError;
      if (!isGone) throw error;
      debug('%s: the ancestor at %s: %s', escapeBytes(path), revision, error.message);
      return undefined;
    }
  }
}

/** A content of the volume by its inode, if that still has it. */
async function readRemote(
  fs: FsPort,
  { remote }: Connection,
  entry: FileEntry & Pick<AncestorEntry, 'contentKey'>,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { ino, contentKey: key, size, digest } = entry;
  if (key === undefined) return undefined;
  const results = await remote.stage.stage([{ ino, key, size }], remote.head, signal);
  const result = results.get(key);
  return result !== undefined && 'staged' in result ? readAs(fs, result.staged.path, digest) : undefined;
}

function readAs(fs: FsPort, path: ByteString, digest: string): Uint8Array | undefined {
  const bytes = readBytes(fs, path);
  return bytes !== undefined && digestOf(bytes) === digest ? bytes : undefined;
}

function keyOf({ ancestor, local, remote }: Versions): string {
  return `${ancestor.digest} ${local.digest} ${remote.digest}`;
}
