/** Starts on what is there: another filter than before, a directory full of files of its own, a state that is lost or too new. */

import { expect } from 'chai';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type Agent, publishedTree, runCommand } from '../support/agent.ts';
import { directory, file } from '../support/pushing.ts';
import { servedVolume } from '../support/served-volume.ts';

describe('a start', () => {
  const own = servedVolume('starts');
  const { start, cat, paths: inVolume } = own;

  async function make(files: Readonly<Record<string, string>>): Promise<void> {
    const dirs = new Set(Object.keys(files).map(dirname));
    dirs.delete('.');
    if (dirs.size > 0) await own.volume.push(...[...dirs].map((path) => own.volume.make(path, directory())));
    await own.volume.push(...Object.entries(files).map(([path, text]) => own.volume.make(path, file(text))));
  }
  const files = async (): Promise<string[]> =>
    (await inVolume()).filter((path) => !path.startsWith('.conflicts'));
  /** Contents of the conflict copies of a file. */
  async function copiesOf(name: string): Promise<string[]> {
    const paths = (await inVolume('/.conflicts')).filter((path) => path.endsWith(`/${name}`));
    return Promise.all(paths.map((path) => cat(path.startsWith('.conflicts') ? path : `.conflicts/${path}`)));
  }
  const read = (path: string): string => readFileSync(join(own.dir, path), 'utf8');
  const quiet = (agent: Agent, unadopted: readonly string[] = []): Promise<unknown> =>
    agent.until('all is done', (status) => {
      return (
        status.pendingEdits === 0 &&
        status.parked.length === 0 &&
        !status.stale &&
        JSON.stringify([...status.unadopted].sort()) === JSON.stringify(unadopted)
      );
    });

  describe('with another filter', () => {
    it('removes what leaves on neither side, and compares what enters as if it were new', async () => {
      await make({
        'a.conf': 'a\n',
        'x.log': 'x\n',
        'same.log': 'same\n',
        'd/y.log': 'y\n',
        'd/z.log': 'z\n',
      });
      const before = await files();
      await (await start()).stop();
      const without = await start('--exclude', '*.log');
      writeFileSync(join(own.dir, 'd/new.log'), 'new\n');
      writeFileSync(join(own.dir, 'top.log'), 'top\n');
      writeFileSync(join(own.dir, 'x.log'), 'edited here\n');
      unlinkSync(join(own.dir, 'd/z.log'));
      writeFileSync(join(own.dir, 'a.conf'), 'pushed\n');
      await without.pushed();
      expect(await cat('a.conf')).to.equal('pushed\n');
      await own.volume.push(own.volume.edit('d/y.log', file('edited there\n')));
      await without.rescanned(2);
      expect(await files()).to.deep.equal(before);
      expect([read('same.log'), read('d/y.log'), await cat('x.log')]).to.deep.equal(['same\n', 'y\n', 'x\n']);
      await without.stop();

      const again = await start();
      await quiet(again, ['d/new.log', 'top.log']);
      await again.rescanned(1);
      expect(await files()).to.deep.equal(before);
      expect([read('x.log'), read('d/y.log'), read('d/z.log')]).to.deep.equal([
        'x\n',
        'edited there\n',
        'z\n',
      ]);
      expect([read('d/new.log'), read('top.log')]).to.deep.equal(['new\n', 'top\n']);
      expect(await copiesOf('x.log')).to.deep.equal(['edited here\n']);
      expect(await copiesOf('same.log')).to.deep.equal([]);
      // From now on as any other.
      writeFileSync(join(own.dir, 'x.log'), 'an edit\n');
      unlinkSync(join(own.dir, 'd/y.log'));
      await again.pushed();
      expect(await cat('x.log')).to.equal('an edit\n');
      expect(await files()).to.not.include('d/y.log');
    });
  });

  describe('in a directory full of files of its own', () => {
    beforeEach(async () => {
      await make({
        same: 'same\n',
        other: 'of the volume\n',
        'd/same': 'same below\n',
        'd/other': 'volume\n',
      });
      mkdirSync(join(own.dir, 'd'));
      mkdirSync(join(own.dir, 'own/deep'), { recursive: true });
      for (const [path, text] of [
        ['same', 'same\n'],
        ['other', 'of the image\n'],
        ['mine', 'mine\n'],
        ['d/same', 'same below\n'],
        ['d/other', 'image\n'],
        ['d/mine', 'mine below\n'],
        ['own/deep/file', 'deep\n'],
      ] as const)
        writeFileSync(join(own.dir, path), text);
    });

    it('agrees where both are equal, keeps what differs as a copy, and pushes nothing else', async () => {
      const before = await files();
      const agent = await start();
      await quiet(agent, ['d/mine', 'mine', 'own', 'own/deep', 'own/deep/file']);
      await agent.until('the names at the top lead into the tree', () => read('d/other') === 'volume\n');
      expect(await files()).to.deep.equal(before);
      expect(read('other')).to.equal('of the volume\n');
      expect([read('mine'), read('d/mine'), read('own/deep/file')]).to.deep.equal([
        'mine\n',
        'mine below\n',
        'deep\n',
      ]);
      expect([...(await copiesOf('other'))].sort()).to.deep.equal(['image\n', 'of the image\n']);
      expect(await copiesOf('same')).to.deep.equal([]);
      // They stay unpushed, also when the volume changes beside them, and with the next start.
      await own.volume.push(own.volume.edit('d/same', file('second\n')));
      await agent.until('it follows', () => read('d/same') === 'second\n');
      await agent.stop();
      const again = await start();
      await quiet(again, ['d/mine', 'mine', 'own', 'own/deep', 'own/deep/file']);
      expect(await files()).to.deep.equal(before);
      await again.stop();
      const adopting = await start('--adopt');
      await quiet(adopting);
      expect(await files()).to.deep.equal(
        [...before, 'd/mine', 'mine', 'own', 'own/deep', 'own/deep/file'].sort(),
      );
      expect(await cat('own/deep/file')).to.equal('deep\n');
    });

    it('pushes them at once with --adopt', async () => {
      const before = await files();
      await quiet(await start('--adopt'));
      expect(await files()).to.deep.equal(
        [...before, 'd/mine', 'mine', 'own', 'own/deep', 'own/deep/file'].sort(),
      );
      expect([read('other'), await cat('other')]).to.deep.equal(['of the volume\n', 'of the volume\n']);
      expect([...(await copiesOf('other'))].sort()).to.deep.equal(['image\n', 'of the image\n']);
    });

    it('and an empty volume pushes them all: there is nothing that they could hide', async () => {
      await own.volume.push(...['d/same', 'd/other', 'same', 'other'].map((path) => own.volume.remove(path)));
      await own.volume.push(own.volume.remove('d'));
      await quiet(await start());
      expect(await files()).to.include.members(['same', 'mine', 'd/mine', 'own/deep/file']);
    });
  });

  it('after a reboot: what was left empty or full of zeros is set aside, restored and never pushed', async () => {
    await make({ empty: 'one\n', zeros: 'two\n', 'always-empty': '', meant: 'x\n', gone: 'x\n' });
    await (await start()).stop();
    // As a power cut leaves it behind: nobody has written that.
    truncateSync(join(own.dir, '..data/empty'), 0);
    writeFileSync(join(own.dir, '..data/zeros'), Buffer.alloc(4096));
    truncateSync(join(own.dir, '..data/gone'), 0);
    writeFileSync(join(own.dir, '..data/meant'), 'edited\n');
    await own.volume.push(own.volume.remove('gone'));
    const ledger = join(own.dir, '..etcd-etc-agent/ledger');
    const text = readFileSync(ledger, 'latin1');
    writeFileSync(ledger, text.replace(/("t":"boot","id":")./, '$1X'), 'latin1');
    const agent = await start();
    await quiet(agent);
    await agent.until('they are restored', () => read('empty') + read('zeros') === 'one\ntwo\n');
    expect(await files()).to.deep.equal(['always-empty', 'empty', 'meant', 'zeros']);
    expect(Object.keys(publishedTree(own.dir)).sort()).to.deep.equal(await files());
    for (const [path, content] of [
      ['empty', 'one\n'],
      ['zeros', 'two\n'],
      ['meant', 'edited\n'],
      ['always-empty', ''],
    ] as const)
      expect(await cat(path), path).to.equal(content);
    expect(await inVolume('/.conflicts').catch(() => [])).to.deep.equal([]);
    const aside = readdirSync(join(own.dir, '..etcd-etc-agent/quarantine'));
    expect(aside).to.have.length(3);
    expect(agent.status?.problems['zeros']).to.match(/after a reboot.*quarantine/);
    // Emptied without a reboot, it is meant.
    writeFileSync(join(own.dir, 'zeros'), '');
    await agent.pushed();
    expect(await cat('zeros')).to.equal('');
  });

  describe('with a state that is not what it was', () => {
    const LOSSES: readonly (readonly [string, (ledger: string) => void])[] = [
      ['gone', (ledger) => unlinkSync(ledger)],
      ['cut', (ledger) => truncateSync(ledger, readFileSync(ledger).indexOf(0x0a, 300) + 1)],
      ['full of zeros', (ledger) => writeFileSync(ledger, Buffer.alloc(readFileSync(ledger).length))],
      ['something else', (ledger) => writeFileSync(ledger, 'server { listen 80; }\n')],
    ];
    for (const [what, lose] of LOSSES) {
      it(`${what}: equal agrees, different conflicts, nothing is removed`, async () => {
        await make({ same: 'same\n', here: 'x\n', there: 'x\n', 'gone-here': 'x\n', 'gone-there': 'x\n' });
        await (await start()).stop();
        lose(join(own.dir, '..etcd-etc-agent/ledger'));
        writeFileSync(join(own.dir, 'here'), 'edited here\n');
        writeFileSync(join(own.dir, 'new'), 'new\n');
        unlinkSync(join(own.dir, '..data/gone-here'));
        unlinkSync(join(own.dir, 'gone-here'));
        await own.volume.push(
          own.volume.edit('there', file('edited there\n')),
          own.volume.remove('gone-there'),
        );
        const agent = await start();
        await quiet(agent, ['gone-there', 'new']);
        expect(agent.stderr).to.match(/^warn state lost reason=/m);
        expect(await files()).to.deep.equal(['gone-here', 'here', 'same', 'there']);
        expect(Object.keys(publishedTree(own.dir))).to.include.members(['gone-there', 'new', 'gone-here']);
        expect([read('here'), read('there'), read('gone-here')]).to.deep.equal([
          'x\n',
          'edited there\n',
          'x\n',
        ]);
        expect(await copiesOf('here')).to.deep.equal(['edited here\n']);
        expect(await copiesOf('same')).to.deep.equal([]);
      });
    }

    it('but of a newer version: refused, and not touched', async () => {
      await make({ same: 'same\n' });
      await (await start()).stop();
      const ledger = join(own.dir, '..etcd-etc-agent/ledger');
      const text = readFileSync(ledger, 'utf8').replace(/"format":\d+/, '"format":99');
      writeFileSync(ledger, text);
      appendFileSync(ledger, '{"torn');
      for (const how of ['--once', '--watch']) {
        const { code, sentence } = await runCommand([how, own.volume.url, own.dir]);
        expect(code).to.equal(2);
        expect(sentence).to.match(/the state is of format 99, and this version knows formats up to 2/);
      }
      expect(readFileSync(ledger, 'utf8')).to.equal(`${text}{"torn`);
      expect(read('same')).to.equal('same\n');
    });
  });
});
