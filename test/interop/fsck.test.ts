/** `fsck` on volumes that the real client made: damage of each kind is found and repaired, and the real client agrees. */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import { encodeAttr } from '../../src/codec/attr.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { encodeCounter, encodeDirStat } from '../../src/codec/counter.ts';
import { encodeDentry } from '../../src/codec/dentry.ts';
import { encodeKey, type MetaKey } from '../../src/codec/key.ts';
import type { StoreOp } from '../../src/codec/kv.ts';
import { encodeSlices } from '../../src/codec/slice.ts';
import { cleanUp } from '../../src/agent/housekeeping/clean-up.ts';
import { fsck } from '../../src/agent/verbs/fsck.ts';
import { openVolume } from '../../src/agent/volume/volume.ts';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs } from '../support/juicefs.ts';
import { attrOf } from '../support/meta.ts';
import { Collected } from '../support/pushing.ts';
import { loadInto, writeKeys, type LoadedVolume } from '../support/raw-keys.ts';
import { recount } from '../support/recount.ts';

interface Report {
  readonly findings: readonly { readonly kind: string; readonly path?: string }[];
  readonly repaired?: readonly unknown[];
  readonly left?: readonly { readonly kind: string }[];
}

describe('fsck', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let volume: LoadedVolume;
  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
  });
  after(async () => server?.stop());
  afterEach(async () => {
    const { start, end } = prefixRange(volume.prefix);
    await writeKeys(volume.store, [
      { type: 'deleteRange', range: { start, end } },
      { type: 'deleteRange', range: prefixRange('pics/') },
    ]);
    await volume.store.close();
  });

  /** Loads a capture whose setting names this server, so that the real client finds the blocks. */
  async function load(name: string): Promise<void> {
    volume = await loadInto(server, name);
    const key = `${volume.prefix}setting`;
    const { kvs } = await volume.store.get([key]);
    const setting = JSON.parse(Buffer.from(kvs[0]?.value ?? []).toString()) as Record<string, unknown>;
    const bucket = `${server.endpoint.host}:${server.endpoint.port}`;
    const value = new Uint8Array(Buffer.from(JSON.stringify({ ...setting, Bucket: bucket })));
    await writeKeys(volume.store, [{ type: 'put', key, value }]);
  }

  async function run(repair: boolean): Promise<{ readonly code: number; readonly report: Report }> {
    const out = new Collected();
    const { store, url } = volume;
    const context = {
      ...{ store, address: parseMetaUrl(url), clock: systemClock, out, err: new Collected() },
      data: { passphrase: 'fixture-passphrase' },
    };
    const code = await fsck(context, { repair, json: true });
    return { code, report: JSON.parse(out.text) as Report };
  }

  function put(key: MetaKey, value: Uint8Array): StoreOp {
    return { type: 'put', key: volume.prefix + encodeKey(key), value };
  }

  for (const name of [
    ...['nginx-basic', 'shapes', 'compress-lz4', 'hash-prefix', 'trash', 'trash-0', 'acl', 'quota-users'],
    ...['unlinked-open', 'encrypted-chacha20'],
  ]) {
    it(`finds nothing wrong with ${name}, block bytes included`, async () => {
      await load(name);
      expect(await run(false)).to.deep.include({ code: 0 });
    });
  }

  it('finds damage that the real client does not see, repairs it, and the real client agrees', async () => {
    await load('trash');
    const { store, prefix, url } = volume;
    const opened = await openVolume(store, { prefix });
    const tree = new VolumeTree(store, opened, opened.revision);
    const root = await tree.find('');
    const linked = await tree.find('h2');
    const conf = await tree.find('conf');
    if (root?.attr === undefined || linked?.attr === undefined || conf?.attr === undefined)
      throw new Error('the capture is another one');
    const record = { pos: 0, id: 900_000n, size: 5, off: 0, len: 5 };
    await writeKeys(store, [
      put({ kind: 'dentry', parent: 1n, name: 'nowhere' }, encodeDentry({ type: 'file', ino: 900n })),
      put({ kind: 'attr', ino: 1n }, encodeAttr({ ...root.attr, nlink: 17 })),
      put({ kind: 'attr', ino: linked.ino }, encodeAttr({ ...linked.attr, nlink: 9 })),
      put({ kind: 'parent', ino: linked.ino, parent: 1n }, encodeCounter(5n)),
      put({ kind: 'attr', ino: conf.ino }, encodeAttr({ ...conf.attr, parent: 77n })),
      put({ kind: 'attr', ino: 901n }, encodeAttr(attrOf('file', { length: 100n }))),
      put({ kind: 'attr', ino: 903n }, encodeAttr(attrOf('directory', { nlink: 2, length: 4096n }))),
      put({ kind: 'dirStat', ino: 903n }, encodeDirStat({ length: 0n, space: 4096n, inodes: 1n })),
      put({ kind: 'dentry', parent: 903n, name: 'f' }, encodeDentry({ type: 'file', ino: 904n })),
      put({ kind: 'attr', ino: 904n }, encodeAttr(attrOf('file', { parent: 903n }))),
      put({ kind: 'chunk', ino: 902n, index: 0 }, encodeSlices([record])),
      put({ kind: 'sliceRef', id: 900_001n, size: 5 }, encodeCounter(3n)),
      put({ kind: 'counter', name: 'usedSpace' }, encodeCounter(1n)),
      put({ kind: 'counter', name: 'totalInodes' }, encodeCounter(1n)),
      put({ kind: 'counter', name: 'nextChunk' }, encodeCounter(1_000_000n)),
      put({ kind: 'dirStat', ino: 1n }, encodeDirStat({ length: 0n, space: 0n, inodes: 0n })),
    ]);
    const before = await run(false);
    expect(before.code).to.equal(5);
    expect(before.report.findings.map(({ kind }) => kind).sort()).to.deep.equal([
      ...[
        'counter',
        'counter',
        'dangling',
        'leftover',
        'nlink',
        'nlink',
        'orphan',
        'orphan',
        'parent',
        'parent',
      ],
      ...['reference', 'statistics'],
    ]);
    const repaired = await run(true);
    expect(repaired.report.left).to.deep.equal([]);
    expect(repaired.code).to.equal(0);
    expect(await run(false)).to.deep.include({ code: 0 });
    await juicefs.fsck(url);
    expect(await juicefs.gc(url)).to.include({ leaked: 0, pending: 0 });
    expect(await recount(store, prefix)).to.deep.equal([]);
  });

  it('tells a block of other bytes from a missing one, with the file they belong to', async () => {
    await load('compress-zstd');
    const { store } = volume;
    const keys: string[] = [];
    await store.snapshot([{ start: 'pics/chunks/', end: 'pics/chunks0' }], ({ key }) => keys.push(key));
    await writeKeys(store, [
      { type: 'put', key: keys[0] ?? '', value: new Uint8Array(30) },
      { type: 'delete', key: keys[1] ?? '' },
    ]);
    const { code, report } = await run(true);
    expect(code).to.equal(5);
    expect(report.left?.map(({ kind }) => kind).sort()).to.deep.equal(['block-bytes', 'block-missing']);
    expect(report.findings.every(({ path }) => path?.startsWith('/') === true)).to.equal(true);
  });

  for (const name of ['quota-users', 'quota', 'shapes', 'unlinked-open']) {
    it(`finds ${name} exact after a clean-up of everything, quotas included, and the real client agrees`, async () => {
      await load(name);
      const { store, prefix, url } = volume;
      // What the real client itself left behind in a capture.
      await run(true);
      const opened = await openVolume(store, { prefix });
      const clock = { ...systemClock, nowNs: () => systemClock.nowNs() + 864_000n * 1_000_000_000n };
      const report = await cleanUp({ store, volume: opened, clock, guard: [] }, { minAge: 0, dryRun: false });
      expect(report.left).to.deep.equal([]);
      expect(report.trashEntries + report.held).to.be.greaterThan(0);
      const after = await run(false);
      expect(after.report.findings).to.deep.equal([]);
      await juicefs.fsck(url);
      expect(await juicefs.gc(url)).to.include({ leaked: 0, pending: 0 });
      // The real client's clones add to the length of the directory above (layout 8.4).
      const wrong = (await recount(store, prefix)).filter((line) => !line.startsWith('length in U'));
      expect(wrong).to.deep.equal([]);
    });
  }
});
