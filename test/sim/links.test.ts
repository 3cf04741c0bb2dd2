/** What the simulation has found about files with several names: one writer, in whose directory and a plain one the same is done. */

import { expect } from 'chai';
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
});
