/**
 * Files written, cut, punched and copied in every way, by a real mount and in an agent's directory in turns: both hold
 * what a model of plain bytes holds. `SEED` repeats a run, `ROUNDS` makes it longer.
 */

import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { codeOf } from '../../src/agent/base/error.ts';
import { startAgent, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { Random } from '../support/random.ts';
import { seedOrDefault } from '../support/seed.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

const SEED = seedOrDefault();
const ROUNDS = Number(process.env['ROUNDS'] ?? 12);

const KIB = 1024;
const NAMES = ['a', 'b', 'c', 'big'];
/** One file reaches into its second chunk (64 MiB each); the others into their fifth block of 64 KiB. */
const MAX_BYTES: Readonly<Record<string, number>> = { big: 66 * KIB * KIB };
const DEFAULT_MAX_BYTES = 300 * KIB;

/** What the files hold. */
type Model = Map<string, Buffer>;

interface Operation {
  /** For people. */
  readonly words: string;
  /** On files in a directory. */
  readonly onDisk: (dir: string) => void;
  readonly onModel: (model: Model) => void;
}

function contents(model: Model, name: string): Buffer {
  return model.get(name) ?? Buffer.alloc(0);
}

function grown(bytes: Buffer, length: number): Buffer {
  return bytes.length >= length
    ? Buffer.from(bytes)
    : Buffer.concat([bytes, Buffer.alloc(length - bytes.length)]);
}

function withOpen(file: string, flags: string, use: (fd: number) => void): void {
  const fd = openSync(file, flags);
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}

function write(name: string, offset: number, bytes: Buffer): Operation {
  return {
    words: `write ${bytes.length} bytes at ${offset} of ${name}`,
    onDisk: (dir) => withOpen(join(dir, name), 'r+', (fd) => writeSync(fd, bytes, 0, bytes.length, offset)),
    onModel: (model) => {
      const next = grown(contents(model, name), offset + bytes.length);
      bytes.copy(next, offset);
      model.set(name, next);
    },
  };
}

function replace(name: string, bytes: Buffer): Operation {
  return {
    words: `write ${name} anew with ${bytes.length} bytes`,
    onDisk: (dir) => withOpen(join(dir, name), 'w', (fd) => writeSync(fd, bytes)),
    onModel: (model) => model.set(name, bytes),
  };
}

function truncate(name: string, length: number): Operation {
  return {
    words: `truncate ${name} to ${length}`,
    onDisk: (dir) => withOpen(join(dir, name), 'r+', (fd) => ftruncateSync(fd, length)),
    onModel: (model) => model.set(name, grown(contents(model, name).subarray(0, length), length)),
  };
}

/** `punch` keeps the size; `zero` lets the file grow. */
function zeros(name: string, how: 'punch' | 'zero', offset: number, length: number): Operation {
  return {
    words: `${how} ${length} bytes at ${offset} of ${name}`,
    onDisk: (dir) =>
      execFileSync('fallocate', [
        how === 'punch' ? '--punch-hole' : '--zero-range',
        ...['--offset', String(offset), '--length', String(length), join(dir, name)],
      ]),
    onModel: (model) => {
      const before = contents(model, name);
      const next = how === 'zero' ? grown(before, offset + length) : Buffer.from(before);
      next.fill(0, Math.min(offset, next.length), Math.min(offset + length, next.length));
      model.set(name, next);
    },
  };
}

function copy(from: string, to: string): Operation {
  return {
    words: `cp ${from} ${to}`,
    onDisk: (dir) => execFileSync('cp', ['--sparse=auto', join(dir, from), join(dir, to)]),
    onModel: (model) => model.set(to, contents(model, from)),
  };
}

function randomOperation(random: Random, model: Model): Operation {
  // What changes the large file costs more.
  const name = random.pick(['a', 'a', 'b', 'b', 'c', 'c', 'big']);
  const size = contents(model, name).length;
  const max = MAX_BYTES[name] ?? DEFAULT_MAX_BYTES;
  const length = 1 + random.below(random.pick([10, 5_000, 140 * KIB]));
  // Near what is there, at the end, or anywhere.
  const offset = Math.min(max - length, random.pick([random.below(size + 1), size, random.below(max)]));
  switch (random.below(8)) {
    case 0:
    case 1:
    case 2:
      return write(name, offset, random.bytes(length));
    case 3:
      return write(name, size > max - length ? 0 : size, random.bytes(length));
    case 4:
      return truncate(name, random.pick([0, random.below(size + 1), random.below(max)]));
    case 5:
      return size === 0
        ? write(name, 0, random.bytes(length))
        : zeros(name, random.pick(['punch', 'zero']), offset, length);
    case 6:
      return replace(name, random.bytes(length));
    default: {
      const to = random.pick(['a', 'b', 'c']);
      return size > DEFAULT_MAX_BYTES || to === name
        ? write(name, offset, random.bytes(length))
        : copy(name, to);
    }
  }
}

const VOLUMES = [
  { name: 'contents-plain', what: 'plain, with trash', options: ['--trash-days', '1'] },
  { name: 'contents-final', what: 'without trash', options: ['--trash-days', '0'] },
];

describe(`random contents, seed ${SEED}`, function () {
  this.timeout(120_000 + ROUNDS * 20_000);
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'contents-'));
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  for (const { name, what, options } of VOLUMES) {
    it(`of a volume ${what} are the same on both sides`, async () => {
      const url = `${server.url}/${name}`;
      await juicefs.format(url, name, server.url.slice('etcd://'.length), ['--block-size', '64', ...options]);
      const mount = await juicefs.mount(url);
      const dir = join(folder, name);
      mkdirSync(dir);
      const agent = await startAgent(url, dir);
      try {
        await rounds(new Random(SEED), mount, agent);
      } finally {
        await agent.kill();
        await mount.close();
      }
      await juicefs.fsck(url);
      expect(await juicefs.gc(url)).to.include({ leaked: 0, pending: 0 });
    });
  }
});

async function rounds(random: Random, mount: Mount, agent: Agent): Promise<void> {
  const model: Model = new Map(NAMES.map((name) => [name, Buffer.from(name)]));
  for (const [name, bytes] of model) replace(name, bytes).onDisk(mount.dir);
  const served = join(agent.dir, '..data');
  await untilHolds('at first', [], model, [mount.dir, served], agent);
  for (let round = 1; round <= ROUNDS; round += 1) {
    const side = round % 2 === 0 ? agent.dir : mount.dir;
    const told: string[] = [];
    for (let n = 3 + random.below(4); n > 0; n -= 1) {
      const operation = randomOperation(random, model);
      told.push(operation.words);
      operation.onDisk(side);
      operation.onModel(model);
    }
    const where = `round ${round}, in ${side === mount.dir ? 'the mount' : "the agent's directory"}`;
    await untilHolds(where, told, model, [mount.dir, served], agent);
  }
}

async function untilHolds(
  where: string,
  told: readonly string[],
  model: Model,
  dirs: readonly string[],
  agent: Agent,
): Promise<void> {
  let last = '';
  try {
    await until(where, () => {
      last = firstDifference(model, dirs) ?? '';
      return last === '';
    });
  } catch (cause) {
    const said = agent.stderr.split('\n').slice(-40).join('\n');
    const status = JSON.stringify(agent.status);
    throw new Error(`seed ${SEED}, ${where}: ${last}\n${told.join('\n')}\n${status}\n${said}`, { cause });
  }
}

function firstDifference(model: Model, dirs: readonly string[]): string | undefined {
  for (const [name, bytes] of model) {
    for (const dir of dirs) {
      const found = bytesOf(join(dir, name));
      if (found === undefined) return `${dir}/${name} is missing`;
      if (found.equals(bytes)) continue;
      const at = found.findIndex((byte, index) => byte !== bytes[index]);
      return `${dir}/${name} has ${found.length} bytes of ${bytes.length}, the first wrong one at ${at}`;
    }
  }
  return undefined;
}

/** A mount that still knows a name of a moment ago fails to open what it led to (layout trap 8). */
function bytesOf(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    return undefined;
  }
}
