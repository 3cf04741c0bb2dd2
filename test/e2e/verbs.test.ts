/** The verbs for people on a real etcd: what they print, what they return, and what the volume has afterwards. */

import { expect } from 'chai';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeQuota } from '../../src/codec/counter.ts';
import { encodeKey, ROOT_INO } from '../../src/codec/key.ts';
import { CHUNK_SIZE } from '../../src/codec/slice.ts';
import { codeOf } from '../../src/agent/base/error.ts';
import { cat } from '../../src/agent/verbs/cat.ts';
import { format } from '../../src/agent/verbs/format.ts';
import { importDir } from '../../src/agent/verbs/import.ts';
import { ls } from '../../src/agent/verbs/ls.ts';
import { put } from '../../src/agent/verbs/put.ts';
import { rm } from '../../src/agent/verbs/rm.ts';
import { uuidKey } from '../../src/agent/volume/open-blocks.ts';
import { openVolume } from '../../src/agent/volume/volume.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Collected, verbContext, type TestContext } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';

/** The error that a promise rejects with; fails if it resolves. */
async function errorOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('it did not reject');
}

async function* once(...parts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part);
}

describe('the verbs', () => {
  let server: EtcdServer;
  let context: TestContext;
  let folder: string;
  let count = 0;

  before(async () => {
    server = await startEtcd();
  });
  after(async () => server?.stop());
  beforeEach(() => {
    count += 1;
    context = verbContext(server, `/volume-${count}`);
    folder = mkdtempSync(join(tmpdir(), 'verbs-'));
  });
  afterEach(async () => {
    await context.store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const formatted = (): Promise<number> => format(context, { name: `volume-${count}`, blockSizeKiB: 64 });

  /** Runs a verb with fresh outputs. */
  async function run(
    verb: (fresh: TestContext) => Promise<number>,
  ): Promise<{ code: number; out: string; err: string }> {
    const fresh = { ...context, out: new Collected(), err: new Collected() };
    const code = await verb(fresh);
    return { code, out: fresh.out.text, err: fresh.err.text };
  }

  describe('format', () => {
    it('makes a volume that opens, with the defaults', async () => {
      expect(await format(context, { name: `volume-${count}` })).to.equal(0);
      const { setting, writeRefusal } = await openVolume(context.store, context.address);
      expect(writeRefusal).to.equal(undefined);
      expect(setting).to.include({ name: `volume-${count}`, blockSize: 1024, trashDays: 1, dirStats: true });
      expect(context.out.text).to.equal(`Formatted the volume volume-${count} (${setting.uuid}).\n`);
      expect(await recount(context.store, context.address.prefix)).to.deep.equal([]);
    });

    it('leaves a volume alone that is there', async () => {
      await formatted();
      const { setting } = await openVolume(context.store, context.address);
      const error = await errorOf(format(context, { name: 'another-name' }));
      expect(codeOf(error)).to.equal('ERR_VOLUME');
      expect(error.message).to.equal('There is a volume at this address already: it was left as it is.');
      expect((await openVolume(context.store, context.address)).setting.uuid).to.equal(setting.uuid);
    });

    it('refuses a name whose objects another volume has', async () => {
      await formatted();
      const other = verbContext(server, '/other-path');
      try {
        const error = await errorOf(format(other, { name: `volume-${count}` }));
        expect(error.message).to.match(/There are objects below volume-\d+\/ in this etcd already/);
      } finally {
        await other.store.close();
      }
    });

    it('refuses an address with keys that are no volume', async () => {
      const key = `${context.address.prefix}AAA`;
      await context.store.commit({ compares: [], ops: [{ type: 'put', key, value: new Uint8Array(1) }] });
      const error = await errorOf(formatted());
      expect(error.message).to.match(/There are keys at this address that belong to no volume/);
    });

    for (const [blockSizeKiB, sentence] of [
      [4096, /Blocks of 4096 KiB do not fit into etcd/],
      [2048, /Blocks of 2048 KiB do not fit into etcd/],
      [32, /must be 64, 128, 256, 512 or 1024 KiB, not 32/],
      [100, /must be 64, 128, 256, 512 or 1024 KiB, not 100/],
    ] as const) {
      it(`refuses blocks of ${blockSizeKiB} KiB`, async () => {
        const error = await errorOf(format(context, { name: 'some-name', blockSizeKiB }));
        expect(codeOf(error)).to.equal('ERR_CONFIG');
        expect(error.message).to.match(sentence);
      });
    }

    for (const name of ['ab', 'Upper', '-dash', 'dash-', 'a/b', 'x'.repeat(64)]) {
      it(`refuses the name ${name}`, async () => {
        expect(codeOf(await errorOf(format(context, { name })))).to.equal('ERR_CONFIG');
      });
    }
  });

  describe('opening a volume', () => {
    it('says that there is none', async () => {
      const error = await errorOf(openVolume(context.store, context.address));
      expect(codeOf(error)).to.equal('ERR_VOLUME');
      expect(error.message).to.match(/There is no JuiceFS volume at this address/);
    });

    it('refuses what is no setting', async () => {
      const key = context.address.prefix + encodeKey({ kind: 'setting' });
      await context.store.commit({
        compares: [],
        ops: [{ type: 'put', key, value: Buffer.from('nonsense') }],
      });
      const error = await errorOf(openVolume(context.store, context.address));
      expect(error.message).to.match(/is no JuiceFS volume: setting: it is no JSON/);
    });

    it('refuses data that are in another etcd, and data of another volume', async () => {
      await formatted();
      const key = uuidKey(`volume-${count}`);
      await context.store.commit({ compares: [], ops: [{ type: 'delete', key }] });
      const elsewhere = await errorOf(openVolume(context.store, context.address));
      expect(elsewhere.message).to.match(
        /are neither in the etcd that holds its metadata nor in that of its setting/,
      );
      await context.store.commit({
        compares: [],
        ops: [{ type: 'put', key, value: Buffer.from('another') }],
      });
      const foreign = await errorOf(openVolume(context.store, context.address));
      expect(foreign.message).to.match(/belong to another volume called volume-/);
    });

    it('says whose quota has no room', async () => {
      await formatted();
      const key = context.address.prefix + encodeKey({ kind: 'dirQuota', ino: ROOT_INO });
      const value = encodeQuota({ maxSpace: 1n, maxInodes: 0n, usedSpace: 0n, usedInodes: 0n });
      await context.store.commit({ compares: [], ops: [{ type: 'put', key, value }] });
      expect(await put(context, { local: '-', path: 'f', stdin: once('x') })).to.equal(5);
      expect(context.err.text).to.equal(
        'put: /f: the quota of / has no room: 0 bytes of 1 bytes are used, and the push needs 4.0 KiB more\n',
      );
    });
  });

  describe('put, cat, ls and rm', () => {
    beforeEach(formatted);
    afterEach(async () => {
      expect(await recount(context.store, context.address.prefix)).to.deep.equal([]);
    });

    it('stores a local file and prints it again', async () => {
      const local = join(folder, 'page.html');
      const bytes = Buffer.alloc(200_000, 'etcd-etc-agent ');
      writeFileSync(local, bytes);
      chmodSync(local, 0o640);
      expect(await put(context, { local, path: '/www/site/' })).to.equal(0);
      const fresh = { ...context, out: new Collected() };
      expect(await cat(fresh, { path: 'www/site/page.html' })).to.equal(0);
      expect(fresh.out.bytes.equals(bytes)).to.equal(true);
      const { out } = await run((one) => ls(one, { path: 'www', recursive: true }));
      expect(
        out.split('\n').map((line) => line.replace(/ +\d+ +\d+ +\d+ +(\d+) \S+ \S+ /, ' $1 ')),
      ).to.deep.equal(['drwxr-xr-x 4096 site', '-rw-r----- 200000 site/page.html', '']);
    });

    it('stores a file of two chunks', async function () {
      const local = join(folder, 'large');
      const bytes = Buffer.alloc(
        CHUNK_SIZE + 100_000,
        'a pattern whose length is odd, so that no two blocks are equal',
      );
      writeFileSync(local, bytes);
      expect(await put(context, { local, path: 'large' })).to.equal(0);
      const fresh = { ...context, out: new Collected() };
      expect(await cat(fresh, { path: 'large' })).to.equal(0);
      expect(fresh.out.bytes.equals(bytes)).to.equal(true);
    });

    it('keeps the mode of a file that is there, and writes nothing when nothing changed', async () => {
      const local = join(folder, 'f');
      writeFileSync(local, 'one');
      chmodSync(local, 0o600);
      await put(context, { local, path: 'f' });
      await put(context, { local: '-', path: 'f', stdin: once('t', 'wo') });
      const { out } = await run((one) => ls(one, { json: true }));
      expect(JSON.parse(out)).to.include({ path: 'f', type: 'file', mode: '0600', size: 3, nlink: 1 });
      expect((await run((one) => cat(one, { path: 'f' }))).out).to.equal('two');
      const before = (await context.store.status()).revision;
      expect(await put(context, { local: '-', path: 'f', stdin: once('two') })).to.equal(0);
      expect((await context.store.status()).revision).to.equal(before);
    });

    it('says what cannot be put where', async () => {
      await put(context, { local: '-', path: 'd/f', stdin: once('x') });
      const toDirectory = await errorOf(put(context, { local: '-', path: 'd', stdin: once('x') }));
      expect(toDirectory.message).to.equal('What comes on stdin needs a file name, not a directory.');
      const missing = await errorOf(put(context, { local: join(folder, 'missing'), path: 'x' }));
      expect(codeOf(missing)).to.equal('ERR_LOCAL');
      expect(codeOf(await errorOf(put(context, { local: folder, path: 'x' })))).to.equal('ERR_CONFIG');
      expect(codeOf(await errorOf(put(context, { local: '-', path: '../x', stdin: once('x') })))).to.equal(
        'ERR_CONFIG',
      );
      const below = await run((one) => put(one, { local: '-', path: 'd/f/g', stdin: once('x') }));
      expect(below.code).to.equal(5);
      expect(below.err).to.equal('put: /d/f/g: a part of its path is no directory\n');
    });

    it('says what cannot be listed, printed or removed', async () => {
      await put(context, { local: '-', path: 'd/f', stdin: once('x') });
      const name = `volume-${count}`;
      expect(await run((one) => ls(one, { path: 'x' }))).to.deep.equal({
        code: 1,
        out: '',
        err: `ls: there is no /x in the volume ${name}\n`,
      });
      expect((await run((one) => cat(one, { path: 'd' }))).err).to.equal(
        'cat: /d is a directory, not a file\n',
      );
      expect((await run((one) => rm(one, { path: 'd' }))).err).to.equal(
        'rm: /d is a directory: say -r to remove it with all that is in it\n',
      );
      expect((await run((one) => rm(one, { path: 'x' }))).err).to.equal(
        `rm: there is no /x in the volume ${name}\n`,
      );
      expect(codeOf(await errorOf(rm(context, { path: '/' })))).to.equal('ERR_CONFIG');
      expect((await run((one) => ls(one, { path: 'd' }))).out).to.match(/ f\n$/);
    });

    it('removes a file and a tree', async () => {
      for (const path of ['a', 'd/f', 'd/e/g']) await put(context, { local: '-', path, stdin: once(path) });
      expect((await run((one) => rm(one, { path: 'a' }))).code).to.equal(0);
      expect((await run((one) => rm(one, { path: 'd', recursive: true }))).code).to.equal(0);
      expect((await run((one) => ls(one, {}))).out).to.equal('');
    });
  });

  describe('import', () => {
    beforeEach(async () => {
      await formatted();
      mkdirSync(join(folder, 'conf.d/empty'), { recursive: true });
      writeFileSync(join(folder, 'nginx.conf'), 'events {}\n');
      writeFileSync(Buffer.from(`${folder}/conf.d/\xff odd`, 'latin1'), '');
      symlinkSync('../nginx.conf', join(folder, 'conf.d/link'));
      chmodSync(join(folder, 'nginx.conf'), 0o640);
      utimesSync(join(folder, 'nginx.conf'), 1_600_000_000, 1_600_000_000);
    });
    afterEach(async () => {
      expect(await recount(context.store, context.address.prefix)).to.deep.equal([]);
    });

    const listed = async (path: string): Promise<string[]> => {
      const { out } = await run((one) => ls(one, { path, recursive: true, json: true }));
      return out
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .map(({ path: one, type, mode, target }) => [one, type, mode, target].filter(Boolean).join(' '))
        .sort();
    };

    it('copies files, directories and links with modes and times', async () => {
      const imported = await run((one) => importDir(one, { localDir: folder, path: 'etc/nginx' }));
      expect(imported).to.deep.equal({ code: 0, out: 'Imported 5 entries in 1 transaction.\n', err: '' });
      expect(await listed('')).to.deep.equal([
        'etc directory 0755',
        'etc/nginx directory 0755',
        'etc/nginx/conf.d directory 0755',
        'etc/nginx/conf.d/\\xff odd file 0644',
        'etc/nginx/conf.d/empty directory 0755',
        'etc/nginx/conf.d/link symlink 0777 ../nginx.conf',
        'etc/nginx/nginx.conf file 0640',
      ]);
      const { out } = await run((one) => ls(one, { path: 'etc/nginx/nginx.conf' }));
      expect(out).to.match(/ 10 2020-09-13 12:26:40 etc\/nginx\/nginx\.conf\n$/);
    });

    it('refuses a target that is not empty, and with force adds and replaces without deleting', async () => {
      await put(context, { local: '-', path: 'nginx.conf', stdin: once('old') });
      await put(context, { local: '-', path: 'other', stdin: once('stays') });
      await put(context, { local: '-', path: 'conf.d/empty', stdin: once('a file here') });
      const error = await errorOf(importDir(context, { localDir: folder }));
      expect(codeOf(error)).to.equal('ERR_VOLUME');
      expect(error.message).to.match(/^\/ is not empty: say --force/);
      const { code, err } = await run((one) => importDir(one, { localDir: folder, force: true }));
      expect(code).to.equal(5);
      expect(err).to.equal('import: /conf.d/empty is a file in the volume: it was left as it is\n');
      expect((await run((one) => cat(one, { path: 'nginx.conf' }))).out).to.equal('events {}\n');
      expect((await run((one) => cat(one, { path: 'other' }))).out).to.equal('stays');
      const again = await run((one) => importDir(one, { localDir: folder, force: true }));
      expect(again.out).to.equal('Imported 0 entries in 0 transactions.\n');
    });

    it('imports more than one transaction holds', async () => {
      for (let i = 0; i < 300; i += 1) writeFileSync(join(folder, `file-${i}`), `file ${i}\n`);
      const { code, out } = await run((one) => importDir(one, { localDir: folder, path: 'many' }));
      expect(code).to.equal(0);
      expect(out).to.match(/^Imported 305 entries in \d+ transactions?\.\n$/);
      expect(await listed('many')).to.have.length(305);
    });
  });
});
