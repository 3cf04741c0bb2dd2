/** `put`: stores a local file, or what comes on stdin, under a path of the volume. */

import { createHash } from 'node:crypto';
import { createReadStream, lstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import { join, nameOf, parentOf, type FileEntry, type Path } from '../../reconcile/entry.ts';
import { digestOf } from '../base/digest.ts';
import { ConfigError, LocalError } from '../base/error.ts';
import type { ReadContent } from '../push/content.ts';
import type { Volume } from '../volume/volume.ts';
import { shownPath, type VolumeTree } from '../volume/volume-tree.ts';
import { EXIT, print, volumePath, withWritableVolume, type VerbContext } from './context.ts';
import { fileChange, ownerOf, pushUntilDone } from './pushing.ts';

export interface PutOptions {
  /** A local file; `-` is `stdin`. */
  readonly local: ByteString;
  /** A directory, there or with a trailing slash, gets the file under its local name. */
  readonly path: ByteString;
  /** What `-` reads; kept in memory whole. */
  readonly stdin?: AsyncIterable<Uint8Array>;
}

/** A local file that was looked at. */
interface Source {
  /** Its last name; `undefined` for stdin. */
  readonly name: ByteString | undefined;
  readonly entry: FileEntry;
  readonly read: ReadContent;
}

/**
 * Stores one file in one transaction. A file that is there keeps its owner and mode; a new one takes the local ones.
 * Missing directories are made.
 */
export function put(context: VerbContext, options: PutOptions): Promise<number> {
  return withWritableVolume(context, (volume) => putInto(volume, context, options));
}

async function putInto(volume: Volume, context: VerbContext, options: PutOptions): Promise<number> {
  const source =
    options.local === '-' ? await sourceOfStdin(context, options) : await sourceOfFile(options.local);
  let complaint: string | undefined;
  const pushed = await pushUntilDone(context, volume, 'put', async (tree) => {
    const path = await targetOf(tree, options.path, source);
    const node = await tree.find(path);
    if (node !== undefined && (node.type !== 'file' || node.attr === undefined)) {
      const what = node.attr === undefined ? 'leads to no inode' : `is a ${node.type}, not a file`;
      complaint = `${escapeBytes(shownPath(path))} ${what}: remove it first`;
      return { changes: [], read: source.read };
    }
    if (node?.attr !== undefined) {
      const change = await fileChange(tree, node, { ...source.entry, mode: node.attr.mode });
      return { changes: change === undefined ? [] : [change], read: source.read };
    }
    const owner = ownerOf(source.entry, await nearestDirectory(tree, path));
    const change = {
      path,
      old: undefined,
      new: { ...source.entry, ...owner },
      makeParents: { mode: 0o755, ...owner },
    };
    return { changes: [change], read: source.read };
  });
  if (complaint === undefined) return pushed.exitCode;
  await print(context.err, `put: ${complaint}\n`);
  return EXIT.failed;
}

async function targetOf(tree: VolumeTree, text: ByteString, source: Source): Promise<Path> {
  const path = volumePath(text);
  const isDirectory = text.endsWith('/') || path === '' || (await tree.find(path))?.type === 'directory';
  if (!isDirectory) return path;
  if (source.name === undefined)
    throw new ConfigError('What comes on stdin needs a file name, not a directory.');
  return join(path, source.name);
}

/** The attr of the directory that a path is in, or of the nearest one above it. */
async function nearestDirectory(
  tree: VolumeTree,
  path: Path,
): Promise<{ readonly uid: number; readonly gid: number }> {
  for (let dir = parentOf(path); dir !== undefined; dir = parentOf(dir)) {
    const attr = (await tree.find(dir))?.attr;
    if (attr !== undefined) return attr;
  }
  return { uid: 0, gid: 0 };
}

async function sourceOfFile(local: ByteString): Promise<Source> {
  const file = Buffer.from(local, 'latin1');
  try {
    const stat = lstatSync(file, { bigint: true });
    if (!stat.isFile())
      throw new ConfigError(`${escapeBytes(local)} is no file: the verb import takes directories.`);
    const hash = createHash('sha256');
    let size = 0n;
    for await (const bytes of createReadStream(file) as AsyncIterable<Buffer>) {
      hash.update(bytes);
      size += BigInt(bytes.length);
    }
    const entry: FileEntry = {
      type: 'file',
      ino: 0n,
      mode: Number(stat.mode & 0o777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtimeNs: stat.mtimeNs,
      size,
      digest: hash.digest('hex'),
      nlink: 1,
    };
    return { name: nameOf(local), entry, read: (_change, offset, length) => readLocal(file, offset, length) };
  } catch (error) {
    if (error instanceof ConfigError || !(error instanceof Error)) throw error;
    throw new LocalError(`${escapeBytes(local)} cannot be read: ${error.message}`, { cause: error });
  }
}

async function sourceOfStdin(context: VerbContext, options: PutOptions): Promise<Source> {
  if (options.stdin === undefined) throw new ConfigError('There is no stdin to read from.');
  const parts: Uint8Array[] = [];
  for await (const part of options.stdin) parts.push(part);
  const bytes = Buffer.concat(parts);
  const entry: FileEntry = {
    type: 'file',
    ino: 0n,
    mode: 0o644,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtimeNs: context.clock.nowNs(),
    size: BigInt(bytes.length),
    digest: digestOf(bytes),
    nlink: 1,
  };
  const read: ReadContent = async (_change, offset, length) =>
    bytes.subarray(Number(offset), Number(offset) + length);
  return { name: undefined, entry, read };
}

/** Bytes of a local file; the pusher compares their digest, so that a file that changes meanwhile is found out. */
export async function readLocal(file: Buffer, offset: bigint, length: number): Promise<Uint8Array> {
  const handle = await open(file, 'r');
  try {
    const into = new Uint8Array(length);
    const { bytesRead } = await handle.read(into, 0, length, Number(offset));
    return into.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
