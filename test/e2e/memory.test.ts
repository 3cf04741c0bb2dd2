/**
 * How much memory a large file and a large directory take: bounds as measured (in parentheses) and about half as much again,
 * because V8 collects when it likes. They hold for any size of file, whose contents pass through, and grow with the entries.
 */

import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { encodeAttr } from '../../src/codec/attr.ts';
import { blockKey } from '../../src/codec/block.ts';
import { encodeDentry } from '../../src/codec/dentry.ts';
import type { ByteString, StoreOp } from '../../src/codec/kv.ts';
import { encodeSlices } from '../../src/codec/slice.ts';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { Agent, runCommand } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { attrOf } from '../support/meta.ts';
import { directory, TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { until } from '../support/until.ts';

const MIB = 1 << 20;
const FILE_MIB = 100;
const ENTRIES = 20_000;

/** MiB of resident memory. */
const BOUNDS = {
  /** Import (150) and watch (190) of one file of 100 MiB. */
  file: 300,
  /** Watch (about 370) of 20,000 files in one directory. */
  directory: 550,
};

/** Makes the command say at its end how much it had at most, in KiB. */
const TELLING = {
  NODE_OPTIONS:
    "--import=data:text/javascript,process.on('exit',()=>console.error('peak='+process.resourceUsage().maxRSS))",
};

/** Runs the command to a good end; its peak in MiB. */
async function peakOf(args: readonly string[]): Promise<number> {
  const { code, stderr } = await runCommand(args, TELLING);
  expect(code, stderr).to.equal(0);
  return Number(/peak=(\d+)/.exec(stderr)?.[1]) / 1024;
}

/** The peak of a running process in MiB. */
function peakSoFar(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Writes a file of noise; its digest. */
function writeNoise(path: string, seed: string): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'w');
  const part = Buffer.alloc(MIB);
  for (let n = 0; n < FILE_MIB; n += 1) {
    // Not noise to a compressor, but no two blocks are equal.
    part.fill(createHash('sha256').update(`${seed} ${n}`).digest());
    hash.update(part);
    writeSync(fd, part);
  }
  closeSync(fd);
  return hash.digest('hex');
}

describe('memory', function () {
  this.timeout(300_000);
  let server: EtcdServer;
  let folder: string;
  let agent: Agent | undefined;

  before(async () => {
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'memory-'));
  });
  afterEach(async () => {
    await agent?.kill();
    agent = undefined;
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  /** An agent that has published; a busy machine takes its time with so much. */
  async function serve(volume: TestVolume, dir: string): Promise<Agent> {
    agent = new Agent(volume.url, dir, ['--min-interval', '20ms']);
    await agent.until('it is ready', ({ ready }) => ready, 120_000);
    return agent;
  }

  function digestOf(path: string): string {
    return createHash('sha256').update(readFileSync(path)).digest('hex');
  }

  it(`stays below ${BOUNDS.file} MiB with a file of ${FILE_MIB} MiB, both ways`, async () => {
    const volume = await TestVolume.format(server, { name: 'one-large' });
    try {
      const source = join(folder, 'source');
      const dir = join(folder, 'served');
      mkdirSync(source);
      mkdirSync(dir);
      const digest = writeNoise(join(source, 'large'), 'first');
      expect(await peakOf(['import', volume.url, source])).to.be.lessThan(BOUNDS.file);

      agent = await serve(volume, dir);
      expect(digestOf(join(dir, 'large'))).to.equal(digest);
      // An end that grew, and then all of it: once appended, once stored anew.
      appendFileSync(join(dir, 'large'), 'more\n');
      const inodes = [await pushed(volume, FILE_MIB * MIB + 5)];
      writeNoise(join(dir, 'large'), 'second');
      inodes.push(await pushed(volume, FILE_MIB * MIB));
      expect(inodes[0]).not.to.equal(inodes[1]);
      expect(peakSoFar(agent.pid), 'MiB').to.be.lessThan(BOUNDS.file);
    } finally {
      await volume.store.close();
    }
  });

  /** The inode of the large file once the volume has it with this size, and the agent is done. */
  async function pushed(volume: TestVolume, size: number): Promise<bigint | undefined> {
    let ino: bigint | undefined;
    await until(
      `the volume has ${size} bytes`,
      async () => {
        const { revision } = await volume.store.status();
        const node = await new VolumeTree(volume.store, volume.volume, revision).find('large');
        ino = node?.ino;
        return node?.attr?.length === BigInt(size);
      },
      120_000,
    );
    await agent?.until('nothing is left to push', ({ pendingEdits }) => pendingEdits === 0, 120_000);
    return ino;
  }

  it(`stays below ${BOUNDS.directory} MiB with a directory of ${ENTRIES} entries`, async () => {
    const volume = await TestVolume.format(server, { name: 'many-entries' });
    try {
      const dir = join(folder, 'seeded');
      mkdirSync(dir);
      await volume.push(volume.make('d', directory()));
      await fill(volume, volume.at('d').ino);
      agent = await serve(volume, dir);
      for (const i of [0, 9_999, ENTRIES - 1])
        expect(readFileSync(join(dir, 'd', `file-${i}`), 'utf8')).to.equal(`content ${i}\n`);
      writeFileSync(join(dir, 'd', 'file-7'), 'an edit\n');
      rmSync(join(dir, 'd', 'file-8'));
      writeFileSync(join(dir, 'd', 'new'), 'one more\n');
      await until(
        'the volume has the edits',
        async () => {
          const { revision } = await volume.store.status();
          const tree = new VolumeTree(volume.store, volume.volume, revision);
          const [edited, removed, added] = await Promise.all(
            ['7', '8'].map((n) => tree.find(`d/file-${n}`)).concat(tree.find('d/new')),
          );
          return edited?.attr?.length === 8n && removed === undefined && added !== undefined;
        },
        120_000,
      );
      expect(peakSoFar(agent.pid), 'MiB').to.be.lessThan(BOUNDS.directory);
    } finally {
      await volume.store.close();
    }
  });

  /** What a mount would have written; a push of so many takes half a minute. */
  async function fill({ store, volume }: TestVolume, parent: bigint): Promise<void> {
    const ops: StoreOp[] = [];
    const put = (key: ByteString, value: Uint8Array): void => void ops.push({ type: 'put', key, value });
    for (let i = 0; i < ENTRIES; i += 1) {
      const content = Buffer.from(`content ${i}\n`);
      const [ino, id] = [BigInt(100_000 + i), BigInt(100_000 + i)];
      const size = content.length;
      const record = { pos: 0, id, size, off: 0, len: size };
      put(volume.keyOf({ kind: 'dentry', parent, name: `file-${i}` }), encodeDentry({ type: 'file', ino }));
      put(
        volume.keyOf({ kind: 'attr', ino }),
        encodeAttr(attrOf('file', { length: BigInt(size), parent, mtimeNs: 1n, ctimeNs: 2n })),
      );
      put(volume.keyOf({ kind: 'chunk', ino, index: 0 }), encodeSlices([record]));
      put(blockKey(volume.blocks, id, 0, size), content);
    }
    await writeKeys(store, ops);
  }
});
