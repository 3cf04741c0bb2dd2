/**
 * Two agents on one directory that cannot see each other's lock, as in two network namespaces: the later one takes the directory
 * over, the earlier one ends before it publishes again, and what was edited meanwhile is not lost.
 */

import { expect } from 'chai';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../../src/agent/base/error.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { watchOptions } from '../support/run-options.ts';
import { conflictCopies, contentInVolume, RunningAgent } from '../support/running.ts';
import { namesOnDisk, storeRevision } from '../support/stillness.ts';

/** Time passes this many times faster for the agents. */
const SPEED = 20;
const ROUNDS = 8;
const NO_LOCK = { release: () => Promise.resolve() };

describe('two agents on one directory', () => {
  const own = ownEtcd('two-');

  it('the later one takes over, again and again, while both sides are edited', async () => {
    const volume = await TestVolume.format(own.server, { name: 'two', hashPrefix: false, trashDays: 1 });
    const dir = join(own.folder, 'dir');
    mkdirSync(dir);
    await volume.push(
      volume.make('d', directory()),
      ...['d/remote', 'd/local', 'top'].map((path) => volume.make(path, file('first\n'))),
    );
    const options = watchOptions(`${own.server.url}/two`, dir, { rescanMs: 1_000 });
    const start = (): RunningAgent =>
      new RunningAgent(options, SPEED, () => ({ lock: () => Promise.resolve(NO_LOCK) }));
    const wrong = async (agent: RunningAgent, text: string): Promise<string[]> => {
      const found: string[] = [];
      for (const path of ['d/remote', 'd/local', 'top']) {
        const wanted = `${path} ${text}\n`;
        if (agent.shown(path) !== wanted) found.push(`${path} is shown as ${agent.shown(path)}`);
        else if ((await contentInVolume(volume.store, volume.volume, path)) !== wanted)
          found.push(`${path} is another one in the volume`);
      }
      if (agent.status?.pendingEdits !== 0) found.push('edits are pending');
      return found;
    };
    const edit = async (text: string): Promise<void> => {
      writeFileSync(join(dir, 'd/local'), `d/local ${text}\n`);
      writeFileSync(join(dir, '.top~'), `top ${text}\n`);
      renameSync(join(dir, '.top~'), join(dir, 'top'));
      await volume.push(volume.edit('d/remote', file(`d/remote ${text}\n`)));
    };
    const running = new Set<RunningAgent>();
    try {
      let agent = start();
      running.add(agent);
      await agent.until('it has begun', () => (agent.shown('top') === 'first\n' ? [] : ['not yet']));
      for (let round = 1; round <= ROUNDS; round += 1) {
        const earlier = agent;
        // The other one comes before, between and after the edits.
        if (round % 2 === 0) await edit(`${round}`);
        agent = start();
        running.add(agent);
        if (round % 2 === 1) await edit(`${round}`);
        await agent.until(`round ${round}: both sides have all`, () => wrong(agent, `${round}`));
        // What it was about to publish comes from the volume: it has to look at the token then.
        await edit(`${round}, once more`);
        await agent.until('both sides have all', () => wrong(agent, `${round}, once more`));
        await agent.until('the earlier one has ended', () =>
          earlier.ended === undefined ? ['it runs'] : [],
        );
        expect(earlier.ended).to.be.instanceOf(ConfigError);
        expect((earlier.ended as Error).message).to.equal('another agent has taken this directory over');
        running.delete(earlier);
        await earlier.stop();
      }
      // What one took from the tree that the other was just filling may be kept once more: it is something that was written.
      for (const copy of await conflictCopies(volume.store, volume.volume))
        expect(copy).to.match(/^(d\/remote|d\/local|top) \d(, once more)?\n$/);
      expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      // The state is that of one agent: the next start finds nothing to do.
      await agent.stop();
      running.delete(agent);
      const before = { revision: await storeRevision(volume.store), names: namesOnDisk(dir) };
      const from = agent.status?.time;
      agent = start();
      running.add(agent);
      await agent.until('it has looked around', () =>
        agent.status?.stale === false && agent.status.time !== from ? [] : ['not yet'],
      );
      expect(await wrong(agent, `${ROUNDS}, once more`)).to.deep.equal([]);
      expect({ revision: await storeRevision(volume.store), names: namesOnDisk(dir) }).to.deep.equal(before);
    } catch (cause) {
      throw new Error(`${String(cause)}\n${own.logged.slice(-40).join('')}`, { cause });
    } finally {
      for (const one of running) await one.stop();
      await volume.store.close();
    }
  });
});
