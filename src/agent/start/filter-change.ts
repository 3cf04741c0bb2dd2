/** What another filter than that of the last start means (design 4.4): who leaves is forgotten, who enters has no past. */

import type { ByteString } from '../../codec/kv.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import { createFilter, type Filter, type FilterOptions } from '../disk/filter.ts';
import { isOwnName, type Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import { log } from '../base/log.ts';
import type { FsPort } from '../base/ports.ts';

/**
 * Notes the filter of this start. A path that takes no part any more is agreed on no more, so that its absence from one
 * side means nothing to the other; one that takes part now, and is here, is compared as if nobody had ever agreed on it.
 */
export function noteFilter(
  fs: FsPort,
  layout: Layout,
  ledger: Ledger,
  options: FilterOptions,
  filter: Filter,
): void {
  const { state } = ledger;
  const left = [...state.ancestor.keys()].filter((path) => filter.excluded(path));
  if (left.length > 0)
    ledger.write([{ t: 'ancestor', entries: left.map((path) => [path, null] as const) }], false);
  const patterns = [...options.exclude];
  const before = state.filter;
  if (
    before !== undefined &&
    before.length === patterns.length &&
    before.every((one, n) => one === patterns[n])
  )
    return;
  const was = before === undefined ? undefined : createFilter({ ...options, exclude: before });
  const entered =
    was === undefined
      ? []
      : presentPaths(fs, layout, ledger).filter(
          (path) => was.excluded(path) && !filter.excluded(path) && !state.ancestor.has(path),
        );
  // Of what took no part the ledger knows that it was there, and not what it is.
  const unread = entered.filter((path) => state.slots.get(path)?.type === 'other');
  const slots = unread.map((path) => [path, null] as const);
  ledger.write(
    [
      { t: 'look', slots, stale: [], same: [] },
      { t: 'filter', patterns, entered },
    ],
    true,
  );
  if (before !== undefined) log('info', 'filter changed', { left: left.length, entered: entered.length });
}

/** What is in the tree, and what stands at the top beside it. */
function presentPaths(fs: FsPort, layout: Layout, { state }: Ledger): Path[] {
  const paths = new Set<Path>([...state.slots.entries()].map(([path]) => path));
  const walk = (at: ByteString, path: Path): void => {
    const stat = fs.lstat('filter', at);
    if (stat === undefined) return;
    if (stat.type === 'symlink' && state.slots.has(path)) return;
    paths.add(path);
    if (stat.type !== 'directory') return;
    for (const name of fs.readdir('filter', at)) walk(`${at}/${name}`, join(path, name));
  };
  for (const name of fs.readdir('filter', layout.root)) if (!isOwnName(name)) walk(layout.top(name), name);
  return [...paths];
}
