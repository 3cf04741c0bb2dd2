/**
 * A disk that fails while an agent starts: each kind of call, by its label, fails as a full, read-only, closed or broken disk does.
 * The agent goes on, or ends and says why; once the disk is well, it or the next start has all of both sides, and nothing twice.
 * `ALL=1` takes each error at each call instead of one by turns, `CALL` only the calls that have it in their name.
 */

import { expect } from 'chai';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../../src/agent/base/error.ts';
import { FailingFs } from '../support/failing-fs.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { watchOptions } from '../support/run-options.ts';
import { conflictCopies, contentInVolume, RunningAgent } from '../support/running.ts';
import { until } from '../support/until.ts';

const ERRORS = ['ENOSPC', 'EROFS', 'EACCES', 'EMFILE', 'EIO'] as const;
/** Time passes this many times faster for the agent. */
const SPEED = 20;
/** A call that has failed this often has failed for good: then the disk is well again. */
const FAILURES = 3;
/** As long as this a call that is made only now and then may take to fail as often. */
const FAILING_MS = 200;

describe('a disk that fails at the start', function () {
  this.timeout(process.env['ALL'] === undefined ? 300_000 : 1_200_000);
  const own = ownEtcd('disk-');

  it('at any call: the tree stays, nothing is lost, and nothing is kept twice', async () => {
    const volume = await TestVolume.format(own.server, { name: 'starting', hashPrefix: false, trashDays: 1 });
    const dir = join(own.folder, 'dir');
    mkdirSync(dir);
    const paths = ['d/remote', 'd/local', 'top'];
    await volume.push(
      volume.make('d', directory()),
      ...paths.map((path) => volume.make(path, file(`${path} first\n`))),
    );
    const disk = new FailingFs();
    const options = watchOptions(`${own.server.url}/starting`, dir, { rescanMs: 1_000 });
    const start = (): RunningAgent => new RunningAgent(options, SPEED, () => ({ fs: disk.port }));
    const wrong = async (agent: RunningAgent, text: string): Promise<string[]> => {
      const found: string[] = [];
      for (const path of paths) {
        const wanted = `${path} ${text}\n`;
        const shown = agent.shown(path);
        // A reader has each file whole all the time.
        expect(shown, path).to.match(new RegExp(`^${path} .+\n$`));
        if (shown !== wanted) found.push(`${path} is shown as ${shown}`);
        else if (found.length === 0 && (await contentInVolume(volume.store, volume.volume, path)) !== wanted)
          found.push(`${path} is another one in the volume`);
      }
      const { pendingEdits, stale } = agent.status ?? {};
      if (pendingEdits !== 0 || stale !== false) found.push('it has more to do');
      return found;
    };
    /** What happens while no agent runs. */
    const edit = async (text: string): Promise<void> => {
      writeFileSync(join(dir, 'd/local'), `d/local ${text}\n`);
      writeFileSync(join(dir, '.top~'), `top ${text}\n`);
      renameSync(join(dir, '.top~'), join(dir, 'top'));
      await volume.push(volume.edit('d/remote', file(`d/remote ${text}\n`)));
    };
    let agent = start();
    try {
      await agent.until('it has begun', () => (agent.shown('top') === undefined ? ['not yet'] : []));
      await agent.until('it has all', () => wrong(agent, 'first'));
      await agent.stop();
      disk.seen.clear();
      await edit('well');
      agent = start();
      await agent.until('it has all', () => wrong(agent, 'well'));
      let turn = 0;
      let happened = 0;
      let ends = 0;
      // Failing calls lead to other calls: those are tried as well.
      for (const call of disk.seen) {
        if (call.startsWith('close ') || !call.includes(process.env['CALL'] ?? '')) continue;
        const errors = process.env['ALL'] === undefined ? [ERRORS[turn % ERRORS.length] ?? 'EIO'] : ERRORS;
        for (const code of errors) {
          turn += 1;
          const text = `${code} at ${call} ${turn}`;
          try {
            await agent.stop();
            await edit(text);
            own.logged.length = 0;
            disk.fail(call, code);
            agent = start();
            let firstMs = Infinity;
            await until('the call has failed, or is not made', async () => {
              if (disk.failures > 0) firstMs = Math.min(firstMs, performance.now());
              const hasFailed = disk.failures >= FAILURES || performance.now() - firstMs > FAILING_MS;
              return hasFailed || agent.ended !== undefined || (await wrong(agent, text)).length === 0;
            });
            disk.heal();
            if (agent.ended !== undefined) {
              // Whoever reads the last line knows what it was.
              expect(agent.ended, 'how it ended').to.be.instanceOf(Error);
              if (!(agent.ended instanceof ConfigError))
                expect((agent.ended as Error).message).to.include(code);
              ends += 1;
              await agent.stop();
              agent = start();
            }
            await agent.until('both sides have all', () => wrong(agent, text));
          } catch (cause) {
            throw new Error(`${text}: ${String(cause)}\n${own.logged.slice(-20).join('')}`, { cause });
          } finally {
            disk.heal();
          }
          if (disk.failures > 0) happened += 1;
        }
      }
      process.stderr.write(`    ${happened} of ${turn} failures happened, ${ends} ended the agent\n`);
      if (process.env['CALL'] === undefined) expect(happened).to.be.greaterThan(30);
      expect(await conflictCopies(volume.store, volume.volume)).to.deep.equal([]);
    } finally {
      await agent.stop();
      await volume.store.close();
    }
  });
});
