/** What the real client leaves behind by itself, without any agent: the random operations do not hold it against us. */

import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';

describe('the real client alone', function () {
  this.timeout(60_000);
  let server: EtcdServer | undefined;
  after(async () => {
    await server?.stop();
  });

  it('leaves the statistics of an empty directory that a rename replaced, without trash', async function () {
    const juicefs = new Juicefs(this);
    needFuse(this);
    server = await startEtcd();
    const url = `${server.url}/leftovers`;
    await juicefs.format(url, 'leftovers', server.url.slice('etcd://'.length), ['--trash-days', '0']);
    const mount = await juicefs.mount(url);
    mkdirSync(join(mount.dir, 'old'));
    mkdirSync(join(mount.dir, 'new'));
    renameSync(join(mount.dir, 'new'), join(mount.dir, 'old'));
    await mount.close();
    const volume = await TestVolume.open(server, '/leftovers');
    const wrong = await recount(volume.store, volume.address.prefix);
    await volume.store.close();
    expect(wrong).to.deep.equal(['U 2 has no directory']);
  });
});
