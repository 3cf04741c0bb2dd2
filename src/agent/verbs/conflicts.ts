/** `conflicts`: lists the contents that lost, shows them beside what the volume has, and puts one in place or drops it. */

import { readFileSync } from 'node:fs';
import { createTwoFilesPatch } from 'diff';

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import { parentOf, type Entry, type FileEntry, type Path } from '../../reconcile/entry.ts';
import { isText } from '../../reconcile/merge-text.ts';
import type { PushChange } from '../../reconcile/push-change.ts';
import { shownInRecord } from '../state/conflict-record.ts';
import { digestOf } from '../base/digest.ts';
import { codeOf, ConfigError, LocalError } from '../base/error.ts';
import { leftovers, listCopies, type KeptCopy } from './kept-copies.ts';
import { contentOf, shownPath, VolumeTree, type VolumeNode } from '../volume/volume-tree.ts';
import { EXIT, print, withVolume, withWritableVolume, type VerbContext } from './context.ts';
import { ownerOf, pushUntilDone } from './pushing.ts';
import { removal } from './rm.ts';

/** Texts that differ in more lines than this are not compared line by line. */
const MAX_EDITS = 20_000;

/** Prints one line a copy, oldest first; `json`: one JSON object a line. */
export function conflictsLs(
  context: VerbContext,
  { json = false }: { readonly json?: boolean },
): Promise<number> {
  return withVolume(context, async (volume) => {
    const { store, out, signal } = context;
    const copies = await listCopies(new VolumeTree(store, volume, volume.revision, signal));
    for (const copy of copies) await print(out, json ? `${JSON.stringify(facts(copy))}\n` : line(copy));
    return EXIT.done;
  });
}

/** Prints what is known of a conflict, and the copy as a difference to what the volume has now. */
export function conflictsShow(
  context: VerbContext,
  { which, json = false }: { readonly which: ByteString; readonly json?: boolean },
): Promise<number> {
  return withVolume(context, async (volume) => {
    const { store, out, signal } = context;
    const tree = new VolumeTree(store, volume, volume.revision, signal);
    const copy = chosen(await listCopies(tree), which);
    const diff = await difference(tree, copy, await tree.find(copy.path));
    if (json) await print(out, `${JSON.stringify({ ...facts(copy), diff })}\n`);
    else await print(out, `${describe(copy)}\n${diff}`);
    return EXIT.done;
  });
}

export interface TakeOptions {
  readonly which: ByteString;
  /** `local`, `remote`, or a local file. */
  readonly take: ByteString;
}

/**
 * Puts a version in place and removes the copy, in one transaction. The side that is not the copy's is what the path has now:
 * it stays.
 */
export function conflictsTake(context: VerbContext, { which, take }: TakeOptions): Promise<number> {
  return withWritableVolume(context, async (volume) => {
    const contents = new Map<Path, Uint8Array>();
    let seen: { readonly copy: KeptCopy; readonly there: string } | undefined;
    let complaint: string | undefined;
    const pushed = await pushUntilDone(context, volume, 'conflicts take', async (tree) => {
      const read = async (change: PushChange, offset: bigint, length: number): Promise<Uint8Array> =>
        contents.get(change.path)?.subarray(Number(offset), Number(offset) + length) ?? new Uint8Array(0);
      const copies = await listCopies(tree);
      const copy = seen === undefined ? chosen(copies, which) : copies.find(({ id }) => id === seen?.copy.id);
      const there = copy === undefined ? undefined : await tree.find(copy.path);
      const now = `${there?.ino} ${there?.attrModRevision}`;
      if (copy === undefined || (seen !== undefined && seen.there !== now)) {
        complaint = `${escapeBytes(shownPath(seen?.copy.path ?? ''))} has changed meanwhile: look again`;
        return { changes: [], read };
      }
      seen = { copy, there: now };
      const changes: PushChange[] = [];
      for (const node of await leftovers(tree, [copy])) changes.push(await removal(tree, node));
      const kept = copy.record?.says.kept ?? 'local';
      if (take !== 'local' && take !== 'remote') {
        contents.set(copy.path, readLocalFile(take));
        changes.push(...(await placed(tree, copy, there, contents.get(copy.path))));
      } else if (take === kept) {
        if (copy.node.type === 'file') contents.set(copy.path, await contentOf(tree, copy.node));
        changes.push(...(await placed(tree, copy, there, contents.get(copy.path))));
      }
      return { changes, read };
    });
    if (complaint !== undefined) {
      await print(context.err, `conflicts take: ${complaint}\n`);
      return EXIT.failed;
    }
    return pushed.exitCode;
  });
}

/** Removes copies, and leaves the paths as they are. */
export function conflictsDrop(
  context: VerbContext,
  { which, all = false }: { readonly which: readonly ByteString[]; readonly all?: boolean },
): Promise<number> {
  if (all === which.length > 0) throw new ConfigError('Say which conflicts to drop, or --all.');
  return withWritableVolume(context, async (volume) => {
    let ids: ReadonlySet<string> | undefined;
    const pushed = await pushUntilDone(context, volume, 'conflicts drop', async (tree) => {
      const copies = await listCopies(tree);
      ids ??= new Set((all ? copies : which.map((one) => chosen(copies, one))).map(({ id }) => id));
      const dropped = copies.filter(({ id }) => ids?.has(id) === true);
      const changes: PushChange[] = [];
      for (const node of await leftovers(tree, dropped)) changes.push(await removal(tree, node));
      return { changes, read: async () => new Uint8Array(0) };
    });
    return pushed.exitCode;
  });
}

/** The one copy that a person means: by its id or the start of it, its own path, or the path that lost. */
function chosen(copies: readonly KeptCopy[], which: ByteString): KeptCopy {
  const path = which.replace(/^\/+/, '');
  const byId = /^[0-9a-f]{4,8}$/.test(which) ? copies.filter(({ id }) => id.startsWith(which)) : [];
  const found =
    byId.length > 0 ? byId : copies.filter((copy) => copy.node.path === path || copy.path === path);
  const [copy, ...others] = found;
  if (copy === undefined)
    throw new ConfigError(`There is no conflict ${escapeBytes(which)}: conflicts ls shows them.`);
  if (others.length > 0) {
    const ids = found.map(({ id }) => id).join(', ');
    throw new ConfigError(`${escapeBytes(which)} has several conflicts: ${ids}`);
  }
  return copy;
}

function facts(copy: KeptCopy): Record<string, unknown> {
  const { id, path, node, record } = copy;
  return record === undefined
    ? { id, path: shownInRecord(path), copy: shownInRecord(node.path) }
    : { id, ...record.says };
}

function line({ id, path, stamp, record }: KeptCopy): string {
  const shown = escapeBytes(shownPath(path));
  if (record === undefined) return `${id}  ${escapeBytes(stamp)}  ${shown}\n`;
  const { time, agent, kept, why } = record.says;
  return `${id}  ${printable(time)}  ${printable(agent)}  ${printable(kept)}  ${shown}  ${printable(why)}\n`;
}

function describe({ id, path, node, record }: KeptCopy): string {
  const lines = [
    ['conflict', id],
    ['path', escapeBytes(shownPath(path))],
    ['copy', escapeBytes(shownPath(node.path))],
  ];
  if (record !== undefined) {
    const { time, agent, why, kept, revisions } = record.says;
    lines.push(
      ['when', time],
      ['agent', agent],
      ['why', why],
      ['kept', kept === 'local' ? "the version of the agent's directory" : 'the version of the volume'],
      ['revisions', `${revisions.volume} of the volume, ${revisions.ancestor} of the directory`],
    );
    for (const version of ['ancestor', 'local', 'remote'] as const) {
      const had = record.says[version];
      if (had === undefined) continue;
      const size = had?.size === undefined ? '' : `, ${had.size} bytes`;
      lines.push([version, had === null ? 'nothing' : `${had.type} ${had.mode}${size}, ${had.mtime}`]);
    }
  }
  return lines.map(([name = '', value = '']) => `${name.padEnd(10)} ${printable(value)}\n`).join('');
}

async function difference(tree: VolumeTree, copy: KeptCopy, there: VolumeNode | undefined): Promise<string> {
  const names = [
    `${escapeBytes(shownPath(copy.path))} (in the volume)`,
    escapeBytes(shownPath(copy.node.path)),
  ];
  const [before, after] = [await shownContent(tree, there), await shownContent(tree, copy.node)];
  if (before === undefined || after === undefined) return `${names.join(' and ')} differ, and are no texts\n`;
  if (before === after) return `${names.join(' and ')} are equal\n`;
  const patch = createTwoFilesPatch(names[0] ?? '', names[1] ?? '', before, after, undefined, undefined, {
    maxEditLength: MAX_EDITS,
  });
  return patch === undefined
    ? `${names.join(' and ')} differ in too many lines\n`
    : printable(patch.replace(/^=+\n/, ''));
}

/** What is compared of a version: nothing as an empty text, a link as where it leads. `undefined`: it is no text. */
async function shownContent(tree: VolumeTree, node: VolumeNode | undefined): Promise<string | undefined> {
  if (node === undefined) return '';
  if (node.type === 'symlink') return `-> ${escapeBytes(await tree.target(node))}\n`;
  if (node.type !== 'file') return undefined;
  const bytes = await contentOf(tree, node);
  return isText(bytes) ? Buffer.from(bytes).toString('utf8') : undefined;
}

/** Lines for a terminal: other control characters and what turns the writing direction are shown as `\xHH`. */
function printable(text: string): string {
  return text
    .split(/([\n\t])/)
    .map((part) => (part === '\n' || part === '\t' ? part : part.replace(/[\p{Cc}\p{Cf}]/gu, hexOf)))
    .join('');
}

function hexOf(char: string): string {
  return [...Buffer.from(char)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}

/** The change that puts a version at the path; none where it is there already. */
async function placed(
  tree: VolumeTree,
  copy: KeptCopy,
  there: VolumeNode | undefined,
  bytes: Uint8Array | undefined,
): Promise<PushChange[]> {
  const { path, node, record } = copy;
  const target = there?.type === 'symlink' ? await tree.target(there) : '';
  const digest = there?.type === 'file' ? digestOf(await contentOf(tree, there)) : '';
  const old = there === undefined ? undefined : tree.entryOf(there, digest, target);
  if (there !== undefined && old === undefined)
    throw new ConfigError(`${escapeBytes(shownPath(path))} leads to no inode: remove it first.`);
  const base = old ?? tree.entryOf(node, '', '') ?? { uid: 0, gid: 0, mtimeNs: 0n };
  const owner = old ?? ownerOf(base, (await nearest(tree, path))?.attr ?? { uid: 0, gid: 0 });
  const had = record?.says[record.says.kept];
  const mode = old?.type === 'file' ? old.mode : Number.parseInt(had?.mode ?? '0644', 8) & 0o777;
  const shared = { ino: 0n, uid: owner.uid, gid: owner.gid, mtimeNs: node.attr?.mtimeNs ?? base.mtimeNs };
  const entry: Entry =
    bytes === undefined
      ? { ...shared, type: 'symlink', mode: 0o777, target: await tree.target(node) }
      : ({
          ...shared,
          type: 'file',
          mode,
          nlink: 1,
          size: BigInt(bytes.length),
          digest: digestOf(bytes),
        } satisfies FileEntry);
  const isThere =
    entry.type === 'file'
      ? old?.type === 'file' && old.digest === entry.digest
      : old?.type === 'symlink' && entry.type === 'symlink' && old.target === entry.target;
  if (isThere) return [];
  const expect = there === undefined ? {} : { expect: { attrModRevision: there.attrModRevision } };
  const parents = old === undefined ? { makeParents: { mode: 0o755, uid: shared.uid, gid: shared.gid } } : {};
  return [{ path, old, new: entry, ...expect, ...parents }];
}

async function nearest(tree: VolumeTree, path: Path): Promise<VolumeNode | undefined> {
  for (let dir = parentOf(path); dir !== undefined; dir = parentOf(dir)) {
    const node = await tree.find(dir);
    if (node?.attr !== undefined) return node;
  }
  return undefined;
}

function readLocalFile(path: ByteString): Uint8Array {
  try {
    return readFileSync(Buffer.from(path, 'latin1'));
  } catch (error) {
    throw new LocalError(`${escapeBytes(path)} cannot be read (${codeOf(error) ?? String(error)})`, {
      cause: error,
    });
  }
}
