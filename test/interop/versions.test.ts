/** Older releases of the real client: each formats a volume, writes beside our agent, reads what it pushed, and finds the volume in order. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OLD_CLIENTS } from '../../tools/suites.mjs';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { plainTree, untilSame } from '../support/agent.ts';
import { shell } from '../support/shell.ts';
import { AgentSide, MountSide, type Side } from '../support/sides.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

/** What each side does in its turn; the other one then edits what it made. */
const ROUNDS: readonly (readonly [writer: 'mount' | 'agent', script: string])[] = [
  [
    'mount',
    'mkdir -p d/sub; echo one > d/a; echo top > top; ln -s a d/link; seq 1 30000 > d/blocks; : > empty',
  ],
  ['agent', 'echo two > d/a; echo more >> top; chmod 600 d/blocks; mkdir -p made/in; echo made > made/in/f'],
  ['mount', 'echo three >> d/a; mv made/in d/in; rm top; mkdir top; echo in > top/f; chmod 640 d/in/f'],
  ['agent', 'mv d/in moved; rm d/link; ln -s sub d/link; truncate -s 100000 d/blocks; rm empty; rm -r top'],
  ['mount', 'sed -i s/made/edited/ moved/f; mv d/sub sub; echo last > sub/last'],
];

describe('volumes of older clients', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let folder: string;

  before(async function () {
    needFuse(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'versions-'));
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  for (const [index, client] of OLD_CLIENTS.entries()) {
    it(`are read and written beside ${client}`, async function () {
      const juicefs = new Juicefs(this, {}, client);
      const name = client.replaceAll('.', '-');
      const url = `${server.url}/${name}`;
      const own = join(folder, name);
      const model = join(own, 'model');
      mkdirSync(own);
      mkdirSync(model);
      // Each way of deleting with an old and a newer release.
      const trash = index % 2 === 0 ? '1' : '0';
      const bucket = server.url.slice('etcd://'.length);
      await juicefs.format(url, name, bucket, ['--block-size', '64', '--trash-days', trash]);
      const sides: Side[] = [];
      const volume = await TestVolume.open(server, `/${name}`);
      try {
        const agent = await AgentSide.start('agent', url, own);
        sides.push(agent);
        const mount = await MountSide.start('mount', juicefs, url);
        sides.push(mount);
        for (const [writer, script] of ROUNDS) {
          await shell(model, script);
          await shell(writer === 'mount' ? mount.dir : agent.dir, script);
          for (const side of sides) {
            await untilSame(
              `${side.name} shows what ${writer} wrote`,
              () => side.see().tree,
              () => plainTree(model),
            );
          }
          await agent.settled();
        }
        // What the client adds to statistics and deletes comes later; its own sums of the root's may stay wrong.
        let wrong: string[] = [];
        await until('the accounts are exact', async () => {
          const lines = await recount(volume.store, volume.address.prefix);
          wrong = lines.filter((line) => !/ in U \d+ /.test(line));
          return wrong.length === 0;
        }).catch(() => expect(wrong).to.deep.equal([]));
        await mount.pause();
        await juicefs.ok(['fsck', url]);
        await juicefs.ok(['fsck', url, '--path', '/', '-r']);
        const { leaked, pending } = await juicefs.gc(url);
        expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
      } finally {
        for (const side of sides) await side.stop();
        await volume.store.close();
      }
    });
  }
});
