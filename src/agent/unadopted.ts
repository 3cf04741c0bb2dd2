/** Files that DIR held before anybody had agreed on them: they stay, and are not pushed unless that is asked for (`--adopt`). */

import type { Change } from '../reconcile/change.ts';
import type { Path } from '../reconcile/entry.ts';
import { ancestorsOf } from '../reconcile/push-change.ts';
import type { Ledger } from './state/ledger.ts';
import { log } from './base/log.ts';
import type { Remote } from './follow/remote.ts';

interface Options {
  readonly ledger: Ledger;
  readonly adopt: boolean;
  readonly excluded: (path: Path) => boolean;
}

export class Unadopted {
  readonly #o: Options;
  readonly #isFirstStart: boolean;

  constructor(options: Options) {
    this.#o = options;
    this.#isFirstStart = options.ledger.state.revision === 0n;
  }

  /** With `--adopt`: forgets which they are, and returns them, to be looked at like any others. */
  release(): readonly Path[] {
    const { ledger, adopt } = this.#o;
    if (!adopt || ledger.state.unadopted.size === 0) return [];
    const paths = [...ledger.state.unadopted];
    ledger.write([{ t: 'unadopted', add: [], remove: paths }], false);
    return paths;
  }

  /** What comes to light below a directory that the volume does not have belongs to it. */
  noteBelow(paths: Iterable<Path>, remote: Remote): void {
    const { ledger, excluded } = this.#o;
    const { ancestor, unadopted } = ledger.state;
    if (unadopted.size === 0) return;
    this.#add(
      [...new Set(paths)].filter((path) => {
        if (unadopted.has(path) || excluded(path) || ancestor.has(path) || remote.tree.has(path))
          return false;
        return [...ancestorsOf(path)].some((dir) => unadopted.has(dir));
      }),
    );
  }

  /** The changes without those of such files. */
  setAside(changes: readonly Change[], remote: Remote): readonly Change[] {
    const { ledger, adopt } = this.#o;
    const { entered, revision } = ledger.state;
    const isFirst = this.#isFirstStart && revision === 0n && remote.tree.size > 0;
    if (adopt || (!isFirst && entered.size === 0)) return changes;
    const isAside = ({ path, old }: Change): boolean => old === undefined && (isFirst || entered.has(path));
    const aside = new Set(changes.filter(isAside).map(({ path }) => path));
    this.#add([...aside]);
    return changes.filter(({ path }) => !aside.has(path));
  }

  #add(paths: readonly Path[]): void {
    if (paths.length === 0) return;
    this.#o.ledger.write([{ t: 'unadopted', add: paths, remove: [] }], false);
    for (const path of paths) log('warn', 'unadopted', { path });
  }
}
