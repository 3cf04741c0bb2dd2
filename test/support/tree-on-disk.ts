/** Small trees in few words: what a directory shall hold, and what it does hold. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';

import type { AncestorEntry } from '../../src/agent/state/ancestor-entry.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import { join, type Path } from '../../src/reconcile/entry.ts';

/** One entry of a tree: what a test cares about. */
export type Node =
  | { readonly type: 'file'; readonly text: string; readonly mode: number; readonly link: string }
  | { readonly type: 'directory'; readonly mode: number }
  | { readonly type: 'symlink'; readonly target: string };

/** Entries by path, parents included. */
export type Nodes = Readonly<Record<Path, Node>>;

/** `link` names the inode: files with the same one are hard links of each other. */
export function file(text: string, mode = 0o644, link = ''): Node {
  return { type: 'file', text, mode, link };
}

export function dir(mode = 0o755): Node {
  return { type: 'directory', mode };
}

export function symlink(target: string): Node {
  return { type: 'symlink', target };
}

/** A path as the operating system takes it. */
export function raw(path: ByteString): Buffer {
  return Buffer.from(path, 'latin1');
}

/** All below a directory, in one line each: `644 text`, `dir 755`, `-> target`. Links are not followed. */
export function readTree(at: ByteString, below: Path = ''): Map<Path, string> {
  const found = new Map<Path, string>();
  for (const name of fs.readdirSync(raw(at), 'latin1').sort()) {
    const path = join(below, name);
    const child = `${at}/${name}`;
    const stat = fs.lstatSync(raw(child));
    const mode = (stat.mode & 0o777).toString(8);
    if (stat.isSymbolicLink()) found.set(path, `-> ${fs.readlinkSync(raw(child), 'latin1')}`);
    else if (stat.isFile()) found.set(path, `${mode} ${isShown(stat.mode) ? readText(child) : ''}`);
    else if (!stat.isDirectory()) found.set(path, 'special');
    else {
      found.set(path, `dir ${mode}`);
      for (const [deep, line] of readTree(child, path)) found.set(deep, line);
    }
  }
  return found;
}

const IS_ROOT = process.getuid?.() === 0;

/** The content, as root whatever the mode says and whoever the test acts for. */
export function readText(at: ByteString): string {
  if (!IS_ROOT) return fs.readFileSync(raw(at), 'latin1');
  const id = process.geteuid!();
  process.seteuid!(0);
  try {
    return fs.readFileSync(raw(at), 'latin1');
  } finally {
    process.seteuid!(id);
  }
}

/** Only root sees what a file holds that its owner may not read. */
function isShown(mode: number): boolean {
  return IS_ROOT || (mode & 0o400) !== 0;
}

/** What `readTree` says of a tree that is right; symlinks that climb out are a test's own business. */
export function lines(nodes: Nodes): Map<Path, string> {
  const entries = Object.entries(nodes).map(([path, node]): [Path, string] => [path, lineOf(node)]);
  return new Map(entries.sort(([a], [b]) => compareWalk(a, b)));
}

function lineOf(node: Node): string {
  if (node.type === 'symlink') return `-> ${node.target}`;
  const mode = node.mode.toString(8);
  return node.type === 'directory' ? `dir ${mode}` : `${mode} ${isShown(node.mode) ? node.text : ''}`;
}

function compareWalk(a: Path, b: Path): number {
  const [x, y] = [a.split('/'), b.split('/')];
  for (let index = 0; index < Math.min(x.length, y.length); index += 1) {
    if (x[index] !== y[index]) return x[index]! < y[index]! ? -1 : 1;
  }
  return x.length - y.length;
}

export function digestOfText(text: string): string {
  return createHash('sha256').update(Buffer.from(text, 'latin1')).digest('hex');
}

/** The time of every file that the tests publish. */
export const MTIME_NS = 1_600_000_000_123_456_000n;

/** A node as both sides agree on it. */
export function entryOf(node: Node, uid = 0): AncestorEntry {
  const base = { ino: 7n, uid, gid: uid, mtimeNs: MTIME_NS };
  switch (node.type) {
    case 'file': {
      const digest = digestOfText(node.text);
      const size = BigInt(node.text.length);
      return { ...base, type: 'file', mode: node.mode, size, digest, nlink: node.link === '' ? 1 : 2 };
    }
    case 'directory':
      return { ...base, type: 'directory', mode: node.mode };
    case 'symlink':
      return { ...base, type: 'symlink', mode: 0o777, target: node.target };
  }
}
