/** `import`: copies a local directory into the volume; adds and replaces, never deletes. */

import { createHash } from 'node:crypto';
import { createReadStream, lstatSync, readdirSync, readlinkSync, type BigIntStats } from 'node:fs';
import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import { join, type Entry, type Path } from '../../reconcile/entry.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import type { ReadContent } from '../push/content.ts';
import { LocalError, VolumeError } from '../base/error.ts';
import type { Volume } from '../volume/volume.ts';
import { shownPath, type VolumeNode, type VolumeTree } from '../volume/volume-tree.ts';
import { EXIT, print, volumePath, withWritableVolume, type VerbContext } from './context.ts';
import { fileChange, ownerOf, pushUntilDone } from './pushing.ts';
import { readLocal } from './put.ts';

export interface ImportOptions {
  readonly localDir: ByteString;
  /** Where its contents go; the root if not given. Missing directories are made. */
  readonly path?: ByteString;
  /** Also into a directory that is not empty. */
  readonly force?: boolean;
}

/** Milliseconds between two lines of progress; the first comes no sooner either. */
const PROGRESS_MS = 1000;

/**
 * Imports files, directories and symlinks with their modes and times; hard links become files of their own. Special
 * files, and directories where the volume has none or the reverse, are left out and said: exit 5.
 */
export function importDir(context: VerbContext, options: ImportOptions): Promise<number> {
  return withWritableVolume(context, (volume) => importInto(volume, context, options));
}

async function importInto(volume: Volume, context: VerbContext, options: ImportOptions): Promise<number> {
  const target = volumePath(options.path ?? '');
  const problems: string[] = [];
  const progress = progressLine(context);
  const local = await scan(options.localDir, problems, progress);
  let isFirst = true;
  const pushed = await pushUntilDone(
    context,
    volume,
    'import',
    async (tree) => {
      const root = await tree.find(target);
      const remote = new Map<Path, VolumeNode>();
      if (root?.type === 'directory') for await (const node of tree.below(root)) remote.set(node.path, node);
      if (isFirst && root !== undefined) requireTarget(root, remote.size, options.force === true);
      isFirst = false;
      return changesFrom(tree, target, root, local, remote, problems);
    },
    (done, total) => progress(`${done} of ${total} entries stored`),
  );
  for (const problem of new Set(problems)) await print(context.err, `import: ${problem}\n`);
  const count = pushed.committed.length;
  const transactions = `${pushed.transactions} transaction${pushed.transactions === 1 ? '' : 's'}`;
  await print(context.out, `Imported ${count} entr${count === 1 ? 'y' : 'ies'} in ${transactions}.\n`);
  return problems.length > 0 ? EXIT.problems : pushed.exitCode;
}

function requireTarget(root: VolumeNode, entries: number, force: boolean): void {
  const path = escapeBytes(shownPath(root.path));
  if (root.type !== 'directory') throw new VolumeError(`${path} is a ${root.type}, not a directory.`);
  if (entries > 0 && !force) {
    throw new VolumeError(
      `${path} is not empty: say --force to add to it and to replace what has the same name.`,
    );
  }
}

/** A local entry and the file to read its contents from. */
interface LocalEntry {
  readonly entry: Entry;
  readonly file: Buffer;
}

/** All entries below a local directory, each directory before what is in it. */
async function scan(
  localDir: ByteString,
  problems: string[],
  progress: (text: string) => void,
): Promise<Map<Path, LocalEntry>> {
  const found = new Map<Path, LocalEntry>();
  const walk = async (path: Path): Promise<void> => {
    const dir = Buffer.from(path === '' ? localDir : `${localDir}/${path}`, 'latin1');
    for (const name of readdirSync(dir, { encoding: 'latin1' }).sort()) {
      const below = join(path, name);
      const file = Buffer.from(`${localDir}/${below}`, 'latin1');
      const stat = lstatSync(file, { bigint: true });
      const entry = await entryOf(file, stat);
      if (entry === undefined) {
        problems.push(`${escapeBytes(below)} is no file, directory or link: it was left out`);
        continue;
      }
      found.set(below, { entry, file });
      progress(`${found.size} entries read`);
      if (entry.type === 'directory') await walk(below);
    }
  };
  try {
    await walk('');
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new LocalError(`${escapeBytes(localDir)} cannot be read: ${error.message}`, { cause: error });
  }
  return found;
}

async function entryOf(file: Buffer, stat: BigIntStats): Promise<Entry | undefined> {
  const base = {
    ino: 0n,
    mode: Number(stat.mode & 0o777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtimeNs: stat.mtimeNs,
  };
  if (stat.isDirectory()) return { ...base, type: 'directory' };
  if (stat.isSymbolicLink())
    return { ...base, type: 'symlink', target: readlinkSync(file, { encoding: 'latin1' }) };
  if (!stat.isFile()) return undefined;
  const hash = createHash('sha256');
  let size = 0n;
  for await (const bytes of createReadStream(file) as AsyncIterable<Buffer>) {
    hash.update(bytes);
    size += BigInt(bytes.length);
  }
  return { ...base, type: 'file', size, digest: hash.digest('hex'), nlink: 1 };
}

/** What is missing in the volume or different there. */
async function changesFrom(
  tree: VolumeTree,
  target: Path,
  root: VolumeNode | undefined,
  local: ReadonlyMap<Path, LocalEntry>,
  remote: ReadonlyMap<Path, VolumeNode>,
  problems: string[],
): Promise<{ readonly changes: readonly PushChange[]; readonly read: ReadContent }> {
  const changes: PushChange[] = [];
  const files = new Map<Path, Buffer>();
  const blocked: Path[] = [];
  const parent = root?.attr ?? { uid: 0, gid: 0 };
  for (const [below, { entry, file }] of local) {
    const path = join(target, below);
    if (blocked.some((dir) => path.startsWith(`${dir}/`))) continue;
    const node = remote.get(path);
    const owner = ownerOf(entry, parent);
    const wanted: Entry = { ...entry, ...owner };
    files.set(path, file);
    if (node === undefined) {
      // The target itself and what is above it; all else comes after an entry of the target.
      const isTop = !below.includes('/');
      const makeParents = root === undefined && isTop ? { makeParents: { mode: 0o755, ...owner } } : {};
      changes.push({ path, old: undefined, new: wanted, ...makeParents });
      continue;
    }
    if ((node.type === 'directory') !== (wanted.type === 'directory') || node.attr === undefined) {
      problems.push(`${escapeBytes(shownPath(path))} is a ${node.type} in the volume: it was left as it is`);
      blocked.push(path);
      continue;
    }
    const change = await changeOf(tree, node, wanted);
    if (change !== undefined) changes.push(change);
  }
  const read: ReadContent = async (change, offset, length) => {
    const file = files.get(change.path);
    if (file === undefined) throw new RangeError('contents of an entry that was not scanned');
    return readLocal(file, offset, length);
  };
  return { changes, read };
}

async function changeOf(tree: VolumeTree, node: VolumeNode, wanted: Entry): Promise<PushChange | undefined> {
  if (node.type === 'file' && wanted.type === 'file') return fileChange(tree, node, wanted);
  const target = node.type === 'symlink' ? await tree.target(node) : '';
  const old = tree.entryOf(node, '', target);
  if (old === undefined) return undefined;
  const isSame =
    old.type === 'symlink'
      ? wanted.type === 'symlink' && old.target === wanted.target
      : old.type === wanted.type && (old.mode & 0o777) === (wanted.mode & 0o777);
  return isSame ? undefined : { path: node.path, old, new: wanted };
}

/** Prints a line a second at most, and none in the first second. */
function progressLine(context: VerbContext): (text: string) => void {
  let next = context.clock.monotonicMs() + PROGRESS_MS;
  return (text) => {
    const now = context.clock.monotonicMs();
    if (now < next) return;
    next = now + PROGRESS_MS;
    context.err.write(`import: ${text}\n`);
  };
}
