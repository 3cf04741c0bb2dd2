/** `cat`: prints the bytes of a file of the volume. */

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Volume } from '../volume/volume.ts';
import { shownPath, VolumeTree } from '../volume/volume-tree.ts';
import { EXIT, print, volumePath, withVolume, type VerbContext } from './context.ts';

export interface CatOptions {
  readonly path: ByteString;
}

/** Prints a whole file as one revision has it. */
export function cat(context: VerbContext, options: CatOptions): Promise<number> {
  return withVolume(context, (volume) => catFrom(volume, context, options));
}

async function catFrom(volume: Volume, context: VerbContext, options: CatOptions): Promise<number> {
  const { store, out, err, signal } = context;
  const path = volumePath(options.path);
  const tree = new VolumeTree(store, volume, volume.revision, signal);
  const node = await tree.find(path);
  if (node?.type !== 'file') {
    const what =
      node === undefined
        ? `there is no ${escapeBytes(shownPath(path))} in the volume ${volume.setting.name}`
        : `${escapeBytes(shownPath(path))} is a ${node.type}, not a file`;
    await print(err, `cat: ${what}\n`);
    return EXIT.failed;
  }
  for await (const bytes of tree.content(node)) await print(out, bytes);
  return EXIT.done;
}
