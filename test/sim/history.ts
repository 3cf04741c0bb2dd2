/**
 * What programs wrote, and what they had before them when they replaced it (design G2). Every write is a line with a word of
 * its own, so that a content can be found again wherever it went.
 */

import type { Path } from '../../src/reconcile/entry.ts';
import { fsError } from '../support/fs-error.ts';
import type { Handle, Kind, Site } from './site.ts';
import type { Trace } from './trace.ts';

interface Written {
  readonly word: string;
  readonly site: string;
  readonly path: Path;
  readonly atMs: number;
}

const WORD = /#\d+\b/g;

/** The words of all lines in a text. */
export function wordsIn(text: string): string[] {
  return text.match(WORD) ?? [];
}

export class History {
  readonly #nowMs: () => number;
  readonly written = new Map<string, Written>();
  /** Words that a writer who had them before them replaced or removed. */
  readonly superseded = new Set<string>();
  #next = 1;
  #generation = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** A line that nobody else has written. */
  line(site: string, path: Path): string {
    const word = `#${this.#next}`;
    this.#next += 1;
    return `${word} ${site} ${path}\n`;
  }

  /** A number for what is written together. */
  generation(): number {
    this.#generation += 1;
    return this.#generation;
  }

  wrote(site: string, path: Path, text: string): void {
    for (const word of wordsIn(text)) {
      if (!this.written.has(word)) this.written.set(word, { word, site, path, atMs: this.#nowMs() });
    }
  }

  replaced(before: string | undefined, after = ''): void {
    const left = new Set(wordsIn(after));
    for (const word of wordsIn(before ?? '')) if (!left.has(word)) this.superseded.add(word);
  }

  /** Of what was written, what is in none of some texts although nobody replaced it. */
  missingFrom(texts: Iterable<string>): Written[] {
    const found = new Set<string>();
    for (const text of texts) for (const word of wordsIn(text)) found.add(word);
    return [...this.written.values()].filter(({ word }) => !found.has(word) && !this.superseded.has(word));
  }
}

/** A site whose programs are recorded. */
export class RecordedSite implements Site {
  readonly name: string;
  readonly inner: Site;
  readonly history: History;
  readonly #trace: Trace;
  /** Files that lost their name to a program here: what is written to them is meant to be lost. */
  readonly #dropped = new Set<unknown>();

  constructor(inner: Site, history: History, trace: Trace) {
    this.name = inner.name;
    this.inner = inner;
    this.history = history;
    this.#trace = trace;
  }

  #note(what: string): void {
    this.#trace.note(this.name, what);
  }

  kind(path: Path): Kind | undefined {
    return this.inner.kind(path);
  }

  list(path: Path): string[] {
    return this.inner.list(path);
  }

  text(path: Path): string | undefined {
    return this.inner.text(path);
  }

  hiddenText(path: Path): string | undefined {
    return this.inner.hiddenText(path);
  }

  identityAt(path: Path): unknown {
    return this.inner.identityAt(path);
  }

  meantBy(path: Path): Path | undefined {
    return this.inner.meantBy(path);
  }

  isOwnLink(path: Path): boolean {
    return this.inner.isOwnLink(path);
  }

  open(path: Path, how: Parameters<Site['open']>[1]): Handle {
    // Through a link an old tree can be written whose name somebody has removed at the top: nobody can tell what was meant.
    if (this.kind(path) === 'symlink') throw fsError('ELOOP', 'open', path);
    const before = how.truncate === true ? this.text(path) : undefined;
    this.history.replaced(this.hiddenText(path));
    const handle = this.inner.open(path, how);
    this.history.replaced(before);
    this.#note(`open ${path} ${Object.keys(how).join(' ')}`);
    const changed = (act: () => void, text: string): void => {
      const had = handle.content();
      act();
      this.history.wrote(this.name, path, text);
      this.history.replaced(had, handle.content());
      // It had no name any more.
      if (this.#dropped.has(handle.identity) && this.identityAt(path) !== handle.identity)
        this.history.replaced(text);
    };
    return {
      ...handle,
      write: (text, position) => {
        changed(() => handle.write(text, position), text);
        this.#note(`write ${path} ${wordsIn(text).join(' ')}`);
      },
      truncate: () => {
        changed(() => handle.truncate(), '');
        this.#note(`truncate ${path}`);
      },
      close: () => {
        handle.close();
        this.#note(`close ${path}`);
      },
    };
  }

  mkdir(path: Path): void {
    this.inner.mkdir(path);
    this.#note(`mkdir ${path}`);
  }

  rmdir(path: Path): void {
    this.inner.rmdir(path);
    this.#note(`rmdir ${path}`);
  }

  /** Also takes a link of the agent's that stands for a directory, and all below it. */
  unlink(path: Path): void {
    const below = this.#textsMeant(path);
    const isLink = this.kind(path) === 'symlink';
    const text = isLink ? undefined : this.text(path);
    const identity = this.identityAt(path);
    this.inner.unlink(path);
    this.history.replaced(text);
    for (const lost of below) this.history.replaced(lost);
    if (!isLink) this.#dropped.add(identity);
    this.#note(`unlink ${path} ${wordsIn(text ?? '').join(' ')}${wordsIn(below.join()).join(' ')}`);
  }

  /** The texts of all that goes with a directory, or with a link that stands for one. */
  #textsMeant(path: Path, seen: readonly Path[] = []): string[] {
    const kind = this.kind(path);
    if (kind === 'file') return seen.length === 0 ? [] : [this.text(path) ?? ''];
    if (kind === 'directory')
      return this.list(path).flatMap((name) => this.#textsMeant(`${path}/${name}`, [...seen, path]));
    const meant = kind === 'symlink' ? this.meantBy(path) : undefined;
    return meant === undefined || seen.includes(meant) ? [] : this.#textsMeant(meant, [...seen, path]);
  }

  rename(from: Path, to: Path): void {
    const target = this.kind(to);
    if (target === 'directory' && this.isOwnLink(to)) throw fsError('EISDIR', 'rename', from);
    const text = target === 'file' ? this.text(to) : undefined;
    const identity = target === 'file' ? this.identityAt(to) : undefined;
    const meant = target === 'symlink' ? this.#textsMeant(to) : [];
    const isSame = identity !== undefined && identity === this.identityAt(from);
    this.history.replaced(this.hiddenText(to));
    this.inner.rename(from, to);
    if (!isSame) {
      this.history.replaced(text);
      for (const lost of meant) this.history.replaced(lost);
      if (identity !== undefined) this.#dropped.add(identity);
    }
    this.#note(`rename ${from} ${to} over ${wordsIn(text ?? '').join(' ')}`);
  }

  link(from: Path, to: Path): void {
    this.inner.link(from, to);
    this.#note(`link ${from} ${to}`);
  }

  symlink(target: string, path: Path): void {
    this.inner.symlink(target, path);
    this.#note(`symlink ${target} ${path}`);
  }

  chmod(path: Path, mode: number): void {
    this.inner.chmod(path, mode);
    this.#note(`chmod ${mode.toString(8)} ${path}`);
  }

  /** Files that belong together, each saved as a whole: at once on a mount, one right after the other on a disk. */
  writeTogether(files: ReadonlyMap<Path, string>): void {
    const before = [...files.keys()].map((path) => this.text(path));
    if (this.inner.writeTogether !== undefined) this.inner.writeTogether(files);
    else
      for (const [path, text] of files) {
        const next = this.inner.open(`${path}.new`, { create: true, truncate: true });
        next.write(text, 0);
        next.close();
        this.inner.rename(`${path}.new`, path);
      }
    for (const [path, text] of files) this.history.wrote(this.name, path, text);
    for (const text of before) this.history.replaced(text);
    this.#note(
      `write together ${[...files].map(([path, text]) => `${path} ${wordsIn(text).join(' ')}`).join(', ')}`,
    );
  }
}
