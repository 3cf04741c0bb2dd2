/**
 * Five agents and a mount whose directories are all edited in the same 20 files, one of the agents killed again and again. What
 * was ever written is in the volume, its trash or a conflict copy, or whoever wrote next had it; in the end all are equal
 * and nothing moves any more. It runs only for the `SECONDS` that are asked for;
 * 60 are the full form, with 30 s of silence in the end: two and a half minutes on two cores.
 */

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { parseMetaUrl } from '../../src/codec/url.ts';
import { codeOf } from '../../src/agent/base/error.ts';
import { Agent, mountedTree, publishedTree, type ShownTree, untilSame } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { volumeRevision } from '../support/stillness.ts';
import { openStore } from '../support/store.ts';
import { Random } from '../support/random.ts';
import { seedOrDefault } from '../support/seed.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

const SECONDS = Number(process.env['SECONDS'] ?? 0);
const IS_LONG = SECONDS >= 60;
const AGENTS = 5;
const FILES = Array.from({ length: 20 }, (_, n) => (n % 3 === 0 ? `top-${n}` : `d/file-${n}`));
/** Longest pause of a writer between two edits. */
const PAUSE_MS = 40;
/** Longest life of the agent that is killed: from its start on, and every third time from when it serves. */
const LIFE_MS = 1_500;
const STILL_MS = IS_LONG ? 30_000 : 5_000;
const STILL_LIMIT_MS = 3 * STILL_MS + 15_000;
/** A volume takes 1000 conflict copies; a person who deals with them keeps them below that. */
const COPIES = 400;
const COPIES_MS = 2_000;
/** How long those who have fallen behind may take for the rest, and a wait for it to end. */
const REST_MS = (60 + 2 * SECONDS) * 1000;

/** What was put into a file, and what was there when its writer looked, right before. */
interface Write {
  readonly path: string;
  readonly content: string;
  readonly replaced: string | undefined;
  /** By whom, how and when, in words. */
  readonly where: string;
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESTALE') return undefined;
    throw error;
  }
}

/** Edits the files of one directory, one after the other, until it is told to stop. */
class Writer {
  readonly #name: string;
  readonly #dir: string;
  readonly #random: Random;
  /** Whether files may be written in place: a mount would write over what it has not seen. */
  readonly #inPlace: boolean;
  readonly writes: Write[] = [];
  isStopped = false;
  #tries = 0;

  constructor(name: string, dir: string, seed: number, inPlace: boolean) {
    this.#name = name;
    this.#dir = dir;
    this.#random = new Random(seed);
    this.#inPlace = inPlace;
  }

  async run(): Promise<void> {
    while (!this.isStopped) {
      this.#edit();
      await delay(this.#random.below(PAUSE_MS));
    }
  }

  #edit(): void {
    const path = this.#random.pick(FILES);
    const file = join(this.#dir, path);
    const content = `${this.#name} ${this.writes.length} ${path} ${this.#random.below(1e9)}\n`;
    const replaced = readIfThere(file);
    // A flip between the two steps leaves the file behind, excluded as it is: the next save must not take it for its own.
    const temporary = `${file}.${(this.#tries += 1)}~`;
    const startMs = Date.now();
    const inPlace = this.#inPlace && this.#random.below(2) === 0;
    try {
      if (inPlace) writeFileSync(file, content);
      else {
        writeFileSync(temporary, content);
        renameSync(temporary, file);
      }
    } catch (error) {
      // An agent that was killed may have left its directory without one, and a mount may find the file replaced.
      if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESTALE') return;
      throw error;
    }
    const when = `${new Date(startMs).toISOString().slice(11, -1)} to +${Date.now() - startMs} ms`;
    const where = `${this.#name}, ${inPlace ? 'in place' : 'by rename'}, ${when}`;
    this.writes.push({ path, content, replaced, where });
  }
}

/** Kills an agent at random moments and starts it again, until it is told to stop; in the end it runs. */
class Killer {
  readonly #start: () => Agent;
  readonly #random: Random;
  agent: Agent;
  kills = 0;
  isStopped = false;

  constructor(start: () => Agent, seed: number) {
    this.agent = start();
    this.#start = start;
    this.#random = new Random(seed);
  }

  async run(): Promise<void> {
    while (!this.isStopped) {
      if (this.kills % 3 === 2) await this.agent.ready();
      await delay(this.#random.below(LIFE_MS));
      await this.agent.kill();
      this.kills += 1;
      this.agent = this.#start();
    }
    await this.agent.ready();
  }
}

/** Removes the oldest conflict copies on a mount when there are many of them: they go to the trash. */
class Person {
  readonly #dir: string;
  isStopped = false;

  constructor(mountDir: string) {
    this.#dir = join(mountDir, '.conflicts');
  }

  async run(): Promise<void> {
    while (!this.isStopped) {
      const stamps = existsSync(this.#dir)
        ? readdirSync(this.#dir).filter((name) => name !== '.records')
        : [];
      let count = 0;
      for (const stamp of stamps.sort().reverse()) {
        const copies = join(this.#dir, stamp);
        count += readdirSync(copies, { recursive: true, withFileTypes: true }).filter((e) =>
          e.isFile(),
        ).length;
        if (count > COPIES) rmSync(copies, { recursive: true, force: true });
        await delay(1);
      }
      await delay(COPIES_MS);
    }
  }
}

/** What a mount has at its top besides the volume's tree; reading the log never ends. */
const CONTROL_FILES: ReadonlySet<string> = new Set(['.accesslog', '.config', '.stats', '.trash']);

/** The contents of all files at and below a directory; several are read at a time, as a mount takes a while for each. */
async function contentsBelow(dir: string): Promise<string[]> {
  const contents = readdirSync(dir, { withFileTypes: true }).map(async (entry) => {
    if (CONTROL_FILES.has(entry.name)) return [];
    const at = join(dir, entry.name);
    if (entry.isDirectory()) return contentsBelow(at);
    return entry.isFile() ? [await readFile(at, 'latin1')] : [];
  });
  return (await Promise.all(contents)).flat();
}

/** Files that a save left behind take no part. */
function withoutTemporaries(tree: ShownTree): ShownTree {
  return Object.fromEntries(Object.entries(tree).filter(([path]) => !path.endsWith('~')));
}

if (SECONDS > 0) describe('races of five agents and a mount', declareRace);

function declareRace(this: Mocha.Suite): void {
  this.timeout(2 * SECONDS * 1000 + 3 * REST_MS);
  const seed = seedOrDefault();
  let folder: string;
  let etcd: EtcdServer;
  let mount: Mount;
  const agents: Agent[] = [];
  let killer: Killer | undefined;

  before(async function () {
    const juicefs = new Juicefs(this);
    needFuse(this);
    folder = mkdtempSync(join(tmpdir(), 'races-'));
    etcd = await startEtcd();
    await juicefs.format(`${etcd.url}/raced`, 'raced', etcd.url.slice('etcd://'.length), [
      '--trash-days',
      '1',
    ]);
    mount = await juicefs.mount(`${etcd.url}/raced`, ['--entry-cache', '0', '--attr-cache', '0']);
  });

  after(async () => {
    for (const agent of agents) await agent.kill();
    await killer?.agent.kill();
    await mount?.close();
    await etcd?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  it(`nothing is lost, and all agree in the end: ${SECONDS} s, seed ${seed}`, async () => {
    const url = `${etcd.url}/raced`;
    mkdirSync(join(mount.dir, 'd'));
    for (const path of FILES) writeFileSync(join(mount.dir, path), `first ${path}\n`);
    const start = (n: number): Agent => {
      const dir = join(folder, `agent-${n}`);
      mkdirSync(dir, { recursive: true });
      // Some do without the native help.
      const env = n % 2 === 0 ? {} : { ETCD_ETC_AGENT_NATIVE: 'off' };
      return new Agent(url, dir, ['--agent-id', `agent-${n}`, '--min-interval', '50ms'], env);
    };
    killer = new Killer(() => start(0), seed);
    for (let n = 1; n < AGENTS; n += 1) agents.push(start(n));
    await Promise.all([killer.agent, ...agents].map(async (agent) => agent.ready()));
    const dirs = [...Array(AGENTS).keys()].map((n) => join(folder, `agent-${n}`));

    const writers = dirs.map((dir, n) => new Writer(`agent ${n}`, dir, seed + n, true));
    writers.push(new Writer('mount', mount.dir, seed + AGENTS, false));
    const person = new Person(mount.dir);
    const deals = person.run();
    const running = [killer.run(), ...writers.map((writer) => writer.run())];
    await Promise.race([delay(SECONDS * 1000), deals, ...running]);
    for (const each of [killer, ...writers]) each.isStopped = true;
    await Promise.all(running);
    const endMs = performance.now();

    const all = [...agents, killer.agent];
    for (const agent of all) {
      await agent.until(
        'it has pushed all that it had',
        ({ pendingEdits, parked, problems }) =>
          pendingEdits === 0 && parked.length === 0 && Object.keys(problems).length === 0,
        REST_MS,
      );
    }
    person.isStopped = true;
    await deals;
    for (const { dir } of all) {
      await untilSame(
        `${dir} is as the mount`,
        () => withoutTemporaries(publishedTree(dir)),
        () => mountedTree(mount.dir),
        REST_MS,
      );
    }
    const restMs = performance.now() - endMs;
    const store = openStore(etcd.endpoint);
    const { prefix } = parseMetaUrl(url);
    try {
      // What was under way when all were equal may come to an end; then nothing is written.
      const nothingIsWritten = async (): Promise<boolean> => {
        const before = await volumeRevision(store, `${prefix}A`);
        await delay(STILL_MS);
        return (await volumeRevision(store, `${prefix}A`)) === before;
      };
      await until('nothing is written any more', nothingIsWritten, STILL_LIMIT_MS);
    } finally {
      await store.close();
    }

    const writes = writers.flatMap((writer) => writer.writes);
    const kept = new Set([
      ...(await contentsBelow(mount.dir)),
      ...(await contentsBelow(join(mount.dir, '.trash'))),
      ...(await Promise.all(dirs.map((dir) => contentsBelow(join(dir, '..data'))))).flat(),
      ...writes.flatMap(({ replaced }) => (replaced === undefined ? [] : [replaced])),
    ]);
    const lost = writes.filter(({ content }) => !kept.has(content));
    const torn = [...kept].filter(
      (content) => content !== '' && !/^(first|agent \d|mount) .*\n$/.test(content),
    );
    const copies = await contentsBelow(join(mount.dir, '.conflicts'));
    process.stderr.write(
      `    ${writes.length} writes, ${killer.kills} kills, ${copies.length} conflict copies and records, all equal after ${Math.round(restMs / 1000)} s\n`,
    );
    // All that was written to those files, and what the agents said of them.
    const paths = new Set(lost.map(({ path }) => path));
    const story = [...paths].flatMap((path) => [
      ...writes.filter((write) => write.path === path).map((write) => JSON.stringify(write)),
      ...all.flatMap(({ dir, stderr }) =>
        stderr.split('\n').flatMap((line) => (line.includes(path) ? [`${dir}: ${line}`] : [])),
      ),
    ]);
    expect(lost, story.join('\n')).to.deep.equal([]);
    expect(torn.filter((content) => !content.startsWith('{'))).to.deep.equal([]);
  });
}
