/** Hundreds of flips under a reader that resolves `..data` once and then reads files that belong together. */

import { mkdtempSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { startAgent, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { file, TestVolume } from '../support/pushing.ts';
import { TreeReader, type TreeReads } from '../support/tree-reader.ts';
import { until } from '../support/until.ts';

/** They change together, in one transaction each time. */
const NAMES = ['first.conf', 'sites/second.conf', 'sites/deep/third.conf'];

/** A busy machine takes longer for a flip: then these are fewer. */
const LIMIT_OF_ALL_MS = 40_000;
const LEAST_FLIPS = 50;

/** What a reader has after resolving `..data` (design 4.3): less than `--min-interval`. */
const LIMIT_MS = 20;

describe('a reader of a directory that flips', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let dir: string;
  let volume: TestVolume | undefined;
  let agent: Agent | undefined;
  let reader: TreeReader | undefined;

  before(async () => {
    server = await startEtcd();
  });
  after(async () => server?.stop());
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'flips-'));
  });
  afterEach(async () => {
    reader?.kill();
    await agent?.kill();
    await volume?.store.close();
    [reader, agent, volume] = [undefined, undefined, undefined];
    rmSync(dir, { recursive: true, force: true });
  });

  /** Changes the three files, at most `most` times, each time after the flip that shows the change before. */
  async function readWhileFlipping(
    name: string,
    most: number,
    minInterval: string,
    reading: { readonly pauseMs: number; readonly limitMs: number },
  ): Promise<TreeReads & { readonly flips: number }> {
    const changed = await TestVolume.format(server, { name, blockSizeKiB: 64, trashDays: 0 });
    volume = changed;
    const dirs = { mode: 0o755, uid: 0, gid: 0 };
    await changed.push(
      ...NAMES.map((path) => ({ ...changed.make(path, file('revision 0')), makeParents: dirs })),
    );
    agent = await startAgent(changed.url, dir, ['--mode', 'pull', '--min-interval', minInterval]);
    reader = await TreeReader.start(dir, NAMES, reading);
    const shown = (): string => readlinkSync(join(dir, '..data'));
    const endMs = performance.now() + LIMIT_OF_ALL_MS;
    let flips = 0;
    while (flips < most && performance.now() < endMs) {
      const before = shown();
      flips += 1;
      await changed.push(...NAMES.map((path) => changed.edit(path, file(`revision ${flips}`))));
      await until(`flip ${flips}`, () => shown() !== before);
    }
    expect(flips, 'flips').to.be.at.least(LEAST_FLIPS);
    const seen = await reader.stop();
    expect(await agent.stop()).to.equal(0);
    return { ...seen, flips };
  }

  it('never sees files of two revisions, nor a missing one, over hundreds of flips', async () => {
    const seen = await readWhileFlipping('steady', 500, '50ms', { pauseMs: 0, limitMs: LIMIT_MS });
    expect(seen).to.include({ mixed: 0, missing: 0 });
    expect(seen.reads, 'reads').to.be.greaterThan(2 * seen.flips);
    expect(seen.contents, 'different revisions read').to.be.greaterThan(seen.flips / 2);
  });

  it('does see files of two revisions where it is slower than the flips, so that the reader can tell', async () => {
    const seen = await readWhileFlipping('hasty', 100, '0', { pauseMs: 50, limitMs: 10_000 });
    expect(seen.mixed + seen.missing, 'bad reads').to.be.greaterThan(0);
  });
});
