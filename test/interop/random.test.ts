/**
 * Random operations on a plain directory and, by turns or at the same time, on real mounts and directories of agents
 * of one volume: all of them show the same after each round, and the real client finds the volume in order.
 * `SEED` gives one seed for all, `ROUNDS` the length of each run, `VARIANT` names the only one.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { RandomRun, type Variant } from '../support/random-run.ts';
import { givenSeed } from '../support/seed.ts';
import { needFuse } from '../support/tools.ts';

const VARIANTS: readonly Variant[] = [
  {
    name: 'random-trash',
    what: 'an agent and a mount by turns, with trash',
    seed: 1,
    rounds: 40,
    format: ['--trash-days', '1'],
    sides: ['agent', 'mount'],
    busy: false,
    capabilities: [],
  },
  {
    name: 'random-final',
    what: 'an agent and a mount by turns, without trash',
    seed: 2,
    rounds: 40,
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
    rounds: 24,
    format: ['--trash-days', '1'],
    sides: ['mount', 'mount'],
    busy: false,
    capabilities: ['sparse'],
  },
];

const NAMED = process.env['VARIANT'];
/** Of a run that is named and has no length of its own. */
const DEFAULT_ROUNDS = 60;
const CHOSEN = VARIANTS.filter(({ name, rounds }) => (NAMED === undefined ? rounds > 0 : name === NAMED));

describe('random operations', function () {
  this.timeout(900_000);
  let server: EtcdServer;
  let folder: string;
  /** All of them run at the same time: each waits most of its time. */
  const runs = new Map<Variant, { readonly run: RandomRun; readonly end: Promise<Error | undefined> }>();

  before(async function () {
    needFuse(this);
    const juicefs = new Juicefs(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'random-'));
    for (const variant of CHOSEN) {
      const rounds = Number(process.env['ROUNDS'] ?? (variant.rounds || DEFAULT_ROUNDS));
      const run = new RandomRun({ ...variant, rounds }, givenSeed() ?? variant.seed, juicefs, server, folder);
      const end = run.run().then(
        () => undefined,
        (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
      );
      runs.set(variant, { run, end });
    }
  });
  after(async () => {
    await Promise.all([...runs.values()].map(({ end }) => end));
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  for (const variant of CHOSEN) {
    it(variant.what, async function () {
      const started = runs.get(variant);
      if (started === undefined) this.skip();
      const error = await started.end;
      if (error !== undefined) throw error;
    });
  }
});
