/** Symlink targets: as the volume stores them, and as they stand in a tree one level below DIR (design 3.2). */

import { parentOf, type Path } from './entry.ts';

const TREE_NAMES: ReadonlySet<string> = new Set(['..a', '..b', '..data']);

/** Index of the part with which a relative target first leaves the tree, or -1 if it never does. */
function climbIndex(parts: readonly string[], linkPath: Path): number {
  const parent = parentOf(linkPath) ?? '';
  let depth = parent === '' ? 0 : parent.split('/').length;
  for (const [index, part] of parts.entries()) {
    if (part === '' || part === '.') continue;
    depth += part === '..' ? -1 : 1;
    if (depth < 0) return index;
  }
  return -1;
}

/** The text to put on disk: a relative target that climbs out of the view gets one more `../` where it does. */
export function targetOnDisk(target: string, linkPath: Path): string {
  if (target.startsWith('/')) return target;
  const parts = target.split('/');
  const climb = climbIndex(parts, linkPath);
  return climb < 0 ? target : [...parts.slice(0, climb), '..', ...parts.slice(climb)].join('/');
}

/**
 * The target to store for a text found on disk: the inverse of `targetOnDisk`; a target that runs through `..a`,
 * `..b` or `..data` of DIR loses that part, because it names an entry of the view. `root` is DIR.
 */
export function targetInVolume(text: string, linkPath: Path, root: string): string {
  if (text.startsWith('/')) {
    if (!text.startsWith(`${root}/`)) return text;
    const [first, ...rest] = text.slice(root.length + 1).split('/');
    return first !== undefined && TREE_NAMES.has(first) && rest.length > 0
      ? `${root}/${rest.join('/')}`
      : text;
  }
  const parts = text.split('/');
  const climb = climbIndex(parts, linkPath);
  if (climb < 0) return text;
  const next = parts[climb + 1];
  // `..` out of the tree stands in DIR: a tree's name leads back into the view, any other name is the view's own.
  const skip = next !== undefined && TREE_NAMES.has(next) ? 2 : 1;
  const rest = [...parts.slice(0, climb), ...parts.slice(climb + skip)].join('/');
  return rest === '' ? '.' : rest;
}

/**
 * What a top-level symlink of DIR that is not the agent's own says, as a volume target: DIR is the view's root there,
 * so only a leading tree name is taken off.
 */
export function topTargetInVolume(text: string, root: string): string {
  if (text.startsWith('/')) return targetInVolume(text, '', root);
  const parts = text.split('/');
  const first = parts[0];
  return first !== undefined && TREE_NAMES.has(first) && parts.length > 1 ? parts.slice(1).join('/') : text;
}
