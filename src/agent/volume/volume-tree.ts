/** Reads paths, directories and contents of a volume as they are asked for, all at one revision. */

import { decodeAttr, type Attr, type FileType } from '../../codec/attr.ts';
import { blockKey } from '../../codec/block.ts';
import { toByteString } from '../../codec/bytes.ts';
import { decodeDentry } from '../../codec/dentry.ts';
import { DecodeError } from '../../codec/error.ts';
import { chunkRange, decodeKey, dentryRange, ROOT_INO } from '../../codec/key.ts';
import type { ByteString, KeyRange, Kv } from '../../codec/kv.ts';
import { join, type Entry, type Path } from '../../reconcile/entry.ts';
import { fileExtents } from '../../reconcile/extents.ts';
import type { Stored } from '../../reconcile/inode-index.ts';
import { VolumeError } from '../base/error.ts';
import type { BlockStore, EtcdStore } from '../base/ports.ts';
import type { Volume } from './volume.ts';
import { withSignal } from '../base/signal.ts';

/** A name of the volume and the inode it leads to. */
export interface VolumeNode {
  readonly path: Path;
  /** The last part of the path; empty for the root. */
  readonly name: ByteString;
  readonly ino: bigint;
  /** By the dentry; the attr agrees if there is one. */
  readonly type: FileType;
  /** Absent for a dentry that leads nowhere. */
  readonly attr?: Attr;
  readonly attrModRevision: bigint;
}

/** Attrs that are asked for at once. */
const ATTRS_AT_ONCE = 1024;
const ZEROS_AT_ONCE = 1 << 20;

export class VolumeTree {
  readonly #store: EtcdStore;
  readonly #volume: Volume;
  readonly #options: { readonly revision: bigint; readonly signal?: AbortSignal };

  /** `revision`: of the store, at which everything is read. */
  constructor(store: EtcdStore, volume: Volume, revision: bigint, signal?: AbortSignal) {
    this.#store = store;
    this.#volume = volume;
    this.#options = { revision, ...withSignal(signal) };
  }

  /** What a path leads to, symlinks not followed; `undefined` if there is nothing. */
  async find(path: Path): Promise<VolumeNode | undefined> {
    let node = (await this.#nodes([{ path: '', name: '', ino: ROOT_INO, type: 'directory' }]))[0];
    for (const name of path === '' ? [] : path.split('/')) {
      if (node?.type !== 'directory') return undefined;
      const [dentry] = await this.#get([this.#volume.keyOf({ kind: 'dentry', parent: node.ino, name })]);
      if (dentry === undefined) return undefined;
      [node] = await this.#nodes([{ path: join(node.path, name), name, ...decodeDentry(dentry.value) }]);
    }
    return node;
  }

  /** The entries of a directory, sorted by name. */
  async children(node: VolumeNode): Promise<VolumeNode[]> {
    const named: Omit<VolumeNode, 'attr' | 'attrModRevision'>[] = [];
    await this.#snapshot(dentryRange(node.ino), (kv) => {
      const key = decodeKey(kv.key.slice(this.#volume.prefix.length));
      if (key.kind !== 'dentry') return;
      named.push({ path: join(node.path, key.name), name: key.name, ...decodeDentry(kv.value) });
    });
    return this.#nodes(named);
  }

  /** Everything below a directory: each directory before what is in it. */
  async *below(node: VolumeNode): AsyncGenerator<VolumeNode> {
    // A damaged volume may have a cycle of directories.
    const seen = new Set([node.ino]);
    const stack = [node];
    for (let dir = stack.pop(); dir !== undefined; dir = stack.pop()) {
      for (const child of await this.children(dir)) {
        yield child;
        if (child.type !== 'directory' || seen.has(child.ino)) continue;
        seen.add(child.ino);
        stack.push(child);
      }
    }
  }

  /** Where a symlink points to. */
  async target(node: VolumeNode): Promise<ByteString> {
    const [kv] = await this.#get([this.#volume.keyOf({ kind: 'symlink', ino: node.ino })]);
    if (kv === undefined)
      throw new VolumeError('A symlink of the volume has no target.', { path: node.path });
    return toByteString(kv.value);
  }

  /** The bytes of a file in order. Throws `VolumeError` when a block is missing. */
  async *content(node: VolumeNode): AsyncGenerator<Uint8Array> {
    const { attr } = node;
    if (attr === undefined)
      throw new VolumeError('A name of the volume leads to no inode.', { path: node.path });
    const chunks = new Map<number, Stored>();
    await this.#snapshot(chunkRange(node.ino), (kv) => {
      const key = decodeKey(kv.key.slice(this.#volume.prefix.length));
      if (key.kind === 'chunk') chunks.set(key.index, { raw: kv.value, modRevision: kv.modRevision });
    });
    const { setting, blocks, data } = this.#volume;
    for (const extent of fileExtents(chunks, attr.length, setting.blockSizeBytes)) {
      if (extent.zeros === true) {
        for (let left = extent.length; left > 0; left -= ZEROS_AT_ONCE) {
          yield new Uint8Array(Math.min(left, ZEROS_AT_ONCE));
        }
        continue;
      }
      const key = blockKey(blocks, extent.id, extent.blockIndex, extent.blockLength);
      const [stored] = await data.get([key], this.#options);
      if (stored === undefined)
        throw new VolumeError(`The block ${key} is missing.`, { path: node.path, key });
      const block = await unpack(data, key, stored, extent.blockLength);
      yield block.subarray(extent.blockOffset, extent.blockOffset + extent.length);
    }
  }

  /** The node as an entry; `digest` and `target` are what the caller knows of its contents. */
  entryOf(node: VolumeNode, digest: string, target: ByteString): Entry | undefined {
    const { attr, ino } = node;
    if (attr === undefined) return undefined;
    const base = { ino, mode: attr.mode, uid: attr.uid, gid: attr.gid, mtimeNs: attr.mtimeNs };
    switch (attr.type) {
      case 'file':
        return { ...base, type: 'file', size: attr.length, digest, nlink: attr.nlink };
      case 'directory':
        return { ...base, type: 'directory' };
      case 'symlink':
        return { ...base, type: 'symlink', target };
      default:
        return { ...base, type: 'special', kind: attr.type, rdev: attr.rdev };
    }
  }

  async #nodes(named: readonly Omit<VolumeNode, 'attr' | 'attrModRevision'>[]): Promise<VolumeNode[]> {
    const nodes: VolumeNode[] = [];
    for (let at = 0; at < named.length; at += ATTRS_AT_ONCE) {
      const part = named.slice(at, at + ATTRS_AT_ONCE);
      const kvs = await this.#get(part.map(({ ino }) => this.#volume.keyOf({ kind: 'attr', ino })));
      for (const [i, node] of part.entries()) {
        const kv = kvs[i];
        if (kv === undefined) {
          nodes.push({ ...node, attrModRevision: 0n });
        } else {
          const attr = decodeAttr(kv.value);
          nodes.push({ ...node, type: attr.type, attr, attrModRevision: kv.modRevision });
        }
      }
    }
    return nodes;
  }

  async #get(keys: readonly ByteString[]): Promise<readonly (Kv | undefined)[]> {
    return (await this.#store.get(keys, this.#options)).kvs;
  }

  async #snapshot(range: KeyRange, onKv: (kv: Kv) => void): Promise<void> {
    const { prefix } = this.#volume;
    await this.#store.snapshot(
      [{ start: prefix + range.start, end: prefix + range.end }],
      onKv,
      this.#options,
    );
  }
}

/** A small file of the volume whole. Throws `VolumeError` when a block is missing. */
export async function contentOf(tree: VolumeTree, node: VolumeNode): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of tree.content(node)) parts.push(part);
  return Buffer.concat(parts);
}

async function unpack(
  data: BlockStore,
  key: ByteString,
  stored: Uint8Array,
  length: number,
): Promise<Uint8Array> {
  try {
    return await data.unpack(stored, length);
  } catch (error) {
    throw error instanceof DecodeError ? error.withKey(key) : error;
  }
}

/** The directory part of a path that a person is told about; `/` for the root. */
export function shownPath(path: Path): ByteString {
  return path === '' ? '/' : `/${path}`;
}
