/** What the simulation has found about files with several names: one writer, in whose directory and a plain one the same is done. */

import { expect } from 'chai';
import { UnknownOutcomeError } from '../../src/agent/base/error.ts';
import type { RecordedSite } from './history.ts';
import type { Pod } from './pod.ts';
import { append, expectAgreement, write } from './scenario.ts';
import { Stage } from './stage.ts';

/** How long a request takes where a push is to be on its way for a while; milliseconds. */
const SLOW_MS = 1_500;
describe('files with several names', () => {
  let stage: Stage;
  let pod: Pod;
  let local: RecordedSite;

  beforeEach(async () => {
    stage = await Stage.open(1);
    stage.mount.mkdir('d');
    ({ pod, local } = stage.addTwin(['d']));
    pod.start();
    await stage.pass(3_000);
  });
  afterEach(() => stage.end());

  /** A file and what else it is called, in the volume as well. */
  async function fileWithNames(path: string, ...others: string[]): Promise<void> {
    write(local, path);
    for (const other of others) local.link(path, other);
    await stage.pass(5_000);
    expect(stage.differences()).to.deep.equal([]);
  }

  function replace(path: string): void {
    write(local, `${path}.new`);
    local.rename(`${path}.new`, path);
  }

  async function expectAsInPlain(): Promise<void> {
    stage.weather.latencyMs = 1;
    await expectAgreement(stage);
    expect(stage.mount.list('').length, 'no conflict').to.equal(1);
    expect(stage.mount.kind('.conflicts')).to.equal(undefined);
  }

  /** The transaction of a push is in the volume, and its answer on the way. */
  async function pushed(isThere: () => boolean): Promise<void> {
    for (let step = 0; step < 20_000 && !isThere(); step += 1) await stage.pass(1);
    expect(isThere()).to.equal(true);
  }

  it('a name that is replaced while an edit of its file is pushed is another file', async () => {
    await fileWithNames('d/one', 'd/two');
    const before = stage.mount.text('d/two');
    stage.weather.latencyMs = SLOW_MS;
    append(local, 'd/one');
    await pushed(() => stage.mount.text('d/two') !== before);
    replace('d/one');
    await stage.pass(8_000);
    append(local, 'd/one');
    await expectAsInPlain();
  });

  it('so is one that is replaced when an agent has ended before it had the answer', async () => {
    await fileWithNames('d/one', 'd/two');
    const before = stage.mount.text('d/two');
    stage.weather.latencyMs = SLOW_MS;
    append(local, 'd/one');
    await pushed(() => stage.mount.text('d/two') !== before);
    pod.agent?.kill();
    replace('d/one');
    stage.weather.isDown = true;
    pod.start();
    await stage.pass(3_000);
    append(local, 'd/one');
    stage.weather.isDown = false;
    await expectAsInPlain();
  });

  it('a new name that goes while it is pushed with an edit of its file does not come back', async () => {
    await fileWithNames('d/two', 'd/zero');
    stage.weather.latencyMs = SLOW_MS;
    append(local, 'd/two');
    local.link('d/two', 'd/one');
    await pushed(() => stage.mount.kind('d/one') === 'file');
    local.unlink('d/one');
    await expectAsInPlain();
  });

  it('nor does one that goes after an agent has ended before it had the answer', async () => {
    await fileWithNames('d/one');
    stage.weather.latencyMs = SLOW_MS;
    local.link('d/one', 'd/two');
    await pushed(() => stage.mount.kind('d/two') === 'file');
    pod.agent?.kill();
    local.unlink('d/two');
    stage.weather.isDown = true;
    pod.start();
    await stage.pass(3_000);
    pod.agent?.kill();
    stage.weather.isDown = false;
    pod.start();
    await expectAsInPlain();
  });

  it('a new name waits with the edit of its file that changes once more before it is read', async () => {
    await fileWithNames('d/one');
    stage.weather.latencyMs = SLOW_MS;
    local.link('d/one', 'd/two');
    append(local, 'd/one');
    await stage.pass(1_200);
    append(local, 'd/two');
    replace('d/one');
    append(local, 'd/two');
    await stage.pass(8_000);
    await expectAsInPlain();
  });

  it('a file that loses one of its names and gets another mode has not moved to the other', async () => {
    await fileWithNames('d/one', 'd/two');
    stage.weather.isDown = true;
    pod.agent?.cutWatch();
    local.unlink('d/one');
    local.chmod('d/two', 0o600);
    await stage.pass(3_000);
    stage.weather.isDown = false;
    await expectAsInPlain();
    expect(stage.trace.lines.filter((line) => line.includes('warn problem'))).to.deep.equal([]);
  });

  /** The answer to the next transaction of a push is lost, and the store goes before the volume can be asked what became of it. */
  function loseNextOutcome(): void {
    const { etcd, weather, scheduler } = stage;
    const commit = etcd.commit.bind(etcd);
    let isLost = false;
    pod.agent?.lagWatch(SLOW_MS);
    etcd.commit = (transaction, by) => {
      const result = commit(transaction, by);
      if (by !== pod.name || weather.isDown) return result;
      if (result.outcome === 'lost') {
        scheduler.after(0.01, () => {
          weather.isDown = true;
          pod.agent?.cutWatch();
        });
      } else if (!isLost && transaction.compares.length > 2) {
        isLost = weather.isDown = true;
        scheduler.after(0.01, () => (weather.isDown = false));
      }
      return result;
    };
  }

  it('what a push has made whose outcome it did not learn is no edit of somebody else', async () => {
    await fileWithNames('d/one', 'd/two');
    loseNextOutcome();
    replace('d/one');
    local.link('d/two', 'd/three');
    await pushed(() => stage.weather.isDown && stage.mount.kind('d/three') === 'file');
    await stage.pass(8_000);
    for (const path of ['d/one', 'd/three']) local.unlink(path);
    append(local, 'd/two');
    await stage.pass(8_000);
    stage.weather.isDown = false;
    await expectAsInPlain();
  });

  /** The next transaction of a push stays on its way; returns what makes it arrive. */
  function delayNextPush(): { arrive: () => void } {
    const { etcd } = stage;
    const commit = etcd.commit.bind(etcd);
    const arrivals: (() => unknown)[] = [];
    etcd.commit = (transaction, by) => {
      if (by !== pod.name || transaction.compares.length <= 2) return commit(transaction, by);
      arrivals.push(() => commit(transaction, by));
      throw new UnknownOutcomeError('delayed');
    };
    return {
      arrive: () => {
        etcd.commit = commit;
        arrivals[0]?.();
      },
    };
  }

  it('nor is what a killed agent has sent and gets there after the next one has listed the volume', async () => {
    await fileWithNames('d/one');
    const delayed = delayNextPush();
    local.link('d/one', 'd/two');
    await stage.pass(2_000);
    pod.agent?.kill();
    local.unlink('d/two');
    write(local, 'd/two');
    pod.start();
    await stage.pass(100);
    delayed.arrive();
    expect(stage.mount.identityAt('d/two')).to.equal(stage.mount.identityAt('d/one'));
    await expectAsInPlain();
  });

  it('what somebody else writes long after a push had no answer is an edit of theirs', async () => {
    await fileWithNames('d/one');
    delayNextPush();
    local.chmod('d/one', 0o600);
    await stage.pass(2_000);
    pod.agent?.kill();
    local.chmod('d/one', 0o644);
    pod.start();
    await stage.pass(60_000);
    stage.mount.chmod('d/one', 0o600);
    await stage.pass(8_000);
    expect((stage.mount.look('d/one')?.mode ?? 0) & 0o777).to.equal(0o600);
  });

  for (const calls of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    it(`a name that went with an edit does not come back when the agent ends ${calls} calls after its push`, async () => {
      await fileWithNames('d/one', 'd/two');
      const before = stage.mount.text('d/one');
      append(local, 'd/two');
      local.unlink('d/one');
      await pushed(() => stage.mount.text('d/two') !== before);
      if (pod.agent !== undefined) pod.agent.killAt = pod.agent.calls + calls;
      await stage.pass(2_000);
      pod.agent?.kill();
      pod.start();
      await expectAsInPlain();
    });
});
