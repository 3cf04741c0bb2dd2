/** What the command says to input that it cannot use, and that it then leaves everything as it was. */

import { expect } from 'chai';
import {
  existsSync,
  lstatSync,
  readlinkSync,
  symlinkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blockKey } from '../../src/codec/block.ts';
import { encodeKey, ROOT_INO } from '../../src/codec/key.ts';
import type { StoreEvent, StoreOp } from '../../src/codec/kv.ts';
import { uuidKey } from '../../src/agent/volume/open-blocks.ts';
import { type Agent, publishedTree, runCommand, startAgent, type CommandResult } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { make, put, putAttr, putChunk, putDentry } from '../support/meta.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { asOps, loadInto, writeKeys, type LoadedVolume } from '../support/raw-keys.ts';
import { textOf } from '../support/reading.ts';
import { namesOnDisk, storeRevision } from '../support/stillness.ts';

describe('bad input', () => {
  let etcd: EtcdServer;
  let folder: string;
  let dir: string;
  const running: Agent[] = [];

  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => etcd?.stop());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'bad-input-'));
    dir = join(folder, 'served');
    mkdirSync(dir);
    writeFileSync(join(folder, 'file'), 'a file\n');
    writeFileSync(join(dir, 'local'), 'of the application\n');
  });
  afterEach(async () => {
    for (const agent of running.splice(0)) await agent.kill();
    rmSync(folder, { recursive: true });
  });

  /**
   * Everything below the folder, but the times of DIR, in which a state directory may have been for a moment, and the
   * inside of one that stays.
   */
  const onDisk = (): unknown => {
    const names = Object.entries(namesOnDisk(folder)).filter(
      ([name]) => name !== 'served' && !name.startsWith('served/..etcd-etc-agent'),
    );
    return { names, top: readdirSync(dir).sort(), content: readFileSync(join(dir, 'local'), 'utf8') };
  };

  /** Runs the command and expects it to end with one line, and the disk to be as before. */
  async function refused(
    args: readonly string[],
    code: number,
    sentence: RegExp,
    env: Readonly<Record<string, string>> = {},
  ): Promise<CommandResult> {
    const before = onDisk();
    const result = await runCommand(args, env);
    expect(result.sentence).to.match(sentence);
    expect(result.sentence).to.match(/^etcd-etc-agent: /);
    expect(result.code, result.stderr).to.equal(code);
    expect(result.stdout).to.equal('');
    expect(onDisk()).to.deep.equal(before);
    return result;
  }

  describe('in the command line', () => {
    const url = 'etcd://127.0.0.1:1/volume';
    const refusals: readonly [string, (dir: string) => readonly string[], RegExp][] = [
      ['no META-URL', () => [], /META-URL is missing/],
      ['no DIR', () => [url], /DIR is missing/],
      ['a third argument', (at) => [url, at, 'third'], /one argument too many: third/],
      ['an unknown option', (at) => ['--nonsense', url, at], /nonsense/],
      ['an unknown verb', (at) => ['publish', url, at], /publish is neither a verb nor an address/],
      [
        '--once with --watch',
        (at) => ['--once', '--watch', url, at],
        /--once and --watch exclude each other/,
      ],
      [
        'a duration that is none',
        (at) => ['--timeout', '2 parsecs', url, at],
        /--timeout takes a time such as/,
      ],
      ['a negative duration', (at) => ['--rescan=-1s', url, at], /--rescan takes a time such as/],
      [
        'a percentage that is none',
        (at) => ['--max-delete', 'half', url, at],
        /--max-delete takes a percentage/,
      ],
      ['an unknown mode', (at) => ['--mode', 'push', url, at], /--mode is one of two-way, pull, not "push"/],
      [
        'an address of another engine',
        (at) => ['redis://127.0.0.1/1', at],
        /redis:\/\/127\.0\.0\.1\/1: .*etcd:/,
      ],
      ['an address without a host', (at) => ['etcd:///volume', at], /etcd:\/\/\/volume: .*no host/],
      [
        'a port that is none',
        (at) => ['etcd://127.0.0.1:port/volume', at],
        /127\.0\.0\.1:port\/volume: .*host:port/,
      ],
      [
        'DIR that is missing',
        (at) => [url, join(at, 'missing')],
        /served\/missing: .*does not exist: make it/,
      ],
      ['DIR that is a file', (at) => [url, join(at, '../file')], /\/file: this is no directory/],
      ['a verb without its arguments', () => ['format', url], /etcd-etc-agent format META-URL NAME/],
      ['an unknown option of a verb', () => ['ls', '--nonsense', url], /nonsense/],
    ];
    for (const [what, args, sentence] of refusals) {
      it(`refuses ${what}`, async () => {
        const { stderr } = await refused(args(dir), 2, sentence);
        expect(stderr.trimEnd().split('\n'), 'one line').to.have.length(1);
      });
    }

    it('refuses a variable that is neither true nor false', async () => {
      await refused([url, dir], 2, /ETCD_ETC_AGENT_STRICT is true or false, not "perhaps"/, {
        ETCD_ETC_AGENT_STRICT: 'perhaps',
      });
    });

    it('does not print a password', async () => {
      const { stderr } = await refused(['etcd://user:secret@127.0.0.1:port/volume', dir], 2, /user:\*+@/);
      expect(stderr).not.to.include('secret');
    });

    it('refuses a state directory in another mount', async function () {
      if (!existsSync('/dev/shm')) {
        console.error('\n  !!! skipped: there is no /dev/shm, and so no other mount');
        this.skip();
      }
      const elsewhere = mkdtempSync('/dev/shm/bad-input-');
      try {
        await refused(
          ['--state-dir', join(elsewhere, 'state'), url, dir],
          2,
          /must be in the same mount as DIR/,
        );
        expect(readdirSync(elsewhere)).to.deep.equal([]);
      } finally {
        rmSync(elsewhere, { recursive: true });
      }
    });

    it('refuses a directory that another agent serves, which goes on', async () => {
      const volume = await TestVolume.format(etcd, { name: 'served-twice', blockSizeKiB: 64 });
      try {
        const agent = await startAgent(volume.url, dir, ['--adopt']);
        running.push(agent);
        for (const how of ['--once', '--watch'])
          await refused(
            [how, volume.url, dir],
            2,
            /another agent serves this directory already: stop it first/,
          );
        await volume.push(volume.make('later', file('later\n')));
        await agent.until('the first one follows', () => existsSync(join(dir, 'later')));
      } finally {
        await volume.store.close();
      }
    });

    it('refuses a directory that serves another volume or subdirectory', async () => {
      const first = await TestVolume.format(etcd, { name: 'first-one', blockSizeKiB: 64 });
      const other = await TestVolume.format(etcd, { name: 'other-one', blockSizeKiB: 64 });
      try {
        await first.push(first.make('page', file('of the first\n')));
        await other.push(other.make('page', file('of the other\n')));
        expect((await runCommand([first.url, dir])).code).to.equal(0);
        const revision = await storeRevision(first.store);
        const before = publishedTree(dir);
        for (const how of ['--once', '--watch']) {
          for (const args of [[other.url], ['--subdir', 'page', first.url]]) {
            await refused(
              [how, ...args, dir],
              2,
              /served: this directory holds another volume or subdirectory/,
            );
          }
        }
        expect(publishedTree(dir)).to.deep.equal(before);
        expect(await storeRevision(first.store)).to.equal(revision);
      } finally {
        await first.store.close();
        await other.store.close();
      }
    });
  });

  it('gives up after --timeout when etcd does not answer, with nothing published', async () => {
    // Nobody listens there, now or later.
    const { stderr } = await refused(
      ['--once', '--timeout', '5s', 'etcd://127.0.0.1:1/volume', dir],
      4,
      /nothing published within 5000 ms: /,
    );
    expect(stderr).to.match(/store not usable/);
  });

  describe('in what is a volume at all', () => {
    let volume: TestVolume;
    let count = 0;

    beforeEach(async () => {
      volume = await TestVolume.format(etcd, { name: `volume-${(count += 1)}`, blockSizeKiB: 64 });
      await volume.push(volume.make('page', file('page\n')));
    });
    afterEach(async () => volume.store.close());

    const settingKey = (): string => volume.address.prefix + encodeKey({ kind: 'setting' });
    const setting = async (): Promise<Record<string, unknown>> => {
      const { kvs } = await volume.store.get([settingKey()]);
      return JSON.parse(Buffer.from(kvs[0]!.value).toString()) as Record<string, unknown>;
    };
    const putSetting = (value: unknown): StoreOp => ({
      type: 'put',
      key: settingKey(),
      value: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
    });

    /** Both ways of running it and a verb are refused, and nothing is written. */
    async function unusable(sentence: RegExp, url = volume.url): Promise<void> {
      const revision = await storeRevision(volume.store);
      for (const args of [
        ['--once', url, dir],
        ['--watch', url, dir],
        ['rm', url, 'page'],
      ])
        await refused(args, 3, sentence);
      expect(await storeRevision(volume.store)).to.equal(revision);
    }

    it('refuses an address without a volume', async () => {
      await unusable(
        /There is no JuiceFS volume at this address: check host and path/,
        `${etcd.url}/nothing`,
      );
    });

    it('refuses a setting that is none', async () => {
      await writeKeys(volume.store, [putSetting('nonsense')]);
      await unusable(/What is stored at this address is no JuiceFS volume: .*JSON/);
    });

    it('refuses a metadata version that it does not know', async () => {
      await writeKeys(volume.store, [putSetting({ ...(await setting()), MetaVersion: 99 })]);
      await unusable(/The volume volume-\d+ cannot be read: The metadata version is 99/);
    });

    it('refuses data that are not in this etcd', async () => {
      await writeKeys(volume.store, [{ type: 'delete', key: uuidKey(`volume-${count}`) }]);
      await unusable(/The data of the volume volume-\d+ are neither in the etcd that holds its metadata nor/);
    });

    it('refuses data of another volume', async () => {
      const value = Buffer.from('00000000-0000-0000-0000-000000000000');
      await writeKeys(volume.store, [{ type: 'put', key: uuidKey(`volume-${count}`), value }]);
      await unusable(/The data at [\d.:]+ belong to another volume called volume-\d+/);
    });

    it('refuses an encrypted volume without its passphrase', async () => {
      const loaded = await loadInto(etcd, 'encrypted');
      try {
        await unusable(/The blocks are encrypted: give the passphrase .* JFS_RSA_PASSPHRASE/, loaded.url);
      } finally {
        await loaded.remove();
      }
    });
  });

  describe('in what is not written', () => {
    it('pulls a volume that Ranger guards, parks local edits and undoes them', async () => {
      const reason = /Ranger/;
      const loaded: LoadedVolume = await loadInto(etcd, 'nginx-basic');
      const key = loaded.prefix + encodeKey({ kind: 'setting' });
      try {
        const { kvs } = await loaded.store.get([key]);
        const setting = JSON.parse(Buffer.from(kvs[0]?.value ?? []).toString()) as object;
        const value = Buffer.from(JSON.stringify({ ...setting, RangerRestUrl: 'https://ranger' }));
        await writeKeys(loaded.store, [{ type: 'put', key, value }]);
        rmSync(join(dir, 'local'));
        const agent = await startAgent(loaded.url, dir, ['--keep', '1s']);
        running.push(agent);
        const { problems } = await agent.until('it says why', (status) => '' in status.problems);
        expect(problems['']).to.match(reason);
        expect(agent.stderr).to.match(reason);
        const before = publishedTree(dir);
        const path = Object.keys(before).find(
          (one) => before[one]?.startsWith('file 0644') && !one.includes('/'),
        );
        const revision = await storeRevision(loaded.store);
        writeFileSync(join(dir, '..data', path ?? 'none'), 'an edit\n');
        writeFileSync(join(dir, 'new'), 'something new\n');
        await agent.until('both are parked', ({ parked }) => parked.length === 2);
        await agent.until('both are undone', () => {
          return (
            JSON.stringify(publishedTree(dir)) === JSON.stringify(before) && !existsSync(join(dir, 'new'))
          );
        });
        const parked = join(dir, '..etcd-etc-agent/parked');
        const contents = readdirSync(parked).map((name) => readFileSync(join(parked, name), 'utf8'));
        expect(contents.sort()).to.deep.equal(['an edit\n', 'something new\n']);
        expect(await agent.stop()).to.equal(0);
        expect(await storeRevision(loaded.store)).to.equal(revision);
      } finally {
        await loaded.remove();
      }
    });
  });

  describe('inside a volume', () => {
    let volume: TestVolume;
    let sentinel: Readonly<Record<string, string>>;
    let count = 0;

    beforeEach(async () => {
      rmSync(join(dir, 'local'));
      mkdirSync(join(folder, 'outside/deep'), { recursive: true });
      for (const name of ['b', 'f', 'old', 'deep/f'])
        writeFileSync(join(folder, 'outside', name), 'outside\n');
      sentinel = outside();
      volume = await TestVolume.format(etcd, { name: `broken-${(count += 1)}`, blockSizeKiB: 64 });
    });
    afterEach(async () => {
      await volume.store.close();
      expect(outside(), 'what is outside of DIR').to.deep.equal(sentinel);
    });

    function outside(): Record<string, string> {
      const names = Object.entries(namesOnDisk(folder));
      return Object.fromEntries(names.filter(([name]) => name !== 'served' && !name.startsWith('served/')));
    }

    const broken = async (...events: readonly StoreEvent[]): Promise<void> =>
      writeKeys(volume.store, asOps(volume.address.prefix, events));
    const ino = (path: string): bigint => volume.at(path).ino;
    const block = (id: bigint, value: string): StoreOp => ({
      type: 'put',
      key: blockKey(volume.volume.blocks, id, 0, 10),
      value: Buffer.from(value),
    });
    /** A file of ten bytes whose block is another or missing. */
    const withSlice = (path: string, id: bigint): StoreEvent[] => [
      putChunk(ino(path), 0, [{ pos: 0, id, size: 10, off: 0, len: 10 }]),
      putAttr(ino(path), 'file', { length: 10n, mtimeNs: 1n }),
    ];

    /** What breaks a good volume, with the problem that has to be told of each path. */
    function breakages(): readonly { path: string; problem: RegExp; events: readonly StoreEvent[] }[] {
      const garbage = new Uint8Array(5);
      const key = (path: string) => ({ kind: 'attr', ino: ino(path) }) as const;
      const dentry = (name: string) => ({ kind: 'dentry', parent: ROOT_INO, name }) as const;
      return [
        {
          path: 'chunk',
          problem: /25 bytes are no whole number of slice records/,
          events: [put({ kind: 'chunk', ino: ino('chunk'), index: 0 }, new Uint8Array(25))],
        },
        {
          path: 'length',
          problem: /block broken-\S+_0_10: .*10 bytes wanted, 3 found/,
          events: withSlice('length', 900_001n),
        },
        { path: 'block', problem: /a block is missing/, events: withSlice('block', 900_002n) },
        { path: 'attr', problem: /attr/, events: [put(key('attr'), garbage)] },
        { path: 'dir', problem: /attr/, events: [put(key('dir'), garbage)] },
        { path: 'dentry', problem: /dentry/, events: [put(dentry('dentry'), garbage)] },
        {
          path: 'nowhere',
          problem: /leads to inode 987654, which does not exist/,
          events: [putDentry(ROOT_INO, 'nowhere', 987_654n, 'file')],
        },
        {
          path: 'loop/inner/again',
          problem: /lies inside itself/,
          events: [putDentry(ino('loop/inner'), 'again', ino('loop'), 'directory')],
        },
        {
          path: 'root-again',
          problem: /lies inside itself/,
          events: [putDentry(ROOT_INO, 'root-again', ROOT_INO, 'directory')],
        },
        {
          path: 'reserved',
          problem: /no part of the tree/,
          events: [putDentry(ROOT_INO, 'reserved', 0x7fffffff10000000n, 'directory')],
        },
        {
          path: 'socket',
          problem: /a socket is not shown/,
          events: make(ROOT_INO, 'socket', 5_000n, 'socket'),
        },
        {
          path: 'no-target',
          problem: /has no target/,
          events: make(ROOT_INO, 'no-target', 5_001n, 'symlink'),
        },
        ...(
          [
            ['a/b', 'a\\x00sb', /has a slash: a\/b/],
            ['../outside/b', '..\\x00soutside\\x00sb', /has a slash: \.\.\/outside\/b/],
            ['..', '..', /the name is \.\./],
            ['.', '.', /the name is \./],
            ['nul\0name', 'nul\\x000name', /NUL/],
            ['x'.repeat(256), 'x'.repeat(256), /256 bytes/],
            ['..data', '..data', /the agent itself uses/],
            ['..a', '..a', /the agent itself uses/],
            ['..etcd-etc-agent', '..etcd-etc-agent', /the agent itself uses/],
          ] as const
        ).map(([name, path, problem], index) => ({
          path,
          problem,
          events: make(ROOT_INO, name, BigInt(6_000 + index), 'file'),
        })),
      ];
    }

    const GOOD = ['good', 'chunk', 'length', 'block', 'attr', 'dentry', 'nowhere', 'socket'];

    async function fill(): Promise<void> {
      for (const path of ['dir', 'loop', 'loop/inner']) await volume.push(volume.make(path, directory()));
      const files = [...GOOD, 'dir/a', 'dir/b', 'loop/f', 'loop/..data'];
      await volume.push(...files.map((path) => volume.make(path, file(`${path}, good\n`))));
    }

    it('is published but for what is broken, which keeps its last good content', async () => {
      await fill();
      const agent = await startAgent(volume.url, dir, ['--hold-max', '300ms']);
      running.push(agent);
      const before = publishedTree(dir);
      const cases = breakages();
      await writeKeys(volume.store, [block(900_001n, 'sho')]);
      await broken(...cases.flatMap(({ events }) => events));
      await volume.push(volume.make('later', file('later\n')), volume.edit('good', file('edited\n')));
      await agent.until('the rest is published', () => existsSync(join(dir, 'later')));
      const { problems } = await agent.until('all problems are told', (status) => {
        return Object.keys(status.problems).length >= cases.length;
      });
      expect(Object.keys(problems).sort()).to.deep.equal(cases.map(({ path }) => path).sort());
      for (const { path, problem } of cases) {
        expect(problems[path], path).to.match(problem);
        expect(agent.stderr, path).to.include(path);
      }
      const { socket, ...rest } = before;
      expect(socket).to.match(/^file/);
      const now = publishedTree(dir);
      expect({ ...now, good: '', later: '' }).to.deep.equal({ ...rest, good: '', later: '' });
      expect(readFileSync(join(dir, 'good'), 'utf8')).to.equal('edited\n');
      const shown = await runCommand(['status', dir]);
      for (const { path } of cases) expect(shown.stdout).to.include(`problem     ${path}: `);
      expect(await agent.stop()).to.equal(0);

      // A new start does not know what was good when it lists, but what it served: nothing of it goes.
      const again = await startAgent(volume.url, dir, ['--hold-max', '300ms']);
      running.push(again);
      await again.until('all problems are told again', (status) => {
        return Object.keys(status.problems).length >= cases.length;
      });
      expect(publishedTree(dir)).to.deep.equal(now);
    });

    it('is published by --once, and --strict ends with 5', async () => {
      await fill();
      const cases = breakages();
      await writeKeys(volume.store, [block(900_001n, 'sho')]);
      await broken(...cases.flatMap(({ events }) => events));
      const once = ['--once', '--timeout', '20s', '--hold-max', '300ms'];
      const first = await runCommand([...once, volume.url, dir]);
      expect(first.code, first.stderr).to.equal(0);
      expect(first.sentence).to.match(
        new RegExp(`published revision \\d+ with ${cases.length} problems, the first: \\S+: .`),
      );
      for (const { path } of cases) expect(first.stderr).to.include(path);
      expect(Object.keys(publishedTree(dir)).sort()).to.deep.equal(
        ['good', 'loop', 'loop/..data', 'loop/f', 'loop/inner'].sort(),
      );
      const strict = await runCommand([...once, '--strict', volume.url, dir]);
      expect(strict.code, strict.stderr).to.equal(5);
      expect(strict.sentence).to.match(/with \d+ problems/);
    });

    it('leads out by symlinks that nobody follows', async () => {
      const target = join(folder, 'outside');
      await volume.push(
        volume.make('up', symlink('../outside')),
        volume.make('absolute', symlink(target)),
        volume.make('d', directory()),
        volume.make('d/up', symlink('../../outside/deep')),
        ...['1', '2', '3', '4'].map((name) => volume.make(name, file(name))),
      );
      const agent = await startAgent(volume.url, dir);
      running.push(agent);
      expect(publishedTree(dir)).to.include({ up: 'symlink ../outside', absolute: `symlink ${target}` });
      // What was a link becomes a directory with the same names below it, and goes again.
      for (const path of ['up', 'absolute', 'd/up']) {
        await volume.push(volume.remove(path));
        await volume.push(volume.make(path, directory()));
        await volume.push(volume.make(`${path}/f`, file('inside\n')));
      }
      const contents = (): (string | undefined)[] =>
        ['up', 'absolute', 'd/up'].map((path) => {
          const at = join(dir, '..data', path);
          const isDirectory = lstatSync(at, { throwIfNoEntry: false })?.isDirectory() === true;
          return isDirectory ? textOf(join(at, 'f')) : undefined;
        });
      await agent.until('they are directories', () => contents().every((text) => text === 'inside\n'));
      for (const path of ['up', 'absolute', 'd/up']) {
        await volume.push(volume.remove(`${path}/f`));
        await volume.push(volume.remove(path));
        await volume.push(volume.make(path, symlink(target)));
      }
      await agent.until('they are links', () => {
        return ['up', 'absolute', 'd/up'].every((path) => publishedTree(dir)[path] === `symlink ${target}`);
      });
    });

    for (const tree of ['..data', 'the other tree'] as const) {
      it(`changes below a directory that somebody made a symlink in ${tree}`, async () => {
        await volume.push(volume.make('conf', directory()), volume.make('conf/d', directory()));
        const names = ['f', 'old', 'deep'];
        await volume.push(
          ...names.map((name) =>
            volume.make(`conf/d/${name}`, name === 'deep' ? directory() : file('one\n')),
          ),
        );
        await volume.push(
          volume.make('conf/d/deep/f', file('one\n')),
          volume.make('conf/other', file('one\n')),
        );
        const agent = await startAgent(volume.url, dir);
        running.push(agent);
        process.kill(agent.pid, 'SIGSTOP');
        try {
          const active = readlinkSync(join(dir, '..data'));
          const other = active === '..a' ? '..b' : '..a';
          const at = join(dir, tree === '..data' ? active : other, 'conf/d');
          rmSync(at, { recursive: true });
          symlinkSync(join(folder, 'outside'), at);
          await volume.push(
            volume.edit('conf/d/f', file('two\n')),
            volume.edit('conf/d/deep/f', file('two\n')),
            volume.make('conf/d/b', file('two\n')),
            volume.edit('conf/other', file('two\n')),
          );
          await volume.push(volume.remove('conf/d/old'));
        } finally {
          process.kill(agent.pid, 'SIGCONT');
        }
        const wanted = {
          'conf/d/f': 'two\n',
          'conf/d/deep/f': 'two\n',
          'conf/d/b': 'two\n',
          'conf/other': 'two\n',
        };
        await agent.until('the change is published', ({ pendingEdits }) => {
          const real =
            lstatSync(join(dir, '..data/conf/d'), { throwIfNoEntry: false })?.isDirectory() === true;
          if (!real || pendingEdits > 0) return false;
          return Object.entries(wanted).every(([path, text]) => textOf(join(dir, path)) === text);
        });
        expect(existsSync(join(dir, 'conf/d/old'))).to.equal(false);
      });
    }
  });
});
