/** Guards on a built agent: what trips them, that they hold both ways, what a person accepts, and that DIR is restored. */

import { expect } from 'chai';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { prefixRange } from '../../src/codec/bytes.ts';
import type { StoreOp } from '../../src/codec/kv.ts';
import { codeOf } from '../../src/agent/base/error.ts';
import type { Tripped } from '../../src/agent/guard/guards.ts';
import { type Agent, publishedTree, runCommand } from '../support/agent.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { servedVolume } from '../support/served-volume.ts';
import { until } from '../support/until.ts';

const FILES = Array.from({ length: 20 }, (_, index) => `d/f${index}`);
const MANY = FILES.slice(0, 15);

describe('guards', () => {
  const own = servedVolume('guards', async (volume) => {
    await volume.push(volume.make('top', file('top\n')), volume.make('d', directory()));
    await volume.push(...FILES.map((path) => volume.make(path, file(`${path}\n`))));
  });
  const { start, cat, paths: inVolume } = own;

  async function tripped(agent: Agent): Promise<Tripped> {
    const { guards, ready } = await agent.until('a guard trips', (status) => status.guards.length > 0);
    expect(ready).to.equal(true);
    let guard = guards[0];
    // What it is about may still grow.
    await until('the verb shows what the agent holds', async () => {
      guard = agent.status?.guards[0] ?? guard;
      const { stdout } = await runCommand(['status', own.dir]);
      return stdout.includes(`guard       ${guard?.id}: ${guard?.reason}`);
    });
    if (guard === undefined) throw new Error('no guard');
    expect(agent.stderr).to.include(`guard tripped guard=${guard.guard} id=${guard.id}`);
    return guard;
  }

  async function accept(id: string): Promise<void> {
    const { code, stdout, stderr } = await runCommand(['accept', own.dir, id]);
    expect(code, stderr).to.equal(0);
    expect(stdout).to.include(`accepted ${id}`);
  }

  const shown = (): string[] => Object.keys(publishedTree(own.dir)).sort();
  const removeInVolume = (paths: readonly string[]): Promise<unknown> =>
    own.volume.push(...paths.map((path) => own.volume.remove(path)));
  const removeHere = (paths: readonly string[]): void => {
    for (const path of paths) unlinkSync(join(own.dir, '..data', path));
  };

  describe('too much would go', () => {
    it('here: waits, and goes when it was accepted; the id is spent then', async () => {
      const agent = await start();
      const before = shown();
      await removeInVolume(MANY);
      const { id, guard, reason } = await tripped(agent);
      expect(guard).to.equal('delete');
      expect(reason).to.equal('15 of 21 files would be removed here, because the volume has lost them');
      // Neither published nor pushed; the rest of the agent lives.
      writeFileSync(join(own.dir, '..data/top'), 'edited while held\n');
      await agent.until('the edit is seen', ({ pendingEdits }) => pendingEdits > 0);
      await agent.rescanned(1);
      expect(shown()).to.deep.equal(before);
      expect(await cat('top')).to.equal('top\n');

      const wrong = await runCommand(['accept', own.dir, 'delete-00000000']);
      expect(wrong.code).to.equal(2);
      expect(wrong.sentence).to.include(id);
      await accept(id);
      const status = await agent.until('nothing holds any more', ({ guards, pendingEdits, files }) => {
        return guards.length === 0 && pendingEdits === 0 && files === before.length - MANY.length;
      });
      expect(shown()).to.deep.equal(before.filter((path) => !MANY.includes(path)));
      expect(await cat('top')).to.equal('edited while held\n');
      expect(agent.stderr).to.include(`guard accepted guard=delete id=${id}`);
      expect(status.trips).to.deep.equal({ delete: 1 });
      expect((await runCommand(['accept', own.dir, id])).code).to.equal(2);

      // The very same once more is another trip.
      await own.volume.push(...MANY.map((path) => own.volume.make(path, file(`${path}\n`))));
      await agent.until('they are back', ({ files }) => files === before.length);
      await removeInVolume(MANY);
      expect((await tripped(agent)).id).to.not.equal(id);
    });

    it('here, one file after the other as a mount removes them: stops half-way', async () => {
      const agent = await start('--min-interval', '1ms');
      for (const path of MANY) await removeInVolume([path]);
      expect((await tripped(agent)).reason).to.match(/files would be removed here/);
      expect(shown().length).to.be.greaterThan(22 - MANY.length);
    });

    it('in the volume: waits, also when the agent starts again, and goes when accepted while it is stopped', async () => {
      const agent = await start();
      removeHere(MANY);
      const { id, reason } = await tripped(agent);
      expect(reason).to.match(/^15 of 21 files would be removed in the volume/);
      expect(await inVolume()).to.include.members(MANY);
      await agent.stop();
      const again = await start();
      expect((await tripped(again)).id).to.equal(id);
      await again.stop();
      await accept(id);
      const last = await start();
      await last.until(
        'it is pushed',
        ({ guards, pendingEdits }) => guards.length === 0 && pendingEdits === 0,
      );
      expect(await inVolume()).to.not.include.members(MANY.slice(0, 1));
      expect(await inVolume()).to.include.members(FILES.slice(15));
    });

    it('and goes when the agent starts with the id, but for nothing else', async () => {
      const agent = await start();
      removeHere(MANY);
      const { id } = await tripped(agent);
      await agent.stop();
      writeFileSync(join(own.dir, '..data/d/f0'), 'd/f0\n');
      const again = await start('--accept', id);
      const other = await tripped(again);
      expect(other.id).to.not.equal(id);
      expect(await inVolume()).to.include.members(MANY);
      await again.stop();
      const last = await start('--accept', other.id);
      await last.until(
        'it is pushed',
        ({ guards, pendingEdits }) => guards.length === 0 && pendingEdits === 0,
      );
      expect(await inVolume()).to.not.include.members(['d/f1']);
      expect(await inVolume()).to.include.members(['d/f0']);
      expect(last.stderr).to.include('guard accepted');
      expect((await runCommand(['--once', '--accept', 'x y', own.volume.url, own.dir])).code).to.equal(2);
    });

    it('or the volume became empty: --once says what to accept', async () => {
      const agent = await start();
      const before = shown();
      await removeInVolume([...FILES, 'top']);
      expect((await tripped(agent)).guard).to.equal('empty');
      await agent.stop();
      const once = await runCommand(['--once', '--strict', own.volume.url, own.dir]);
      expect(once.code, once.stderr).to.equal(5);
      const id = /accept (empty-[0-9a-f]{8})/.exec(once.sentence)?.[1] ?? '';
      expect(shown()).to.deep.equal(before);
      const accepted = await runCommand(['--once', '--strict', '--accept', id, own.volume.url, own.dir]);
      expect(accepted.code, accepted.stderr).to.equal(0);
      expect(shown()).to.deep.equal(['d']);
    });
  });

  describe('DIR is emptied or replaced under the agent', () => {
    /** In one step: the agent restores at once, and a slow removal would meet it. */
    function take(name: string): void {
      const to = mkdtempSync(join(own.folder, 'taken-'));
      try {
        renameSync(join(own.dir, name), join(to, 'it'));
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
      }
      rmSync(to, { recursive: true });
    }
    const REMOVALS: readonly (readonly [string, () => void])[] = [
      [
        'its names at the top are removed',
        () => {
          for (const name of readdirSync(own.dir)) if (!name.startsWith('..')) rmSync(join(own.dir, name));
        },
      ],
      [
        'all in the published tree is removed',
        () => {
          for (const name of readdirSync(join(own.dir, '..data'))) take(`..data/${name}`);
        },
      ],
      [
        'everything is removed, hidden or not',
        () => {
          for (const name of readdirSync(own.dir)) take(name);
        },
      ],
      [
        'both trees are removed',
        () => {
          for (const tree of ['..a', '..b']) take(tree);
        },
      ],
      ['the state is removed', () => take('..etcd-etc-agent')],
      ['..data is removed', () => rmSync(join(own.dir, '..data'))],
      [
        'another directory takes its place',
        () => {
          renameSync(own.dir, `${own.dir}-before`);
          mkdirSync(own.dir);
        },
      ],
    ];
    for (const [what, remove] of REMOVALS) {
      it(`${what}: restored, and nothing goes in the volume`, async () => {
        const agent = await start();
        // Both trees are there.
        await own.volume.push(own.volume.edit('top', file('second\n')));
        await agent.until('it has followed', () => readFileSync(join(own.dir, 'top'), 'utf8') === 'second\n');
        const before = publishedTree(own.dir);
        const content = await inVolume();
        remove();
        await until('the guard trips', () => agent.stderr.includes('guard tripped guard=directory'));
        await until('DIR is as it was', () => {
          try {
            return JSON.stringify(publishedTree(own.dir)) === JSON.stringify(before);
          } catch {
            return false;
          }
        });
        await agent.until('it goes on', ({ guards, ready, pendingEdits, stale }) => {
          return guards.length === 0 && ready && pendingEdits === 0 && !stale;
        });
        for (const name of ['top', 'd/f0'])
          expect(readFileSync(join(own.dir, name), 'utf8')).to.equal(
            readFileSync(join(own.dir, '..data', name), 'utf8'),
          );
        expect(await inVolume()).to.deep.equal(content);
        writeFileSync(join(own.dir, 'd/f0'), 'edited afterwards\n');
        await until('an edit is pushed', async () => {
          return (await cat('d/f0')) === 'edited afterwards\n';
        });
        await own.volume.push(own.volume.edit('d/f1', file('and the other way\n')));
        await until('an edit is published', () =>
          readFileSync(join(own.dir, 'd/f1'), 'utf8').startsWith('and'),
        );
        expect((agent.status?.trips ?? {})['directory']).to.be.greaterThan(0);
      });
    }

    it('it goes away and comes back with what it had: served again', async () => {
      const agent = await start();
      const before = publishedTree(own.dir);
      renameSync(own.dir, `${own.dir}-away`);
      await until('the guard trips', () => agent.stderr.includes('the directory is gone'));
      await until('it waits', () => agent.stderr.includes('directory not usable'));
      writeFileSync(join(`${own.dir}-away`, 'd/f0'), 'edited while away\n');
      renameSync(`${own.dir}-away`, own.dir);
      await agent.until('it goes on', ({ guards, ready, stale }) => guards.length === 0 && ready && !stale);
      await until('the edit is pushed', async () => {
        return (await cat('d/f0')) === 'edited while away\n';
      });
      expect({ ...publishedTree(own.dir), 'd/f0': '' }).to.deep.equal({ ...before, 'd/f0': '' });
    });
  });

  describe('another volume is in the place of the one that is served', () => {
    /** Makes the metadata address that of another volume. */
    async function replace(): Promise<void> {
      const saved: Extract<StoreOp, { type: 'put' }>[] = [];
      const mine = own.volume.address.prefix;
      await own.volume.store.snapshot([prefixRange(mine)], ({ key }) =>
        saved.push({ type: 'put', key, value: new Uint8Array() }),
      );
      const other = await TestVolume.format(own.etcd, { name: `other-of-${own.name}`, blockSizeKiB: 64 });
      await other.push(other.make('top', file('of the other\n')), other.make('only', file('other\n')));
      const puts: StoreOp[] = [];
      await other.store.snapshot([prefixRange(other.address.prefix)], ({ key, value }) =>
        puts.push({ type: 'put', key: mine + key.slice(other.address.prefix.length), value }),
      );
      await other.store.close();
      // The setting in the last transaction: nobody sees a mixture.
      await writeKeys(own.volume.store, [...saved.map(({ key }) => ({ type: 'delete', key }) as const)]);
      await writeKeys(own.volume.store, puts);
    }

    it('under a running agent: the tree stays; once accepted, what differs is kept and nothing is removed', async () => {
      const agent = await start();
      const before = publishedTree(own.dir);
      await replace();
      const { id, guard } = await tripped(agent);
      expect(guard).to.equal('volume');
      expect(publishedTree(own.dir)).to.deep.equal(before);
      await accept(id);
      await agent.until('it follows the other one', ({ guards, stale, unadopted }) => {
        return guards.length === 0 && !stale && unadopted.length > 0;
      });
      expect(readFileSync(join(own.dir, 'top'), 'utf8')).to.equal('of the other\n');
      expect(readFileSync(join(own.dir, 'only'), 'utf8')).to.equal('other\n');
      // What only the first one had stays here, and is not pushed.
      expect(shown()).to.include.members(FILES);
      await agent.until('the copy is pushed', ({ parked }) => parked.length === 0);
      expect(await inVolume()).to.not.include.members(['d/f0']);
      expect((await inVolume('/.conflicts')).join(' ')).to.match(/\/top/);
    });

    it('at the start: refused, and served once accepted', async () => {
      const agent = await start();
      await agent.stop();
      await replace();
      const refused = await runCommand(['--once', own.volume.url, own.dir]);
      expect(refused.code, refused.stderr).to.equal(2);
      const id = /accept (volume-[0-9a-f]{8})/.exec(refused.sentence)?.[1] ?? '';
      expect(readFileSync(join(own.dir, 'top'), 'utf8')).to.equal('top\n');
      expect(existsSync(join(own.dir, 'only'))).to.equal(false);
      await accept(id);
      const once = await runCommand(['--once', own.volume.url, own.dir]);
      expect(once.code, once.stderr).to.equal(0);
      expect(readFileSync(join(own.dir, 'top'), 'utf8')).to.equal('of the other\n');
      expect(shown()).to.include.members(FILES);
    });

    it('another subdirectory likewise', async () => {
      expect((await runCommand(['--once', own.volume.url, own.dir])).code).to.equal(0);
      const refused = await runCommand(['--once', '--subdir', '/d', own.volume.url, own.dir]);
      expect(refused.code, refused.stderr).to.equal(2);
      const id = /accept (volume-[0-9a-f]{8})/.exec(refused.sentence)?.[1] ?? '';
      const accepted = await runCommand([
        '--once',
        '--subdir',
        '/d',
        '--accept',
        id,
        own.volume.url,
        own.dir,
      ]);
      expect(accepted.code, accepted.stderr).to.equal(0);
      expect(readFileSync(join(own.dir, 'f0'), 'utf8')).to.equal('d/f0\n');
    });

    it('the subdirectory that is shown goes: guard empty, however little was in it', async () => {
      await own.volume.push(own.volume.make('e', directory()));
      await own.volume.push(own.volume.make('e/one', file('one\n')));
      const agent = await start('--subdir', '/e');
      await own.volume.push(own.volume.remove('e/one'), own.volume.remove('e'));
      const { guard } = await tripped(agent);
      expect(guard).to.equal('empty');
      expect(shown()).to.deep.equal(['one']);
    });
  });
});
