/**
 * A real directory and a real etcd, and an agent that is killed at each of its calls that change something on either: the next
 * start ends with what everybody wanted, keeps what lost, leaves nothing behind, and the start after it changes nothing.
 * `STEP=1` takes every call instead of each seventh, `FIRST` begins there,
 * `SCENARIO` takes only the scenarios that are called so.
 */

import { expect } from 'chai';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../src/agent/base/error.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { layoutOf } from '../../src/agent/disk/layout.ts';
import { run } from '../../src/agent/run.ts';
import type { RunOptions } from '../../src/agent/run-options.ts';
import { readStatus } from '../../src/agent/report/status.ts';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { differences, plainTree, publishedTree, type ShownTree } from '../support/agent.ts';
import type { EtcdServer } from '../support/etcd.ts';
import { MortalPorts } from '../support/mortal-ports.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { contentOf, directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { watchOptions } from '../support/run-options.ts';
import { namesOnDisk, storeRevision } from '../support/stillness.ts';
import { until } from '../support/until.ts';

interface Scenario {
  readonly what: string;
  /** In the volume when the agent starts for the first time. */
  readonly volume: (v: TestVolume) => readonly PushChange[];
  /** Done while no agent runs: in its directory, and to a plain one that shows what must come of it. */
  readonly local?: (dir: string) => void;
  /** Done in the volume meanwhile. */
  readonly remote?: (v: TestVolume) => readonly PushChange[];
  /** What comes of edits of both sides to one file, done to a directory that has those of the volume. */
  readonly joined?: (dir: string) => void;
  /** Contents of the conflict copies that come of it. */
  readonly copies?: readonly string[];
  /** The agent has not run before, and finds what `local` did. */
  readonly isFirstStart?: true;
  readonly options?: Partial<RunOptions>;
}

const LARGE = Buffer.alloc(200_000, 'a line of some length\n');
const LINES = Array.from({ length: 20 }, (_, i) => `line ${i}\n`);
const lines = (edits: Readonly<Record<number, string>>): string =>
  LINES.map((line, i) => edits[i] ?? line).join('');

const SOME = (v: TestVolume): PushChange[] => [
  v.make('top', file('top\n')),
  v.make('d', directory()),
  v.make('d/f', file('f\n')),
  v.make('d/g', file('g\n')),
  v.make('d/text', file(lines({}))),
  v.make('d/sub', directory()),
  v.make('d/sub/deep', file('deep\n')),
  v.make('link', symlink('d/f')),
];

const SCENARIOS: readonly Scenario[] = [
  { what: 'the first start', volume: SOME, isFirstStart: true },
  {
    what: 'a first start that adopts what is there',
    volume: SOME,
    isFirstStart: true,
    local(dir) {
      mkdirSync(join(dir, 'd'), { recursive: true });
      writeFileSync(join(dir, 'd/own'), 'own\n');
      writeFileSync(join(dir, 'own'), 'own\n');
    },
    options: { adopt: true },
  },
  {
    what: 'every kind of change in the volume',
    volume: SOME,
    remote: (v) => [
      v.edit('top', file('new top\n')),
      v.make('new', file('new\n')),
      v.remove('d/f'),
      v.edit('d/g', { mode: 0o600 }),
      v.make('n', directory()),
      v.make('n/large', file(LARGE)),
      v.edit('link', symlink('d/g')),
      v.move('d/sub/deep', 'n/deep'),
    ],
  },
  {
    what: 'every kind of edit',
    volume: SOME,
    local(dir) {
      appendFileSync(join(dir, 'top'), 'more\n');
      writeFileSync(join(dir, 'd/new'), 'new\n');
      writeFileSync(join(dir, 'd/.g'), 'replaced\n');
      renameSync(join(dir, 'd/.g'), join(dir, 'd/g'));
      rmSync(join(dir, 'd/f'));
      chmodSync(join(dir, 'd/text'), 0o600);
      symlinkSync('deep', join(dir, 'd/sub/link'));
    },
  },
  {
    what: 'edits at the top',
    volume: SOME,
    local(dir) {
      writeFileSync(join(dir, '.top'), 'saved as editors do\n');
      renameSync(join(dir, '.top'), join(dir, 'top'));
      writeFileSync(join(dir, 'beside'), 'beside\n');
      unlinkSync(join(dir, 'link'));
      mkdirSync(join(dir, 'made'));
      writeFileSync(join(dir, 'made/in'), 'in\n');
    },
  },
  {
    what: 'files and directories that move',
    volume: SOME,
    local(dir) {
      renameSync(join(dir, 'd/f'), join(dir, 'd/sub/f'));
      renameSync(join(dir, 'd/sub'), join(dir, 'd/moved'));
      writeFileSync(join(dir, 'd/g'), 'edited\n');
    },
  },
  {
    what: 'names of one file',
    volume: SOME,
    local(dir) {
      linkSync(join(dir, 'd/f'), join(dir, 'd/sub/second'));
      appendFileSync(join(dir, 'd/f'), 'for both\n');
    },
  },
  {
    what: 'a large file that grows, and one that is new',
    volume: (v) => [v.make('d', directory()), v.make('d/large', file(LARGE)), v.make('d/f', file('f\n'))],
    local(dir) {
      appendFileSync(join(dir, 'd/large'), 'grown\n');
      writeFileSync(join(dir, 'd/other'), LARGE.subarray(100));
    },
  },
  {
    what: 'a new tree of more than one transaction',
    volume: SOME,
    local(dir) {
      mkdirSync(join(dir, 'd/many/more'), { recursive: true });
      // Contents that are no text: what is kept of texts is a matter of the other scenarios.
      for (let n = 0; n < 45; n += 1) writeFileSync(join(dir, `d/many/more/${n}`), `${n}\0`);
    },
  },
  {
    what: 'edits on both sides of different files',
    volume: SOME,
    local(dir) {
      writeFileSync(join(dir, 'd/f'), 'edited here\n');
      rmSync(join(dir, 'd/sub'), { recursive: true });
    },
    remote: (v) => [v.edit('d/g', file('edited there\n')), v.edit('top', file('top, there\n'))],
  },
  {
    what: 'edits of one text that join',
    volume: SOME,
    local: (dir) => writeFileSync(join(dir, 'd/text'), lines({ 2: 'edited here\n' })),
    remote: (v) => [v.edit('d/text', file(lines({ 15: 'edited there\n' })))],
    joined: (dir) => writeFileSync(join(dir, 'd/text'), lines({ 2: 'edited here\n', 15: 'edited there\n' })),
  },
  {
    what: 'edits of one text that do not',
    volume: SOME,
    local: (dir) => writeFileSync(join(dir, 'd/text'), lines({ 2: 'edited here\n' })),
    remote: (v) => [v.edit('d/text', file(lines({ 2: 'edited there\n' })))],
    joined: (dir) => writeFileSync(join(dir, 'd/text'), lines({ 2: 'edited there\n' })),
    copies: [lines({ 2: 'edited here\n' })],
  },
];

/** Time passes this many times faster for the agents. */
const SPEED = 20;
/** Longer than anything settles, at that speed; milliseconds, and looks, as a busy machine may stand still meanwhile. */
const REST_MS = 75;
const REST_LOOKS = 3;
const STEP = Number(process.env['STEP'] ?? 7);
const FIRST = Number(process.env['FIRST'] ?? 1);
const NAMED = process.env['SCENARIO'];

describe('an agent that is killed at any call', function () {
  this.timeout(600_000);
  const own = ownEtcd('crash-');

  for (const [index, scenario] of SCENARIOS.entries()) {
    if (NAMED !== undefined && !scenario.what.includes(NAMED)) continue;
    it(scenario.what, async () => {
      let at = FIRST;
      for (; ; at += STEP) {
        own.logged.length = 0;
        const world = new World(own.server, own.folder, `crash-${index}-${at}`, scenario);
        try {
          if (!(await world.killAt(at))) break;
        } catch (cause) {
          throw new Error(
            `killed at call ${at}, ${world.killedAt}: ${String(cause)}\n${own.logged.join('')}`,
            {
              cause,
            },
          );
        } finally {
          await world.close();
        }
      }
      if (STEP === 1) process.stderr.write(`    ${at - 1} calls\n`);
      expect(at).to.be.greaterThan(10);
    });
  }
});

/** A volume and a directory of their own. */
class World {
  readonly #server: EtcdServer;
  readonly #name: string;
  readonly #scenario: Scenario;
  readonly #dir: string;
  readonly #model: string;
  readonly #options: RunOptions;
  #volume: TestVolume | undefined;
  #rest = { names: '', sinceMs: 0, looks: new Set<string>() };
  killedAt: string | undefined;

  constructor(server: EtcdServer, folder: string, name: string, scenario: Scenario) {
    this.#server = server;
    this.#name = name;
    this.#scenario = scenario;
    this.#dir = join(folder, name);
    this.#model = join(folder, `${name}-model`);
    this.#options = watchOptions(`${server.url}/${name}`, this.#dir, scenario.options);
  }

  /** False when there is no such call any more. */
  async killAt(at: number): Promise<boolean> {
    await this.#prepare();
    const isKilled = await this.#run('the killed run ends', at, () => this.#isDone());
    await this.#run('all is as wanted after the next start', Infinity, () => this.#isAtRest());
    const volume = this.#v;
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);

    const before = { revision: await storeRevision(volume.store), names: namesOnDisk(this.#dir) };
    const from = this.#status()?.time;
    await this.#run('the start after it has looked around', Infinity, () => {
      const status = this.#status();
      return Promise.resolve(status !== undefined && !status.stale && status.time !== from);
    });
    expect(await this.#differences()).to.deep.equal([]);
    expect(await storeRevision(volume.store)).to.equal(before.revision);
    const moved = Object.entries(namesOnDisk(this.#dir)).filter(([name, is]) => before.names[name] !== is);
    expect(moved, 'names that the last start wrote').to.deep.equal([]);
    return isKilled;
  }

  async close(): Promise<void> {
    await this.#volume?.store.close();
    for (const dir of [this.#dir, this.#model]) rmSync(dir, { recursive: true, force: true });
  }

  get #v(): TestVolume {
    if (this.#volume === undefined) throw new Error('not prepared');
    return this.#volume;
  }

  async #prepare(): Promise<void> {
    const { volume, local, remote, joined, isFirstStart } = this.#scenario;
    const { at: dir, model } = { at: this.#dir, model: this.#model };
    this.#volume = await TestVolume.format(this.#server, {
      name: this.#name,
      hashPrefix: false,
      trashDays: 1,
      blockSizeKiB: 64,
    });
    for (const one of [dir, model]) mkdirSync(one);
    await this.#pushTo(volume(this.#v));
    if (isFirstStart !== true) await this.#run('the first start', Infinity, () => this.#isDone([]));
    local?.(dir);
    local?.(model);
    if (remote !== undefined) await this.#pushTo(remote(this.#v));
    joined?.(model);
  }

  /** Puts changes into the volume and into the plain directory. */
  async #pushTo(changes: readonly PushChange[]): Promise<void> {
    await this.#v.push(...changes);
    for (const change of changes) applyTo(this.#model, change);
  }

  /** Runs an agent until it is killed, or until `isDone`. Returns whether it was killed. */
  async #run(what: string, at: number, isDone: () => Promise<boolean>): Promise<boolean> {
    const process = new MortalPorts(at, SPEED);
    const stop = new AbortController();
    process.death.signal.addEventListener('abort', () => stop.abort());
    // What is there is found by the first look: another one would make the number of calls a matter of luck.
    const options = at === Infinity ? this.#options : { ...this.#options, rescanMs: 60_000 };
    const ended = run(options, process.ports, stop.signal).then(
      () => undefined,
      (error: unknown) => error,
    );
    let over = false;
    void ended.then(() => (over = true));
    let failure: unknown;
    try {
      await until(what, async () => process.isDead || over || (await isDone()));
    } catch (cause) {
      const left = await this.#differences();
      failure = new Error(`${String(cause)}\n${left.join('\n')}`, { cause });
    }
    stop.abort();
    const error = await ended;
    await process.bury();
    this.killedAt ??= process.killedAt;
    failure ??= process.isDead ? undefined : error;
    if (failure instanceof Error) throw failure;
    return process.isDead;
  }

  #status(): ReturnType<typeof readStatus> {
    return readStatus(nodeFs, layoutOf(this.#dir));
  }

  /** Both sides are as wanted, and nothing is left to push. */
  async #isDone(copies = this.#scenario.copies ?? []): Promise<boolean> {
    // The cheap questions come first: this is asked over and over.
    if (this.#status()?.pendingEdits !== 0 || this.#directoryDifferences().length > 0) return false;
    return (await this.#differences(copies)).length === 0;
  }

  /** All is done, links at the top that take their place once something has settled included. */
  async #isAtRest(): Promise<boolean> {
    if (!(await this.#isDone())) return false;
    const names = JSON.stringify(namesOnDisk(this.#dir));
    if (names !== this.#rest.names) this.#rest = { names, sinceMs: performance.now(), looks: new Set() };
    const { sinceMs, looks } = this.#rest;
    looks.add(this.#status()?.lastScan ?? '');
    return performance.now() - sinceMs > REST_MS && looks.size > REST_LOOKS;
  }

  #directoryDifferences(): string[] {
    return differences(plainTree(this.#model), this.#published()).map((line) => `directory: ${line}`);
  }

  /** How directory and volume differ from what is wanted. */
  async #differences(copies = this.#scenario.copies ?? []): Promise<string[]> {
    const volume = await this.#readVolume();
    const kept = [...copies].sort();
    return [
      ...this.#directoryDifferences(),
      ...differences(plainTree(this.#model), volume.tree).map((line) => `volume: ${line}`),
      ...(JSON.stringify(kept) === JSON.stringify(volume.copies)
        ? []
        : [`copies: ${kept.length} are wanted, there are ${JSON.stringify(volume.copies)}`]),
    ];
  }

  #published(): ShownTree {
    try {
      return publishedTree(this.#dir);
    } catch (error) {
      // Nothing is published yet, or a tree is made anew right now.
      if (codeOf(error) === 'ENOENT') return {};
      throw error;
    }
  }

  async #readVolume(): Promise<{ readonly tree: ShownTree; readonly copies: readonly string[] }> {
    const { store, volume } = this.#v;
    const at = new VolumeTree(store, volume, await storeRevision(store));
    const root = await at.find('');
    const tree: Record<Path, string> = {};
    const copies: string[] = [];
    if (root === undefined) throw new Error('the volume has no root');
    for await (const node of at.below(root)) {
      const { path, attr } = node;
      const parts: Uint8Array[] = [];
      if (attr?.type === 'file') for await (const part of at.content(node)) parts.push(part);
      const content = Buffer.concat(parts);
      const isCopy = path === '.conflicts' || path.startsWith('.conflicts/');
      if (isCopy) {
        if (attr?.type === 'file' && !path.endsWith('.json')) copies.push(content.toString());
      } else if (attr?.type === 'symlink') {
        tree[path] = `symlink ${await at.target(node)}`;
      } else {
        const mode = `0${(attr?.mode ?? 0).toString(8)}`;
        const digest = createHash('sha256').update(content).digest('hex');
        tree[path] = attr?.type === 'file' ? `file ${mode} ${digest}` : `${attr?.type} ${mode}`;
      }
    }
    return { tree, copies: copies.sort() };
  }
}

/** Does to a plain directory what a push does to the volume. */
function applyTo(dir: string, { path, old, new: entry, movedFrom }: PushChange): void {
  const at = join(dir, path);
  if (movedFrom !== undefined) renameSync(join(dir, movedFrom), at);
  if (entry === undefined) rmSync(at, { recursive: true });
  else if (entry.type === 'directory' && old === undefined) mkdirSync(at);
  else if (entry.type === 'file' && movedFrom === undefined) writeFileSync(at, contentOf(entry));
  else if (entry.type === 'symlink') {
    if (old !== undefined) unlinkSync(at);
    symlinkSync(entry.target, at);
  }
  if (entry?.type === 'file' || entry?.type === 'directory') chmodSync(at, entry.mode);
}
