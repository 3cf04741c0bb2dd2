/** What random operations do on disk and read of it, in a plain directory, a mount or an agent's directory alike. */

import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { codeOf } from '../../src/agent/base/error.ts';
import { native, type Native } from '../../src/agent/disk/native.ts';
import { join, type Path } from '../../src/reconcile/entry.ts';

export interface Node {
  readonly type: 'file' | 'directory' | 'symlink';
  readonly size: number;
  readonly mode: number;
  readonly ino: number;
}

export function xattrs(): Native {
  const calls = native();
  if (calls === undefined) throw new Error('extended attributes cannot be set without the package koffi');
  return calls;
}

/** A path as a byte string. */
export function textOf(path: Buffer): string {
  return path.toString('latin1');
}

export function survey(dir: string): Map<Path, Node> {
  const nodes = new Map<Path, Node>();
  const walk = (path: Path): void => {
    for (const name of readdirSync(at(dir, path), { encoding: 'latin1' }).sort()) {
      const below = join(path, name);
      const stat = lstatSync(at(dir, below));
      const type = stat.isDirectory() ? 'directory' : stat.isFile() ? 'file' : 'symlink';
      nodes.set(below, { type, size: stat.size, mode: stat.mode & 0o7777, ino: stat.ino });
      if (type === 'directory') walk(below);
    }
  };
  walk('');
  return nodes;
}

export function at(dir: string, path: Path): Buffer {
  return Buffer.concat([Buffer.from(dir), Buffer.from(`/${path}`, 'latin1')]);
}

export function writeAt(file: Buffer, text: string, offset: number): void {
  const fd = openSync(file, 'r+');
  try {
    writeSync(fd, text, offset);
  } finally {
    closeSync(fd);
  }
}

/** What shows a directory at the top may be a link to it, and has a real one in its place for a moment. */
export function removeDirectory(path: Buffer): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOTDIR') throw error;
    unlinkSync(path);
  }
}

/** Where one of the two is a link to a directory and the other one a directory, the kernel wants the place free. */
export function rename(from: Buffer, to: Buffer): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (codeOf(error) !== 'EISDIR' && codeOf(error) !== 'ENOTDIR') throw error;
    removeDirectory(to);
    renameSync(from, to);
  }
}

/** A name at the top that is a link into the tree: its file is linked, as `ln -L` does. */
export function realFile(dir: string, path: Path): Buffer {
  const shown = at(dir, path);
  return lstatSync(shown).isSymbolicLink() ? at(`${dir}/..data`, path) : shown;
}

export function quoted(text: string): string {
  if (/^[\w./-]+$/.test(text)) return text;
  const escaped = text.replace(/[\\']|[^\x20-\x7e]/g, (char) =>
    char === '\\' || char === "'" ? `\\${char}` : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `$'${escaped}'`;
}

export function printed(text: string): string {
  if (text === '') return ':';
  const line = text.slice(0, text.indexOf('\n') + 1);
  const times = text.length / line.length;
  return times === 1 ? `echo ${line.trimEnd()}` : `yes ${quoted(line.trimEnd())} | head -n ${times}`;
}
