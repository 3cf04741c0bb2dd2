/** The remote side on a real etcd: what it believes of contents that this agent pushed itself. */

import { expect } from 'chai';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findAbilities } from '../../src/agent/disk/abilities.ts';
import { systemClock } from '../../src/agent/base/clock.ts';
import { UnavailableError } from '../../src/agent/base/error.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { layoutOf } from '../../src/agent/disk/layout.ts';
import type { WatchHandlers } from '../../src/agent/base/ports.ts';
import { Remote } from '../../src/agent/follow/remote.ts';
import { blockKey } from '../../src/codec/block.ts';
import { decodeAttr, encodeAttr } from '../../src/codec/attr.ts';
import { encodeSlices } from '../../src/codec/slice.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { file, TestVolume } from '../support/pushing.ts';
import { until } from '../support/until.ts';

describe('Remote', () => {
  let server: EtcdServer;
  let folder: string;
  let volume: TestVolume;
  let remote: Remote;

  before(async () => {
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'remote-'));
    mkdirSync(join(folder, '..etcd-etc-agent', 'stage'), { recursive: true });
    volume = await TestVolume.format(server, { name: 'remote-side', blockSizeKiB: 64, trashDays: 1 });
    const layout = layoutOf(folder);
    remote = new Remote({
      store: volume.store,
      volume: volume.volume,
      fs: nodeFs,
      layout,
      clock: systemClock,
      abilities: findAbilities(nodeFs, layout, { specialFiles: 'none', syncTimes: false }),
      subdir: [],
      hidden: () => false,
      holdMaxMs: 0,
      onChange: () => undefined,
    });
  });
  after(async () => {
    await volume?.store.close();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  /** What a mount does that writes into the file without changing its size (layout 10.2). */
  async function overwrite(ino: bigint, id: bigint, text: string): Promise<void> {
    const { volume: opened } = volume;
    const attrKey = opened.keyOf({ kind: 'attr', ino });
    const attr = decodeAttr((await volume.store.get([attrKey])).kvs[0]?.value ?? new Uint8Array());
    const record = { pos: 0, id, size: text.length, off: 0, len: text.length };
    const puts = [
      { key: blockKey(opened.blocks, id, 0, text.length), value: Buffer.from(text) },
      { key: opened.keyOf({ kind: 'chunk', ino, index: 0 }), value: encodeSlices([record]) },
      { key: attrKey, value: encodeAttr({ ...attr, mtimeNs: attr.mtimeNs + 1n }) },
    ];
    await volume.store.commit({ compares: [], ops: puts.map((put) => ({ type: 'put', ...put })) });
  }

  /** What is listed counts once the store is known to be the right one. */
  async function listed(): Promise<void> {
    await remote.list();
    expect(await remote.verify()).to.equal(undefined);
  }

  it('does not take what a mount wrote into our own new file, at the same size, for what we had put there', async () => {
    const ours = file('ours!');
    const {
      revisions: [writtenAt = 0n],
    } = await volume.push(volume.make('f', ours));
    const { ino } = volume.at('f');
    await overwrite(ino, 9_001n, 'other');
    await listed();
    // The answer to our transaction comes late: the remote side has taken in both.
    remote.noteOwn(writtenAt, new Map([[ino, { digest: ours.digest, size: ours.size, writtenAt }]]));
    await remote.advance();
    expect(remote.tree.get('f')).to.include({ digest: file('other').digest });
  });

  it('reads nothing of what it pushed itself and nobody has touched since', async () => {
    const ours = file('read by nobody');
    const {
      revisions: [writtenAt = 0n],
    } = await volume.push(volume.make('g', ours));
    const { ino } = volume.at('g');
    await listed();
    remote.noteOwn(writtenAt, new Map([[ino, { digest: ours.digest, size: ours.size, writtenAt }]]));
    const stage = remote.stage.stage.bind(remote.stage);
    const asked: string[] = [];
    remote.stage.stage = (wanted, ...rest) => {
      asked.push(...wanted.map(({ key }) => key));
      return stage(wanted, ...rest);
    };
    await remote.advance();
    expect(remote.tree.get('g')).to.include({ digest: ours.digest });
    expect(asked).to.deep.equal([]);
  });

  it('forgets nothing of a change when the store is away while the ACL of a file is read', async () => {
    await volume.push(volume.make('h', file('h')));
    const { ino } = volume.at('h');
    const key = volume.volume.keyOf({ kind: 'attr', ino });
    const attr = decodeAttr((await volume.store.get([key])).kvs[0]?.value ?? new Uint8Array());
    const value = encodeAttr({ ...attr, mode: 0o600, accessAcl: 7 });
    await volume.store.commit({ compares: [], ops: [{ type: 'put', key, value }] });
    await listed();
    const get = volume.store.get.bind(volume.store);
    const rule = volume.volume.keyOf({ kind: 'aclRule', id: 7 });
    volume.store.get = async (keys, options) => {
      if (!keys.includes(rule)) return get(keys, options);
      volume.store.get = get;
      throw new UnavailableError('made up');
    };
    const error = await remote.advance().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).to.be.instanceOf(UnavailableError);
    expect(remote.tree.get('h')).to.equal(undefined);
    const advanced = await remote.advance();
    expect('changed' in advanced ? [...advanced.changed] : []).to.include('h');
    expect(remote.tree.get('h')).to.include({ digest: file('h').digest, mode: 0o600 });
  });

  /** Follows a watch that says what the test says; `work` gets it and whether the list is asked for again. */
  async function watched(
    work: (handlers: WatchHandlers, isListedAgain: () => boolean) => Promise<void>,
  ): Promise<void> {
    await listed();
    const { store } = volume;
    const watch = store.watch.bind(store);
    const end = new AbortController();
    let handlers: WatchHandlers | undefined;
    let watches = 0;
    store.watch = async (_ranges, _from, given, signal) => {
      handlers = given;
      watches += 1;
      await once(signal, 'abort');
      throw new UnavailableError('the watch has ended');
    };
    const following = remote.follow(end.signal).catch(() => undefined);
    try {
      await until('it is followed', () => handlers !== undefined);
      handlers?.onState(true);
      expect(await remote.verify()).to.equal(undefined);
      handlers?.onState(false, 'made up');
      await work(handlers as WatchHandlers, () => watches > 1);
    } finally {
      end.abort();
      store.watch = watch;
      await following;
    }
  }

  /** One revision more of the volume, as a watch tells of it. */
  function tell(handlers: WatchHandlers): void {
    const key = volume.volume.keyOf({ kind: 'counter', name: 'nextInode' });
    const modRevision = remote.head + 1n;
    const kv = { key, value: Buffer.from('4711'), modRevision, createRevision: 1n };
    handlers.onRevision(0, modRevision, [{ type: 'put', kv }]);
  }

  it('asks for the history as soon as a watch brings something, be it all up or not', () =>
    watched(async (handlers) => {
      tell(handlers);
      const get = volume.store.get.bind(volume.store);
      volume.store.get = () => Promise.resolve({ revision: remote.head + 100n, kvs: [] });
      try {
        expect(await remote.verify()).to.include({ guard: 'history' });
      } finally {
        volume.store.get = get;
      }
    }));

  it('lists again what came by a watch that ended before the store was known', () =>
    watched(async (handlers, isListedAgain) => {
      tell(handlers);
      handlers.onState(false, 'made up');
      handlers.onState(true);
      expect(await remote.verify()).to.equal(undefined);
      await until('it is listed again', isListedAgain);
    }));
});
