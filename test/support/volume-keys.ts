/** All keys of a test's etcd: taken, put back, and read as the tree of a volume. */

import { createHash } from 'node:crypto';
import { decodeAttr, type Attr } from '../../src/codec/attr.ts';
import { blockKey, blocksOfSlice } from '../../src/codec/block.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, ROOT_INO } from '../../src/codec/key.ts';
import type { ByteString, KeyRange, StoreOp } from '../../src/codec/kv.ts';
import { decodeSlices } from '../../src/codec/slice.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import type { Volume } from '../../src/agent/volume/volume.ts';
import type { Path } from '../../src/reconcile/entry.ts';

export type Keys = ReadonlyMap<ByteString, Uint8Array>;

const ALL: KeyRange = { start: '\0', end: '\xff\xff\xff\xff' };

export async function takeKeys(store: EtcdStore): Promise<Keys> {
  const keys = new Map<ByteString, Uint8Array>();
  await store.snapshot([ALL], ({ key, value }) => keys.set(key, value));
  return keys;
}

/** Makes the store hold these keys and no others. */
export async function putBack(store: EtcdStore, keys: Keys): Promise<void> {
  await store.commit({ compares: [], ops: [{ type: 'deleteRange', range: ALL }] });
  let ops: StoreOp[] = [];
  let bytes = 0;
  const send = async (): Promise<void> => {
    if (ops.length > 0) await store.commit({ compares: [], ops });
    [ops, bytes] = [[], 0];
  };
  for (const [key, value] of keys) {
    if (ops.length >= 120 || bytes + value.length > 1_000_000) await send();
    ops.push({ type: 'put', key, value });
    bytes += value.length;
  }
  await send();
}

/** What a client shows below the root, one line a path; throws where contents cannot be read. */
export function treeOfKeys(volume: Volume, keys: Keys): Record<Path, string> {
  const tree: Record<Path, string> = {};
  const walk = (parent: bigint, path: Path): void => {
    const { start, end } = dentries(volume, parent);
    for (const [key, value] of keys) {
      if (key < start || key >= end) continue;
      const { ino } = decodeDentry(value);
      const stored = keys.get(volume.keyOf({ kind: 'attr', ino }));
      const below = path + key.slice(start.length);
      if (stored === undefined) throw new Error(`${below} leads nowhere`);
      const attr = decodeAttr(stored);
      tree[below] = `${attr.type} ${attr.mode.toString(8)} ${contentOf(volume, keys, ino, attr)}`;
      if (attr.type === 'directory') walk(ino, `${below}/`);
    }
  };
  walk(ROOT_INO, '');
  return tree;
}

function dentries(volume: Volume, parent: bigint): KeyRange {
  const start = volume.keyOf({ kind: 'dentry', parent, name: '' });
  return { start, end: start.slice(0, -1) + String.fromCharCode(start.charCodeAt(start.length - 1) + 1) };
}

function contentOf(volume: Volume, keys: Keys, ino: bigint, attr: Attr): string {
  if (attr.type === 'symlink')
    return Buffer.from(keys.get(volume.keyOf({ kind: 'symlink', ino })) ?? []).toString();
  if (attr.type !== 'file') return '';
  const hash = createHash('sha256');
  let length = 0n;
  for (let index = 0; length < attr.length; index += 1) {
    const chunk = keys.get(volume.keyOf({ kind: 'chunk', ino, index }));
    if (chunk === undefined) throw new Error(`chunk ${index} of ${ino} is missing`);
    for (const { id, size } of decodeSlices(chunk)) {
      for (const block of blocksOfSlice(size, volume.setting.blockSizeBytes)) {
        const value = keys.get(blockKey(volume.blocks, id, block.index, block.length));
        if (value === undefined) throw new Error(`block ${block.index} of slice ${id} is missing`);
        hash.update(value);
      }
      length += BigInt(size);
    }
  }
  return hash.digest('hex').slice(0, 12);
}

/** The inodes at and below directories without a name: those that a push left. */
export function detachedInodes(volume: Volume, keys: Keys): Set<bigint> {
  const found = new Set<bigint>();
  const isThere = (ino: bigint): boolean => keys.has(volume.keyOf({ kind: 'attr', ino }));
  const visit = (ino: bigint): void => {
    if (found.has(ino)) return;
    found.add(ino);
    const { start, end } = dentries(volume, ino);
    for (const [key, value] of keys) if (key >= start && key < end) visit(decodeDentry(value).ino);
  };
  for (const key of keys.keys()) {
    if (!key.startsWith(volume.prefix)) continue;
    const decoded = decodeKey(key.slice(volume.prefix.length));
    if (decoded.kind === 'detached' && isThere(decoded.ino)) visit(decoded.ino);
  }
  return found;
}

/** The keys with every mark of a directory without a name set back, so that the real client takes it for forgotten. */
export function withOldMarks(volume: Volume, keys: Keys): Keys {
  const isMark = (key: ByteString): boolean =>
    key.startsWith(volume.prefix) && decodeKey(key.slice(volume.prefix.length)).kind === 'detached';
  return new Map([...keys].map(([key, value]) => [key, isMark(key) ? new Uint8Array(8) : value]));
}
