/** Volumes whose blocks are compressed, encrypted, in another etcd or spread over several: we and the real client read each other. */

import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { DataOptions } from '../../src/agent/volume/open-blocks.ts';
import { cat } from '../../src/agent/verbs/cat.ts';
import { format, type FormatOptions } from '../../src/agent/verbs/format.ts';
import { importDir } from '../../src/agent/verbs/import.ts';
import { put } from '../../src/agent/verbs/put.ts';
import { rm } from '../../src/agent/verbs/rm.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import { freePort, startEtcd, type EtcdServer } from '../support/etcd.ts';
import { FIXTURE_PASSPHRASE } from '../support/fixture.ts';
import { Juicefs } from '../support/juicefs.ts';
import { Collected, type TestContext } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';

/** Test keys of the fixtures: PKCS#8 and the traditional form. */
const keyFile = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/${name}.key.pem`, import.meta.url));
const PKCS8 = keyFile('encrypted');
const TRADITIONAL = keyFile('encrypted-chacha20');

/** What compresses well, what does not, and what is several blocks long. */
const CONTENTS: Readonly<Record<string, Buffer>> = {
  'one-byte': Buffer.from('x'),
  conf: Buffer.from('server { listen 80; }\n'.repeat(50)),
  text: Buffer.from('upstream app { server 10.0.0.1; }\n'.repeat(10_000)),
  noise: noise(200_000),
  zeros: Buffer.alloc(150_000),
  large: Buffer.concat([noise(1_500_000), Buffer.alloc(700_000), noise(900_001)]),
};

function noise(length: number): Buffer {
  const parts: Buffer[] = [];
  for (let n = 0; n * 32 < length; n += 1) parts.push(createHash('sha256').update(`${length} ${n}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

interface Kind {
  readonly what: string;
  /** Options of the real client's format. */
  readonly real?: readonly string[];
  /** Options of our own. */
  readonly ours?: Omit<FormatOptions, 'name'>;
  readonly where?: 'elsewhere' | 'sharded';
  /** Bytes of the largest file that the real client can write. */
  readonly upTo?: number;
}

const KINDS: readonly Kind[] = [
  { what: 'lz4', real: ['--compress', 'lz4'] },
  { what: 'zstd, hash prefix', real: ['--compress', 'zstd', '--hash-prefix', '--trash-days', '0'] },
  { what: 'encrypted', real: ['--encrypt-rsa-key', PKCS8] },
  {
    what: 'encrypted and compressed, elsewhere',
    real: ['--encrypt-rsa-key', TRADITIONAL, '--encrypt-algo', 'chacha20-rsa', '--compress', 'zstd'],
    where: 'elsewhere',
  },
  // The real client fails with EIO where a file needs a block above 1.5 MiB (layout 15).
  { what: 'blocks of 4 MiB', real: ['--block-size', '4096'], upTo: 1_500_000 },
  { what: 'two shards', real: ['--shards', '2'], where: 'sharded' },
  { what: 'lz4, hash prefix', ours: { compression: 'lz4', hashPrefix: true } },
  { what: 'zstd, elsewhere', ours: { compression: 'zstd', trashDays: 0 }, where: 'elsewhere' },
  { what: 'encrypted', ours: { encryptKey: readFileSync(PKCS8, 'utf8') } },
  {
    what: 'encrypted and compressed',
    ours: {
      encryptKey: readFileSync(TRADITIONAL, 'utf8'),
      encryptAlgo: 'chacha20-rsa',
      compression: 'lz4',
      blockSizeKiB: 64,
    },
  },
];

describe('packed and scattered blocks', function () {
  this.timeout(120_000);
  const servers: EtcdServer[] = [];
  let juicefs: Juicefs;
  let shards = '';
  let folder: string;
  let count = 0;

  before(async function () {
    juicefs = new Juicefs(this, { JFS_RSA_PASSPHRASE: FIXTURE_PASSPHRASE });
    needFuse(this);
    const port = await freePort();
    servers.push(await startEtcd());
    for (const host of ['127.0.0.10', '127.0.0.11'])
      servers.push(await startEtcd({ alsoAt: { host, port } }));
    shards = `127.0.0.1%d:${port}`;
    folder = mkdtempSync(join(tmpdir(), 'data-'));
    mkdirSync(join(folder, 'tree/below'), { recursive: true });
    for (const [name, content] of Object.entries(CONTENTS)) {
      writeFileSync(join(folder, 'tree', name), content);
      writeFileSync(join(folder, 'tree/below', name), content);
    }
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.stop()));
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  for (const { what, real, ours, where, upTo = Infinity } of KINDS) {
    const theirs = Object.entries(CONTENTS).filter(([, { length }]) => length <= upTo);

    describe(`${what}, formatted by ${real === undefined ? 'us' : 'the real client'}`, () => {
      let url: string;
      let context: TestContext;
      let data: DataOptions;

      before(async () => {
        count += 1;
        const name = `data-${count}`;
        const [here, there] = servers.map(({ endpoint: { host, port } }) => `${host}:${port}`);
        const bucket = where === 'sharded' ? shards : where === 'elsewhere' ? there : here;
        url = `${servers[0]?.url}/${name}`;
        data = { passphrase: FIXTURE_PASSPHRASE };
        const address = parseMetaUrl(url);
        context = {
          store: etcdStore(address, systemClock),
          ...{ address, data, clock: systemClock, out: new Collected(), err: new Collected() },
        };
        if (real !== undefined) {
          await juicefs.format(url, name, bucket ?? '', ['--block-size', '256', ...real]);
        } else {
          const elsewhere = where === undefined ? {} : { bucket: bucket ?? '' };
          await format({ ...context, data: { ...data, ...elsewhere } }, { name, ...ours });
        }
      });
      after(async () => context?.store.close());

      async function read(path: string): Promise<Buffer> {
        const out = new Collected();
        expect(await cat({ ...context, out }, { path })).to.equal(0);
        return out.bytes;
      }

      it('the mount reads what we stored', async () => {
        const imported = await importDir(context, {
          localDir: Buffer.from(join(folder, 'tree')).toString('latin1'),
        });
        expect(imported, context.err.text).to.equal(0);
        const local = join(folder, 'tree/text');
        expect(await put(context, { local, path: 'conf' })).to.equal(0);
        expect(await rm(context, { path: 'below/noise' })).to.equal(0);
        const mount = await juicefs.mount(url);
        try {
          for (const [name, content] of Object.entries(CONTENTS)) {
            const expected = name === 'conf' ? CONTENTS['text'] : content;
            expect(readFileSync(join(mount.dir, name)).equals(expected ?? content), name).to.equal(true);
            if (name === 'noise') continue;
            expect(readFileSync(join(mount.dir, 'below', name)).equals(content), `below/${name}`).to.equal(
              true,
            );
          }
          // The other way round, before it goes.
          for (const [name, content] of theirs) writeFileSync(join(mount.dir, `theirs-${name}`), content);
          writeFileSync(join(mount.dir, 'large'), 'short now');
        } finally {
          await mount.close();
        }
      });

      it('we read what the mount stored', async () => {
        for (const [name, content] of theirs)
          expect((await read(`theirs-${name}`)).equals(content), name).to.equal(true);
        expect((await read('large')).toString()).to.equal('short now');
        expect((await read('below/large')).equals(CONTENTS['large'] ?? Buffer.alloc(0))).to.equal(true);
      });

      it('is whole for fsck, gc and a recount', async () => {
        await juicefs.fsck(url);
        const { leaked, pending } = await juicefs.gc(url);
        expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
        expect(await recount(context.store, context.address.prefix, data)).to.deep.equal([]);
      });
    });
  }
});
