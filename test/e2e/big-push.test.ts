/** A push of more than a transaction holds, as an agent that follows sees it, and what is left when it is killed. */

import { expect } from 'chai';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/agent/base/clock.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { layoutOf } from '../../src/agent/disk/layout.ts';
import { Ledger } from '../../src/agent/state/ledger.ts';
import { Pusher } from '../../src/agent/push/push.ts';
import { startAgent, type Agent } from '../support/agent.ts';
import { answersFirst } from '../support/late-news.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { claimsOf, contentOf, directory, file, TestVolume, volumeThrough } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { watchOptions } from '../support/run-options.ts';
import { contentInVolume, RunningAgent } from '../support/running.ts';
import { stoppingStore } from '../support/stopping-store.ts';
import { until } from '../support/until.ts';
import { detachedInodes, takeKeys } from '../support/volume-keys.ts';

const FILES = 5_000;
/** Time passes this many times faster for an agent in this process. */
const SPEED = 20;

describe('a push of more than a transaction holds', function () {
  this.timeout(120_000);
  const own = ownEtcd('big-push-');
  const agents: Agent[] = [];
  afterEach(async () => {
    for (const agent of agents.splice(0)) await agent.kill();
  });

  const follow = async (url: string, name: string): Promise<Agent> => {
    const dir = join(own.folder, name);
    mkdirSync(dir, { recursive: true });
    const agent = await startAgent(url, dir);
    agents.push(agent);
    return agent;
  };

  it(`shows ${FILES} new files below a new directory to an agent in one step`, async () => {
    const volume = await TestVolume.format(own.server, {
      name: 'one-step',
      hashPrefix: false,
      trashDays: 1,
      blockSizeKiB: 64,
    });
    await volume.push(volume.make('edited', file('before\n')));
    const to = await follow(volume.url, 'one-step');
    const seen = new Set<number>();
    const look = (): number => {
      let count = 0;
      try {
        count = readdirSync(join(to.dir, '..data', 'new')).length;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
      seen.add(count);
      return count;
    };

    const looking = setInterval(look, 2);
    const { revisions } = await volume.push(
      volume.make('new', directory()),
      ...Array.from({ length: FILES }, (_, i) => volume.make(`new/file-${i}`, file(`content ${i}\n`))),
      volume.edit('edited', file('after\n')),
    );
    expect(revisions).to.have.length(1);
    await until('the other agent has all of it', () => look() === FILES, 60_000);
    clearInterval(looking);
    expect([...seen]).to.deep.equal([0, FILES]);
    expect(readFileSync(join(to.dir, 'edited'), 'utf8')).to.equal('after\n');
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
    await volume.store.close();
  });

  it("shows a tree that was moved into one agent's directory to another in one step", async () => {
    const volume = await TestVolume.format(own.server, {
      name: 'moved-in',
      hashPrefix: false,
      trashDays: 1,
      blockSizeKiB: 64,
    });
    await volume.push(volume.make('first', file('first\n')));
    const [from, to] = [await follow(volume.url, 'from'), await follow(volume.url, 'to')];
    const outside = join(own.folder, 'outside');
    for (let i = 0; i < 400; i += 1) {
      mkdirSync(join(outside, `${i % 7}`), { recursive: true });
      writeFileSync(join(outside, `${i % 7}`, `file-${i}`), `content ${i}\n`);
    }
    renameSync(outside, join(from.dir, 'tree'));
    const seen = new Set<number>();
    const look = (): boolean => {
      const count = readdirSync(join(to.dir, '..data', 'tree'), { recursive: true }).length;
      seen.add(count);
      return count === 407;
    };
    await until('the other agent has all of it', () => existsSync(join(to.dir, '..data', 'tree')) && look());
    expect([...seen]).to.deep.equal([407]);
    const { cutPush } = await from.until('nothing is pending', ({ pendingEdits }) => pendingEdits === 0);
    expect(cutPush).to.equal(undefined);
    await volume.store.close();
  });

  it('is not read back from the volume', async () => {
    const volume = await TestVolume.format(own.server, {
      name: 'not-back',
      hashPrefix: false,
      trashDays: 1,
      blockSizeKiB: 64,
    });
    await volume.push(volume.make('first', file('first\n')));
    const dir = join(own.folder, 'not-back');
    mkdirSync(dir);
    let staged = 0;
    const agent = new RunningAgent(watchOptions(`${own.server.url}/not-back`, dir), SPEED, (ports) => ({
      // Of its own push that it hears of before the answer it cannot know that it is its own.
      openStore: (address) => answersFirst(ports.openStore(address)),
      fs: {
        ...ports.fs,
        openNew: (step, ...args) => {
          if (step === 'stage') staged += 1;
          return ports.fs.openNew(step, ...args);
        },
      },
    }));
    try {
      await agent.until('it has begun', () => (agent.shown('first') === 'first\n' ? [] : ['not yet']));
      expect(staged).to.equal(1);
      mkdirSync(join(own.folder, 'many'));
      for (let i = 0; i < 60; i += 1) writeFileSync(join(own.folder, 'many', `${i}`), `content ${i}\n`);
      renameSync(join(own.folder, 'many'), join(dir, 'many'));
      const { store, volume: opened } = volume;
      await agent.until('all is in the volume', async () =>
        (await contentInVolume(store, opened, 'many/59')) === 'content 59\n' ? [] : ['not yet'],
      );
      await volume.push(volume.edit('first', file('edited\n')));
      await agent.until('it has seen what came after that', () =>
        agent.shown('first') === 'edited\n' ? [] : ['not yet'],
      );
      expect(staged).to.equal(2);
    } finally {
      await agent.stop();
      await volume.store.close();
    }
  });

  it('that was killed leaves nothing behind once the agent has started again', async () => {
    const volume = await TestVolume.format(own.server, {
      name: 'killed',
      hashPrefix: false,
      trashDays: 1,
      blockSizeKiB: 64,
    });
    await volume.push(volume.make('edited', file('before\n')));
    const agent = await follow(volume.url, 'again');
    await agent.kill();
    // A push by this state that ends before it sets the names.
    const claimed = claimsOf();
    const stopping = stoppingStore(volume.store, 6, 'applied');
    const through = await volumeThrough(volume.volume, stopping.store);
    const changes = [
      volume.edit('edited', file(new Uint8Array(300_000).fill(7))),
      volume.make('n', directory()),
      ...Array.from({ length: 60 }, (_, i) => volume.make(`n/${i}`, file(`content ${i}\n`))),
    ];
    const push = new Pusher(stopping.store, through, systemClock).push(changes, {
      read: async (change, offset, length) => {
        if (change.new?.type !== 'file') throw new Error('only files are read');
        return contentOf(change.new).subarray(Number(offset), Number(offset) + length);
      },
      onClaim: claimed.note,
    });
    expect(await push.catch((error: unknown) => error)).to.be.instanceOf(Error);
    expect(stopping.happened).to.equal(true);
    expect(detachedInodes(volume.volume, await takeKeys(volume.store)).size).to.be.greaterThan(0);
    const ledger = Ledger.open(nodeFs, layoutOf(Buffer.from(agent.dir).toString('latin1')));
    ledger.write([{ t: 'claimed', slices: [...claimed.slices] }], true);
    for (const hold of claimed.holds) ledger.write([{ t: 'claimed', hold }], true);
    ledger.close();

    await follow(volume.url, 'again');
    const { prefix } = volume.address;
    await until('nothing is left', async () => (await recount(volume.store, prefix)).length === 0);
    expect(detachedInodes(volume.volume, await takeKeys(volume.store)).size).to.equal(0);
    await volume.store.close();
  });
});
