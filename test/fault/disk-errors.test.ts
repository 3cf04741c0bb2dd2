/**
 * A disk that fails: each kind of call of an agent, by its label, fails for a while as a full, read-only, closed or broken disk does,
 * while both sides are edited. The agent lives on, what is published stays whole, and once the disk is well again all is as wanted.
 * `ALL=1` takes each error at each call instead of one by turns, `CALL` only the calls that have it in their name.
 */

import { expect } from 'chai';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { FailingFs } from '../support/failing-fs.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { watchOptions } from '../support/run-options.ts';
import { contentInVolume, RunningAgent } from '../support/running.ts';
import { storeRevision } from '../support/stillness.ts';

const ERRORS = ['ENOSPC', 'EROFS', 'EACCES', 'EMFILE', 'EIO'] as const;
/** Time passes this many times faster for the agent. */
const SPEED = 20;
/** A call that has failed this often has failed for good: then the disk is well again. */
const FAILURES = 3;
/** As long as this a call that is made only now and then may take to fail as often. */
const FAILING_MS = 200;

describe('a disk that fails', function () {
  this.timeout(process.env['ALL'] === undefined ? 300_000 : 1_200_000);
  const own = ownEtcd('disk-');

  it('at any call of a turn: nothing is lost, and all goes on once it is well again', async () => {
    const volume = await TestVolume.format(own.server, { name: 'failing', hashPrefix: false, trashDays: 1 });
    const dir = join(own.folder, 'dir');
    mkdirSync(dir);
    await volume.push(
      volume.make('d', directory()),
      ...['d/remote', 'd/local', 'top'].map((path) => volume.make(path, file('first\n'))),
    );
    const disk = new FailingFs();
    const options = watchOptions(`${own.server.url}/failing`, dir, { rescanMs: 1_000 });
    const agent = new RunningAgent(options, SPEED, () => ({ fs: disk.port }));
    const stored = (path: string): Promise<string> => contentInVolume(volume.store, volume.volume, path);
    /** Edits both sides, the local one below and at the top; resolves once each has the other's edit. */
    const edit = async (text: string, meanwhile: () => void): Promise<void> => {
      writeFileSync(join(dir, 'd/local'), `local ${text}`);
      writeFileSync(join(dir, '.top~'), `top ${text}`);
      renameSync(join(dir, '.top~'), join(dir, 'top'));
      await volume.push(volume.edit('d/remote', file(`remote ${text}`)));
      const left = async (): Promise<string[]> => {
        const wrong: string[] = [];
        for (const path of ['d/remote', 'd/local', 'top']) {
          const wanted = `${path.slice(path.indexOf('/') + 1)} ${text}`;
          if (agent.shown(path) !== wanted) wrong.push(`${path} is shown as ${agent.shown(path)}`);
          else if (path !== 'd/remote' && wrong.length === 0 && (await stored(path)) !== wanted)
            wrong.push(`${path} is ${await stored(path)} in the volume`);
        }
        const { pendingEdits } = agent.status ?? {};
        if (pendingEdits !== 0) wrong.push(`${pendingEdits} edits are pending`);
        return wrong;
      };
      await agent.until('both sides have all', () => {
        // A reader has each file whole all the time.
        for (const path of ['d/remote', 'd/local', 'top'])
          expect(agent.shown(path), path).to.match(/^(first|\w+ .*)\n$/);
        meanwhile();
        return left();
      });
    };
    try {
      await agent.until('it has begun', () =>
        agent.shown('top') === 'first\n' && agent.status?.stale === false ? [] : ['not yet'],
      );
      await edit('well\n', () => undefined);
      await edit('well again\n', () => undefined);
      const tried: string[] = [];
      let turn = 0;
      // Failing calls lead to other calls: those are tried as well.
      for (const call of disk.seen) {
        if (call.startsWith('close ') || !call.includes(process.env['CALL'] ?? '')) continue;
        const errors = process.env['ALL'] === undefined ? [ERRORS[turn % ERRORS.length] ?? 'EIO'] : ERRORS;
        for (const code of errors) {
          turn += 1;
          disk.fail(call, code);
          const text = `${code} at ${call} ${turn}\n`;
          try {
            let firstMs = Infinity;
            await edit(text, () => {
              if (disk.failures > 0) firstMs = Math.min(firstMs, performance.now());
              if (disk.failures >= FAILURES || performance.now() - firstMs > FAILING_MS) disk.heal();
            });
          } catch (cause) {
            throw new Error(`${text}${String(cause)}\n${own.logged.slice(-20).join('')}`, { cause });
          } finally {
            disk.heal();
          }
          if (disk.failures > 0) tried.push(call);
        }
      }
      process.stderr.write(`    ${tried.length} of ${turn} failures happened\n`);
      if (process.env['CALL'] === undefined) expect(tried.length).to.be.greaterThan(30);
      const tree = new VolumeTree(volume.store, volume.volume, await storeRevision(volume.store));
      expect(await tree.find('.conflicts'), 'conflict copies').to.equal(undefined);
    } finally {
      await agent.stop();
      await volume.store.close();
    }
  });
});
