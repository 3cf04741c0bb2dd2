/** kill -9 of an agent at random moments of two-way edits, and a start after each: nothing is lost, doubled or torn. */

import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { parseMetaUrl } from '../../src/codec/url.ts';
import { Agent, plainTree, publishedTree, runCommand, startAgent, untilSame } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { recount } from '../support/recount.ts';
import { seedOrDefault } from '../support/seed.ts';
import { openStore } from '../support/store.ts';
import { until } from '../support/until.ts';

const EDITS = 200;
/** Part of the edits after which the agent is killed. */
const KILLS = 0.4;
const LONGEST_LIFE_MS = 700;
const TICK_MS = 10;

/** Small and repeatable: mulberry32. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Random edits of one side's own files, made in the agent's directory and in a plain one that says what is expected. */
class Editor {
  readonly #dir: string;
  readonly #model: string;
  readonly #side: string;
  readonly #random: (below: number) => number;
  readonly #files: string[] = [];
  /** Every content that a file had after an edit. */
  readonly written = new Set<string>();
  #count = 0;

  constructor(dir: string, model: string, side: string, random: (below: number) => number) {
    this.#dir = dir;
    this.#model = model;
    this.#side = side;
    this.#random = random;
  }

  edit(): string {
    const operation = this.#random(7);
    const at = this.#random(Math.max(1, this.#files.length));
    const file = this.#files[at];
    const text = `${this.#side} ${(this.#count += 1)} ${'x'.repeat(this.#random(200))}\n`;
    if (file === undefined || operation === 0 || this.#files.length < 4) return this.#create(text);
    switch (operation) {
      case 1:
        return this.#both(`rewrite ${file}`, (dir) => writeFileSync(join(dir, file), text));
      case 2:
        return this.#both(`append to ${file}`, (dir) => appendFileSync(join(dir, file), text));
      case 3:
        return this.#both(`replace ${file}`, (dir) => {
          writeFileSync(join(dir, `${file}~`), text);
          renameSync(join(dir, `${file}~`), join(dir, file));
        });
      case 4:
        this.#files.splice(at, 1);
        return this.#both(`remove ${file}`, (dir) => rmSync(join(dir, file)));
      case 5: {
        const to = `${dirname(file) === '.' ? '' : `${dirname(file)}/`}${this.#side}-moved-${this.#count}`;
        this.#files[at] = to;
        return this.#both(`move ${file} to ${to}`, (dir) => renameSync(join(dir, file), join(dir, to)));
      }
      default: {
        const mode = [0o600, 0o644, 0o640][this.#random(3)] ?? 0o644;
        return this.#both(`chmod ${mode.toString(8)} ${file}`, (dir) => chmodSync(join(dir, file), mode));
      }
    }
  }

  #create(text: string): string {
    const place =
      ['', 'common/', `${this.#side}-${this.#count}/`, `${this.#side}-${this.#count}/deep/`][
        this.#random(4)
      ] ?? '';
    const file = `${place}${this.#side}-file-${this.#count}`;
    this.#files.push(file);
    return this.#both(`create ${file}`, (dir) => {
      mkdirSync(dirname(join(dir, file)), { recursive: true });
      writeFileSync(join(dir, file), text);
    });
  }

  #both(what: string, change: (dir: string) => void): string {
    change(this.#dir);
    change(this.#model);
    for (const file of this.#files) this.written.add(readFileSync(join(this.#model, file), 'latin1'));
    return what;
  }
}

describe('an agent that is killed again and again', () => {
  const seed = seedOrDefault();
  let folder: string;
  let etcd: EtcdServer;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'kill-'));
    etcd = await startEtcd();
  });

  after(async () => {
    await etcd?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** The contents of all conflict copies. */
  async function conflictCopies(volume: string): Promise<string[]> {
    const { stdout } = await runCommand(['ls', volume]);
    if (!stdout.includes('.conflicts')) return [];
    const dir = join(folder, 'conflicts');
    mkdirSync(dir);
    await runCommand(['--once', '--subdir', '/.conflicts', volume, dir]);
    const published = join(dir, '..data');
    const files = readdirSync(published, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    return files.map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
  }

  it('removes what was removed in the volume while it was down', async () => {
    const volume = `${etcd.url}/removed`;
    const dir = join(folder, 'removed');
    mkdirSync(dir);
    await runCommand(['format', volume, 'removed']);
    for (const name of ['stays', 'goes', 'below/goes'])
      await runCommand(['put', volume, import.meta.filename, `/${name}`]);
    const first = await startAgent(volume, dir);
    expect(Object.keys(publishedTree(dir)).sort()).to.deep.equal(['below', 'below/goes', 'goes', 'stays']);
    await first.kill();
    for (const name of ['goes', 'below']) await runCommand(['rm', '-r', volume, `/${name}`]);
    const second = await startAgent(volume, dir, ['--max-delete', '100']);
    try {
      await until('the removed names are gone', () => Object.keys(publishedTree(dir)).join() === 'stays');
    } finally {
      await second.stop();
    }
  });

  it(`loses no edit of either side in ${EDITS} edits (SEED=${seed})`, async function () {
    this.timeout(240_000);
    const random = randomFrom(seed);
    const volume = `${etcd.url}/killed`;
    await runCommand(['format', volume, 'killed']);
    const [dirA, dirB, model] = ['a', 'b', 'model'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    for (const dir of [dirA, dirB, model]) mkdirSync(dir);
    mkdirSync(join(model, 'common'));
    writeFileSync(join(model, 'common/readme'), 'common\n');
    await runCommand(['import', volume, model]);
    // Removals gather while an agent is killed before it can push them: here they are meant.
    const options = ['--max-delete', '100'];
    let victim = await startAgent(volume, dirA, options);
    const other = await startAgent(volume, dirB, options);
    const history: string[] = [];
    let kills = 0;
    let conflicts = '';
    const editors = [new Editor(dirA, model, 'a', random), new Editor(dirB, model, 'b', random)] as const;
    try {
      for (let n = 0; n < EDITS; n += 1) {
        const editor = editors[random(2) === 0 ? 0 : 1];
        // A write and the removal of what was written cannot be told apart within a tick of the file system's clock; then
        // a conflict copy is kept, and this test wants none.
        await delay(TICK_MS);
        history.push(`${n} ${editor.edit()}`);
        if (random(100) >= KILLS * 100) continue;
        await delay(random(LONGEST_LIFE_MS));
        await victim.kill();
        conflicts += victim.stderr
          .split('\n')
          .filter((line) => line.startsWith('warn'))
          .map((line) => `${line} (edit ${n})\n`)
          .join('');
        kills += 1;
        history.push('kill');
        // Some edits come while nobody looks.
        if (random(2) === 0) history.push(editors[0].edit());
        await delay(TICK_MS);
        victim = new Agent(volume, dirA, options);
      }
      await victim.ready();
      await untilSame(
        'the directory of the killed agent is as expected',
        () => publishedTree(dirA),
        () => plainTree(model),
      );
      await untilSame(
        'so is the other',
        () => publishedTree(dirB),
        () => plainTree(model),
      );
      await victim.until('nothing is left to push', ({ pendingEdits }) => pendingEdits === 0);
    } catch (cause) {
      const story = history.slice(-80).join('\n');
      throw new Error(
        `SEED=${seed}: ${String(cause)}\nwarnings:\n${conflicts}last edits:\n${story}\nvictim:\n${victim.stderr.slice(-3000)}`,
        { cause },
      );
    } finally {
      await victim.stop();
      await other.stop();
    }
    expect(kills).to.be.greaterThan(EDITS * KILLS * 0.5);
    // Each side has files of its own, so there is nothing to conflict about. What the agent cannot tell from a late write,
    // such as one that was moved away and replaced before anybody looked, it keeps as a copy: then of something written.
    const copies = await conflictCopies(volume);
    const written = new Set(editors.flatMap(({ written: contents }) => [...contents]));
    expect(copies.filter((copy) => !written.has(copy))).to.deep.equal([]);
    const store = openStore(etcd.endpoint);
    try {
      expect(await recount(store, parseMetaUrl(volume).prefix)).to.deep.equal([]);
    } finally {
      await store.close();
    }
    await new Juicefs(this).fsck(volume);
  });
});
