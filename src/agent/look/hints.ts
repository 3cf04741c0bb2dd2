/** Where something may have changed, and how often to look everywhere: by what the watch of DIR says and whether it is whole. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import type { Layout } from '../disk/layout.ts';
import type { Extent } from './look.ts';
import { log } from '../base/log.ts';
import type { WatchPort } from '../base/ports.ts';

/** Looks everywhere while not everything is watched: at least this far apart, and so far that they take little of the time. */
const UNWATCHED_RESCAN_MS = 1_000;
const UNWATCHED_SHARE = 20;

interface Options {
  readonly watch: WatchPort;
  readonly layout: Layout;
  /** How often everything is looked at when all is well; milliseconds. */
  readonly rescanMs: number;
  readonly onHint: () => void;
}

export class Hints {
  readonly #o: Options;
  readonly #paths = new Set<Path>();
  #everywhere = true;
  #problem: string | undefined;
  #lookMs = 0;

  constructor(options: Options) {
    this.#o = options;
  }

  start(): void {
    this.#o.watch.start(
      (dir) => this.#note(dir),
      (error) => this.#noteHealth(error),
    );
  }

  async close(): Promise<void> {
    await this.#o.watch.close();
  }

  /** Why not everything is watched; `undefined` when it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** How often to look everywhere; milliseconds. */
  get rescanMs(): number {
    const { rescanMs } = this.#o;
    if (this.#problem === undefined) return rescanMs;
    return Math.min(rescanMs, Math.max(UNWATCHED_RESCAN_MS, UNWATCHED_SHARE * this.#lookMs));
  }

  /** Whether there is a hint of a single place. */
  get isHinted(): boolean {
    return this.#paths.size > 0;
  }

  /** A look everywhere took this long. */
  looked(ms: number): void {
    this.#lookMs = ms;
  }

  /** The next look is one everywhere. */
  everywhere(): void {
    this.#everywhere = true;
  }

  /** Where to look now, if anywhere: `isDue` asks for everywhere, `isSettling` for where something waits. */
  take(isDue: boolean, isSettling: boolean): Extent | undefined {
    const all = isDue || this.#everywhere;
    const paths = new Set(this.#paths);
    this.#paths.clear();
    this.#everywhere = false;
    if (all) return 'all';
    return paths.size > 0 || isSettling ? paths : undefined;
  }

  #note(dir: ByteString | undefined): void {
    const path = dir === undefined ? undefined : this.#viewPath(dir);
    if (path === undefined) this.#everywhere = true;
    else this.#paths.add(path);
    this.#o.onHint();
  }

  /** A limit is told of every directory: once is enough, the looks everywhere go on. */
  #noteHealth(error: Error | undefined): void {
    const had = this.#problem;
    if (error === undefined) {
      this.#problem = undefined;
      if (had !== undefined) log('info', 'watching all of the directory again');
    } else {
      this.#problem ??= `not everything is watched, changes are found by looking: ${error.message}`;
      if (had === undefined) log('warn', 'not everything is watched', { reason: error.message });
    }
    this.#o.onHint();
  }

  /** A directory on disk as a directory of the view; both trees and the top are looked at together. */
  #viewPath(dir: ByteString): Path | undefined {
    const { layout } = this.#o;
    if (dir === layout.root) return '';
    for (const tree of ['a', 'b'] as const) {
      const at = layout.tree(tree);
      if (dir === at) return '';
      if (dir.startsWith(`${at}/`)) return dir.slice(at.length + 1);
    }
    return dir.startsWith(`${layout.root}/`) ? '' : undefined;
  }
}
