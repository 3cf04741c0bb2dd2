/**
 * The time of day jumps by hours and years, on and back, under a running agent: both sides get each other's edits, what is written
 * late is found, and nothing else is done. Only names of conflict copies and times of files show what the clock said.
 */

import { expect } from 'chai';
import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/agent/base/clock.ts';
import type { Ports } from '../../src/agent/base/ports.ts';
import { fsError } from '../support/fs-error.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { watchOptions } from '../support/run-options.ts';
import { conflictCopies, contentInVolume, RunningAgent } from '../support/running.ts';
import { storeRevision } from '../support/stillness.ts';

const HOUR_NS = 3_600_000_000_000n;
const YEAR_NS = 8_766n * HOUR_NS;
const JUMPS: readonly (readonly [string, bigint])[] = [
  ['three hours on', 3n * HOUR_NS],
  ['seven hours back', -7n * HOUR_NS],
  ['a year on', YEAR_NS],
  ['to the time of a machine without a battery', -40n * YEAR_NS],
  ['back to now', 39n * YEAR_NS + 4n * HOUR_NS],
];
/** Time passes this many times faster for the agent. */
const SPEED = 20;
/** How long what is replaced is kept, of that time: less than the clock jumps, and more than a busy machine takes for two edits. */
const KEEP_MS = 3_600_000;

describe('a time of day that jumps', function () {
  const own = ownEtcd('jumps-');

  for (const trashDays of [0, 1]) {
    it(`loses nothing and makes nothing up, with a trash of ${trashDays} days`, async () => {
      const name = `jumps-${trashDays}`;
      const volume = await TestVolume.format(own.server, { name, hashPrefix: false, trashDays });
      const dir = join(own.folder, name);
      mkdirSync(dir);
      await volume.push(
        volume.make('d', directory()),
        ...['d/remote', 'd/local', 'd/held', 'top'].map((path) => volume.make(path, file('first\n'))),
      );
      let jumpedNs = 0n;
      const changed = ({ fs, clock }: Ports): Partial<Ports> => ({
        clock: { ...clock, nowNs: () => systemClock.nowNs() + jumpedNs },
        // Nobody can tell whether a file is still open: then the time that it is kept counts.
        fs: {
          ...fs,
          hasWriter: (_label, path) => {
            throw fsError('ENOTSUP', 'fcntl', path);
          },
        },
      });
      const agent = new RunningAgent(
        watchOptions(`${own.server.url}/${name}`, dir, { rescanMs: 2_000, keepMs: KEEP_MS }),
        SPEED,
        changed,
      );
      const wrong = async (text: string): Promise<string[]> => {
        const found: string[] = [];
        for (const path of ['d/remote', 'd/local', 'd/held', 'top']) {
          const wanted = `${path} ${text}\n`;
          if (agent.shown(path) !== wanted) found.push(`${path} is shown as ${agent.shown(path)}`);
          else if ((await contentInVolume(volume.store, volume.volume, path)) !== wanted)
            found.push(`${path} is another one in the volume`);
        }
        const { pendingEdits, guards, problems, ready, stale } = agent.status ?? {};
        if (pendingEdits !== 0 || stale !== false) found.push(`${pendingEdits} edits are pending`);
        expect({ guards, problems, ready }).to.deep.equal({ guards: [], problems: {}, ready: true });
        return found;
      };
      /** Edits of both sides that do not meet; resolves once each has the other's. */
      const edit = async (text: string): Promise<void> => {
        writeFileSync(join(dir, 'd/local'), `d/local ${text}\n`);
        writeFileSync(join(dir, '.top~'), `top ${text}\n`);
        renameSync(join(dir, '.top~'), join(dir, 'top'));
        await volume.push(
          ...['d/remote', 'd/held'].map((path) => volume.edit(path, file(`${path} ${text}\n`))),
        );
        await agent.until(`${text}: both sides have all`, () => wrong(text));
      };
      const late: string[] = [];
      try {
        await agent.until('it has begun', () =>
          agent.shown('top') === 'first\n' && agent.status?.ready === true ? [] : ['nothing is shown'],
        );
        await edit('before');
        for (const [what, jumpNs] of JUMPS) {
          const held = openSync(join(dir, 'd/held'), 'a');
          await edit(`held open, ${what}`);
          jumpedNs += jumpNs;
          await edit(what);
          // The agent looks at what it has replaced before and after it knows of the jump.
          const from = agent.status?.lastScan;
          await agent.until('it has looked', () => (agent.status?.lastScan === from ? ['not yet'] : []));
          writeSync(held, `late, ${what}\n`);
          closeSync(held);
          late.push(what);
          await agent.until('what was written late is kept', async () => {
            const copies = await conflictCopies(volume.store, volume.volume);
            return late.filter((one) => !copies.some((copy) => copy.endsWith(`late, ${one}\n`)));
          });
        }
        expect(await conflictCopies(volume.store, volume.volume)).to.have.length(JUMPS.length);
        await agent.until('nothing is pending', () => wrong(JUMPS.at(-1)?.[0] ?? ''));
        const revision = await storeRevision(volume.store);
        jumpedNs += 2n * HOUR_NS;
        const from = agent.status?.lastScan;
        await agent.until('it looks again', () => (agent.status?.lastScan === from ? ['not yet'] : []));
        expect(await storeRevision(volume.store)).to.equal(revision);
        expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      } catch (cause) {
        throw new Error(`${String(cause)}\n${own.logged.slice(-30).join('')}`, { cause });
      } finally {
        await agent.stop();
        await volume.store.close();
      }
    });
  }
});
