/** Volumes that the real client filled and counted: what it counted stays as right or wrong as it was under our pushes. */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { Pusher, type PushOutcome } from '../../src/agent/push/push.ts';
import { openVolume } from '../../src/agent/volume/volume.ts';
import { VolumeTree, type VolumeNode } from '../../src/agent/volume/volume-tree.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { contentOf, directory, file } from '../support/pushing.ts';
import { loadInto } from '../support/raw-keys.ts';
import { recount } from '../support/recount.ts';

/** How far each account is from its count, whatever both are. */
async function drift(...[store, prefix]: Parameters<typeof recount>): Promise<string[]> {
  const wrong = await recount(store, prefix);
  return wrong.map((line) =>
    line.replace(/ is (-?\d+), should be (-?\d+)$/, (_, is: string, should: string) => {
      return ` is off by ${BigInt(is) - BigInt(should)}`;
    }),
  );
}

describe('pushes into captured volumes with accounts', function () {
  let server: EtcdServer;

  beforeEach(async () => {
    server = await startEtcd();
  });
  afterEach(async () => server?.stop());

  for (const [name, full] of [
    ['quota', 'team-b/nested'],
    ['quota-users', undefined],
    ['acl', undefined],
  ] as const) {
    it(`${name}: new entries everywhere, and away again`, async () => {
      const { store, url, prefix } = await loadInto(server, name);
      const volume = await openVolume(store, parseMetaUrl(url));
      const pusher = new Pusher(store, volume, systemClock);
      const before = await drift(store, prefix);
      const root = new VolumeTree(store, volume, (await store.status()).revision);
      const top = await root.find('');
      if (top === undefined) throw new Error('the volume has no root');
      const directories: VolumeNode[] = [];
      for await (const node of root.below(top)) {
        if (node.attr?.type === 'directory') directories.push(node);
      }
      const push = (changes: readonly PushChange[]): Promise<PushOutcome> =>
        pusher.push(changes, {
          read: async ({ new: entry }, offset, length) => {
            if (entry?.type !== 'file') throw new Error('only files are read');
            return contentOf(entry).subarray(Number(offset), Number(offset) + length);
          },
        });
      const made = await push(
        directories.flatMap(({ path }) => [
          { path: `${path}/new-f`, old: undefined, new: file('hello', { uid: 1000, gid: 100 }) },
          { path: `${path}/new-d`, old: undefined, new: directory() },
        ]),
      );
      const refused = made.changes.filter(({ outcome }) => outcome !== 'committed');
      const expected = full === undefined ? [] : [`${full}/new-f`, `${full}/new-d`];
      expect(refused.map(({ change }) => change.path)).to.deep.equal(expected);
      expect(await drift(store, prefix)).to.deep.equal(before);
      const gone = await push(
        made.changes.flatMap((one) =>
          one.outcome === 'committed' && one.entry !== undefined
            ? [{ path: one.change.path, old: one.entry, new: undefined }]
            : [],
        ),
      );
      expect(gone.changes.every(({ outcome }) => outcome === 'committed')).to.equal(true);
      expect(await drift(store, prefix)).to.deep.equal(before);
      await store.close();
    });
  }
});
