/** Where programs work: a directory tree with the calls of POSIX, on a machine's disk or on a mount of the volume. */

import { codeOf } from '../../src/agent/base/error.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import type { MemoryFs } from '../support/memory-fs.ts';
import type { ByteString } from '../../src/codec/kv.ts';

export type Kind = 'file' | 'directory' | 'symlink' | 'other';

/** An open file. Every call may throw an error with Node's `code`. */
export interface Handle {
  /** At its end when it was opened for appending. */
  write(text: string, position: number): void;
  truncate(): void;
  content(): string;
  /** Tells files apart, for as long as they are open. */
  readonly identity: unknown;
  close(): void;
}

export interface Site {
  readonly name: string;
  /** What stands at a path, links not followed. */
  kind(path: Path): Kind | undefined;
  /** Names in a directory. */
  list(path: Path): string[];
  /** The text of the file at a path; `undefined` when there is none. */
  text(path: Path): string | undefined;
  /** That of one which is published, but whose name at the top is not there yet: names at the top are no part of the flip. */
  hiddenText(path: Path): string | undefined;
  open(
    path: Path,
    how: {
      readonly create?: boolean;
      readonly exclusive?: boolean;
      readonly truncate?: boolean;
      readonly append?: boolean;
    },
  ): Handle;
  mkdir(path: Path): void;
  rmdir(path: Path): void;
  unlink(path: Path): void;
  rename(from: Path, to: Path): void;
  link(from: Path, to: Path): void;
  symlink(target: string, path: Path): void;
  chmod(path: Path, mode: number): void;
  /** Several whole files in one step, where there is such a thing. */
  writeTogether?(files: ReadonlyMap<Path, string>): void;
  /** Tells the file at a path apart, as an open one does; `undefined` when there is none. */
  identityAt(path: Path): unknown;
  /**
   * Where that is what one of the agent's links leads to which was moved from the top into a directory: it leads nowhere there
   * until the agent has looked, and whoever removes it means what it led to.
   */
  meantBy(path: Path): Path | undefined;
  /** Whether a directory is only a link of the agent's, which `rm -rf` takes for a file. */
  isOwnLink(path: Path): boolean;
}

/** A directory on a machine's disk, as its programs see it. */
export class DiskSite implements Site {
  readonly name: string;
  readonly #fs: MemoryFs;
  readonly #root: ByteString;
  readonly #changed: (path: ByteString) => void;

  constructor(name: string, fs: MemoryFs, root: ByteString, changed: (path: ByteString) => void) {
    this.name = name;
    this.#fs = fs;
    this.#root = root;
    this.#changed = changed;
  }

  #at(path: Path): ByteString {
    return path === '' ? this.#root : `${this.#root}/${path}`;
  }

  kind(path: Path): Kind | undefined {
    const stat = this.#fs.lstat('look', this.#at(path));
    if (stat === undefined) return undefined;
    // The links at the top are the agent's: a program sees what they lead to.
    return kindOf(this.isOwnLink(path) ? this.#fs.stat(this.#at(path))?.type : stat.type);
  }

  isOwnLink(path: Path): boolean {
    if (path === '' || path.includes('/')) return false;
    return this.#fs.readlink('look', this.#at(path))?.startsWith('..data/') === true;
  }

  meantBy(path: Path): Path | undefined {
    const text = path.includes('/') ? this.#fs.readlink('look', this.#at(path)) : undefined;
    return text?.startsWith('..data/') === true ? text : undefined;
  }

  identityAt(path: Path): unknown {
    return this.#fs.identityAt(this.#at(path));
  }

  list(path: Path): string[] {
    return this.#fs.readdir('list', this.#at(path)).filter((name) => !name.startsWith('..'));
  }

  text(path: Path): string | undefined {
    try {
      return Buffer.from(this.#fs.readFile(this.#at(path))).toString('latin1');
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      return undefined;
    }
  }

  hiddenText(path: Path): string | undefined {
    const [top = ''] = path.split('/', 1);
    return this.#fs.lstat('look', this.#at(top)) === undefined ? this.text(`..data/${path}`) : undefined;
  }

  open(path: Path, how: Parameters<Site['open']>[1]): Handle {
    const at = this.#at(path);
    const fs = this.#fs;
    const fd = fs.openWrite(at, how);
    this.#changed(at);
    return {
      write: (text, position) => {
        fs.write('write', fd, Buffer.from(text, 'latin1'), position);
        this.#changed(at);
      },
      truncate: () => {
        fs.ftruncate('write', fd, 0n);
        this.#changed(at);
      },
      content: () => fs.contentOf(fd),
      identity: fs.identityOf(fd),
      close: () => fs.close('close', fd),
    };
  }

  #do(path: Path, act: (at: ByteString) => void): void {
    act(this.#at(path));
    this.#changed(this.#at(path));
  }

  mkdir(path: Path): void {
    this.#do(path, (at) => this.#fs.mkdir('mkdir', at, 0o755));
  }

  rmdir(path: Path): void {
    this.#do(path, (at) => this.#fs.rmdir('rmdir', at));
  }

  unlink(path: Path): void {
    this.#do(path, (at) => this.#fs.unlink('unlink', at));
  }

  rename(from: Path, to: Path): void {
    this.#do(to, (at) => this.#fs.rename('rename', this.#at(from), at));
    this.#changed(this.#at(from));
  }

  link(from: Path, to: Path): void {
    this.#do(to, (at) => this.#fs.link('link', this.#at(from), at));
  }

  symlink(target: string, path: Path): void {
    this.#do(path, (at) => this.#fs.symlink('symlink', target, at));
  }

  chmod(path: Path, mode: number): void {
    this.#do(path, (at) => this.#fs.chmod('chmod', at, mode));
  }
}

function kindOf(type: string | undefined): Kind | undefined {
  switch (type) {
    case undefined:
    case 'file':
    case 'directory':
    case 'symlink':
      return type;
    default:
      return 'other';
  }
}
