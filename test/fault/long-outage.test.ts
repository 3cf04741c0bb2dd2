/**
 * An hour without etcd, on a clock that is fast: edits go on and wait in DIR, nothing grows with the time, and once etcd is back each
 * file is pushed once, as it is then.
 */

import { expect } from 'chai';
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { DirectoryWatch } from '../../src/agent/disk/directory-watch.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { watchOptions } from '../support/run-options.ts';
import { conflictCopies, contentInVolume, RunningAgent } from '../support/running.ts';
import { seedOrDefault } from '../support/seed.ts';
import { storeRevision } from '../support/stillness.ts';
import { until } from '../support/until.ts';

/** Time passes this many times faster for the agent. */
const SPEED = 200;
const MINUTES = 60;
const MINUTE_MS = 60_000;
const EDITS_A_MINUTE = 6;
/** How long what an edit replaced is kept (`--keep`). */
const KEEP_MINUTES = 10;
/** Of the state itself, at most. */
const OWN_FILES = 20;
/** From here on nothing may grow any more: all has been edited once, and what is kept is as old as it gets. */
const GROWN_MINUTE = 20;
const FILES = Array.from({ length: 20 }, (_, n) => (n % 3 === 0 ? `top-${n}` : `d/file-${n}`));

/** What a process could hold more and more of. */
interface Held {
  readonly heapMiB: number;
  readonly descriptors: number;
  readonly watches: number;
  readonly timers: number;
  readonly ledgerBytes: number;
  readonly stateFiles: number;
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

function held(dir: string): Held {
  collectGarbage();
  const state = join(dir, '..etcd-etc-agent');
  const descriptors = readdirSync('/proc/self/fd');
  const watches = descriptors.reduce((sum, fd) => {
    try {
      return sum + readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1').split('inotify wd:').length - 1;
    } catch {
      // The descriptor with which they were listed.
      return sum;
    }
  }, 0);
  return {
    heapMiB: process.memoryUsage().heapUsed / (1 << 20),
    descriptors: descriptors.length,
    watches,
    timers: process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length,
    ledgerBytes: statSync(join(state, 'ledger')).size,
    stateFiles: readdirSync(state, { recursive: true }).length,
  };
}

describe('an hour without etcd', function () {
  const seed = seedOrDefault();
  const own = ownEtcd('hour-');

  it(`with edits all the time: nothing grows, and each file is pushed once (SEED=${seed})`, async () => {
    const random = new Random(seed);
    const volume = await TestVolume.format(own.server, { name: 'hour', hashPrefix: false, trashDays: 1 });
    const dir = join(own.folder, 'dir');
    mkdirSync(dir);
    await volume.push(
      volume.make('d', directory()),
      ...FILES.map((path) => volume.make(path, file('first\n'))),
    );
    const options = watchOptions(`${own.server.url}/hour`, dir, { rescanMs: 5_000, minIntervalMs: 250 });
    const agent = new RunningAgent(options, SPEED, ({ clock }) => ({
      openWatch: (root, stateDir) => new DirectoryWatch(root, stateDir),
      clock,
    }));
    let first = 0;
    const written = new Map<string, string>(FILES.map((path) => [path, 'first\n']));
    // Two edits of one file within one tick could not be told apart.
    const edit = (minute: number, n: number): void => {
      const path = FILES[(first + 3 * n) % FILES.length] ?? '';
      const at = join(dir, path);
      const text = `minute ${minute}, edit ${n}\n`;
      if (random.below(2) === 0) writeFileSync(at, text);
      else {
        writeFileSync(`${at}~`, text);
        renameSync(`${at}~`, at);
      }
      written.set(path, text);
    };
    const startMs = performance.now();
    const minuteMs = MINUTE_MS / SPEED;
    try {
      await agent.until('it has begun', () =>
        FILES.every((path) => agent.shown(path) === 'first\n') && agent.status?.stale === false
          ? []
          : ['not yet'],
      );
      const before = await storeRevision(volume.store);
      await own.server.kill();
      await agent.until('it knows', () => (agent.status?.stale === true ? [] : ['not yet']));
      let grown: Held | undefined;
      for (let minute = 1; minute <= MINUTES; minute += 1) {
        const endMs = performance.now() + minuteMs;
        first = random.below(FILES.length);
        for (let n = 1; n <= EDITS_A_MINUTE; n += 1) edit(minute, n);
        await until('the minute is over', () => performance.now() >= endMs);
        expect(agent.ended, 'how it ended').to.equal(undefined);
        expect(agent.status?.ready, 'ready').to.equal(true);
        if (minute === GROWN_MINUTE) grown = held(dir);
      }
      expect(performance.now() - startMs).to.be.at.least(MINUTES * minuteMs);
      for (const path of FILES)
        expect(readFileSync(join(dir, path), 'latin1'), path).to.equal(written.get(path));
      const end = held(dir);
      process.stderr.write(`    ${JSON.stringify(grown)} -> ${JSON.stringify(end)}\n`);
      if (grown === undefined) throw new Error('not measured');
      expect(end.heapMiB, 'heap').to.be.below(grown.heapMiB + 8);
      expect(end.descriptors, 'descriptors').to.be.at.most(grown.descriptors + 8);
      expect(end.watches, 'watches').to.be.at.most(grown.watches + 8);
      expect(end.timers, 'timers').to.be.at.most(grown.timers + 8);
      expect(end.stateFiles, 'files of the state').to.be.below(OWN_FILES + KEEP_MINUTES * EDITS_A_MINUTE);
      // The log is written anew once it has doubled.
      expect(end.ledgerBytes, 'bytes of the log').to.be.below(2 << 20);
      expect(
        own.logged.filter((line) => line.includes('push failed')).length,
        'lines of the log',
      ).to.be.below(10);
      await own.server.start();
      await agent.until('all is pushed', async () => {
        const wrong: string[] = [];
        if (agent.status?.pendingEdits !== 0 || agent.status.stale) wrong.push('it has more to push');
        for (const path of wrong.length > 0 ? [] : FILES) {
          const stored = await contentInVolume(volume.store, volume.volume, path);
          if (stored !== written.get(path)) wrong.push(`${path} is ${stored} in the volume`);
        }
        return wrong;
      });
      expect(await conflictCopies(volume.store, volume.volume)).to.deep.equal([]);
      // Numbers and contents may take a revision each, names take a few.
      expect(Number((await storeRevision(volume.store)) - before)).to.be.at.most(2 * FILES.length);
    } catch (cause) {
      throw new Error(`${String(cause)}\n${own.logged.slice(-30).join('')}`, { cause });
    } finally {
      await agent.stop();
      await volume.store.close();
    }
  });
});
