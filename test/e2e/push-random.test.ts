/** Random edits of a tree, pushed as the difference of before and after: the volume must come out as the tree. */

import { expect } from 'chai';
import { join, nameOf, parentOf, type Entry, type Path } from '../../src/reconcile/entry.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { givenSeed } from '../support/seed.ts';
import { Random } from '../support/random.ts';

/** An entry that keeps its number wherever it is moved. */
interface Item {
  readonly id: number;
  readonly entry: Entry;
}
type Model = Map<Path, Item>;

const NAMES = ['a', 'b', 'c', 'd', 'e'];

class Editor {
  readonly model: Model;
  readonly #random: Random;
  #next: number;

  constructor(model: Model, random: Random) {
    this.model = new Map(model);
    this.#random = random;
    this.#next = 1 + Math.max(0, ...[...model.values()].map(({ id }) => id));
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random.next() * list.length)];
  }

  /** A name in a directory, there or not. */
  #place(): Path {
    const dirs = [...this.model].filter(([, { entry }]) => entry.type === 'directory').map(([path]) => path);
    return join(this.#pick(['', ...dirs]) ?? '', this.#pick(NAMES) ?? 'a');
  }

  #make(): Entry {
    const text = `text ${Math.floor(this.#random.next() * 1e6)}\n`;
    return this.#pick([file(text), file(''), directory(), directory(), symlink(text)]) ?? directory();
  }

  #below(path: Path): Path[] {
    return [...this.model.keys()].filter((one) => one === path || one.startsWith(`${path}/`));
  }

  #relocate(moves: readonly (readonly [Path, Path])[]): void {
    const items = moves.flatMap(([from, to]) =>
      this.#below(from).map((path) => [path, to + path.slice(from.length), this.model.get(path)] as const),
    );
    for (const [path] of items) this.model.delete(path);
    for (const [, path, item] of items) if (item !== undefined) this.model.set(path, item);
  }

  step(): void {
    const { model } = this;
    const place = this.#place();
    const item = model.get(place);
    const other = this.#pick([...model.keys()]);
    const dice = this.#random.next();
    if (item === undefined) {
      if (dice < 0.6 || other === undefined) model.set(place, { id: this.#next++, entry: this.#make() });
      else if (!isWithin(place, other)) this.#relocate([[other, place]]);
    } else if (dice < 0.25) {
      for (const path of this.#below(place)) model.delete(path);
    } else if (dice < 0.5 && other !== undefined && !isWithin(place, other) && !isWithin(other, place)) {
      this.#relocate([
        [place, other],
        [other, place],
      ]);
    } else if (item.entry.type === 'file') {
      model.set(place, {
        id: item.id,
        entry: { ...file(`edit ${dice}\n`), ino: item.entry.ino, mode: item.entry.mode },
      });
    } else if (item.entry.type === 'directory') {
      model.set(place, { id: item.id, entry: { ...item.entry, mode: dice < 0.7 ? 0o750 : 0o755 } });
    }
  }
}

function isWithin(path: Path, dir: Path): boolean {
  return path === dir || path.startsWith(`${dir}/`);
}

/** The changes from one model to another; `undefined` where paths cannot tell old and new directories apart. */
function difference(before: Model, after: Model): PushChange[] | undefined {
  const oldPath = new Map([...before].map(([path, { id }]) => [id, path]));
  const newPath = new Map([...after].map(([path, { id }]) => [id, path]));
  const changes = new Map<Path, PushChange>();
  for (const [path, { id, entry }] of after) {
    const from = oldPath.get(id);
    const old = from === undefined ? undefined : before.get(from)?.entry;
    if (from === undefined || old === undefined) {
      changes.set(path, { path, old: undefined, new: entry });
      continue;
    }
    const dir = after.get(parentOf(path) ?? '')?.id;
    const oldDir = dir === undefined ? '' : oldPath.get(dir);
    const movesAlong =
      oldDir !== undefined &&
      (parentOf(path) === '' || dir !== undefined) &&
      join(oldDir, nameOf(path)) === from;
    if (!movesAlong) changes.set(path, { path, movedFrom: from, old, new: entry });
    else if (JSON.stringify(shown(old)) !== JSON.stringify(shown(entry)))
      changes.set(path, { path, old, new: entry });
  }
  // Where a removed entry would be after all moves.
  const placeOf = (path: Path): Path => {
    const parent = parentOf(path) ?? '';
    const item = before.get(parent);
    if (item === undefined) return path;
    return join(newPath.get(item.id) ?? placeOf(parent), nameOf(path));
  };
  for (const [old, { id, entry }] of before) {
    if (newPath.has(id)) continue;
    const path = placeOf(old);
    const there = changes.get(path);
    if (there === undefined) {
      if (after.has(path)) return undefined;
      changes.set(path, { path, old: entry, new: undefined });
    } else if (there.movedFrom !== undefined) {
      if (entry.type === 'directory' || there.new?.type === 'directory') return undefined;
      changes.set(path, { ...there, over: entry });
    } else if (there.old === undefined) {
      const wanted = there.new;
      changes.set(path, { path, old: entry, new: wanted });
    } else return undefined;
  }
  return [...changes.values()];
}

function shown(entry: Entry): unknown {
  switch (entry.type) {
    case 'file':
      return ['file', entry.mode, entry.digest];
    case 'directory':
      return ['directory', entry.mode];
    case 'symlink':
      return ['symlink', entry.target];
    default:
      return entry.kind;
  }
}

async function shownByVolume(volume: TestVolume): Promise<Record<string, unknown>> {
  const { revision } = await volume.store.status();
  const tree = new VolumeTree(volume.store, volume.volume, revision);
  const root = await tree.find('');
  const lines: [string, unknown][] = [];
  if (root === undefined) throw new Error('the volume has no root');
  for await (const node of tree.below(root)) {
    const believed = volume.tree.get(node.path);
    const digest = believed?.type === 'file' ? believed.digest : '';
    const target = node.type === 'symlink' ? await tree.target(node) : '';
    const entry = tree.entryOf(node, digest, target);
    lines.push([node.path, entry === undefined ? 'dangling' : shown(entry)]);
  }
  return Object.fromEntries(lines);
}

describe('random pushes', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  before(async () => {
    server = await startEtcd();
  });
  after(async () => server?.stop());

  const given = givenSeed();
  const seeds = given === undefined ? [1, 2, 3, 4, 5, 6] : [given];
  for (const seed of seeds) {
    it(`come out as the tree they were made from (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const name = `random-${seed}`;
      const volume = await TestVolume.format(server, { name, trashDays: seed % 2, blockSizeKiB: 64 });
      try {
        let model: Model = new Map();
        let pushes = 0;
        while (pushes < 40) {
          const editor = new Editor(model, random);
          for (let i = 0; i < 1 + random.next() * 8; i += 1) editor.step();
          const changes = difference(model, editor.model);
          if (changes === undefined) continue;
          pushes += 1;
          await volume.push(...changes);
          model = new Map([...editor.model].map(([path, { id }]) => [path, { id, entry: volume.at(path) }]));
          const expected = [...editor.model].map(([path, { entry }]) => [path, shown(entry)]);
          expect(await shownByVolume(volume)).to.deep.equal(Object.fromEntries(expected));
        }
        expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      } finally {
        await volume.store.close();
      }
    });
  }
});
