/**
 * Random operations on a plain directory and, by turns or at the same time, on real mounts and directories of agents
 * of one volume: all of them show the same after each round, and the real client finds the volume in order.
 * `SEED` gives one seed for all, `ROUNDS` the length of each run, `VARIANT` names the only one.
 */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../../src/agent/error.ts';
import { encodeDirStat } from '../../src/codec/counter.ts';
import { encodeKey, ROOT_INO, TRASH_INO } from '../../src/codec/key.ts';
import { differences } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { historyOf } from '../support/key-history.ts';
import { Juicefs } from '../support/juicefs.ts';
import { TestVolume } from '../support/pushing.ts';
import { RandomOperations, type Capability } from '../support/random-ops.ts';
import { recount } from '../support/recount.ts';
import { givenSeed } from '../support/seed.ts';
import { Random } from '../support/random.ts';
import { AgentSide, MountSide, seePlain, timeDifferences, type Side, type Sight } from '../support/sides.ts';
import { namesOnDisk, volumeRevision } from '../support/stillness.ts';
import { nextTick } from '../support/tick.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

interface Variant {
  readonly name: string;
  readonly what: string;
  readonly seed: number;
  /** Of a run that nothing is said about; 0 for one that must be named. */
  readonly rounds: number;
  readonly format: readonly string[];
  readonly sides: readonly ('agent' | 'mount')[];
  /** Several sides write within a round, each below names at the top of its own. */
  readonly busy: boolean;
  readonly capabilities: readonly Capability[];
}

const VARIANTS: readonly Variant[] = [
  {
    name: 'random-trash',
    what: 'an agent and a mount by turns, with trash',
    seed: 1,
    rounds: 16,
    format: ['--trash-days', '1'],
    sides: ['agent', 'mount'],
    busy: false,
    capabilities: [],
  },
  {
    name: 'random-final',
    what: 'an agent and a mount by turns, without trash',
    seed: 2,
    rounds: 14,
    format: ['--trash-days', '0'],
    sides: ['agent', 'mount'],
    busy: false,
    capabilities: [],
  },
  {
    name: 'random-busy',
    what: 'two agents and a mount at the same time',
    seed: 3,
    rounds: 0,
    format: ['--trash-days', '1'],
    sides: ['agent', 'agent', 'mount'],
    busy: true,
    capabilities: [],
  },
  {
    name: 'random-alone',
    what: 'one agent, which is quick',
    seed: 5,
    rounds: 0,
    format: ['--trash-days', '0'],
    sides: ['agent'],
    busy: false,
    capabilities: [],
  },
  {
    name: 'random-control',
    what: 'two mounts by turns and no agent, which shows what the real client does by itself',
    seed: 4,
    rounds: 10,
    format: ['--trash-days', '1'],
    sides: ['mount', 'mount'],
    busy: false,
    capabilities: ['sparse'],
  },
];

/** Of a run that is named and has no length of its own. */
const DEFAULT_ROUNDS = 60;
const NAMED = process.env['VARIANT'];
const CHOSEN = VARIANTS.filter(({ name, rounds }) => (NAMED === undefined ? rounds > 0 : name === NAMED));

/** Rounds between two checks of the whole volume. */
const CHECK_EVERY = 25;
/** A name at the top that nobody touches: a directory that became empty is a matter for a person. */
const ANCHOR = 'anchor';
const CHANGED_MEANWHILE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'ESTALE']);
/** How long a round may take to arrive everywhere; milliseconds. */
const ROUND_LIMIT_MS = 30_000;

class Run {
  readonly #variant: Variant;
  readonly #seed: number;
  readonly #juicefs: Juicefs;
  readonly #server: EtcdServer;
  readonly #url: string;
  readonly #folder: string;
  readonly #model: string;
  readonly #random: Random;
  readonly #operations: RandomOperations;
  readonly #sides: Side[] = [];
  /** Directories whose statistics real mounts have written: the real client is inexact there by itself, as the control shows. */
  readonly #drift = new Set<bigint>();
  /** Directories that mounts replaced by a rename: the real client leaves their statistics behind (own-leftovers.test.ts). */
  readonly #replaced = new Set<bigint>();
  #round = 0;
  /** What was done in this round and the one before, in shell form. */
  #log: string[] = [];
  #logBefore: string[] = [];

  constructor(variant: Variant, juicefs: Juicefs, server: EtcdServer, folder: string) {
    this.#variant = variant;
    this.#seed = givenSeed() ?? variant.seed;
    this.#juicefs = juicefs;
    this.#server = server;
    this.#url = `${server.url}/${variant.name}`;
    this.#folder = join(folder, variant.name);
    this.#model = join(this.#folder, 'model');
    this.#random = new Random(this.#seed);
    this.#operations = new RandomOperations(this.#random, variant.capabilities);
  }

  async run(rounds: number): Promise<void> {
    const failures: Error[] = [];
    try {
      await this.#start();
      while (this.#round < rounds) {
        this.#round += 1;
        await this.#writeRound();
        await this.#converged();
        if (this.#round % CHECK_EVERY === 0 && this.#round < rounds) await this.#check();
      }
      await this.#check();
      await this.#still();
    } catch (cause) {
      const failure = new Error(
        [
          `SEED=${this.#seed}, round ${this.#round} of ${this.#variant.name}: ${cause instanceof Error ? cause.message : String(cause)}`,
          'the round before:',
          ...this.#logBefore,
          'the round:',
          ...this.#log,
          ...this.#sides.flatMap((side) => (side instanceof AgentSide ? [side.said()] : [])),
        ].join('\n'),
        { cause },
      );
      failures.push(failure);
    }
    for (const side of this.#sides) {
      await side.stop().catch((cause: unknown) => {
        failures.push(new Error(`${side.name} did not stop: ${String(cause)}`, { cause }));
      });
    }
    const [first, ...more] = failures;
    if (first === undefined) return;
    // What hinders the end must not hide what went wrong before it.
    throw more.length === 0 ? first : new Error(failures.map(({ message }) => message).join('\n\n'));
  }

  async #start(): Promise<void> {
    mkdirSync(this.#folder);
    mkdirSync(this.#model);
    const { name, format, sides } = this.#variant;
    const bucket = this.#server.url.slice('etcd://'.length);
    await this.#juicefs.format(this.#url, name, bucket, ['--block-size', '64', ...format]);
    await this.#putRootStat();
    for (const [index, kind] of sides.entries()) {
      this.#sides.push(
        kind === 'mount'
          ? await MountSide.start(`mount-${index}`, this.#juicefs, this.#url)
          : await AgentSide.start(`agent-${index}`, this.#url, this.#folder),
      );
    }
    for (const dir of [this.#model, this.#sides[0]?.dir]) writeFileSync(`${dir}/${ANCHOR}`, 'here to stay\n');
    await this.#converged();
  }

  /** The real format writes no statistics of the root, and mounts that begin them at once count double (layout 13.4). */
  async #putRootStat(): Promise<void> {
    const volume = await TestVolume.open(this.#server, `/${this.#variant.name}`);
    const key = volume.address.prefix + encodeKey({ kind: 'dirStat', ino: ROOT_INO });
    const value = encodeDirStat({ length: 0n, space: 0n, inodes: 0n });
    await volume.store.commit({ compares: [], ops: [{ type: 'put', key, value }] });
    await volume.store.close();
  }

  async #writeRound(): Promise<void> {
    this.#logBefore = this.#log;
    this.#log = [];
    this.#operations.startRound(this.#model);
    const count = 3 + this.#random.below(6);
    if (this.#variant.busy && this.#round % 3 !== 0) {
      const owner = new Map<string, number>();
      for (let n = 0; n < count * this.#sides.length; n += 1) {
        if (this.#random.next() < 0.2) await this.#think();
        const writer = this.#random.below(this.#sides.length);
        await this.#operate(writer, (top) => {
          if (!owner.has(top)) owner.set(top, this.#random.below(this.#sides.length));
          return owner.get(top) === writer;
        });
      }
      return;
    }
    const writer = this.#round % this.#sides.length;
    const side = this.#sides[writer];
    // Some edits are made while nobody looks.
    const down = side instanceof AgentSide && this.#round % 10 < 2;
    if (down) await side.down();
    for (let n = 0; n < count; n += 1) {
      if (!down && this.#random.next() < 0.1) await this.#think();
      await this.#operate(writer, () => true);
    }
    if (down) await side.up();
  }

  /** A writer that thinks between two operations, so that agents look and publish in the middle of a round. */
  async #think(): Promise<void> {
    const ms = this.#random.below(600);
    this.#log.push(`  sleep ${ms / 1000}`);
    await delay(ms);
  }

  async #operate(writer: number, mayTouch: (top: string) => boolean): Promise<void> {
    const side = this.#sides[writer];
    if (side === undefined) throw new Error(`there is no side ${writer}`);
    const operation = this.#operations.next(this.#model, (top) => top !== ANCHOR && mayTouch(top));
    if (operation === undefined) return;
    this.#log.push(`  ${side.name}: ${operation.shell}`);
    if (side instanceof MountSide) {
      side.drifting(operation.paths, this.#drift);
      const replaced =
        operation.replacedDirectory === undefined ? undefined : side.inodeOf(operation.replacedDirectory);
      if (replaced !== undefined) this.#replaced.add(replaced);
    }
    operation.apply(this.#model);
    operation.apply(side.dir);
    if (side instanceof MountSide) side.drifting(operation.paths, this.#drift);
    // A removal within the tick of a write cannot be told from one before it, and a copy of what was written is kept.
    await nextTick(join(this.#folder, 'probe'));
  }

  /** All sides show what the model does, and agree on what the model cannot know. */
  async #converged(): Promise<void> {
    let last: string[] = [];
    try {
      // An agent alone shows what it was given at once; what it makes of it comes when it has settled.
      if (this.#sides.length === 1) for (const side of this.#sides) await side.settled();
      await until(
        'all sides show the same',
        () => {
          last = this.#differences();
          return last.length === 0;
        },
        this.#sides.length === 1 ? 5000 : ROUND_LIMIT_MS,
      );
      for (const side of this.#sides) await side.settled();
    } catch (cause) {
      throw new Error(
        `${cause instanceof Error ? cause.message : String(cause)}\n${last.slice(0, 12).join('\n')}`,
        {
          cause,
        },
      );
    }
    // What an agent did to settle must not have changed what it shows.
    expect(this.#differences()).to.deep.equal([]);
  }

  #differences(): string[] {
    const model = seePlain(this.#model);
    const all: string[] = [];
    let first: Sight | undefined;
    for (const side of this.#sides) {
      let sight: Sight;
      try {
        sight = side.see();
      } catch (error) {
        // Something was removed or replaced between listing and reading.
        if (!CHANGED_MEANWHILE.has(codeOf(error))) throw error;
        return [`${side.name}: ${String(error)}`];
      }
      first ??= sight;
      const found = [
        ...differences(model.tree, sight.tree),
        ...timeDifferences(first, sight),
        ...(this.#variant.capabilities.includes('hard-links') ? differences(model.shared, sight.shared) : []),
      ];
      all.push(...found.map((line) => `${side.name}: ${line}`));
    }
    return all;
  }

  /** While nobody writes: the checks of the real client and our own recount. */
  async #check(): Promise<void> {
    const volume = await TestVolume.open(this.#server, `/${this.#variant.name}`);
    let wrong: string[] = [];
    let drifted = 0;
    const isExact = async (): Promise<boolean> => {
      const lines = await recount(volume.store, volume.address.prefix);
      wrong = lines.filter((line) => !this.#isDrift(line));
      drifted = lines.length - wrong.length;
      return wrong.length === 0;
    };
    try {
      // A mount writes its statistics a second later, and deletes blocks after the names.
      await until('the accounts are exact', isExact).catch(async (cause: unknown) => {
        const inos = new Set(wrong.flatMap((line) => (line.match(/\b\d+\b/g) ?? []).slice(0, 1)).map(BigInt));
        const history = await historyOf(volume.store, volume.address.prefix, inos);
        throw new Error([...wrong, 'what was written:', ...history].join('\n'), { cause });
      });
      for (const side of this.#sides) await side.pause();
      await isExact();
      expect(wrong).to.deep.equal([]);
      if (drifted > 0) {
        await this.#juicefs.ok(['fsck', this.#url, '--path', '/', '-r', '--repair', '--sync-dir-stat']);
        this.#drift.clear();
      }
      await this.#juicefs.fsck(this.#url);
      const { leaked, pending } = await this.#juicefs.gc(this.#url);
      expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
    } finally {
      await volume.store.close();
    }
    for (const side of this.#sides) await side.resume();
  }

  #isDrift(line: string): boolean {
    const left = /^U (\d+) has no directory$/.exec(line)?.[1];
    if (left !== undefined) return this.#replaced.has(BigInt(left));
    const ino = /^(?:length|space|inodes) in U (\d+) /.exec(line)?.[1];
    if (ino === undefined) return false;
    return this.#drift.has(BigInt(ino)) || (this.#drift.size > 0 && BigInt(ino) > TRASH_INO);
  }

  /** With nothing left to do nobody writes anything, neither in the store nor on disk, once all have come to rest. */
  async #still(): Promise<void> {
    const agents = this.#sides.filter((side) => side instanceof AgentSide);
    for (const side of this.#sides) if (!agents.some((agent) => agent === side)) await side.pause();
    const volume = await TestVolume.open(this.#server, `/${this.#variant.name}`);
    const { prefix } = volume.address;
    const seen = async (): Promise<readonly string[]> => [
      `volume ${await volumeRevision(volume.store, prefix)}`,
      ...agents.flatMap(({ dir }) =>
        Object.entries(namesOnDisk(dir)).map((entry) => `${dir}/${entry.join(' ')}`),
      ),
    ];
    let moved: readonly string[] = [];
    try {
      await until('nobody writes between two looks', async () => {
        const before = new Set(await seen());
        for (const { agent } of agents) await agent.rescanned(2);
        moved = (await seen()).filter((line) => !before.has(line));
        return moved.length === 0;
      }).catch((cause: unknown) => {
        throw new Error(moved.join('\n'), { cause });
      });
    } finally {
      await volume.store.close();
    }
  }
}

describe('random operations', function () {
  this.timeout(600_000);
  let server: EtcdServer;
  let folder: string;
  /** All of them run at the same time: each waits most of its time. */
  const runs = new Map<Variant, Promise<Error | undefined>>();

  before(async function () {
    needFuse(this);
    const juicefs = new Juicefs(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'random-'));
    for (const variant of CHOSEN) {
      const rounds = Number(process.env['ROUNDS'] ?? (variant.rounds || DEFAULT_ROUNDS));
      const run = new Run(variant, juicefs, server, folder).run(rounds);
      runs.set(
        variant,
        run.then(
          () => undefined,
          (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
        ),
      );
    }
  });
  after(async () => {
    await Promise.all(runs.values());
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  for (const variant of CHOSEN) {
    it(variant.what, async function () {
      const run = runs.get(variant);
      if (run === undefined) this.skip();
      const error = await run;
      if (error !== undefined) throw error;
    });
  }
});
