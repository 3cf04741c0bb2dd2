/** What people's programs do to files, call by call: each yields how long it pauses, in milliseconds. */

import { parentOf, type Path } from '../../src/reconcile/entry.ts';
import type { Random } from '../support/random.ts';
import type { RecordedSite } from './history.ts';
import { filesOfSet, lineOfSet } from './sets.ts';

export type Program = Generator<number, void>;

/** Few names, so that programs meet. */
const FILES: readonly Path[] = ['a', 'b', 'c', 'd/a', 'd/b', 'e/a', 'e/f/a', 'e/f/b', 'g/a'];
const DIRECTORIES: readonly Path[] = ['e/f', 'e/h', 'd/h'];
/** At the top of DIR a directory is a link of the agent's, and a move leaves a link somewhere. */
const TOP_DIRECTORIES: readonly Path[] = ['d', 'e', 'g', ...DIRECTORIES];
/** Programs keep them open, and the mount replaces them meanwhile. */
const HELD_FILES: readonly Path[] = ['d/a', 'e/f/a'];
const DEEP_FILES = FILES.filter((path) => path.includes('/'));

export type Weighted = readonly (readonly [weight: number, make: Maker])[];
type Maker = (site: RecordedSite, random: Random) => Program;

/** A short pause nearly always, sometimes one in which others see the file as it stands. */
function pause(random: Random): number {
  const chance = random.next();
  if (chance < 0.7) return random.next() * 5;
  return chance < 0.95 ? random.next() * 200 : random.next() * 1_500;
}

/** Whether a program of the plain kind may make a name: one at the top comes a moment after the flip (docs/guarantees.md). */
function mayMake(site: RecordedSite, path: Path): boolean {
  return path.includes('/') || site.kind(path) === 'file';
}

function makeParents(site: RecordedSite, path: Path): void {
  const dir = parentOf(path);
  // A directory at the top comes with its link, a moment after the flip.
  if (dir === undefined || !dir.includes('/') || site.kind(dir) !== undefined) return;
  makeParents(site, dir);
  site.mkdir(dir);
}

function* overwrite(site: RecordedSite, random: Random): Program {
  const path = random.pick(FILES);
  if (!mayMake(site, path)) return;
  makeParents(site, path);
  const file = site.open(path, { create: true, truncate: true });
  try {
    let position = 0;
    for (let lines = 1 + random.below(2); lines > 0; lines -= 1) {
      yield pause(random);
      const line = site.history.line(site.name, path);
      file.write(line, position);
      position += line.length;
    }
  } finally {
    file.close();
  }
}

function* append(site: RecordedSite, random: Random): Program {
  const path = random.pick(FILES);
  const file = site.open(path, { append: true });
  try {
    file.write(site.history.line(site.name, path), 0);
    yield pause(random);
  } finally {
    file.close();
  }
}

/** As an editor that writes into the file that is there. */
function* overwriteInPlace(site: RecordedSite, random: Random): Program {
  const path = random.pick(FILES);
  const file = site.open(path, {});
  try {
    yield pause(random);
    file.write(site.history.line(site.name, path), 0);
  } finally {
    file.close();
  }
}

/** As `sed -i`: beside it, then over it. */
function* saveByRename(site: RecordedSite, random: Random, files: readonly Path[] = FILES): Program {
  const path = random.pick(files);
  if (!mayMake(site, path)) return;
  makeParents(site, path);
  const next = `${path}.new`;
  const file = site.open(next, { create: true, truncate: true });
  try {
    file.write(site.history.line(site.name, path), 0);
    yield pause(random);
  } finally {
    file.close();
  }
  site.rename(next, path);
}

/** As `install`: gone, and new at once. */
function* replace(site: RecordedSite, random: Random): Program {
  const path = random.pick(FILES);
  if (!mayMake(site, path)) return;
  if (site.kind(path) === 'file') site.unlink(path);
  const file = site.open(path, { create: true, exclusive: true });
  try {
    yield pause(random);
    file.write(site.history.line(site.name, path), 0);
  } finally {
    file.close();
  }
  site.chmod(path, random.pick([0o600, 0o644, 0o755]));
}

/** A program that keeps its file open. */
function* keepOpen(site: RecordedSite, random: Random): Program {
  const path = random.pick(random.below(2) === 0 ? FILES : HELD_FILES);
  const file = site.open(path, { append: true });
  try {
    for (let lines = 1 + random.below(4); lines > 0; lines -= 1) {
      yield random.next() * 6_000;
      file.write(site.history.line(site.name, path), 0);
    }
  } finally {
    file.close();
  }
}

function* removeFile(site: RecordedSite, random: Random): Program {
  yield 0;
  const path = random.pick(FILES);
  const kind = site.kind(path);
  if (kind === 'file' || kind === 'symlink') site.unlink(path);
}

function* removeTree(site: RecordedSite, path: Path, random: Random): Program {
  if (site.kind(path) !== 'directory' || site.isOwnLink(path)) {
    site.unlink(path);
    return;
  }
  for (const name of site.list(path)) {
    yield random.next() * 2;
    yield* removeTree(site, `${path}/${name}`, random);
  }
  site.rmdir(path);
}

function* removeDirectory(
  site: RecordedSite,
  random: Random,
  directories: readonly Path[] = DIRECTORIES,
): Program {
  const path = random.pick(directories);
  if (site.kind(path) === 'directory') yield* removeTree(site, path, random);
}

function* moveFile(site: RecordedSite, random: Random, files: readonly Path[] = DEEP_FILES): Program {
  yield 0;
  const [from, to] = [random.pick(files), random.pick(files)];
  if (site.kind(from) !== 'file' || site.kind(to) === 'directory') return;
  makeParents(site, to);
  site.rename(from, to);
}

function* moveDirectory(
  site: RecordedSite,
  random: Random,
  directories: readonly Path[] = DIRECTORIES,
): Program {
  yield 0;
  const [from, to] = [random.pick(directories), random.pick(directories)];
  if (site.kind(from) !== 'directory' || site.kind(to) !== undefined) return;
  makeParents(site, to);
  site.rename(from, to);
}

function* makeTree(site: RecordedSite, random: Random): Program {
  const dir = random.pick(['d', 'e', 'g', ...DIRECTORIES]);
  if (site.kind(dir) === undefined && dir.includes('/')) {
    makeParents(site, dir);
    site.mkdir(dir);
  }
  for (let n = random.below(4); n > 0; n -= 1) {
    yield random.next() * 10;
    const path = `${dir}/n${random.below(3)}`;
    const file = site.open(path, { create: true, truncate: true });
    try {
      file.write(site.history.line(site.name, path), 0);
    } finally {
      file.close();
    }
  }
}

function* changeMode(site: RecordedSite, random: Random): Program {
  yield 0;
  const path = random.pick(FILES);
  if (site.kind(path) === 'file') site.chmod(path, random.pick([0o600, 0o640, 0o644, 0o755]));
}

function* makeLink(site: RecordedSite, random: Random): Program {
  yield 0;
  const path = random.pick(['l', 'd/l', 'e/f/l', ...FILES]);
  const kind = site.kind(path);
  if (kind === 'directory') return;
  if (kind !== undefined) site.unlink(path);
  makeParents(site, path);
  site.symlink(random.pick(['a', '../a', 'd', '/outside', '../../../outside', 'nowhere']), path);
}

function* linkHard(site: RecordedSite, random: Random): Program {
  yield 0;
  const [from, to] = [random.pick(FILES), random.pick(FILES)];
  if (site.kind(from) !== 'file' || site.kind(to) !== undefined) return;
  makeParents(site, to);
  site.link(from, to);
}

/** As a renewed certificate with its key. */
function* saveSet(site: RecordedSite): Program {
  yield 0;
  const generation = site.history.generation();
  const files = filesOfSet(site.name).map(
    (path) => [path, lineOfSet(site.history.line(site.name, path), generation)] as const,
  );
  site.writeTogether(new Map(files));
}

/** What an agent must not let out of its directory. */
function* endanger(site: RecordedSite, random: Random): Program {
  yield 0;
  const path = random.pick(DEEP_FILES);
  if (random.below(2) === 0 && site.kind(path) === 'file') {
    site.chmod(path, random.pick([0o4755, 0o2755, 0o6711]));
    return;
  }
  const link = random.pick(['d/out', 'e/out']);
  if (site.kind(link) !== undefined) site.unlink(link);
  else site.symlink(random.pick(['/outside', '../../../outside', '../..', '..']), link);
}

export const SETS: Weighted = [[4, saveSet]];

export const DANGERS: Weighted = [[2, endanger]];

export const RENEWALS: Weighted = [[4, (site, random) => saveByRename(site, random, HELD_FILES)]];

export const EDITS: Weighted = [
  [5, overwrite],
  [4, append],
  [3, overwriteInPlace],
  [5, saveByRename],
  [3, replace],
  [2, keepOpen],
  [3, removeFile],
  [1, removeDirectory],
  [3, moveFile],
  [1, moveDirectory],
  [2, makeTree],
  [2, changeMode],
];

export const AT_THE_TOP: Weighted = [
  [1, (site, random) => removeDirectory(site, random, TOP_DIRECTORIES)],
  [2, (site, random) => moveFile(site, random, FILES)],
  [1, (site, random) => moveDirectory(site, random, TOP_DIRECTORIES)],
];

export const LINKS: Weighted = [
  [1, makeLink],
  [1, linkHard],
];

/** One of them, by weight. */
export function pickProgram(weighted: Weighted, site: RecordedSite, random: Random): Program {
  let left = random.next() * weighted.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, make] of weighted) {
    left -= weight;
    if (left < 0) return make(site, random);
  }
  throw new Error('no programs');
}
