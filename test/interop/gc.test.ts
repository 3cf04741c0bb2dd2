/** `gc` on garbage that the real client made: nothing is left over, everything is counted, and the real client agrees. */

import { expect } from 'chai';
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/agent/base/clock.ts';
import { check } from '../../src/agent/housekeeping/check.ts';
import { cleanUp } from '../../src/agent/housekeeping/clean-up.ts';
import type { CleanupReport } from '../../src/agent/housekeeping/report.ts';
import type { Clock } from '../../src/agent/base/ports.ts';
import { encodeAttr } from '../../src/codec/attr.ts';
import { blockKey } from '../../src/codec/block.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { encodeCounter, encodeTimeCounter } from '../../src/codec/counter.ts';
import { decodeKey, TRASH_INO } from '../../src/codec/key.ts';
import type { Kv } from '../../src/codec/kv.ts';
import { decodeSlices } from '../../src/codec/slice.ts';
import { runCommand } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, treeOfMount, type Mount } from '../support/juicefs.ts';
import { attrOf } from '../support/meta.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';
import { until } from '../support/until.ts';

const DAYS_NS = 24n * 3600n * 1_000_000_000n;

/** The real clock, some days on. */
function daysLater(days: number): Clock {
  return { ...systemClock, nowNs: () => systemClock.nowNs() + BigInt(days) * DAYS_NS };
}

describe('gc', function () {
  this.timeout(120_000);
  let server: EtcdServer;
  let juicefs: Juicefs;
  let volume: TestVolume;
  let mount: Mount | undefined;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    server = await startEtcd();
  });
  afterEach(async () => {
    await mount?.close();
    mount = undefined;
    await volume?.store.close();
  });
  after(async () => server?.stop());

  const path = (name: string): string => join(mount?.dir ?? '', name);

  async function clean(clock: Clock, minAge = 0): Promise<CleanupReport> {
    const { store, volume: opened } = volume;
    return cleanUp({ store, volume: opened, clock, guard: [] }, { minAge, dryRun: false });
  }

  async function keysBelow(prefix: string): Promise<number> {
    let keys = 0;
    const start = volume.address.prefix + prefix;
    const end = start.slice(0, -1) + String.fromCharCode(start.charCodeAt(start.length - 1) + 1);
    await volume.store.snapshot([{ start, end }], () => (keys += 1));
    return keys;
  }

  async function expectClean(): Promise<void> {
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
    await juicefs.fsck(volume.url);
    expect(await juicefs.gc(volume.url)).to.include({ leaked: 0, pending: 0 });
  }

  function makeFiles(): void {
    mkdirSync(path('keep'));
    writeFileSync(path('keep/file'), 'kept\n');
    linkSync(path('keep/file'), path('keep/linked'));
    mkdirSync(path('gone'));
    mkdirSync(path('gone/below'));
    for (let i = 0; i < 15; i += 1) writeFileSync(path(`gone/below/${i}`), `content ${i}\n`);
    symlinkSync('nowhere', path('gone/link'));
    linkSync(path('keep/file'), path('gone/third'));
    writeFileSync(path('gone/large'), Buffer.alloc(300_000, 'large'));
    // Many records of one chunk: compaction replaces them, and delays the end of what they named.
    const fd = openSync(path('keep/log'), 'w');
    for (let i = 0; i < 8; i += 1) {
      writeSync(fd, `line ${i}\n`);
      fsyncSync(fd);
    }
    closeSync(fd);
    rmSync(path('gone'), { recursive: true });
  }

  it('empties the trash once it is old enough, and not before', async () => {
    volume = await TestVolume.format(server, { name: 'gc-trash', trashDays: 1, blockSizeKiB: 64 });
    mount = await juicefs.mount(volume.url, ['--heartbeat', '3']);
    makeFiles();
    const shown = treeOfMount(mount.dir);
    await mount.close();
    mount = undefined;
    const trashed = await keysBelow('A');
    expect(await clean(daysLater(1))).to.deep.include({ trashEntries: 0, trashHours: 0, left: [] });
    expect(await keysBelow('A')).to.equal(trashed);
    await expectClean();
    const report = await clean(daysLater(2));
    expect(report).to.deep.include({ left: [], trashEntries: 20, files: 16 });
    // The next hour may have begun meanwhile.
    expect(report.trashHours).to.be.within(1, 2);
    await expectClean();
    expect(await keysBelow('D')).to.equal(0);
    expect(await keysBelow('L')).to.equal(0);
    mount = await juicefs.mount(volume.url, ['--read-only', '--no-bgjob']);
    const now = treeOfMount(mount.dir);
    // A name in the trash counted as a link.
    expect([...now.keys()]).to.deep.equal([...shown.keys()]);
    expect([...now.values()].map(({ content }) => content)).to.deep.equal(
      [...shown.values()].map(({ content }) => content),
    );
  });

  it('ends the session of a killed mount, its locks, and the files that it held open without names', async () => {
    volume = await TestVolume.format(server, { name: 'gc-killed', trashDays: 0, blockSizeKiB: 64 });
    mount = await juicefs.mount(volume.url, ['--heartbeat', '3']);
    makeFiles();
    const held = openSync(path('held'), 'w');
    writeSync(held, Buffer.alloc(200_000, 'held'));
    fsyncSync(held);
    unlinkSync(path('held'));
    const { prefix } = volume.address;
    await until(
      'what the mount did is counted',
      async () => (await recount(volume.store, prefix)).length === 0,
    );
    expect(await keysBelow('SS')).to.equal(1);
    await mount.kill();
    expect(() => closeSync(held)).to.throw('ENOTCONN');
    mount = undefined;
    // Alive for all that others can know.
    expect(await clean(systemClock)).to.deep.include({ sessions: 0, held: 0 });
    expect(await clean(daysLater(1))).to.deep.include({ sessions: 1, held: 1, left: [] });
    expect(await keysBelow('S')).to.equal(0);
    await expectClean();
  });

  it('removes what killed writers left: unnamed inodes, detached trees, lost blocks, counts', async () => {
    volume = await TestVolume.format(server, { name: 'gc-lost', trashDays: 1, blockSizeKiB: 64 });
    mount = await juicefs.mount(volume.url, ['--heartbeat', '3']);
    makeFiles();
    await mount.close();
    mount = undefined;
    await clean(daysLater(3));
    const { store, volume: opened } = volume;
    const { kvs } = await store.get(
      ['usedSpace', 'totalInodes'].map((name) => opened.keyOf({ kind: 'counter', name })),
    );
    const [space = 0n, inodes = 0n] = kvs.map((kv) => Buffer.from(kv?.value ?? []).readBigInt64LE());
    const put = (key: Parameters<typeof opened.keyOf>[0], value: Uint8Array) =>
      ({ type: 'put', key: opened.keyOf(key), value }) as const;
    const dentry = Buffer.from('010000000000000bba', 'hex');
    await writeKeys(store, [
      put({ kind: 'attr', ino: 3000n }, encodeAttr(attrOf('file', { length: 5n }))),
      put({ kind: 'xattr', ino: 3000n, name: 'user.x' }, new Uint8Array(1)),
      put({ kind: 'attr', ino: 3001n }, encodeAttr(attrOf('directory', { nlink: 2, parent: 0n }))),
      put({ kind: 'detached', ino: 3001n }, encodeTimeCounter(1n)),
      put({ kind: 'attr', ino: 3002n }, encodeAttr(attrOf('file', { parent: 3001n }))),
      put({ kind: 'dentry', parent: 3001n, name: 'f' }, new Uint8Array(dentry)),
      put({ kind: 'counter', name: 'usedSpace' }, encodeCounter(space + 3n * 4096n)),
      put({ kind: 'counter', name: 'totalInodes' }, encodeCounter(inodes + 3n)),
      put({ kind: 'sliceRef', id: 4000n, size: 5 }, encodeCounter(-1n)),
      put({ kind: 'sliceRef', id: 4001n, size: 5 }, encodeCounter(2n)),
      ...[4000n, 4001n, 4002n].map((id) => {
        return { type: 'put', key: blockKey(opened.blocks, id, 0, 5), value: new Uint8Array(5) } as const;
      }),
    ]);
    // Nothing of it is old, by the store's own measure.
    expect(await clean(systemClock, 3600)).to.deep.include({
      unnamed: 0,
      blocks: 0,
      youngBlocks: 1,
      slices: 1,
    });
    expect(await clean(systemClock)).to.deep.include({
      ...{ unnamed: 1, detached: 0, blocks: 1, youngBlocks: 0, slices: 1, files: 1, left: [] },
    });
    await expectClean();
    expect(await clean(systemClock)).to.deep.include({
      unnamed: 0,
      detached: 0,
      blocks: 0,
      slices: 0,
      files: 0,
    });
  });

  it('leaves what a killed mount had named and not stored yet, which fsck tells of, until it is removed', async () => {
    volume = await TestVolume.format(server, { name: 'gc-writeback', trashDays: 0, blockSizeKiB: 64 });
    mount = await juicefs.mount(volume.url, ['--heartbeat', '3', '--writeback', '--upload-delay', '1h']);
    writeFileSync(path('late'), Buffer.alloc(100_000, 'late'));
    const { store, volume: opened } = volume;
    const { prefix } = volume.address;
    const lines = async (): Promise<string[]> =>
      (await recount(store, prefix)).filter((line) => !/^block .* is missing$/.test(line));
    await until('what the mount did is counted', async () => (await lines()).length === 0);
    await mount.kill();
    mount = undefined;
    const report = await clean(daysLater(1));
    expect(report).to.deep.include({ sessions: 1, files: 0, slices: 0, blocks: 0, left: [] });
    const later = daysLater(1);
    const { findings } = await check(store, opened, later);
    expect(findings.map(({ kind, path: at }) => `${kind} ${at}`)).to.deep.equal([
      'block-missing /late',
      'block-missing /late',
    ]);
    const removed = await runCommand(['rm', volume.url, '/late']);
    expect(removed.code, removed.stderr).to.equal(0);
    await clean(later);
    await expectClean();
  });

  it('puts a count right that is too low, instead of deleting what is named', async () => {
    volume = await TestVolume.format(server, { name: 'gc-counts', trashDays: 0, blockSizeKiB: 64 });
    await volume.push(volume.make('f', file('shared\n')));
    const { store, volume: opened } = volume;
    const slices: { readonly id: bigint; readonly size: number }[] = [];
    await store.snapshot([prefixRange(`${opened.prefix}A`)], (kv) => {
      const key = decodeKey(kv.key.slice(opened.prefix.length));
      if (key.kind === 'chunk') slices.push(...decodeSlices(kv.value));
    });
    const [slice] = slices;
    if (slice === undefined) throw new Error('the file has no slice');
    // As after the deletion of a clone that the real client counted too little (layout trap 12).
    const key = opened.keyOf({ kind: 'sliceRef', id: slice.id, size: slice.size });
    await writeKeys(store, [{ type: 'put', key, value: encodeCounter(-1n) }]);
    expect(await clean(systemClock)).to.deep.include({ slices: 0, counts: 1, left: [] });
    await expectClean();
  });

  it('takes nothing from mounts and agents that write meanwhile, and takes what is left over all the same', async () => {
    volume = await TestVolume.format(server, { name: 'gc-live', trashDays: 1, blockSizeKiB: 64 });
    mount = await juicefs.mount(volume.url, ['--heartbeat', '3']);
    makeFiles();
    await mount.close();
    const { store, volume: opened } = volume;
    await makeTrashOld();
    const lost = blockKey(opened.blocks, 1_000_000n, 0, 5);
    await writeKeys(store, [{ type: 'put', key: lost, value: new Uint8Array(5) }]);
    mount = await juicefs.mount(volume.url, ['--heartbeat', '3']);
    await volume.push(volume.make('ours', directory()));
    const expected = new Map<string, string>();
    let isOver = false;
    const theirs = (async () => {
      for (let i = 0; !isOver; i += 1) {
        const name = `theirs-${i % 30}`;
        const text = `theirs ${i}\n`.repeat(1 + (i % 4) * 4000);
        if (i % 5 === 4) rmSync(path(name), { force: true });
        else writeFileSync(path(name), text);
        if (i % 5 === 4) expected.delete(name);
        else expected.set(name, text);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const ours = (async () => {
      for (let i = 0; !isOver; i += 1) {
        const name = `ours/${i % 20}`;
        const text = `ours ${i}\n`.repeat(i % 3 === 0 ? 30_000 : 1);
        const change = volume.tree.has(name) ? volume.edit(name, file(text)) : volume.make(name, file(text));
        // Lost when blocks of nobody went meanwhile: then its own are stored again.
        for (let outcome = 'lost'; outcome === 'lost';) {
          outcome = (await volume.try([change])).changes[0]?.outcome ?? 'none';
          expect(outcome).to.be.oneOf(['committed', 'lost']);
        }
        expected.set(name, text);
      }
    })();
    let reports = 0;
    const removed = { trashEntries: 0, blocks: 0 };
    try {
      // Longer than any writer here may be between its blocks and their names.
      for (; removed.blocks === 0 || removed.trashEntries === 0; reports += 1) {
        const { trashEntries, blocks, left } = await clean(systemClock, 8);
        expect(left).to.deep.equal([]);
        removed.trashEntries += trashEntries;
        removed.blocks += blocks;
      }
      // What mounts have not added up yet is no damage.
      const { findings, liveSessions } = await check(volume.store, opened, systemClock);
      expect(findings).to.deep.equal([]);
      expect(liveSessions).to.equal(1);
    } finally {
      isOver = true;
      await Promise.all([theirs, ours]);
    }
    expect(removed).to.deep.equal({ trashEntries: 20, blocks: 1 });
    expect(reports).to.be.greaterThan(3);
    await mount.close();
    mount = await juicefs.mount(volume.url, ['--read-only', '--no-bgjob']);
    const found = new Map([...expected.keys()].map((name) => [name, readFileSync(path(name), 'utf8')]));
    expect(found).to.deep.equal(expected);
    await mount.close();
    mount = undefined;
    await expectClean();
  });

  /** As if what is in the trash had been deleted long ago. */
  async function makeTrashOld(): Promise<void> {
    const { store, volume: opened } = volume;
    const range = prefixRange(opened.keyOf({ kind: 'dentry', parent: TRASH_INO, name: '2' }));
    const hours: Kv[] = [];
    await store.snapshot([range], (kv) => hours.push(kv));
    const old = opened.keyOf({ kind: 'dentry', parent: TRASH_INO, name: '2020-01-01-00' });
    const [hour] = hours;
    if (hour === undefined || hours.length > 1) throw new Error('the trash has not one hour');
    await writeKeys(store, [
      { type: 'delete', key: hour.key },
      { type: 'put', key: old, value: hour.value },
    ]);
  }
});
