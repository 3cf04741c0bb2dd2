/**
 * Random operations on a served directory with looks, publishes and pushes in between at any time: in the end it shows what a
 * plain one does. `SEED` gives the only seed, `ROUNDS` how many rounds each has.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AncestorEntry } from '../../../src/agent/state/ancestor-entry.ts';
import { targetInVolume } from '../../../src/reconcile/target.ts';
import type { Path } from '../../../src/reconcile/entry.ts';
import { differences, shown, type ShownTree } from '../../support/agent.ts';
import { treeOfMount } from '../../support/juicefs.ts';
import { RandomOperations } from '../../support/random-ops.ts';
import { Random } from '../../support/random.ts';
import { givenSeed } from '../../support/seed.ts';
import { ServedDirectory } from '../../support/served-directory.ts';
import { nextTick } from '../../support/tick.ts';

/** Seeds, and how many rounds each has: some for all, and what has found something. */
const RUNS = [
  { seed: 1, rounds: 15 },
  { seed: 2, rounds: 15 },
  { seed: 21, rounds: 3 },
  { seed: 23, rounds: 45 },
] as const;
/** Lines of what was done last that a failure names. */
const NAMED_STEPS = 60;
/** Looks after which a round has arrived. */
const ENOUGH_LOOKS = 30;
/** How much time passes between two steps, one of these; milliseconds. */
const PAUSES_MS = [0, 0, 20, 310, 700, 1050];

describe('random operations between looks and publishes', () => {
  const given = givenSeed();
  for (const { seed, rounds } of given === undefined ? RUNS : [{ seed: given, rounds: 40 }]) {
    it(`seed ${seed}`, async () => {
      const last = Number(process.env['ROUNDS'] ?? rounds);
      const run = new Run(seed, mkdtempSync(join(tmpdir(), 'random-looks-')));
      try {
        await run.start();
        for (let round = 1; round <= last; round += 1) await run.round(round);
      } catch (cause) {
        throw new Error([String(cause), ...run.log.slice(-NAMED_STEPS)].join('\n'), { cause });
      } finally {
        await run.stop();
      }
    });
  }
});

class Run {
  readonly log: string[] = [];
  readonly #random: Random;
  readonly #operations: RandomOperations;
  readonly #model: string;
  #served: ServedDirectory | undefined;

  constructor(seed: number, model: string) {
    this.#random = new Random(seed);
    this.#operations = new RandomOperations(this.#random);
    this.#model = model;
  }

  async start(): Promise<void> {
    this.#served = await ServedDirectory.open();
    this.#served.publish({});
  }

  async stop(): Promise<void> {
    await this.#served?.remove();
    rmSync(this.#model, { recursive: true });
  }

  /** Somebody types; the agent does anything it may do in between. */
  async round(round: number): Promise<void> {
    const served = this.#served;
    if (served === undefined) throw new Error('not started');
    this.log.push(`round ${round}:`);
    this.#operations.startRound(this.#model);
    for (let left = 3 + this.#random.below(6); left > 0; left -= 1) {
      const operation = this.#operations.next(this.#model, () => true);
      if (operation === undefined) break;
      this.log.push(`  ${operation.shell}`);
      operation.apply(this.#model);
      operation.apply(Buffer.from(served.root, 'latin1').toString());
      await nextTick(`${this.#model}-probe`);
      while (this.#random.next() < 0.6) await this.#act(served);
    }
    for (let looks = 0; ; looks += 1) {
      await this.#look(served, 'all');
      await this.#publish(served);
      this.#push(served);
      served.clock.pass(400);
      const { local } = served;
      if (looks < 8 || local.busy.size + local.adoptions.size + local.dirty.size > 0) {
        if (looks > ENOUGH_LOOKS)
          throw new Error(
            `${[...local.busy, '|', ...local.adoptions.keys(), '|', ...local.dirty].join(' ')} waits`,
          );
        continue;
      }
      break;
    }
    const found = differences(
      treeOf(this.#model, (target) => target),
      this.#shown(served),
    );
    if (found.length > 0) throw new Error(found.slice(0, 10).join('\n'));
  }

  async #act(served: ServedDirectory): Promise<void> {
    switch (this.#random.below(6)) {
      case 0:
      case 1:
        return this.#look(served, 'all');
      case 2:
        return this.#publish(served);
      case 3:
        return this.#push(served);
      case 4:
        this.log.push('    catch up');
        return served.catchUp();
      default: {
        const ms = this.#random.pick(PAUSES_MS);
        this.log.push(`    ${ms} ms pass`);
        return served.clock.pass(ms);
      }
    }
  }

  async #look(served: ServedDirectory, extent: 'all' | ReadonlySet<Path>): Promise<void> {
    const { edits, tops, adoptions, busy } = await served.look(extent);
    const names = (paths: Iterable<Path>): string => [...paths].join(' ');
    this.log.push(
      `    look: edits ${names(edits.keys())}; adoptions ${names(adoptions.keys())}; tops ${names(tops?.keys() ?? [])}; busy ${names(busy)}`,
    );
  }

  async #publish(served: ServedDirectory): Promise<void> {
    if (served.local.adoptions.size === 0 && this.#random.next() < 0.7) return;
    const result = served.publishItems(new Map(), []);
    this.log.push(`    ${result.outcome}`);
    if (result.outcome === 'edited') await this.#look(served, new Set([...result.directories, '']));
  }

  /** What has settled is agreed on. */
  #push({ local, ledger }: ServedDirectory): void {
    const entries: [Path, AncestorEntry | null][] = [];
    const paths = [...local.dirty].filter((path) => !local.busy.has(path) && !local.adoptions.has(path));
    for (const path of paths) entries.push([path, local.entryAt(path) ?? null]);
    if (entries.length > 0) ledger.write([{ t: 'ancestor', entries }], false);
    for (const path of paths) local.settle(path);
    this.log.push(`    push ${paths.join(' ')}`);
  }

  #shown({ root }: ServedDirectory): ShownTree {
    return treeOf(`${Buffer.from(root, 'latin1').toString()}/..data`, (target, path) =>
      targetInVolume(target, path, root),
    );
  }
}

function treeOf(dir: string, targetOf: (target: string, path: string) => string): ShownTree {
  return shown(treeOfMount(dir), targetOf);
}
