/** etcd behind TLS that asks for client certificates: who is let in, and certificates that are replaced while it runs. */

import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { TlsAddress } from '../../src/codec/url.ts';
import { type EtcdServer, type TlsFiles, startEtcd } from '../support/etcd.ts';
import { openStore, putKey } from '../support/store.ts';
import { needTool, projectDir } from '../support/tools.ts';
import { followWatch } from '../support/watch-recorder.ts';

const CERTIFICATES = join(projectDir, 'test/fixtures/tls');

describe('an etcd behind TLS', () => {
  let folder: string;
  let files: TlsFiles;
  let server: EtcdServer;

  /** Puts the certificates of one authority in place. */
  const install = async (n: 1 | 2): Promise<void> => {
    await copyFile(join(CERTIFICATES, `ca${n}.pem`), files.ca);
    await copyFile(join(CERTIFICATES, `both${n}.pem`), files.cert);
    await copyFile(join(CERTIFICATES, `both${n}.key.pem`), files.key);
  };

  before(async function () {
    needTool(this, 'etcd');
    folder = await mkdtemp(join(tmpdir(), 'tls-'));
    files = { ca: join(folder, 'ca.pem'), cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
    await install(1);
    server = await startEtcd({ tls: files });
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) await rm(folder, { recursive: true });
  });

  const attempt = async (tls: Partial<TlsAddress>): Promise<unknown> => {
    const store = openStore(server.endpoint, {}, { tls: { insecureSkipVerify: false, ...tls } });
    const outcome = await store.status().catch((reason: unknown) => reason);
    await store.close();
    return outcome;
  };

  it('lets in who has a certificate of its authority', async () => {
    expect(await attempt(files)).to.have.property('version');
  });

  it('is not trusted under another authority, unless verification is off', async () => {
    const other = join(CERTIFICATES, 'ca2.pem');
    expect(await attempt({ ...files, ca: other })).to.have.property('code', 'ERR_AUTH');
    const unverified = await attempt({ ...files, ca: other, insecureSkipVerify: true });
    expect(unverified).to.have.property('version');
  });

  it('refuses who has no certificate, or one of another authority', async () => {
    expect(await attempt({ ca: files.ca })).to.have.property('code', 'ERR_AUTH');
    const foreign = { cert: join(CERTIFICATES, 'both2.pem'), key: join(CERTIFICATES, 'both2.key.pem') };
    expect(await attempt({ ca: files.ca, ...foreign })).to.have.property('code', 'ERR_AUTH');
  });

  it('needs files that can be read and used', async () => {
    const missing = join(folder, 'missing.pem');
    expect(await attempt({ ...files, cert: missing })).to.include({ code: 'ERR_AUTH', path: missing });
    expect(await attempt({ ...files, key: files.cert })).to.have.property('code', 'ERR_AUTH');
  });

  it('may get new certificates of a new authority: the store reads the files again and goes on', async () => {
    const store = openStore(server.endpoint, {}, { tls: { ...files, insecureSkipVerify: false } });
    const first = await putKey(store, 'A');
    const watch = followWatch(store, [{ start: 'A', end: 'B' }], first);
    await watch.until('the watch stands', () => watch.newest(0) === first);
    await server.kill();
    await install(2);
    await server.start();
    const second = await putKey(store, 'A');
    await watch.until('the watch goes on', () => watch.newest(0) === second);
    await watch.stop();
    await store.close();
  });
});
