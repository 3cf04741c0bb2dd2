/**
 * Random operations on files with several names in an agent's directory, and the same in a plain one: the trees are equal
 * after each round, and so is what another agent shows. `STEPS` and `SEED` ask for a longer run and for a certain one.
 */

import { expect } from 'chai';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, untilSame, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { linkedPlain, linkedPublished } from '../support/linked-tree.ts';
import { TestVolume } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { seedOrDefault } from '../support/seed.ts';
import { recount } from '../support/recount.ts';
import { shell } from '../support/shell.ts';

const STEPS = Number(process.env['STEPS'] ?? 40);
const SEED = seedOrDefault();
/** Operations of one round, at most; the agent may see them in one look or in several. */
const ROUND = 4;
const TOPS = ['d', 'e', 'g'];
const NAMES = ['1', '2', '3', 's/1', 's/2'];

/** The next operation on what a directory holds, as a command; each writes something that no other has written. */
function operation(random: Random, dir: string, step: number): string {
  const files = TOPS.flatMap((top) => filesBelow(dir, top));
  const anywhere = (): string => `${random.pick(TOPS)}/${random.pick(NAMES)}`;
  if (files.length === 0) return `echo ${step} > ${anywhere()}`;
  const file = random.pick(files);
  const to = anywhere();
  const other = random.pick(files);
  switch (random.below(14)) {
    case 0:
      return `echo ${step} > ${to}`;
    case 1:
    case 2:
      return `echo ${step} >> ${file}`;
    case 3:
      return `seq ${step} $((${step} + 20000)) > ${file}`;
    case 4:
      return `echo ${step} > ${file}.new; mv ${file}.new ${file}`;
    case 5:
    case 6:
      return file === to ? `echo ${step} >> ${file}` : `ln -f ${file} ${to} || true`;
    case 7:
      return `rm ${file}`;
    case 8:
      return `mv ${file} ${to} || true`;
    case 9:
      return `chmod ${random.pick(['600', '644', '755'])} ${file}`;
    case 10:
      return `mv ${file} ${file}.t; mv ${other} ${file} || true; mv ${file}.t ${other}`;
    case 11:
      return `cp -p ${file} ${file}.new; mv ${file}.new ${file}`;
    case 12:
      return `ln -f ${file} ${to} || true; echo ${step} >> ${file}; rm -f ${other}`;
    default: {
      const [a, b] = [random.pick(TOPS), random.pick(TOPS)];
      return a === b ? `echo ${step} >> ${file}` : `mv ${a}/s ${a}/t; mv ${b}/s ${a}/s; mv ${a}/t ${b}/s`;
    }
  }
}

function filesBelow(dir: string, path: string): string[] {
  return readdirSync(join(dir, path))
    .sort()
    .flatMap((name) => {
      const below = `${path}/${name}`;
      return lstatSync(join(dir, below)).isDirectory() ? filesBelow(dir, below) : [below];
    });
}

describe(`random operations on files with several names (SEED=${SEED})`, function () {
  this.timeout(120_000 + STEPS * 5000);
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;

  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'links-random-'));
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  function newDir(name: string): string {
    const dir = join(folder, name);
    mkdirSync(dir);
    return dir;
  }

  for (const trashDays of ['1', '0']) {
    it(`agree with a plain directory, with --trash-days ${trashDays}`, async () => {
      const name = `random-${trashDays}`;
      const url = `${server.url}/${name}`;
      const bucket = server.url.slice('etcd://'.length);
      await juicefs.format(url, name, bucket, ['--block-size', '64', '--trash-days', trashDays]);
      const random = new Random(SEED + Number(trashDays));
      const model = newDir(`${name}-model`);
      const options = ['--min-interval', '20ms', '--rescan', '1s', '--max-delete', '100'];
      let one: Agent = await startAgent(url, newDir(`${name}-1`), options);
      const two = await startAgent(url, newDir(`${name}-2`), options);
      const volume = await TestVolume.open(server, `/${name}`);
      const done: string[] = [];
      try {
        const both = async (command: string): Promise<void> => {
          await shell(model, `{ ${command}; } 2> /dev/null`);
          await shell(one.dir, `{ ${command}; } 2> /dev/null`);
          done.push(command);
        };
        await both(`mkdir -p ${TOPS.map((top) => `${top}/s`).join(' ')}; echo 0 > d/1; ln d/1 e/1`);
        for (let step = 0; step < STEPS;) {
          const end = Math.min(STEPS, step + 1 + random.below(ROUND));
          // Now and then it happens while the agent is down.
          const isDown = random.below(8) === 0;
          if (isDown) await one.stop();
          for (; step < end; step += 1) await both(operation(random, model, step));
          if (isDown) one = await startAgent(url, one.dir, options);
          const wanted = (): ReturnType<typeof linkedPlain> => linkedPlain(model);
          await untilSame('the own directory is as the plain one', () => linkedPublished(one.dir), wanted);
          await untilSame('the other directory is as the plain one', () => linkedPublished(two.dir), wanted);
        }
        const { problems, parked } = await one.until(
          'all is pushed',
          ({ pendingEdits }) => pendingEdits === 0,
        );
        expect({ problems, parked }).to.deep.equal({ problems: {}, parked: [] });
        await juicefs.fsck(url);
        const { leaked, pending } = await juicefs.gc(url);
        expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
        expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      } catch (cause) {
        const status = JSON.stringify(one.status);
        const said = one.stderr.split('\n').slice(-20).join('\n');
        throw new Error(
          `${String(cause)}\n${done.slice(-12).join('\n')}\n${status}\nthe agent said:\n${said}`,
          {
            cause,
          },
        );
      } finally {
        await one.kill();
        await two.kill();
        await volume.store.close();
      }
    });
  }
});
