/**
 * Random operations on a plain directory and, by turns or at the same time, on real mounts and directories of agents
 * of one volume: all of them show the same after each round, and the real client finds the volume in order.
 * `SEED` gives one seed for all, `ROUNDS` the length of each run, `VARIANT` names the only one.
 */

import { expect } from 'chai';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OLD_CLIENTS } from '../../tools/suites.mjs';
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
    rounds: 36,
    format: ['--trash-days', '1'],
    sides: ['agent', 'mount'],
  },
  {
    name: 'random-final',
    what: 'an agent and a mount by turns, without trash',
    seed: 2,
    rounds: 36,
    format: ['--trash-days', '0'],
    sides: ['agent', 'mount'],
  },
  {
    name: 'random-links',
    what: 'an agent and a mount by turns, with hard links and extended attributes',
    seed: 6,
    rounds: 32,
    format: ['--trash-days', '1'],
    sides: ['agent', 'mount'],
    capabilities: ['hard-links', 'xattrs'],
  },
  {
    name: 'random-busy',
    what: 'two agents and a mount at the same time',
    seed: 3,
    rounds: 24,
    format: ['--trash-days', '1'],
    sides: ['agent', 'agent', 'mount'],
    isBusy: true,
  },
  {
    name: 'random-alone',
    what: 'one agent, which is quick',
    seed: 5,
    rounds: 32,
    format: ['--trash-days', '0'],
    sides: ['agent'],
  },
  {
    name: 'random-control',
    what: 'two mounts by turns and no agent, which shows what the real client does by itself',
    seed: 4,
    rounds: 24,
    format: ['--trash-days', '1'],
    sides: ['mount', 'mount'],
    capabilities: ['sparse', 'hard-links', 'xattrs'],
  },
  ...OLD_CLIENTS.map((client, index): Variant => ({
    name: `random-${client.replaceAll('.', '-')}`,
    what: `an agent and a mount of ${client} by turns`,
    seed: 7 + index,
    rounds: 8,
    // Each way of deleting with an old and a newer release.
    format: ['--trash-days', index % 2 === 0 ? '1' : '0'],
    sides: ['agent', 'mount'],
    client,
  })),
];

/**
 * By how much statistics of directories may be off for each operation of a mount; entries and pages of 4 KiB. The control
 * showed 0 in 979 operations of four seeds; beside an agent, 1.3.0 was off by 45 in 19.
 */
const DRIFT = 0.05;
const DRIFT_OF_OLD_CLIENTS = 5;

const NAMED = process.env['VARIANT'];
const CHOSEN = VARIANTS.filter(({ name }) => NAMED === undefined || name === NAMED);

describe('random operations', function () {
  this.timeout(900_000);
  let server: EtcdServer;
  let folder: string;
  /** All of them run at the same time: each waits most of its time. */
  const runs = new Map<Variant, { readonly run: RandomRun; readonly end: Promise<Error | undefined> }>();

  before(async function () {
    needFuse(this);
    const clients = new Map<Variant['client'], Juicefs>();
    for (const { client } of CHOSEN) clients.set(client, new Juicefs(this, {}, client));
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'random-'));
    for (const variant of CHOSEN) {
      const rounds = Number(process.env['ROUNDS'] ?? variant.rounds);
      const juicefs = clients.get(variant.client);
      if (juicefs === undefined) throw new Error('there is no client');
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
      const { stepsOfMounts, drifted } = started.run;
      expect(Number(drifted)).to.be.at.most(
        (variant.client === undefined ? DRIFT : DRIFT_OF_OLD_CLIENTS) * stepsOfMounts,
        'how far statistics of mounts are off',
      );
    });
  }
});
