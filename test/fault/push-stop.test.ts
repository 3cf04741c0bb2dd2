/**
 * The writer ends between any two requests of a push, or the answer to one is lost: the volume is as before or as after,
 * what is left over has no names and is counted, and the next start or the real client's gc takes it away.
 */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import type { PushOutcome } from '../../src/agent/push/push.ts';
import { Pusher } from '../../src/agent/push/push.ts';
import { removeDebris } from '../../src/agent/push/push-debris.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import {
  claimsOf,
  contentOf,
  directory,
  file,
  symlink,
  TestVolume,
  volumeThrough,
} from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { stoppingStore, type Fate, type StoppingStore } from '../support/stopping-store.ts';
import { needTool } from '../support/tools.ts';
import {
  detachedInodes,
  putBack,
  takeKeys,
  treeOfKeys,
  withOldMarks,
  type Keys,
} from '../support/volume-keys.ts';

interface Scenario {
  readonly what: string;
  readonly trashDays: number;
  readonly before: (volume: TestVolume) => readonly PushChange[];
  readonly push: (volume: TestVolume) => readonly PushChange[];
  /** Steps in which others see it; 1 unless said. */
  readonly steps?: number;
  /** What is stored before it has names may be left over. */
  readonly leaves?: true;
}

const LARGE = new Uint8Array(300_000).map((_, i) => (i * 31) % 251);
const many = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));

const SCENARIOS: readonly Scenario[] = [
  {
    what: 'a small new file',
    trashDays: 1,
    before: () => [],
    push: (v) => [v.make('f', file('new\n'))],
  },
  {
    what: 'a large new file',
    leaves: true,
    trashDays: 0,
    before: () => [],
    push: (v) => [v.make('f', file(LARGE))],
  },
  {
    what: 'a small file replaced for good',
    trashDays: 0,
    before: (v) => [v.make('f', file('old\n'))],
    push: (v) => [v.edit('f', file('new\n'))],
  },
  {
    what: 'a large file replaced',
    leaves: true,
    trashDays: 1,
    before: (v) => [v.make('f', file('old\n'))],
    push: (v) => [v.edit('f', file(LARGE))],
  },
  {
    what: 'a move over another file',
    trashDays: 1,
    before: (v) => [v.make('from', file('from\n')), v.make('to', file('to\n'))],
    push: (v) => [v.move('from', 'to', { over: v.at('to') })],
  },
  {
    what: 'a move of a directory, and a mode',
    trashDays: 0,
    before: (v) => [v.make('d', directory()), v.make('d/f', file('f\n')), v.make('e', directory())],
    push: (v) => [v.move('d', 'e/d'), v.edit('e', { mode: 0o700 })],
  },
  {
    what: 'files that swap names',
    trashDays: 1,
    before: (v) => [v.make('x', file('x\n')), v.make('y', file('y\n'))],
    push: (v) => [v.move('x', 'y'), v.move('y', 'x')],
  },
  {
    what: 'a symlink, and one led elsewhere',
    trashDays: 0,
    before: (v) => [v.make('l', symlink('old'))],
    push: (v) => [v.edit('l', symlink('new')), v.make('m', symlink('l'))],
  },
  {
    what: 'one more name, and new contents for all of them',
    trashDays: 0,
    before: (v) => [v.make('f', file('old\n')), v.make('g', file('g\n'))],
    push: (v) => [
      { ...v.make('h', file('g\n')), link: { kind: 'name', ino: v.at('g').ino } },
      { ...v.edit('f', file('new\n')), link: { kind: 'in-place' } },
    ],
  },
  {
    what: 'a directory that becomes a file',
    trashDays: 1,
    before: (v) => [v.make('d', directory()), v.make('d/f', file('f\n'))],
    push: (v) => [v.remove('d/f'), v.edit('d', file('a file\n'))],
  },
  {
    what: 'a tree removed for good',
    trashDays: 0,
    before: (v) => [v.make('d', directory()), v.make('d/e', directory()), v.make('d/e/f', file('f\n'))],
    push: (v) => [v.remove('d/e/f'), v.remove('d/e'), v.remove('d')],
  },
  {
    what: 'a tree of more than a transaction removed',
    trashDays: 1,
    before: (v) => [v.make('d', directory()), ...many(45, (i) => v.make(`d/${i}`, file('f\n')))],
    push: (v) => [...many(45, (i) => v.remove(`d/${i}`)), v.remove('d')],
    steps: 2,
  },
  {
    what: 'a new tree of more than a transaction, with something moved into it',
    leaves: true,
    trashDays: 1,
    before: (v) => [v.make('old', file('old\n')), v.make('edited', file('old\n'))],
    push: (v) => [
      v.edit('edited', file('new\n')),
      v.make('n', directory()),
      v.make('n/sub', directory()),
      v.make('n/sub/link', symlink('..')),
      v.move('old', 'n/sub/old'),
      v.make('n/linked', file('linked\n')),
      { ...v.make('n/sub/linked', file('linked\n')), link: { kind: 'name-of-new', maker: 'n/linked' } },
      ...many(50, (i) => v.make(`n/sub/${i}`, file(`content ${i}\n`))),
    ],
  },
  {
    what: 'a new tree with a large file',
    leaves: true,
    trashDays: 0,
    before: (v) => [v.make('edited', file('old\n'))],
    push: (v) => [
      v.edit('edited', file('new\n')),
      v.make('n', directory()),
      v.make('n/large', file(LARGE)),
      ...many(40, (i) => v.make(`n/${i}`, file(`content ${i}\n`))),
    ],
  },
  {
    what: '26 files replaced for good',
    leaves: true,
    trashDays: 0,
    before: (v) => many(26, (i) => v.make(`f${i}`, file(`old ${i}\n`))),
    push: (v) => many(26, (i) => v.edit(`f${i}`, file(`new ${i}\n`))),
  },
  {
    what: '45 files replaced',
    leaves: true,
    trashDays: 1,
    before: (v) => many(45, (i) => v.make(`f${i}`, file(`old ${i}\n`))),
    push: (v) => many(45, (i) => v.edit(`f${i}`, file(`new ${i}\n`))),
    steps: 2,
  },
];

/** One push by a process that has just started. */
interface Attempt extends StoppingStore {
  readonly claimed: ReturnType<typeof claimsOf>;
  readonly outcome: PushOutcome | undefined;
}

describe('a writer that ends between any two requests', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let juicefs: Juicefs;

  before(async function () {
    needTool(this, 'etcd');
    juicefs = new Juicefs(this);
    server = await startEtcd();
  });
  after(async () => server?.stop());

  for (const [index, scenario] of SCENARIOS.entries()) {
    it(`${scenario.what}, trash ${scenario.trashDays > 0 ? 'on' : 'off'}`, async () => {
      await putBackNothing();
      const volume = await TestVolume.format(server, {
        name: `stop-${index}`,
        hashPrefix: false,
        trashDays: scenario.trashDays,
        blockSizeKiB: 64,
      });
      try {
        await new Stops(volume, scenario, juicefs).run();
      } finally {
        await volume.store.close();
      }
    });
  }

  async function putBackNothing(): Promise<void> {
    const volume = await TestVolume.format(server, {
      name: 'nothing',
      hashPrefix: false,
      trashDays: 0,
      blockSizeKiB: 64,
    });
    await putBack(volume.store, new Map());
    await volume.store.close();
  }
});

/** All the ways in which the push of one scenario may be stopped. */
class Stops {
  readonly #v: TestVolume;
  readonly #scenario: Scenario;
  readonly #juicefs: Juicefs;
  #base: Keys = new Map();
  #changes: readonly PushChange[] = [];
  #before: Record<Path, string> = {};
  #after: Record<Path, string> = {};
  /** The largest heap of what was left over. */
  #worst: { readonly left: number; readonly keys: Keys } = { left: 0, keys: new Map() };

  constructor(volume: TestVolume, scenario: Scenario, juicefs: Juicefs) {
    this.#v = volume;
    this.#scenario = scenario;
    this.#juicefs = juicefs;
  }

  async run(): Promise<void> {
    const { store, volume } = this.#v;
    const first = this.#scenario.before(this.#v);
    if (first.length > 0) await this.#v.push(...first);
    this.#changes = this.#scenario.push(this.#v);
    this.#base = await takeKeys(store);
    this.#before = treeOfKeys(volume, this.#base);

    const whole = await this.#attempt(0, 'unsent');
    expect(whole.outcome?.revisions).to.have.length(this.#scenario.steps ?? 1);
    this.#after = treeOfKeys(volume, await takeKeys(store));
    expect(this.#after).to.not.deep.equal(this.#before);
    expect(await this.#recount()).to.deep.equal([]);

    // The data of many deleted files go one like the other.
    for (let at = 1; at <= whole.commits; at += at < 20 ? 1 : 100) {
      for (const fate of ['unsent', 'applied', 'unknown', 'unknown unsent'] as const)
        await this.#stop(at, fate);
      for (const fate of ['again', 'raced'] as const) await this.#goOn(at, fate);
    }
    expect(this.#worst.left > 0).to.equal(this.#scenario.leaves ?? false);
    if (this.#worst.left > 0) await this.#leaveItToGc();
  }

  async #attempt(at: number, fate: Fate): Promise<Attempt> {
    await putBack(this.#v.store, this.#base);
    const stopping = stoppingStore(this.#v.store, at, fate);
    const volume = await volumeThrough(this.#v.volume, stopping.store);
    const pusher = new Pusher(stopping.store, volume, systemClock);
    const claimed = claimsOf();
    let outcome: PushOutcome | undefined;
    try {
      outcome = await pusher.push(this.#changes, {
        read: async (change, offset, length) => {
          if (change.new?.type !== 'file') throw new Error('only files are read');
          return contentOf(change.new).subarray(Number(offset), Number(offset) + length);
        },
        onClaim: claimed.note,
      });
    } catch (error) {
      if (!stopping.happened) throw error;
    }
    return { ...stopping, commits: stopping.commits, happened: stopping.happened, claimed, outcome };
  }

  /** The process ends; the next one cleans up. */
  async #stop(at: number, fate: Fate): Promise<void> {
    const { claimed, happened, outcome } = await this.#attempt(at, fate);
    // Blocks are deleted after a push that has an outcome; whatever else goes on has one, too.
    if (!happened || (outcome !== undefined && fate.startsWith('unknown'))) return;
    const how = `${fate} at ${at}`;
    const keys = await takeKeys(this.#v.store);
    const tree = this.#expectWhole(keys, how);
    const left = detachedInodes(this.#v.volume, keys);
    const wrong = (await this.#recount()).filter((line) => !isGarbage(line, left));
    expect(this.#withoutDeletions(wrong), how).to.deep.equal([]);
    const heap = left.size + claimed.slices.size;
    if (heap > this.#worst.left) this.#worst = { left: heap, keys };

    await removeDebris({ store: this.#v.store, volume: this.#v.volume, clock: systemClock }, claimed);
    const clean = await takeKeys(this.#v.store);
    expect(treeOfKeys(this.#v.volume, clean), `${how}, cleaned up`).to.deep.equal(tree);
    expect(this.#withoutDeletions(await this.#recount()), `${how}, cleaned up`).to.deep.equal([]);
  }

  /** The answer is lost, or another writer comes between: the push goes on and cleans up after itself. */
  async #goOn(at: number, fate: Fate): Promise<void> {
    const { happened, outcome } = await this.#attempt(at, fate);
    if (!happened) return;
    const how = `${fate} at ${at}`;
    const keys = await takeKeys(this.#v.store);
    const tree = this.#expectWhole(keys, how);
    const isDone = outcome?.changes.every((change) => change.outcome === 'committed') ?? false;
    if (fate === 'again') expect(isDone, how).to.equal(true);
    if (isDone) expect(tree, how).to.deep.equal(this.#after);
    else if (this.#scenario.steps === undefined) expect(tree, how).to.deep.equal(this.#before);
    expect(await this.#recount(), how).to.deep.equal([]);
  }

  /** As before, as after, or, where a push is cut, each path as one of them. */
  #expectWhole(keys: Keys, how: string): Record<Path, string> {
    const tree = treeOfKeys(this.#v.volume, keys);
    const is = (other: Record<Path, string>): boolean =>
      JSON.stringify(sorted(tree)) === JSON.stringify(sorted(other));
    if (is(this.#before) || is(this.#after)) return tree;
    if (this.#scenario.steps === undefined) expect(tree, how).to.deep.equal(this.#after);
    for (const path of new Set([...Object.keys(tree), ...Object.keys(this.#before)])) {
      expect([this.#before[path], this.#after[path]], `${path}, ${how}`).to.include(tree[path]);
    }
    return tree;
  }

  /** Nobody starts again: the real client takes all of it away, totals included. */
  async #leaveItToGc(): Promise<void> {
    const { store, volume, url } = this.#v;
    await putBack(store, withOldMarks(volume, this.#worst.keys));
    const tree = treeOfKeys(volume, this.#worst.keys);
    await this.#juicefs.ok(['gc', '--delete', url], { JFS_GC_SKIPPEDTIME: '-3600' });
    expect(treeOfKeys(volume, await takeKeys(store))).to.deep.equal(tree);
    expect(await this.#recount(), 'after gc --delete').to.deep.equal([]);
    await this.#juicefs.fsck(url);
    const { leaked, pending } = await this.#juicefs.gc(url);
    expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
  }

  async #recount(): Promise<string[]> {
    return recount(this.#v.store, this.#v.address.prefix);
  }

  /** Without the data of deleted files, half gone: that is work in progress which any mount or gc finishes (layout 5.4). */
  #withoutDeletions(wrong: readonly string[]): string[] {
    const dropped = wrong.flatMap((line) => /^K of (\d+)\/\d+ has no records$/.exec(line)?.[1] ?? []);
    return wrong.filter(
      (line) => !dropped.some((id) => line.startsWith(`K of ${id}/`) || line.startsWith(`block ${id}_`)),
    );
  }
}

function sorted(tree: Record<Path, string>): [Path, string][] {
  return Object.entries(tree).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Blocks that nothing names, and what is half built where nobody sees it; the totals have to be right nevertheless. */
function isGarbage(line: string, detached: ReadonlySet<bigint>): boolean {
  if (/^block \S+ belongs to nothing$/.test(line)) return true;
  if (/^(totalInodes|usedSpace)/.test(line)) return false;
  return (line.match(/\d+/g) ?? []).some((number) => detached.has(BigInt(number)));
}
