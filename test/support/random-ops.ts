/** Random operations on a tree of files, each of which can be done in any directory that shows that tree. */

import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, parentOf, type Path } from '../../src/reconcile/entry.ts';
import { isAtOrBelow } from '../../src/reconcile/push-change.ts';
import {
  at,
  printed,
  quoted,
  realFile,
  removeDirectory,
  rename,
  survey,
  textOf,
  writeAt,
  xattrs,
  type Node,
} from './random-disk.ts';
import type { Random } from './random.ts';

/** What a side must be able to take for an operation to be drawn: names of one inode, holes, extended attributes. */
export type Capability = 'hard-links' | 'sparse' | 'xattrs';

/** One operation. */
export interface Operation {
  /** As a person would type it in the root of the tree. */
  readonly shell: string;
  /** What it is done to. */
  readonly paths: readonly Path[];
  /** The empty directory that gives way to another one. */
  readonly replacedDirectory?: Path;
  /** Does it below `dir`, which need not be the tree it was drawn for but must show the same. */
  apply(dir: string): void;
}

/** Plain names, and those that somebody has to quote. */
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f.conf', 'two words', '.hidden', 'caf\xc3\xa9', '\xff odd'];
const FILE_MODES = [0o644, 0o600, 0o640, 0o755, 0o700];
const DIRECTORY_MODES = [0o755, 0o700, 0o750];
/** Beyond this a tree shrinks more often than it grows. */
const MUCH = 45;
/** Draws before it counts as proven that nothing can be done. */
const DRAWS = 500;
/** A block of the volumes of these tests; bytes. */
const BLOCK = 65_536;

/** Draws operations that can be done in the tree as it is at the time; each must be applied there before the next is drawn. */
export class RandomOperations {
  readonly #random: Random;
  readonly #capabilities: ReadonlySet<Capability>;
  #serial = 0;
  /** Links of names at the top that were moved below it in this round: what is behind them cannot be reached for a while. */
  readonly #unreachable = new Set<Path>();
  /**
   * Directories at the top as the round began. A real directory in the place of one is what `tar x` makes: it is united
   * with it, so "removed and made again" cannot be told in one look.
   */
  readonly #topDirectories = new Set<Path>();
  /** What has or had extended attributes in this round: what takes its place keeps them in an agent's directory, and nowhere else. */
  readonly #attributed = new Set<Path>();
  #nodes: ReadonlyMap<Path, Node> = new Map();
  #mayTouch: (top: string) => boolean = () => true;

  constructor(random: Random, capabilities: Iterable<Capability> = []) {
    this.#random = random;
    this.#capabilities = new Set(capabilities);
  }

  /** Everything has arrived everywhere, and is as in `model`. */
  startRound(model: string): void {
    this.#unreachable.clear();
    this.#topDirectories.clear();
    this.#attributed.clear();
    for (const [path, { type }] of survey(model)) {
      if (type === 'directory' && !path.includes('/')) this.#topDirectories.add(path);
    }
  }

  /**
   * An operation on the tree below `model`, within the names at the top that `mayTouch` allows; `undefined` when these
   * leave nothing to do.
   */
  next(model: string, mayTouch: (top: string) => boolean): Operation | undefined {
    this.#nodes = survey(model);
    this.#mayTouch = mayTouch;
    if (this.#capabilities.has('xattrs')) {
      for (const [path, { type }] of this.#nodes) {
        if (type !== 'symlink' && xattrs().listXattrs(textOf(at(model, path))).length > 0)
          this.#attributed.add(path);
      }
    }
    for (let n = 0; n < DRAWS; n += 1) {
      const operation = this.#draw();
      if (operation !== undefined) return operation;
    }
    return undefined;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[this.#random.below(list.length)];
  }

  #paths(type?: Node['type']): Path[] {
    return [...this.#nodes]
      .filter(([path, node]) => (type === undefined || node.type === type) && this.#isReachable(path))
      .map(([path]) => path);
  }

  #isReachable(path: Path): boolean {
    if (!this.#mayTouch(topOf(path))) return false;
    return ![...this.#unreachable].some((other) => isAtOrBelow(path, other));
  }

  /** A directory to put something into; one time in three the top itself. */
  #directory(): Path {
    return this.#random.next() < 0.33 ? '' : (this.#pick(this.#paths('directory')) ?? '');
  }

  /** A path where nothing is yet. */
  #free(): Path | undefined {
    const dir = this.#directory();
    const path = join(dir, this.#pick(NAMES) ?? 'a');
    return this.#nodes.has(path) || this.#attributed.has(path) || !this.#isReachable(path) ? undefined : path;
  }

  /** Never the same twice. */
  #content(): string {
    this.#serial += 1;
    const text = `${this.#serial} ${this.#random.next()}\n`;
    const dice = this.#random.next();
    if (dice < 0.75) return text;
    const size = dice < 0.95 ? this.#random.below(5000) : BLOCK - 1000 + this.#random.below(2 * BLOCK);
    return text.repeat(Math.ceil(size / text.length));
  }

  #draw(): Operation | undefined {
    const growing = this.#nodes.size < MUCH;
    const kinds: readonly (readonly [weight: number, draw: () => Operation | undefined])[] = [
      [growing ? 6 : 1, () => this.#create()],
      [growing ? 4 : 1, () => this.#makeDirectory()],
      [2, () => this.#symlink()],
      [5, () => this.#edit()],
      [3, () => this.#replace()],
      [growing ? 2 : 6, () => this.#remove()],
      [growing ? 1 : 4, () => this.#removeTree()],
      [6, () => this.#rename()],
      [3, () => this.#chmod()],
      [2, () => this.#changeType()],
      [this.#capabilities.has('hard-links') ? 2 : 0, () => this.#hardLink()],
      [this.#capabilities.has('sparse') ? 1 : 0, () => this.#sparse()],
      [this.#capabilities.has('xattrs') ? 3 : 0, () => this.#setXattr()],
    ];
    let dice = this.#random.next() * kinds.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, draw] of kinds) {
      dice -= weight;
      if (dice < 0) return draw();
    }
    return undefined;
  }

  #create(path = this.#free()): Operation | undefined {
    if (path === undefined) return undefined;
    const text = this.#random.next() < 0.08 ? '' : this.#content();
    return {
      shell: `${printed(text)} > ${quoted(path)}`,
      paths: [path],
      apply: (dir) => writeFileSync(at(dir, path), text, { flag: 'wx' }),
    };
  }

  #makeDirectory(): Operation | undefined {
    const path = this.#free();
    if (path === undefined || this.#topDirectories.has(path)) return undefined;
    const mode = this.#random.next() < 0.2 ? 0o700 : 0o755;
    return {
      shell: `mkdir -m ${mode.toString(8)} ${quoted(path)}`,
      paths: [path],
      apply: (dir) => mkdirSync(at(dir, path), mode),
    };
  }

  /** None climbs: what a relative target that leaves the view means depends on where it is typed (`target.ts`). */
  #target(): string {
    return this.#pick(['a', 'b/c', './d', 'e/', '/etc/hostname', `no such ${this.#serial}`]) ?? 'a';
  }

  #symlink(path = this.#free()): Operation | undefined {
    if (path === undefined) return undefined;
    this.#serial += 1;
    const target = this.#target();
    return {
      shell: `ln -s ${quoted(target)} ${quoted(path)}`,
      paths: [path],
      apply: (dir) => symlinkSync(target, at(dir, path)),
    };
  }

  #edit(): Operation | undefined {
    const path = this.#pick(this.#paths('file'));
    if (path === undefined) return undefined;
    const size = this.#nodes.get(path)?.size ?? 0;
    const text = this.#content();
    switch (this.#random.below(4)) {
      case 0:
        return {
          shell: `${printed(text)} > ${quoted(path)}`,
          paths: [path],
          apply: (dir) => writeFileSync(at(dir, path), text),
        };
      case 1:
        return {
          shell: `${printed(text)} >> ${quoted(path)}`,
          paths: [path],
          apply: (dir) => appendFileSync(at(dir, path), text),
        };
      case 2: {
        const offset = this.#random.below(size + 10);
        return {
          shell: `${printed(text)} | dd of=${quoted(path)} bs=1 seek=${offset} conv=notrunc`,
          paths: [path],
          apply: (dir) => writeAt(at(dir, path), text, offset),
        };
      }
      default: {
        const length =
          this.#random.below(2) === 0 ? this.#random.below(size + 1) : size + 1 + this.#random.below(3000);
        // The same size again writes nothing in JuiceFS (layout trap 17).
        if (length === size) return undefined;
        return {
          shell: `truncate -s ${length} ${quoted(path)}`,
          paths: [path],
          apply: (dir) => truncateSync(at(dir, path), length),
        };
      }
    }
  }

  /** As editors and `sed -i` do. */
  #replace(): Operation | undefined {
    const path = this.#pick(this.#paths('file'));
    if (path === undefined || this.#attributed.has(path)) return undefined;
    const text = this.#content();
    const temporary = join(parentOf(path) ?? '', `.new-${this.#serial}`);
    const mode = this.#nodes.get(path)?.mode ?? 0o644;
    return {
      shell: `${printed(text)} > ${quoted(temporary)}; chmod ${mode.toString(8)} ${quoted(temporary)}; mv ${quoted(temporary)} ${quoted(path)}`,
      paths: [path],
      apply: (dir) => {
        writeFileSync(at(dir, temporary), text, { flag: 'wx' });
        chmodSync(at(dir, temporary), mode);
        renameSync(at(dir, temporary), at(dir, path));
      },
    };
  }

  #remove(): Operation | undefined {
    const path = this.#pick(this.#paths().filter((each) => this.#nodes.get(each)?.type !== 'directory'));
    if (path === undefined) return undefined;
    return { shell: `rm ${quoted(path)}`, paths: [path], apply: (dir) => unlinkSync(at(dir, path)) };
  }

  #removeTree(): Operation | undefined {
    const path = this.#pick(this.#paths('directory'));
    if (path === undefined) return undefined;
    if (this.#isEmpty(path) && this.#random.next() < 0.5) {
      return {
        shell: `rmdir ${quoted(path)}`,
        paths: [path],
        apply: (dir) => removeDirectory(at(dir, path)),
      };
    }
    return {
      shell: `rm -r ${quoted(path)}`,
      paths: [path],
      apply: (dir) => rmSync(at(dir, path), { recursive: true }),
    };
  }

  #isEmpty(path: Path): boolean {
    return ![...this.#nodes.keys()].some((other) => other !== path && isAtOrBelow(other, path));
  }

  #rename(): Operation | undefined {
    const from = this.#pick(this.#paths());
    const node = from === undefined ? undefined : this.#nodes.get(from);
    if (from === undefined || node === undefined) return undefined;
    const to = this.#random.next() < 0.3 ? this.#over(from, node) : this.#free();
    if (to === undefined || isAtOrBelow(to, from) || isAtOrBelow(from, to)) return undefined;
    if (node.type === 'directory' && this.#topDirectories.has(to)) return undefined;
    for (const other of [...this.#unreachable])
      if (isAtOrBelow(other, from)) this.#unreachable.add(to + other.slice(from.length));
    if (parentOf(from) === '' && parentOf(to) !== '') this.#unreachable.add(to);
    return {
      shell: `mv -T ${quoted(from)} ${quoted(to)}`,
      paths: [from, to],
      ...(this.#nodes.get(to)?.type === 'directory' ? { replacedDirectory: to } : {}),
      apply: (dir) => rename(at(dir, from), at(dir, to)),
    };
  }

  /** Something that the node may be renamed over. */
  #over(from: Path, node: Node): Path | undefined {
    const fits = this.#paths().filter((path) => {
      const isDirectory = this.#nodes.get(path)?.type === 'directory';
      if (path === from || isDirectory !== (node.type === 'directory')) return false;
      // A rename over another name of the same file does nothing, but a name at the top of an agent's directory is a link.
      if (this.#attributed.has(path) || this.#nodes.get(path)?.ino === node.ino) return false;
      return !isDirectory || this.#isEmpty(path);
    });
    return this.#pick(fits);
  }

  #chmod(): Operation | undefined {
    const path = this.#pick(this.#paths().filter((each) => this.#nodes.get(each)?.type !== 'symlink'));
    const node = path === undefined ? undefined : this.#nodes.get(path);
    if (path === undefined || node === undefined) return undefined;
    const modes = node.type === 'file' ? FILE_MODES : DIRECTORY_MODES;
    const mode = this.#pick(modes.filter((each) => each !== node.mode)) ?? 0o700;
    return {
      shell: `chmod ${mode.toString(8)} ${quoted(path)}`,
      paths: [path],
      apply: (dir) => chmodSync(at(dir, path), mode),
    };
  }

  #changeType(): Operation | undefined {
    const path = this.#pick(this.#paths());
    const type = path === undefined ? undefined : this.#nodes.get(path)?.type;
    if (path === undefined || type === undefined) return undefined;
    const others = (['file', 'directory', 'symlink'] as const).filter((each) => each !== type);
    const next = this.#pick(others) ?? 'file';
    const made =
      next === 'file' ? this.#create(path) : next === 'symlink' ? this.#symlink(path) : this.#filled(path);
    if (made === undefined || this.#attributed.has(path)) return undefined;
    if (next === 'directory' && this.#topDirectories.has(path)) return undefined;
    return {
      shell: `rm -r ${quoted(path)}; ${made.shell}`,
      paths: [path],
      apply: (dir) => {
        rmSync(at(dir, path), { recursive: true });
        made.apply(dir);
      },
    };
  }

  #filled(path: Path): Operation {
    const text = this.#content();
    const below = join(path, 'in');
    return {
      shell: `mkdir ${quoted(path)}; ${printed(text)} > ${quoted(below)}`,
      paths: [path],
      apply: (dir) => {
        mkdirSync(at(dir, path), 0o755);
        writeFileSync(at(dir, below), text);
      },
    };
  }

  #hardLink(): Operation | undefined {
    const from = this.#pick(this.#paths('file'));
    const to = this.#free();
    if (from === undefined || to === undefined) return undefined;
    return {
      shell: `ln -L ${quoted(from)} ${quoted(to)}`,
      paths: [from, to],
      apply: (dir) => linkSync(realFile(dir, from), at(dir, to)),
    };
  }

  #setXattr(): Operation | undefined {
    const path = this.#pick(this.#paths().filter((each) => this.#nodes.get(each)?.type !== 'symlink'));
    if (path === undefined) return undefined;
    this.#serial += 1;
    const name = `user.${this.#pick(['a', 'b']) ?? 'a'}`;
    const value = `${this.#serial}`;
    return {
      shell: `setfattr -n ${name} -v ${value} ${quoted(path)}`,
      paths: [path],
      apply: (dir) => xattrs().setXattr(textOf(realFile(dir, path)), name, value),
    };
  }

  #sparse(): Operation | undefined {
    const path = this.#free();
    if (path === undefined) return undefined;
    const text = this.#content();
    const offset = BLOCK * (1 + this.#random.below(40));
    return {
      shell: `${printed(text)} | dd of=${quoted(path)} bs=1 seek=${offset}`,
      paths: [path],
      apply: (dir) => {
        writeFileSync(at(dir, path), '', { flag: 'wx' });
        writeAt(at(dir, path), text, offset);
      },
    };
  }
}

/** The first part of a path. */
function topOf(path: Path): string {
  return path.split('/', 1)[0] ?? path;
}
