/**
 * The store's answer to a push is there, and its news of the same push are late: what the other side edits meanwhile is joined
 * with what is edited here, because the ancestor is known to be what was pushed.
 */

import { expect } from 'chai';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../support/agent.ts';
import { LateNews } from '../support/late-news.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { TestVolume } from '../support/pushing.ts';
import { watchOptions } from '../support/run-options.ts';
import { conflictCopies, contentInVolume, RunningAgent } from '../support/running.ts';

const BASE = 'a\nb\nc\nd\n';
const HERE = BASE.replace('a', 'A');
const THERE = BASE.replace('d', 'D');
const BOTH = THERE.replace('a', 'A');

describe('news of a push that come late', () => {
  const own = ownEtcd('late-news-');
  let news: LateNews;
  let volume: TestVolume;
  let agent: RunningAgent;
  let dir: string;

  const start = (): RunningAgent =>
    new RunningAgent(
      // With copies of its own it would need no look into the store.
      watchOptions(volume.url, dir, { rescanMs: 300, minIntervalMs: 0, ancestorCacheBytes: 0 }),
      1,
      (ports) => ({ openStore: (address) => news.through(ports.openStore(address)) }),
    );
  const inVolume = (path: string): Promise<string> => contentInVolume(volume.store, volume.volume, path);

  /** Pushes the base, of which no news come, and lets the other side edit it. */
  async function pushAndEditThere(): Promise<void> {
    news.hold();
    writeFileSync(join(dir, 'f'), BASE);
    await agent.until('the file is pushed', async () =>
      agent.status?.pendingEdits === 0 && (await inVolume('f')) === BASE ? [] : ['not yet'],
    );
    const file = join(own.folder, 'there');
    writeFileSync(file, THERE);
    expect((await runCommand(['put', volume.url, file, '/f'])).code).to.equal(0);
  }

  async function joined(): Promise<void> {
    await agent.until('both sides have both edits', async () => {
      const found = [agent.shown('f'), await inVolume('f')];
      return found.every((text) => text === BOTH) ? [] : [`here and there: ${JSON.stringify(found)}`];
    });
    expect(await conflictCopies(volume.store, volume.volume)).to.deep.equal([]);
  }

  beforeEach(async function () {
    news = new LateNews();
    const name = `late-${this.currentTest?.title.replaceAll(/\W/g, '-').slice(0, 12)}`;
    volume = await TestVolume.format(own.server, { name, trashDays: 0 });
    dir = join(own.folder, name);
    mkdirSync(dir);
    agent = start();
    await agent.until('it follows', () => (agent.status?.stale === false ? [] : ['not yet']));
  });
  afterEach(async () => {
    news.release();
    await agent.stop();
    await volume.store.close();
  });

  it('edits of both sides that come before the news are joined', async () => {
    await pushAndEditThere();
    writeFileSync(join(dir, 'f'), HERE);
    await agent.until('the edit is seen', () => (agent.status?.pendingEdits === 1 ? [] : ['not yet']));
    news.release();
    await joined();
  });

  it('after a restart that came before the news as well', async () => {
    await pushAndEditThere();
    await agent.stop();
    news.release();
    writeFileSync(join(dir, 'f'), HERE);
    agent = start();
    await joined();
  });
});
