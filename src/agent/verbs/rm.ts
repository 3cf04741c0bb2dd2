/** `rm`: removes a file, a link or with `-r` a directory and all that is in it. */

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import { ConfigError } from '../base/error.ts';
import type { Volume } from '../volume/volume.ts';
import { shownPath, type VolumeNode, type VolumeTree } from '../volume/volume-tree.ts';
import { EXIT, print, volumePath, withWritableVolume, type VerbContext } from './context.ts';
import { pushUntilDone } from './pushing.ts';

export interface RmOptions {
  readonly path: ByteString;
  /** Directories with all that is in them. */
  readonly recursive?: boolean;
}

/** Removes; with the trash on, what was removed can be restored with any client. */
export async function rm(context: VerbContext, options: RmOptions): Promise<number> {
  const path = volumePath(options.path);
  if (path === '') throw new ConfigError('The root of the volume cannot be removed.');
  return withWritableVolume(context, (volume) => removeFrom(volume, context, path, options));
}

async function removeFrom(
  volume: Volume,
  context: VerbContext,
  path: Path,
  options: RmOptions,
): Promise<number> {
  let complaint: string | undefined;
  let wasFound = false;
  const pushed = await pushUntilDone(context, volume, 'rm', async (tree) => {
    const read = async (): Promise<Uint8Array> => new Uint8Array(0);
    const node = await tree.find(path);
    if (node === undefined) {
      if (!wasFound)
        complaint = `there is no ${escapeBytes(shownPath(path))} in the volume ${volume.setting.name}`;
      return { changes: [], read };
    }
    wasFound = true;
    if (node.type === 'directory' && options.recursive !== true) {
      complaint = `${escapeBytes(shownPath(path))} is a directory: say -r to remove it with all that is in it`;
      return { changes: [], read };
    }
    const changes = [await removal(tree, node)];
    if (node.type === 'directory')
      for await (const one of tree.below(node)) changes.push(await removal(tree, one));
    return { changes, read };
  });
  if (complaint === undefined) return pushed.exitCode;
  await print(context.err, `rm: ${complaint}\n`);
  return EXIT.failed;
}

/** The change that removes what a name leads to. */
export async function removal(tree: VolumeTree, node: VolumeNode): Promise<PushChange> {
  const target = node.type === 'symlink' && node.attr !== undefined ? await tree.target(node) : '';
  const { uid, gid } = { uid: 0, gid: 0 };
  // A name that leads nowhere is refused by the planner, which says so.
  const old = tree.entryOf(node, '', target) ?? {
    ...{ type: 'directory' as const, ino: node.ino, mode: 0, uid, gid, mtimeNs: 0n },
  };
  return { path: node.path, old, new: undefined };
}
