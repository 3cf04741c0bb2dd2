/** Hundreds of flips under a reader that resolves `..data` once and then reads files that belong together. */

import { mkdtempSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { startAgent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { file, TestVolume } from '../support/pushing.ts';
import { TreeReader, type TreeReads } from '../support/tree-reader.ts';
import { until } from '../support/until.ts';

/** They change together, in one transaction each time. */
const NAMES = ['first.conf', 'sites/second.conf', 'sites/deep/third.conf'];

/** What a reader has after resolving `..data` (design 4.3): less than `--min-interval`. */
const LIMIT_MS = 20;

describe('a reader of a directory that flips', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let dir: string;

  before(async () => {
    server = await startEtcd();
  });
  after(async () => server?.stop());
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'flips-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  /** Changes the three files `flips` times, each time after the flip that shows the change before. */
  async function readWhileFlipping(
    name: string,
    flips: number,
    minInterval: string,
    reading: { readonly pauseMs: number; readonly limitMs: number },
  ): Promise<TreeReads> {
    const volume = await TestVolume.format(server, { name, blockSizeKiB: 64, trashDays: 0 });
    const dirs = { mode: 0o755, uid: 0, gid: 0 };
    await volume.push(
      ...NAMES.map((path) => ({ ...volume.make(path, file('revision 0')), makeParents: dirs })),
    );
    const agent = await startAgent(volume.url, dir, ['--mode', 'pull', '--min-interval', minInterval]);
    try {
      const reader = await TreeReader.start(dir, NAMES, reading);
      const shown = (): string => readlinkSync(join(dir, '..data'));
      for (let flip = 1; flip <= flips; flip += 1) {
        const before = shown();
        await volume.push(...NAMES.map((path) => volume.edit(path, file(`revision ${flip}`))));
        await until(`flip ${flip}`, () => shown() !== before);
      }
      return await reader.stop();
    } finally {
      expect(await agent.stop()).to.equal(0);
      await volume.store.close();
    }
  }

  it('never sees files of two revisions, nor a missing one, over 500 flips', async () => {
    const seen = await readWhileFlipping('steady', 500, '50ms', { pauseMs: 0, limitMs: LIMIT_MS });
    expect(seen).to.include({ mixed: 0, missing: 0 });
    expect(seen.reads, 'reads').to.be.greaterThan(5_000);
    expect(seen.contents, 'different revisions read').to.be.greaterThan(400);
  });

  it('does see files of two revisions where it is slower than the flips, so that the reader can tell', async () => {
    const seen = await readWhileFlipping('hasty', 100, '0', { pauseMs: 50, limitMs: 10_000 });
    expect(seen.mixed + seen.missing, 'bad reads').to.be.greaterThan(0);
  });
});
