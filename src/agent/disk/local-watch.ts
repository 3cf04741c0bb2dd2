/** chokidar as a hint that a look is due; the scan is the truth. */

import { watch, type FSWatcher } from 'chokidar';
import createDebug from 'debug';

import type { ByteString } from '../../codec/kv.ts';
import { pathFromText } from './fs.ts';
import type { WatchPort } from '../base/ports.ts';

const debug = createDebug('etcd-etc-agent:local');

/**
 * Watches DIR and the directories of both trees. Files are ignored and raw events are the hints: chokidar 5 would
 * otherwise watch every file, and never report a top-level symlink that an editor replaced (watch-and-flip 8).
 */
export class ChokidarWatch implements WatchPort {
  readonly #root: string;
  readonly #ignoredDir: string;
  #watcher: FSWatcher | undefined;

  /** `root` is DIR, `stateDir` what is left out below it; byte strings. */
  constructor(root: ByteString, stateDir: ByteString) {
    this.#root = Buffer.from(root, 'latin1').toString('utf8');
    this.#ignoredDir = Buffer.from(stateDir, 'latin1').toString('utf8');
  }

  start(onHint: (dir: ByteString | undefined) => void, onError: (error: Error) => void): void {
    const watcher = watch(this.#root, {
      followSymlinks: false,
      ignoreInitial: true,
      atomic: false,
      awaitWriteFinish: false,
      ignored: (path, stats) => path === this.#ignoredDir || (stats !== undefined && !stats.isDirectory()),
    });
    this.#watcher = watcher;
    watcher.on('raw', (_event, _name, details: unknown) => {
      const path = watchedPath(details);
      debug('hint %s', path);
      // A name that is not UTF-8 came mangled: look anywhere.
      onHint(path === undefined || path.includes('\ufffd') ? undefined : pathFromText(path));
    });
    watcher.on('error', (error) => onError(error instanceof Error ? error : new Error(String(error))));
    // Nobody waits for it: names that come and go meanwhile have kept it from ever being ready. What came before it was is
    // found by a look everywhere.
    watcher.once('ready', () => onHint(undefined));
  }

  async close(): Promise<void> {
    await this.#watcher?.close();
  }
}

function watchedPath(details: unknown): string | undefined {
  if (typeof details !== 'object' || details === null || !('watchedPath' in details)) return undefined;
  return typeof details.watchedPath === 'string' ? details.watchedPath : undefined;
}
