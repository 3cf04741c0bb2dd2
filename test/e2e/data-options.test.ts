/** The command on volumes whose data need a passphrase, another etcd, a user of it: what it is told where, and what it says. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { Etcd3 } from 'etcd3';
import { runCommand } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { FIXTURE_PASSPHRASE } from '../support/fixture.ts';

const KEY_FILE = fileURLToPath(new URL('../fixtures/encrypted.key.pem', import.meta.url));
const ACCESS = { ACCESS_KEY: 'blocks', SECRET_KEY: 'p@ss:/word' };

describe('where the data are, and how they open', function () {
  this.timeout(120_000);
  let metadata: EtcdServer;
  let data: EtcdServer;
  let admin: Etcd3;
  let folder: string;

  before(async () => {
    metadata = await startEtcd();
    data = await startEtcd({ args: ['--bcrypt-cost', '4'] });
    folder = mkdtempSync(join(tmpdir(), 'data-options-'));
    writeFileSync(join(folder, 'passphrase'), `${FIXTURE_PASSPHRASE}\n`);
    writeFileSync(join(folder, 'text'), 'a secret text\n');
    mkdirSync(join(folder, 'served'));
    admin = new Etcd3({ hosts: data.clientUrl });
    const { auth } = admin;
    await auth.userAdd({ name: 'root', password: 'root' });
    await auth.userGrantRole({ user: 'root', role: 'root' });
    await auth.roleAdd({ name: 'blocks' });
    const range = { key: Buffer.from('private/'), range_end: Buffer.from('private0') };
    await auth.roleGrantPermission({ name: 'blocks', perm: { permType: 'Readwrite', ...range } });
    await auth.userAdd({ name: ACCESS.ACCESS_KEY, password: ACCESS.SECRET_KEY });
    await auth.userGrantRole({ user: ACCESS.ACCESS_KEY, role: 'blocks' });
    await auth.authEnable();
    data.login = { username: 'root', password: 'root' };
  });
  after(async () => {
    admin?.close();
    await metadata?.stop();
    await data?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  it('an encrypted volume opens with the passphrase in a variable or a file, and says what is missing', async () => {
    const url = `${metadata.url}/sealed`;
    const passphrase = { JFS_RSA_PASSPHRASE: FIXTURE_PASSPHRASE };
    const options = ['--encrypt-rsa-key', KEY_FILE, '--encrypt-algo', 'chacha20-rsa', '--compress', 'zstd'];
    const formatted = await runCommand(['format', ...options, url, 'sealed'], passphrase);
    expect(formatted.code, formatted.stderr).to.equal(0);
    const put = await runCommand(['put', url, join(folder, 'text'), '/text'], passphrase);
    expect(put.code, put.stderr).to.equal(0);
    const file = ['--rsa-passphrase-file', join(folder, 'passphrase')];
    expect((await runCommand(['cat', ...file, url, '/text'])).stdout).to.equal('a secret text\n');
    const served = await runCommand(['--once', ...file, url, join(folder, 'served')]);
    expect(served.code, served.stderr).to.equal(0);
    expect(readFileSync(join(folder, 'served/text'), 'utf8')).to.equal('a secret text\n');

    const without = await runCommand(['--once', url, join(folder, 'served')], { JFS_RSA_PASSPHRASE: '' });
    expect([without.code, without.sentence]).to.deep.equal([
      3,
      "etcd-etc-agent: The blocks are encrypted: give the passphrase of the volume's key in JFS_RSA_PASSPHRASE or with --rsa-passphrase-file.",
    ]);
    const wrong = await runCommand(['cat', url, '/text'], { JFS_RSA_PASSPHRASE: 'a wrong guess' });
    expect([wrong.code, wrong.stdout]).to.deep.equal([3, '']);
    expect(wrong.sentence).to.match(/The passphrase does not open the key/);
    expect(wrong.stderr + without.stderr).not.to.match(/guess|BEGIN|fixture-passphrase/);
  });

  it('data in an etcd with users are reached with the keys of the volume, or those of the environment', async () => {
    const url = `${metadata.url}/private`;
    const bucket = `etcd://${data.endpoint.host}:${data.endpoint.port}/ignored`;
    const formatted = await runCommand(['format', '--bucket', bucket, url, 'private'], ACCESS);
    expect(formatted.code, formatted.stderr).to.equal(0);
    const put = await runCommand(['put', url, join(folder, 'text'), '/text']);
    expect(put.code, put.stderr).to.equal(0);
    // The metadata's etcd has nothing of it, and the setting does not show the password.
    const keys = new Etcd3({ hosts: metadata.clientUrl });
    try {
      expect(await keys.getAll().prefix('private/').keys()).to.deep.equal([]);
      const setting = Object.values(await keys.getAll().prefix('/private').strings()).join();
      expect(setting).to.match(/"AccessKey": "blocks"/);
      expect(setting).not.to.include(ACCESS.SECRET_KEY);
    } finally {
      keys.close();
    }
    expect((await runCommand(['cat', url, '/text'])).stdout).to.equal('a secret text\n');
    expect((await runCommand(['cat', '--bucket', bucket, url, '/text'], ACCESS)).stdout).to.equal(
      'a secret text\n',
    );
    const wrong = await runCommand(['cat', url, '/text'], { SECRET_KEY: 'a wrong guess' });
    expect([wrong.code === 0, wrong.stdout]).to.deep.equal([false, '']);
    expect(wrong.stderr).not.to.match(/guess|p@ss/);
  });

  it('an address that is none, and one where nothing is, are told apart', async () => {
    const url = `${metadata.url}/sealed`;
    const passphrase = { JFS_RSA_PASSPHRASE: FIXTURE_PASSPHRASE };
    const none = await runCommand(['cat', '--bucket', 'no port:x', url, '/text'], passphrase);
    expect([none.code, none.sentence]).to.satisfy(
      ([code, sentence]: [number, string]) =>
        code === 2 && /--bucket is no address of an etcd/.test(sentence),
    );
    const empty = await startEtcd();
    try {
      const bucket = `127.0.0.1:${empty.endpoint.port}`;
      const elsewhere = await runCommand(['cat', '--bucket', bucket, url, '/text'], passphrase);
      expect(elsewhere.code).to.equal(3);
      expect(elsewhere.sentence).to.include(`The data of the volume sealed are not at ${bucket}.`);
    } finally {
      await empty.stop();
    }
    const closed = '127.0.0.1:1';
    const away = await runCommand(['cat', '--bucket', closed, url, '/text'], passphrase);
    expect(away.code).to.equal(1);
    expect(away.sentence).to.include(`The etcd of the volume's data (${closed}) cannot be reached`);
  });
});
