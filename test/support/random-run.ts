/** Random operations on a plain directory and the sides of one volume, in rounds; all show the same after each. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../../src/agent/base/error.ts';
import { encodeDirStat } from '../../src/codec/counter.ts';
import { encodeKey, ROOT_INO } from '../../src/codec/key.ts';
import { differences } from './agent.ts';
import type { EtcdServer } from './etcd.ts';
import type { Juicefs } from './juicefs.ts';
import { TestVolume } from './pushing.ts';
import { RandomChecks } from './random-checks.ts';
import { RandomOperations, type Capability, type Operation } from './random-ops.ts';
import { Random } from './random.ts';
import { AgentSide, MountSide, seePlain, timeDifferences, type Side, type Sight } from './sides.ts';
import { namesOnDisk, volumeRevision } from './stillness.ts';
import { nextTick } from './tick.ts';
import { until } from './until.ts';

/** A way to write into a volume. */
export interface Variant {
  readonly name: string;
  readonly what: string;
  readonly seed: number;
  readonly rounds: number;
  readonly format: readonly string[];
  readonly sides: readonly ('agent' | 'mount')[];
  /** Several sides write within a round, each below names at the top of its own. */
  readonly isBusy?: true;
  readonly capabilities?: readonly Capability[];
  /** The real client, if not the newest one. */
  readonly client?: `juicefs-${string}`;
}

/** Rounds between two checks with all mounts closed; those that let them stand come after each. */
const CLOSE_EVERY = 8;
/** A name at the top that nobody touches: a directory that became empty is a matter for a person. */
const ANCHOR = 'anchor';
const CHANGED_MEANWHILE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'ESTALE']);
/** How long a round may take to arrive everywhere; milliseconds. */
const ROUND_LIMIT_MS = 30_000;
/** Between two looks at all sides, which read every file; milliseconds. */
const LOOK_MS = 50;
/** Differences that a failure names. */
const NAMED_DIFFERENCES = 20;
/** Lines of what was done last that a failure names. */
const NAMED_STEPS = Number(process.env['STEPS'] ?? 60);

/** One run of one variant. */
export class RandomRun {
  readonly #variant: Variant;
  readonly #capabilities: readonly Capability[];
  readonly #seed: number;
  readonly #juicefs: Juicefs;
  readonly #server: EtcdServer;
  readonly #folder: string;
  readonly #model: string;
  readonly #random: Random;
  readonly #operations: RandomOperations;
  readonly #sides: Side[] = [];
  #volume: TestVolume | undefined;
  #checks: RandomChecks | undefined;
  #round = 0;
  #steps = 0;
  #stepsOfMounts = 0;
  /** What was done in the last rounds, in shell form. */
  readonly #log: string[] = [];

  constructor(variant: Variant, seed: number, juicefs: Juicefs, server: EtcdServer, folder: string) {
    this.#variant = variant;
    this.#capabilities = variant.capabilities ?? [];
    this.#seed = seed;
    this.#juicefs = juicefs;
    this.#server = server;
    this.#folder = join(folder, variant.name);
    this.#model = join(this.#folder, 'model');
    this.#random = new Random(seed);
    this.#operations = new RandomOperations(this.#random, this.#capabilities);
  }

  /** Operations until now. */
  get steps(): number {
    return this.#steps;
  }

  /** Operations that mounts did. */
  get stepsOfMounts(): number {
    return this.#stepsOfMounts;
  }

  /** By how many entries and pages statistics of the real client were off. */
  get drifted(): bigint {
    return this.#checks?.drifted ?? 0n;
  }

  async run(): Promise<void> {
    const { name, rounds } = this.#variant;
    const failures: Error[] = [];
    try {
      const checks = await this.#start();
      while (this.#round < rounds) {
        this.#round += 1;
        await this.#writeRound(checks);
        await this.#converged();
        await checks.afterRound();
        if (this.#round % CLOSE_EVERY === 0 || this.#round === rounds) await this.#closed(checks);
      }
      await this.#still();
    } catch (cause) {
      const failure = new Error(
        [
          `SEED=${this.#seed}, round ${this.#round} of ${name}: ${cause instanceof Error ? cause.message : String(cause)}`,
          ...this.#log.slice(-NAMED_STEPS),
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
    await this.#volume?.store.close();
    const [first, ...more] = failures;
    if (first === undefined) return;
    // What hinders the end must not hide what went wrong before it.
    throw more.length === 0 ? first : new Error(failures.map(({ message }) => message).join('\n\n'));
  }

  async #start(): Promise<RandomChecks> {
    mkdirSync(this.#folder);
    mkdirSync(this.#model);
    const { name, format, sides } = this.#variant;
    const xattrs = this.#capabilities.includes('xattrs');
    const url = `${this.#server.url}/${name}`;
    const bucket = this.#server.url.slice('etcd://'.length);
    await this.#juicefs.format(url, name, bucket, ['--block-size', '64', ...format]);
    const volume = await TestVolume.open(this.#server, `/${name}`);
    this.#volume = volume;
    await putRootStat(volume);
    for (const [index, kind] of sides.entries()) {
      this.#sides.push(
        kind === 'mount'
          ? await MountSide.start(`mount-${index}`, this.#juicefs, url, { xattrs })
          : await AgentSide.start(`agent-${index}`, url, this.#folder, {
              isAlone: sides.length === 1,
              xattrs,
            }),
      );
    }
    for (const dir of [this.#model, this.#sides[0]?.dir]) writeFileSync(`${dir}/${ANCHOR}`, 'here to stay\n');
    await this.#converged();
    const checks = new RandomChecks(volume, this.#juicefs);
    this.#checks = checks;
    return checks;
  }

  async #writeRound(checks: RandomChecks): Promise<void> {
    this.#log.push(`round ${this.#round}:`);
    this.#operations.startRound(this.#model);
    const count = 3 + this.#random.below(6);
    if (this.#variant.isBusy === true && this.#round % 3 !== 0) {
      const owner = new Map<string, number>();
      for (let n = 0; n < count * this.#sides.length; n += 1) {
        if (this.#random.next() < 0.2) await this.#think();
        const writer = this.#random.below(this.#sides.length);
        await this.#operate(checks, writer, (top) => {
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
      await this.#operate(checks, writer, () => true);
    }
    if (down) await side.up();
  }

  /** A writer that thinks between two operations, so that agents look and publish in the middle of a round. */
  async #think(): Promise<void> {
    const ms = this.#random.below(600);
    this.#log.push(`  sleep ${ms / 1000}`);
    await delay(ms);
  }

  async #operate(checks: RandomChecks, writer: number, mayTouch: (top: string) => boolean): Promise<void> {
    const side = this.#sides[writer];
    if (side === undefined) throw new Error(`there is no side ${writer}`);
    const operation = this.#operations.next(this.#model, (top) => top !== ANCHOR && mayTouch(top));
    if (operation === undefined) return;
    this.#log.push(`  ${side.name}: ${operation.shell}`);
    this.#steps += 1;
    if (side instanceof MountSide) {
      this.#stepsOfMounts += 1;
      noteDrift(side, operation, checks);
    }
    operation.apply(this.#model);
    operation.apply(side.dir);
    if (side instanceof MountSide) side.drifting(operation.paths, checks.drift);
    // A removal within the tick of a write cannot be told from one before it, and a copy of what was written is kept.
    await nextTick(join(this.#folder, 'probe'));
  }

  /** All sides show what the model does, and agree on what the model cannot know. */
  async #converged(): Promise<void> {
    let last: string[] = [];
    // An agent alone shows what it was given at once; what it makes of it comes when it has looked.
    if (this.#sides.length === 1) for (const side of this.#sides) await side.looked();
    await until(
      'all sides show the same',
      () => {
        last = this.#differences();
        return last.length === 0;
      },
      ROUND_LIMIT_MS,
      LOOK_MS,
    ).catch((cause: unknown) => {
      const all = this.#differences(true);
      if (all.length > 0) last = all;
      throw new Error(`${String(cause)}\n${last.slice(0, NAMED_DIFFERENCES).join('\n')}`, { cause });
    });
    for (const side of this.#sides) await side.settled();
    last = this.#differences();
    if (last.length === 0) return;
    throw new Error(
      `what an agent did to settle changed what it shows:\n${last.slice(0, NAMED_DIFFERENCES).join('\n')}`,
    );
  }

  /** Of the first side that differs, or of all of them. */
  #differences(ofAll = false): string[] {
    const all: string[] = [];
    const model = seePlain(this.#model, this.#capabilities.includes('xattrs'));
    let first: Sight | undefined;
    for (const side of this.#sides) {
      let sight: Sight;
      try {
        sight = side.see();
      } catch (error) {
        // Something was removed or replaced between listing and reading.
        if (!CHANGED_MEANWHILE.has(codeOf(error))) throw error;
        all.push(`${side.name}: ${String(error)}`);
        if (ofAll) continue;
        return all;
      }
      first ??= sight;
      const found = [
        ...differences(model.tree, sight.tree),
        ...timeDifferences(first, sight),
        ...(this.#capabilities.includes('hard-links') ? differences(model.shared, sight.shared) : []),
      ];
      all.push(...found.map((line) => `${side.name}: ${line}`));
      if (all.length > 0 && !ofAll) return all;
    }
    return all;
  }

  async #closed(checks: RandomChecks): Promise<void> {
    for (const side of this.#sides) await side.pause();
    await checks.closed();
    for (const side of this.#sides) await side.resume();
  }

  /** With nothing left to do nobody writes anything, neither in the store nor on disk, once all have come to rest. */
  async #still(): Promise<void> {
    const agents = this.#sides.filter((side) => side instanceof AgentSide);
    for (const side of this.#sides) if (side instanceof MountSide) await side.pause();
    const volume = this.#volume;
    if (volume === undefined || agents.length === 0) return;
    const seen = async (): Promise<readonly string[]> => [
      `volume ${await volumeRevision(volume.store, volume.address.prefix)}`,
      ...agents.flatMap(({ dir }) =>
        Object.entries(namesOnDisk(dir)).map((entry) => `${dir}/${entry.join(' ')}`),
      ),
    ];
    let moved: readonly string[] = [];
    await until('nobody writes between two looks', async () => {
      const before = new Set(await seen());
      for (const { agent } of agents) await agent.rescanned(2);
      moved = (await seen()).filter((line) => !before.has(line));
      return moved.length === 0;
    }).catch((cause: unknown) => {
      throw new Error(moved.join('\n'), { cause });
    });
  }
}

/** The real format writes no statistics of the root, and mounts that begin them at once count double (layout 13.4). */
async function putRootStat({ address, store }: TestVolume): Promise<void> {
  const key = address.prefix + encodeKey({ kind: 'dirStat', ino: ROOT_INO });
  const value = encodeDirStat({ length: 0n, space: 0n, inodes: 0n });
  await store.commit({ compares: [], ops: [{ type: 'put', key, value }] });
}

function noteDrift(side: MountSide, operation: Operation, { drift, replaced }: RandomChecks): void {
  side.drifting(operation.paths, drift);
  if (operation.replacedDirectory === undefined) return;
  const ino = side.inodeOf(operation.replacedDirectory);
  if (ino !== undefined) replaced.add(ino);
}
