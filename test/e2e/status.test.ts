/** What `status.json` says and tests wait for. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { ownEtcd } from '../support/own-etcd.ts';
import { file, TestVolume } from '../support/pushing.ts';
import { watchOptions } from '../support/run-options.ts';
import { RunningAgent } from '../support/running.ts';

describe('the status of an agent', () => {
  const own = ownEtcd('status-');

  it('gives the last look one time, however often it is written after it', async () => {
    const volume = await TestVolume.format(own.server, { name: 'status', trashDays: 0 });
    const dir = join(own.folder, 'dir');
    mkdirSync(dir);
    await volume.push(volume.make('f', file('first\n')));
    // Nothing but the first look falls into the test.
    const options = watchOptions(volume.url, dir, { rescanMs: 3_600_000, minIntervalMs: 0 });
    const agent = new RunningAgent(options, 1);
    const looks = new Set<string>();
    const times = new Set<string>();
    try {
      await agent.until('it follows', () => (agent.status?.stale === false ? [] : ['not yet']));
      for (let n = 0; n < 10; n += 1) {
        const { revisions } = await volume.push(volume.edit('f', file(`${n}\n`)));
        await agent.until('the status says that it is published', () =>
          agent.status?.publishedRevision === String(revisions.at(-1)) ? [] : ['not yet'],
        );
        looks.add(agent.status?.lastScan ?? '');
        times.add(agent.status?.time ?? '');
      }
      expect(times.size, 'times at which it was written').to.be.greaterThan(5);
      expect([...looks], 'times of the look').to.have.length(1);
    } finally {
      await agent.stop();
      await volume.store.close();
    }
  });
});
