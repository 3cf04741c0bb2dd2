/** What every `WatchPort` does, on a real directory that another process edits. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { expect } from 'chai';
import type { WatchPort } from '../../src/agent/base/ports.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import { raw } from '../support/tree-on-disk.ts';
import { until } from '../support/until.ts';
import { EDITOR } from '../support/random-editor.ts';

export interface WatchSubject {
  readonly watch: WatchPort;
  /** Looks whether it still watches all, as it does by itself now and then. */
  check?(): void;
}

interface Expected {
  /** Whether each change is hinted at, whatever happens to the directories around it; else the looks everywhere find the rest. */
  readonly misses: 'nothing' | 'some';
}

const EDITS = 5_000;
/** How many seeds: five, and one where something may be missed anyway; `SEEDS=5` for all. */
const SEEDS = { nothing: 5, some: 1 } as const;

/** What a consumer knows that looks only where it is hinted at: type, inode and, of files, content. */
class Mirror {
  readonly root: ByteString;
  entries = new Map<ByteString, string>();
  hinted = new Set<ByteString>();
  #children = new Map<ByteString, Set<ByteString>>();

  constructor(root: ByteString) {
    this.root = root;
  }

  hint(dir: ByteString | undefined): void {
    if (dir !== undefined) this.hinted.add(dir);
    // What is below a directory that is not known is found with that directory.
    let known = dir ?? this.root;
    while (known !== this.root && !this.#children.has(known)) known = known.slice(0, known.lastIndexOf('/'));
    this.#list(known, dir === undefined);
  }

  #list(dir: ByteString, isDeep: boolean): void {
    const names = namesIn(dir);
    for (const name of this.#children.get(dir) ?? []) if (!names.has(name)) this.#forget(`${dir}/${name}`);
    this.#children.set(dir, names);
    for (const name of names) {
      const at = `${dir}/${name}`;
      const now = describeEntry(at);
      const before = this.entries.get(at);
      if (now === undefined || before !== now) this.#forget(at);
      if (now === undefined) continue;
      this.entries.set(at, now);
      if (now.startsWith('dir') && (isDeep || before !== now)) this.#list(at, true);
    }
  }

  #forget(at: ByteString): void {
    this.entries.delete(at);
    for (const name of this.#children.get(at) ?? []) this.#forget(`${at}/${name}`);
    this.#children.delete(at);
  }
}

function namesIn(dir: ByteString): Set<ByteString> {
  try {
    return new Set(fs.readdirSync(raw(dir), 'latin1'));
  } catch {
    return new Set();
  }
}

function describeEntry(at: ByteString): string | undefined {
  try {
    const stat = fs.lstatSync(raw(at));
    if (stat.isDirectory()) return `dir ${stat.ino}`;
    return stat.isFile() ? `file ${stat.ino} ${fs.readFileSync(raw(at), 'latin1')}` : 'other';
  } catch {
    return undefined;
  }
}

function truth(root: ByteString): Map<ByteString, string> {
  const mirror = new Mirror(root);
  mirror.hint(undefined);
  return mirror.entries;
}

function wrong(a: ReadonlyMap<ByteString, string>, b: ReadonlyMap<ByteString, string>): ByteString[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((at) => a.get(at) !== b.get(at));
}

/** Declares the suite. `open` is called before each test. */
export function describeWatch(
  open: (root: ByteString, ignored: ByteString) => WatchSubject,
  { misses }: Expected,
): void {
  let root: ByteString;
  let subject: WatchSubject;
  let mirror: Mirror;
  let everywhere: number;
  const errors: (Error | undefined)[] = [];

  beforeEach(() => {
    root = fs.mkdtempSync(`${tmpdir()}/watched-`);
    fs.mkdirSync(`${root}/own`);
    mirror = new Mirror(root);
    everywhere = 0;
    errors.length = 0;
  });
  afterEach(async () => {
    await subject?.watch.close();
    fs.rmSync(root, { recursive: true });
  });

  const start = async (): Promise<void> => {
    subject = open(root, `${root}/own`);
    subject.watch.start(
      (dir) => {
        if (dir === undefined) everywhere += 1;
        mirror.hint(dir);
      },
      (error) => errors.push(error),
    );
    await until('it asks for a look everywhere, once all is watched', () => everywhere > 0);
  };
  const hinted = async (dir: ByteString, edit: () => void): Promise<void> => {
    mirror.hinted.clear();
    edit();
    await until(`${dir} is hinted at`, () => mirror.hinted.has(`${root}${dir}`));
  };
  const write = (path: string): void => fs.writeFileSync(raw(`${root}${path}`), 'text\n');
  /** A directory in which nothing is hinted at although something is written there. */
  const deaf = async (limitMs?: number): Promise<ByteString[]> => {
    const dirs = [...truth(root)].filter(([at, what]) => what.startsWith('dir') && at !== `${root}/own`);
    mirror.hinted.clear();
    for (const [at] of dirs) fs.writeFileSync(raw(`${at}/.heard`), '');
    const left = (): ByteString[] => dirs.map(([at]) => at).filter((at) => !mirror.hinted.has(at));
    await until('all are heard', () => left().length === 0, limitMs).catch(() => undefined);
    return left();
  };

  it('hints at writes, at names that come and go, and at new modes', async () => {
    fs.mkdirSync(`${root}/d/e`, { recursive: true });
    write('/d/e/f');
    await start();
    await hinted('/d/e', () => write('/d/e/f'));
    await hinted('/d/e', () => fs.renameSync(`${root}/d/e/f`, `${root}/d/e/g`));
    await hinted('/d/e', () => fs.chmodSync(`${root}/d/e/g`, 0o600));
    await hinted('/d/e', () => fs.unlinkSync(`${root}/d/e/g`));
    await hinted('/d', () => fs.rmdirSync(`${root}/d/e`));
    await hinted('', () => fs.symlinkSync('nowhere', `${root}/link`));
    await hinted('', () => {
      fs.symlinkSync('elsewhere', `${root}/tmp`);
      fs.renameSync(`${root}/tmp`, `${root}/link`);
    });
  });

  it('hints at what is written in new and in moved directories', async () => {
    await start();
    fs.mkdirSync(`${root}/a/b`, { recursive: true });
    write('/a/b/f');
    await until('the file is found', () => mirror.entries.has(`${root}/a/b/f`));
    await until('the directory is heard', async () => !(await deaf(500)).some((at) => at.endsWith('/a/b')));
    fs.renameSync(`${root}/a`, `${root}/z`);
    await until(
      'the move is found',
      () => mirror.entries.has(`${root}/z/b/f`) && !mirror.entries.has(`${root}/a`),
    );
    if (misses === 'nothing') await hinted('/z/b', () => write('/z/b/g'));
  });

  it('says nothing of what is left out, nor of what a link leads to', async () => {
    const elsewhere = fs.mkdtempSync(`${tmpdir()}/elsewhere-`);
    try {
      fs.symlinkSync(elsewhere, `${root}/link`);
      await start();
      mirror.hinted.clear();
      write('/own/f');
      write('/link/f');
      await hinted('', () => write('/last'));
      expect([...mirror.hinted]).to.deep.equal([root]);
    } finally {
      fs.rmSync(elsewhere, { recursive: true });
    }
  });

  if (misses === 'nothing') {
    it('takes names of any bytes', async () => {
      fs.mkdirSync(raw(`${root}/\xff\xfe`));
      await start();
      await hinted('/\xff\xfe', () => write('/\xff\xfe/\xe9'));
    });
  }

  it('is closed for good', async () => {
    await start();
    await subject.watch.close();
    mirror.hinted.clear();
    write('/f');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([...mirror.hinted]).to.deep.equal([]);
  });

  describe(`${EDITS} edits by another process, directories moved and removed among them`, () => {
    for (let seed = 1; seed <= Number(process.env['SEEDS'] ?? SEEDS[misses]); seed += 1) {
      it(`seed ${seed}: ${misses === 'nothing' ? 'nothing is missed' : 'looks find the rest'}`, async function () {
        await start();
        const editor = spawn(process.execPath, ['-e', EDITOR, root, String(seed), String(EDITS)], {
          stdio: ['ignore', 'ignore', 'inherit'],
        });
        const [code] = (await once(editor, 'close')) as [number];
        expect(code).to.equal(0);
        const isRight = (): boolean => wrong(mirror.entries, truth(root)).length === 0;
        await until('hints alone are enough', isRight, misses === 'nothing' ? undefined : 500).catch(
          () => undefined,
        );
        const missed = wrong(mirror.entries, truth(root)).length;
        const unheard = (await deaf(misses === 'nothing' ? undefined : 500)).length;
        mirror.hint(undefined);
        expect(wrong(mirror.entries, truth(root)).length, 'after a look everywhere').to.equal(0);
        if (misses === 'nothing') {
          expect(missed, 'wrong by hints alone').to.equal(0);
          expect(unheard, 'directories that are not heard any more').to.equal(0);
          expect(errors).to.deep.equal([]);
        } else if (this.test !== undefined) {
          const of = truth(root).size;
          this.test.title += ` (${missed} of ${of} wrong by hints alone, ${unheard} directories not heard)`;
        }
      });
    }
  });

  it('when the queue of the kernel runs over, a look finds what was missed, and all is watched after a check', async () => {
    fs.mkdirSync(`${root}/busy`);
    await start();
    const limit = Number(fs.readFileSync('/proc/sys/fs/inotify/max_queued_events', 'latin1'));
    // Nothing of this process runs meanwhile: the queue fills.
    for (let n = 0; n <= limit; n += 1) fs.closeSync(fs.openSync(`${root}/busy/f${n % 2}`, 'w'));
    fs.mkdirSync(`${root}/late/below`, { recursive: true });
    write('/late/below/f');
    await until('the queue is read', async () => {
      mirror.hinted.clear();
      write('/probe');
      await new Promise((resolve) => setTimeout(resolve, 20));
      return mirror.hinted.has(root);
    });
    mirror.hint(undefined);
    expect(wrong(mirror.entries, truth(root))).to.deep.equal([]);
    if (subject.check === undefined) return;
    expect(await deaf(500)).to.include(`${root}/late/below`);
    subject.check();
    await until('all is heard', async () => (await deaf(500)).length === 0);
  });
}
