/** Programs on files with several names, as those of `test/interop/links-random.test.ts`. */

import type { Path } from '../../src/reconcile/entry.ts';
import type { Random } from '../support/random.ts';
import type { RecordedSite } from './history.ts';
import type { Program, Weighted } from './programs.ts';

const TOPS: readonly Path[] = ['d', 'e', 'g'];
const NAMES: readonly Path[] = TOPS.flatMap((top) =>
  ['1', '2', '3', 's/1', 's/2'].map((name) => `${top}/${name}`),
);
/** What they need. */
export const LINK_DIRECTORIES: readonly Path[] = [...TOPS, ...TOPS.map((top) => `${top}/s`)];

const MODES = [0o600, 0o644, 0o755];

/** Between two commands of a script mostly nothing, between those of a person enough for looks, pushes and flips. */
function pause(random: Random): number {
  const chance = random.next();
  if (chance < 0.6) return random.next() * 10;
  return chance < 0.9 ? random.next() * 400 : random.next() * 2_000;
}

function filesOf(site: RecordedSite): Path[] {
  return NAMES.filter((path) => site.kind(path) === 'file');
}

function write(site: RecordedSite, path: Path, how: Parameters<RecordedSite['open']>[1]): void {
  const file = site.open(path, how);
  file.write(site.history.line(site.name, path), 0);
  file.close();
}

/** `ln -f`: beside the name, then over it. */
function linkOver(site: RecordedSite, from: Path, to: Path): void {
  if (site.identityAt(from) === site.identityAt(to)) return;
  if (site.kind(to) === undefined) {
    site.link(from, to);
    return;
  }
  site.link(from, `${to}.ln`);
  site.rename(`${to}.ln`, to);
}

/** `mv`: one name of two goes when they are the same file. */
function move(site: RecordedSite, from: Path, to: Path): void {
  if (from === to) return;
  if (site.identityAt(from) === site.identityAt(to)) site.unlink(from);
  else site.rename(from, to);
}

function* operation(site: RecordedSite, random: Random): Program {
  const files = filesOf(site);
  const to = random.pick(NAMES);
  if (files.length === 0) {
    write(site, to, { create: true });
    return;
  }
  const [file, other] = [random.pick(files), random.pick(files)];
  switch (random.below(14)) {
    case 0:
      write(site, to, { create: true, truncate: true });
      return;
    case 1:
    case 2:
    case 3:
      write(site, file, { append: true });
      return;
    case 4:
      write(site, `${file}.new`, { create: true });
      yield pause(random);
      site.rename(`${file}.new`, file);
      return;
    case 5:
    case 6:
      linkOver(site, file, to);
      return;
    case 7:
      site.unlink(file);
      return;
    case 8:
      move(site, file, to);
      return;
    case 9:
      site.chmod(file, random.pick(MODES));
      return;
    case 10:
      move(site, file, `${file}.t`);
      yield pause(random);
      if (file !== other) move(site, other, file);
      yield pause(random);
      move(site, `${file}.t`, other);
      return;
    case 11:
      write(site, file, { truncate: true });
      return;
    case 12:
      linkOver(site, file, to);
      yield pause(random);
      write(site, file, { append: true });
      yield pause(random);
      if (site.kind(other) === 'file') site.unlink(other);
      return;
    default: {
      const [a, b] = [random.pick(TOPS), random.pick(TOPS)];
      if (a === b) return;
      site.rename(`${a}/s`, `${a}/t`);
      site.rename(`${b}/s`, `${a}/s`);
      site.rename(`${a}/t`, `${b}/s`);
    }
  }
}

/** Some of them one after the other. */
function* burst(site: RecordedSite, random: Random): Program {
  for (let left = 1 + random.below(4); left > 0; left -= 1) {
    yield* operation(site, random);
    yield pause(random);
  }
}

export const HARD_LINKS: Weighted = [[1, burst]];
