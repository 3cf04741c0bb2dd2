/** `ls`: lists a path of the volume, like `ls -l`. */

import type { Attr } from '../../codec/attr.ts';
import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Volume } from '../volume/volume.ts';
import { shownPath, VolumeTree, type VolumeNode } from '../volume/volume-tree.ts';
import { EXIT, print, volumePath, withVolume, type VerbContext } from './context.ts';

export interface LsOptions {
  /** The root if not given. */
  readonly path?: ByteString;
  /** What is below directories too. */
  readonly recursive?: boolean;
  /** One JSON object a line. */
  readonly json?: boolean;
}

/** Prints the entries of a directory, or the one entry that a path leads to. */
export function ls(context: VerbContext, options: LsOptions): Promise<number> {
  return withVolume(context, (volume) => lsFrom(volume, context, options));
}

async function lsFrom(volume: Volume, context: VerbContext, options: LsOptions): Promise<number> {
  const { store, out, err, signal } = context;
  const path = volumePath(options.path ?? '');
  const tree = new VolumeTree(store, volume, volume.revision, signal);
  const node = await tree.find(path);
  if (node === undefined) {
    await print(
      err,
      `ls: there is no ${escapeBytes(shownPath(path))} in the volume ${volume.setting.name}\n`,
    );
    return EXIT.failed;
  }
  const show = async (one: VolumeNode, name: ByteString): Promise<void> => {
    const target = one.type === 'symlink' && one.attr !== undefined ? await tree.target(one) : undefined;
    await print(out, options.json === true ? jsonLine(one, target) : textLine(one, name, target));
  };
  if (node.type !== 'directory') {
    await show(node, node.path);
  } else if (options.recursive === true) {
    const start = path === '' ? 0 : path.length + 1;
    for await (const one of tree.below(node)) await show(one, one.path.slice(start));
  } else {
    for (const one of await tree.children(node)) await show(one, one.name);
  }
  return EXIT.done;
}

const LETTERS = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  block: 'b',
  char: 'c',
  socket: 's',
} as const;

function textLine(node: VolumeNode, name: ByteString, target: ByteString | undefined): string {
  const { attr } = node;
  const shown = escapeBytes(name) + (target === undefined ? '' : ` -> ${escapeBytes(target)}`);
  if (attr === undefined) return `${LETTERS[node.type]}?????????  (leads to no inode)  ${shown}\n`;
  const time = isoTime(attr).slice(0, 19).replace('T', ' ');
  const columns = [
    LETTERS[node.type] + permissions(attr.mode),
    String(attr.nlink).padStart(3),
    String(attr.uid).padStart(5),
    String(attr.gid).padStart(5),
    String(attr.length).padStart(10),
    time,
    shown,
  ];
  return `${columns.join(' ')}\n`;
}

function jsonLine(node: VolumeNode, target: ByteString | undefined): string {
  const { attr, path, type, ino } = node;
  const line = {
    path: escapeBytes(path),
    type,
    ino: String(ino),
    ...(attr === undefined
      ? { dangling: true }
      : {
          mode: attr.mode.toString(8).padStart(4, '0'),
          uid: attr.uid,
          gid: attr.gid,
          nlink: attr.nlink,
          size: Number(attr.length),
          mtime: isoTime(attr),
        }),
    ...(target === undefined ? {} : { target: escapeBytes(target) }),
  };
  return `${JSON.stringify(line)}\n`;
}

function isoTime(attr: Attr): string {
  const milliseconds = Number(attr.mtimeNs / 1_000_000n);
  // Whatever is stored must be listed, also a time that no calendar has.
  return Math.abs(milliseconds) > 8.64e15 ? '-'.repeat(24) : new Date(milliseconds).toISOString();
}

/** `rwxr-xr-x` with suid, sgid and sticky in their places. */
function permissions(mode: number): string {
  const triple = (shift: number, special: number, letter: string): string => {
    const bits = mode >> shift;
    const executable = (bits & 1) !== 0;
    const last =
      (mode & special) === 0 ? (executable ? 'x' : '-') : executable ? letter : letter.toUpperCase();
    return ((bits & 4) === 0 ? '-' : 'r') + ((bits & 2) === 0 ? '-' : 'w') + last;
  };
  return triple(6, 0o4000, 's') + triple(3, 0o2000, 's') + triple(0, 0o1000, 't');
}
