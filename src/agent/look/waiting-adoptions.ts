/** Which of the things that looks found outside the trees have to wait, because others that belong to them do. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';
import { isAtOrBelow } from '../../reconcile/push-change.ts';
import type { Local } from './local.ts';
import { isBusyBelow } from './look.ts';
import type { SlotTree } from '../disk/slot.ts';

interface Circumstances {
  readonly slots: SlotTree;
  /** What is on its way to the volume. */
  readonly pushing: ReadonlySet<Path>;
  /** Where a path is in the active tree. */
  readonly inActive: (path: Path) => ByteString;
  /** Nothing is done about this path now. */
  readonly isBlocked: (path: Path) => boolean;
  /** The publish puts something else there. */
  readonly isTaken: (path: Path) => boolean;
}

/**
 * Adoptions that wait for what has not settled or is on its way to the volume. What moves waits at both its places, and a
 * directory that goes while something in it is on its way goes whole, and later: else it would stay for that.
 */
export function waitingAdoptions(
  { adoptions, busy, tops }: Pick<Local, 'adoptions' | 'busy' | 'tops'>,
  { slots, pushing, inActive, isBlocked, isTaken }: Circumstances,
): ReadonlySet<Path> {
  const staying = [...adoptions].flatMap(([path, adoption]) =>
    adoption?.slot.type !== 'directory' &&
    slots.get(path)?.type === 'directory' &&
    isBusyBelow({ busy: pushing }, path)
      ? [path]
      : [],
  );
  const stays = (path: Path): boolean => staying.some((dir) => isAtOrBelow(path, dir));
  const sources = staying.map(inActive);
  const waiting = new Set<Path>();
  /** Where they come from, and their inodes: a file that stood at the top when it moved comes from there. */
  const arrivals = new Set<ByteString | bigint>();
  for (const [path, adoption] of adoptions) {
    if (adoption === undefined) continue;
    const waits = stays(path) || sources.some((dir) => isAtOrBelow(adoption.source, dir));
    if (waits) waiting.add(path);
    if (!waits && !isTaken(path) && !isBlocked(path)) continue;
    arrivals.add(adoption.source);
    if (adoption.slot.type === 'file') arrivals.add(adoption.slot.signature.ino);
  }
  /** A link at the top that stands for a copied tree gives way to all of the tree or to nothing of it. */
  const isBusyInCopy = (path: Path): boolean => {
    if (!tops.has(path) || adoptions.get(path)?.copy !== true) return false;
    const [top = path] = path.split('/', 1);
    return [...busy].some((other) => tops.has(other) && isAtOrBelow(other, top));
  };
  for (const [path, adoption] of adoptions) {
    if (isBlocked(path) || isBusyInCopy(path)) waiting.add(path);
    if (adoption !== undefined) continue;
    // A moved name leaves its place only together with its arrival at the new one.
    const leaves = arrivals.has(inActive(path)) || arrivals.has(slots.get(path)?.signature.ino ?? 0n);
    // What has not settled below a name that goes would keep its directory.
    if (leaves || stays(path) || isBusyBelow({ busy }, path)) waiting.add(path);
  }
  return waiting;
}
