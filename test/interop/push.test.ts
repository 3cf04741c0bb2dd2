/** Every operation that the pusher makes, as the real client sees it: a fresh mount, both forms of fsck, gc, a recount. */

import { expect } from 'chai';
import type { Entry } from '../../src/reconcile/entry.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, treeOfMount } from '../support/juicefs.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { needFuse } from '../support/tools.ts';

const LONG_NAME = 'n'.repeat(250);
const ODD_NAME = '\xff\xfe weird\n\x01';

/** All operations, each on what the ones before it left. */
async function everyOperation(volume: TestVolume): Promise<void> {
  const { make, edit, remove, move } = bound(volume);
  const large = new Uint8Array(150_000).map((_, i) => (i * 31) % 251);
  await volume.push(
    make('d', directory()),
    make('d/sub', directory({ mode: 0o700 })),
    make('d/sub/deep', directory()),
    make('d/a', file('alpha\n')),
    make('d/b', file('beta\n', { mode: 0o600, uid: 33, gid: 33 })),
    make('d/sub/empty', file('')),
    make('top', file('top\n')),
    make('link', symlink('d/a')),
    make(LONG_NAME, file('long name\n')),
    make(ODD_NAME, file('odd name\n')),
  );
  await volume.push(make('large', file(large)));
  await volume.push(
    edit('d/a', file('alpha, edited\n')),
    edit('d/b', { mode: 0o640 }),
    edit('d', { mode: 0o750 }),
  );
  await volume.push(edit('link', symlink('d/b')));
  await volume.push(edit('large', file(large.subarray(0, 70_000))));
  // Moves: within a directory, across directories, over a file, of a directory with contents, in a circle.
  await volume.push(move('top', 'renamed'));
  await volume.push(move('d/b', 'd/sub/b'));
  await volume.push(make('victim', file('to be replaced\n')), make('source', file('replaces\n')));
  await volume.push(move('source', 'victim', { over: volume.at('victim') }));
  await volume.push(make('other', directory()));
  await volume.push(move('d/sub', 'other/sub'));
  await volume.push(make('x', file('x\n')), make('y', file('y\n')));
  await volume.push(move('x', 'y'), move('y', 'x'));
  // A move, an edit of what moved, and a new entry under the old name.
  await volume.push(
    move('renamed', 'other/moved', { new: file('edited while moving\n') }),
    make('renamed', file('new under the old name\n')),
  );
  // Types change.
  await volume.push(make('changing', file('a file\n')));
  await volume.push(edit('changing', directory()), make('changing/inside', file('inside\n')));
  await volume.push(remove('changing/inside'), edit('changing', symlink('large')));
  // A tree goes in one push.
  await volume.push(make('tree', directory()), make('tree/1', directory()), make('tree/1/2', file('2\n')));
  await volume.push(remove('tree/1/2'), remove('tree/1'), remove('tree'));
  await volume.push(remove('link'), remove(LONG_NAME));
  await volume.push({
    ...make('.conflicts/20261122T160000Z-r7-agent/d/a', file('the loser\n', { mode: 0o600 })),
    makeParents: { mode: 0o700, uid: 0, gid: 0 },
  });
  for (const path of ['', '/20261122T160000Z-r7-agent', '/20261122T160000Z-r7-agent/d']) {
    volume.tree.set(`.conflicts${path}`, directory({ mode: 0o700 }));
  }
  // More than one transaction holds.
  await volume.push(
    make('many', directory()),
    ...Array.from({ length: 150 }, (_, i) => make(`many/${i}`, file(`file ${i}\n`))),
  );
  await volume.push(...Array.from({ length: 100 }, (_, i) => remove(`many/${i}`)));
}

function bound(volume: TestVolume): Pick<TestVolume, 'make' | 'edit' | 'remove' | 'move'> {
  return {
    make: (...args) => volume.make(...args),
    edit: (...args) => volume.edit(...args),
    remove: (...args) => volume.remove(...args),
    move: (...args) => volume.move(...args),
  };
}

/** The form in which a mount shows an entry. */
function shown(entry: Entry): { type: string; mode: string; content: string } {
  const mode = entry.type === 'symlink' ? '' : entry.mode.toString(8).padStart(4, '0');
  const content = entry.type === 'file' ? entry.digest : entry.type === 'symlink' ? entry.target : '';
  return { type: entry.type, mode, content };
}

async function expectMountShows(juicefs: Juicefs, volume: TestVolume): Promise<void> {
  const mount = await juicefs.mount(volume.url, ['--read-only', '--no-bgjob']);
  try {
    const tree = [...treeOfMount(mount.dir)].map(([path, { type, mode, content }]) => [
      path,
      { type, mode, content },
    ]);
    const expected = [...volume.tree].map(([path, entry]) => [path, shown(entry)]);
    expect(Object.fromEntries(tree)).to.deep.equal(Object.fromEntries(expected));
  } finally {
    await mount.close();
  }
}

describe('the pusher and the real client', function () {
  this.timeout(180_000);
  let server: EtcdServer;
  let juicefs: Juicefs;

  before(async function () {
    juicefs = new Juicefs(this);
    server = await startEtcd();
  });
  after(async () => server?.stop());

  const volumes = [
    { name: 'ours-plain-trash', ours: true, hashPrefix: false, trashDays: 1 },
    { name: 'ours-hash-final', ours: true, hashPrefix: true, trashDays: 0 },
    { name: 'real-plain-final', ours: false, hashPrefix: false, trashDays: 0 },
    { name: 'real-hash-trash', ours: false, hashPrefix: true, trashDays: 1 },
  ];
  for (const { name, ours, hashPrefix, trashDays } of volumes) {
    describe(`a volume formatted by ${ours ? 'us' : 'the real client'}, ${
      hashPrefix ? 'hash-prefixed' : 'plain'
    }, trash ${trashDays > 0 ? 'on' : 'off'}`, () => {
      let volume: TestVolume;

      before(async () => {
        if (ours) {
          volume = await TestVolume.format(server, { name, hashPrefix, trashDays, blockSizeKiB: 64 });
        } else {
          await juicefs.format(`${server.url}/${name}`, name, server.url.slice('etcd://'.length), [
            ...['--block-size', '64', '--trash-days', String(trashDays)],
            ...(hashPrefix ? ['--hash-prefix'] : []),
          ]);
          volume = await TestVolume.open(server, `/${name}`);
        }
        await everyOperation(volume);
      });
      after(async () => volume?.store.close());

      it('has exact accounts, references and blocks', async () => {
        expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
      });

      it('passes both forms of fsck', async () => {
        await juicefs.fsck(volume.url);
      });

      it('has nothing leaked and nothing pending for gc', async () => {
        const { leaked, pending } = await juicefs.gc(volume.url);
        expect({ leaked, pending }).to.deep.equal({ leaked: 0, pending: 0 });
      });

      it('shows in a fresh mount what was pushed', async function () {
        needFuse(this);
        await expectMountShows(juicefs, volume);
      });
    });
  }
});
