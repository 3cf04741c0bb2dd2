/** Makes metadata keys and events in few words. */

import { encodeAttr, type Attr, type FileType } from '../../src/codec/attr.ts';
import { encodeDentry } from '../../src/codec/dentry.ts';
import { encodeKey, type MetaKey } from '../../src/codec/key.ts';
import type { ByteString, StoreEvent } from '../../src/codec/kv.ts';
import { encodeSlices, type SliceRecord } from '../../src/codec/slice.ts';

/** An attr with only what a test is about. */
export function attrOf(type: FileType, fields: Partial<Attr> = {}): Attr {
  return {
    flags: 0,
    type,
    mode: type === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    atimeNs: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
    nlink: 1,
    length: 0n,
    rdev: 0,
    parent: 1n,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
    rest: new Uint8Array(),
    ...fields,
  };
}

export function put(key: MetaKey | ByteString, value: Uint8Array, revision = 1n): StoreEvent {
  const encoded = typeof key === 'string' ? key : encodeKey(key);
  return { type: 'put', kv: { key: encoded, value, modRevision: revision, createRevision: revision } };
}

export function del(key: MetaKey, revision = 1n): StoreEvent {
  return { type: 'delete', key: encodeKey(key), modRevision: revision };
}

export function putAttr(ino: bigint, type: FileType, fields: Partial<Attr> = {}, revision = 1n): StoreEvent {
  return put({ kind: 'attr', ino }, encodeAttr(attrOf(type, fields)), revision);
}

export function putDentry(
  parent: bigint,
  name: ByteString,
  ino: bigint,
  type: FileType,
  revision = 1n,
): StoreEvent {
  return put({ kind: 'dentry', parent, name }, encodeDentry({ type, ino }), revision);
}

export function delDentry(parent: bigint, name: ByteString): StoreEvent {
  return del({ kind: 'dentry', parent, name });
}

export function putChunk(ino: bigint, index: number, records: readonly SliceRecord[]): StoreEvent {
  return put({ kind: 'chunk', ino, index }, encodeSlices(records));
}

/** A new inode with a name. */
export function make(
  parent: bigint,
  name: ByteString,
  ino: bigint,
  type: FileType,
  fields: Partial<Attr> = {},
): StoreEvent[] {
  return [putAttr(ino, type, { parent, ...fields }), putDentry(parent, name, ino, type)];
}
