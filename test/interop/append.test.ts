/** Large files that grow at their end here: the volume gets what came, on the inode that is there, and the real client reads it. */

import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { VolumeTree, type VolumeNode } from '../../src/agent/volume/volume-tree.ts';
import { chunkRange } from '../../src/codec/key.ts';
import { decodeSlices, type SliceRecord } from '../../src/codec/slice.ts';
import { startAgent, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { file, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

const MIB = 1 << 20;

function noise(length: number, seed: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => Math.imul(i + seed, 0x9e3779b1) >>> 24));
}

describe('files that grow', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let juicefs: Juicefs;
  let volume: TestVolume;
  let agent: Agent;
  let dir: string;
  let log: string;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    server = await startEtcd();
    dir = mkdtempSync(join(tmpdir(), 'append-'));
    log = join(dir, 'log');
    volume = await TestVolume.format(server, { name: 'growing', blockSizeKiB: 256 });
    await volume.push(volume.make('log', file(noise(2 * MIB, 1))), volume.make('small', file('one\n')));
    agent = await startAgent(volume.url, dir, ['--min-interval', '20ms']);
  });
  after(async () => {
    await agent?.kill();
    await volume?.store.close();
    await server?.stop();
    if (dir !== undefined) rmSync(dir, { recursive: true });
  });

  /** What the volume has at a path, once it is this long. */
  async function at(path: string, size: number): Promise<VolumeNode & { records: SliceRecord[] }> {
    let node: VolumeNode | undefined;
    await until(`${path} has ${size} bytes in the volume`, async () => {
      const { revision } = await volume.store.status();
      node = await new VolumeTree(volume.store, volume.volume, revision).find(path);
      return node?.attr?.length === BigInt(size);
    });
    if (node === undefined) throw new Error('unreachable');
    const { start, end } = chunkRange(node.ino);
    const { prefix } = volume.address;
    const records: SliceRecord[] = [];
    await volume.store.snapshot([{ start: prefix + start, end: prefix + end }], (kv) => {
      records.push(...decodeSlices(kv.value));
    });
    return { ...node, records };
  }

  it('get one more record, on the same inode', async () => {
    const before = await at('log', 2 * MIB);
    appendFileSync(log, noise(300_000, 2));
    const after = await at('log', 2 * MIB + 300_000);
    expect(after.ino).to.equal(before.ino);
    expect(after.records.slice(0, -1)).to.deep.equal(before.records);
    expect(after.records.at(-1)).to.include({ pos: 2 * MIB, size: 300_000, off: 0, len: 300_000 });
    expect(after.attr!.mtimeNs > before.attr!.mtimeNs).to.equal(true);
    await agent.until('all is pushed', ({ pendingEdits }) => pendingEdits === 0);
    appendFileSync(log, 'a line\n');
    const again = await at('log', 2 * MIB + 300_007);
    expect([again.ino, again.records.length]).to.deep.equal([before.ino, 3]);
  });

  it('get nothing for zeros', async () => {
    await agent.until('all is pushed', ({ pendingEdits }) => pendingEdits === 0);
    const before = await at('log', 2 * MIB + 300_007);
    truncateSync(log, 6 * MIB);
    appendFileSync(log, 'after the hole\n');
    const after = await at('log', 6 * MIB + 15);
    expect(after.ino).to.equal(before.ino);
    const [last] = after.records.slice(-1);
    expect(last!.pos + last!.len).to.equal(6 * MIB + 15);
    expect(last!.len).to.be.lessThan(MIB);
  });

  it('are stored anew where their beginning changed, and where they are small', async () => {
    await agent.until('all is pushed', ({ pendingEdits }) => pendingEdits === 0);
    const before = await at('log', 6 * MIB + 15);
    const small = await at('small', 4);
    const content = readFileSync(log);
    writeFileSync(log, Buffer.concat([Buffer.from('new'), content]));
    appendFileSync(join(dir, 'small'), 'two\n');
    expect((await at('log', 6 * MIB + 18)).ino).not.to.equal(before.ino);
    expect((await at('small', 8)).ino).not.to.equal(small.ino);
  });

  it('are read by a mount as they are here, and the volume is whole', async () => {
    await agent.until('all is pushed', ({ pendingEdits }) => pendingEdits === 0);
    appendFileSync(log, noise(70_000, 3));
    await at('log', 6 * MIB + 70_018);
    await agent.until('all is pushed', ({ pendingEdits }) => pendingEdits === 0);
    const mount = await juicefs.mount(volume.url, ['--read-only', '--no-bgjob']);
    try {
      expect(readFileSync(join(mount.dir, 'log')).equals(readFileSync(log))).to.equal(true);
    } finally {
      await mount.close();
    }
    await agent.stop();
    await juicefs.fsck(volume.url);
    const { leaked, pending } = await juicefs.gc(volume.url);
    expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
  });
});
