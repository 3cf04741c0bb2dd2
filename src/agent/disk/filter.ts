/** Which paths take part in the sync, in both directions. */

import picomatch from 'picomatch';

import type { Path } from '../../reconcile/entry.ts';
import { ConfigError } from '../base/error.ts';
import { isOwnName } from './layout.ts';

/** What editors leave beside the files they edit (design 3.1). */
export const EDITOR_DROPPINGS = ['*.swp', '*.swx', '*.swpx', '4913', '*~', '.#*'] as const;

/** Top-level names of the volume's root that belong to JuiceFS or to conflict copies; no view shows them. */
const RESERVED_IN_ROOT: ReadonlySet<string> = new Set(['.trash', '.conflicts']);

export interface FilterOptions {
  readonly exclude: readonly string[];
  /** Whether the view is the volume's root. */
  readonly isVolumeRoot: boolean;
}

export interface Filter {
  /** A path that takes no part: carried locally, not shown from the volume. The answer is the same each time. */
  readonly excluded: (path: Path) => boolean;
}

/**
 * A pattern without a slash (but at its end) matches a name at any depth, one with a slash the path from the view's
 * root. Patterns are byte strings, as paths are. Throws ConfigError for an empty one.
 */
export function createFilter(options: FilterOptions): Filter {
  const matcher = (patterns: readonly string[]): ((path: Path) => boolean) => {
    const matchers = patterns.map((pattern) => {
      const bare = pattern.replace(/\/+$/, '');
      if (bare === '')
        throw new ConfigError(`${JSON.stringify(pattern)} is no pattern of paths to leave out`);
      return { matches: picomatch(bare.replace(/^\//, ''), { dot: true }), name: !bare.includes('/') };
    });
    return (path) => {
      const parts = path.split('/');
      return parts.some((part, index) =>
        matchers.some(({ matches, name }) => matches(name ? part : parts.slice(0, index + 1).join('/'))),
      );
    };
  };
  const excludes = matcher([...EDITOR_DROPPINGS, ...options.exclude]);
  const cache = new Map<Path, boolean>();
  const decide = (path: Path): boolean => {
    const [first] = path.split('/', 1);
    if (first !== undefined && options.isVolumeRoot && RESERVED_IN_ROOT.has(first)) return true;
    return excludes(path);
  };
  return {
    excluded: (path) => {
      let answer = cache.get(path);
      if (answer === undefined) {
        answer = decide(path);
        if (cache.size > 100_000) cache.clear();
        cache.set(path, answer);
      }
      return answer;
    },
  };
}

/** Whether the volume's entry cannot be shown because the name is the agent's own. */
export function isReservedTop(path: Path): boolean {
  return !path.includes('/') && isOwnName(path);
}
