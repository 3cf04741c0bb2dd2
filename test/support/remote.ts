/** Remote views of captured volumes, and the contents of their files. */

import type { BlockCodecs } from '../../src/codec/compress.ts';
import { compressionOf, unpackBlock } from '../../src/codec/compress.ts';
import { blockKey } from '../../src/codec/block.ts';
import type { ByteString, Kv } from '../../src/codec/kv.ts';
import type { Setting } from '../../src/codec/setting.ts';
import { RemoteView, fileExtents } from '../../src/reconcile/assemble.ts';
import { InodeIndex } from '../../src/reconcile/inode-index.ts';

/** An index of these keys (without the volume's prefix). */
export function indexOf(kvs: Iterable<Kv>): InodeIndex {
  const index = new InodeIndex();
  for (const kv of kvs) index.load(kv);
  return index;
}

/** A view of an index that hides nothing, refreshed. */
export function viewOf(index: InodeIndex, subdir: readonly ByteString[] = []): RemoteView {
  const view = new RemoteView(index, { subdir, hidden: () => false });
  view.refresh();
  return view;
}

/** Zeros are handed out in pieces of this many bytes. */
const ZEROS = new Uint8Array(1 << 20);

/** The bytes of a file in pieces. `blocks` holds the stored values by key. */
export function* contentOf(
  index: InodeIndex,
  ino: bigint,
  setting: Setting,
  blocks: ReadonlyMap<ByteString, Uint8Array>,
  codecs: BlockCodecs,
): Iterable<Uint8Array> {
  const record = index.get(ino);
  const attr = record?.attr?.value;
  if (record === undefined || attr === undefined || attr instanceof Error) throw new Error(`no inode ${ino}`);
  const compression = compressionOf(setting.compression);
  if (compression === undefined) throw new Error(`no ${setting.compression}`);
  for (const extent of fileExtents(record.chunks, attr.length, setting.blockSizeBytes)) {
    if (extent.zeros === true) {
      for (let left = extent.length; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, left);
      continue;
    }
    const key = blockKey(setting, extent.id, extent.blockIndex, extent.blockLength);
    const stored = blocks.get(key);
    if (stored === undefined) throw new Error(`no block ${key}`);
    const block = unpackBlock(compression, stored, extent.blockLength, codecs);
    yield block.subarray(extent.blockOffset, extent.blockOffset + extent.length);
  }
}
