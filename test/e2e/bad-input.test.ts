/** What the command says to input that it cannot use, and that it then leaves everything as it was. */

import { expect } from 'chai';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeKey } from '../../src/codec/key.ts';
import type { StoreOp } from '../../src/codec/kv.ts';
import { uuidKey } from '../../src/agent/volume.ts';
import { type Agent, publishedTree, runCommand, startAgent, type CommandResult } from '../support/agent.ts';
import { freePort, startEtcd, type EtcdServer } from '../support/etcd.ts';
import { file, TestVolume } from '../support/pushing.ts';
import { loadInto, writeKeys, type LoadedVolume } from '../support/raw-keys.ts';
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
      if (!existsSync('/dev/shm')) this.skip();
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
    const url = `etcd://127.0.0.1:${await freePort()}/volume`;
    const { stderr } = await refused(
      ['--once', '--timeout', '1s', url, dir],
      4,
      /nothing published within 1000 ms: /,
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
      await unusable(/The data of the volume volume-\d+ are not in the etcd that holds its metadata/);
    });

    it('refuses data of another volume', async () => {
      const value = Buffer.from('00000000-0000-0000-0000-000000000000');
      await writeKeys(volume.store, [{ type: 'put', key: uuidKey(`volume-${count}`), value }]);
      await unusable(/The data in this etcd belong to another volume called volume-\d+/);
    });

    it('refuses an encrypted volume', async () => {
      const loaded = await loadInto(etcd, 'encrypted');
      try {
        await unusable(/The volume pics cannot be read: .*encrypted/i, loaded.url);
      } finally {
        await loaded.remove();
      }
    });
  });

  describe('in what is not written yet', () => {
    const kinds: readonly [string, string, RegExp][] = [
      ['compressed', 'compress-lz4', /compress/i],
      ['with access control lists', 'acl', /ACL|access control/i],
      ['with quotas', 'quota', /quota|limit/i],
      ['with quotas of users', 'quota-users', /quota/i],
    ];
    for (const [what, fixture, reason] of kinds) {
      it(`pulls a volume ${what}, parks local edits and undoes them`, async () => {
        const loaded: LoadedVolume = await loadInto(etcd, fixture);
        try {
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
    }
  });
});
