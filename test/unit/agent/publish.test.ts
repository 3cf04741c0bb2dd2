import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createServer } from 'node:net';
import { expect } from 'chai';

import type { FsPort } from '../../../src/agent/base/ports.ts';
import { wantedForAdoption } from '../../../src/agent/publish/items.ts';
import { asNobody } from '../../support/nobody.ts';
import {
  fileLine,
  NOTHING_FOUND,
  removeTree,
  ServedDirectory,
  temporaryDirectory,
  unflushedFs,
} from '../../support/served-directory.ts';
import {
  dir,
  file,
  lines,
  MTIME_NS,
  raw,
  readText,
  readTree,
  symlink,
  type Nodes,
} from '../../support/tree-on-disk.ts';

const excluded = (path: string): boolean => path.endsWith('.swp') || path === 'carried';

async function serve(work: (served: ServedDirectory) => void | Promise<void>, port?: FsPort): Promise<void> {
  const served = await ServedDirectory.open({ excluded, ...(port === undefined ? {} : { fs: port }) });
  try {
    await work(served);
  } finally {
    await served.remove();
  }
}

/** Publishes each tree in turn, and checks what readers see, that it is no edit, and that both trees end up alike. */
async function publishInTurn(served: ServedDirectory, ...trees: readonly Nodes[]): Promise<void> {
  const { root } = served;
  for (const [index, tree] of trees.entries()) {
    expect(served.publish(tree, BigInt(index + 1)).outcome).to.equal('published');
    expect(readTree(fs.realpathSync(`${root}/..data`)), `tree ${index}`).to.deep.equal(lines(tree));
    const tops = Object.keys(tree).filter((path) => !path.includes('/'));
    expect(namesAtTop(root)).to.deep.equal(tops.sort());
    for (const name of tops)
      expect(fs.readlinkSync(raw(`${root}/${name}`), 'latin1')).to.equal(`..data/${name}`);
    expect(await served.lookUntilSettled(), `tree ${index}`).to.deep.equal(NOTHING_FOUND);
    expect(fs.readdirSync(served.layout.stage)).to.deep.equal([]);
    expect(served.ledger.state.revision).to.equal(BigInt(index + 1));
  }
  served.catchUp();
  for (const tree of ['..a', '..b']) {
    // A tree that never held anything is not made.
    if (fs.existsSync(`${root}/${tree}`))
      expect(readTree(`${root}/${tree}`), tree).to.deep.equal(lines(trees.at(-1)!));
  }
  expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
}

/** The port of a served directory that calls `look` after each call, while a directory is watched. */
function watchedFs(look: (root: string, call: string) => void): {
  readonly port: FsPort;
  readonly watch: (root: string | undefined) => void;
} {
  let root: string | undefined;
  const watched = Object.entries(unflushedFs).map(
    ([call, body]: [string, (...args: unknown[]) => unknown]) => [
      call,
      (...args: unknown[]) => {
        const result = body(...args);
        if (root !== undefined) look(root, call);
        return result;
      },
    ],
  );
  return { port: Object.fromEntries(watched) as FsPort, watch: (directory) => void (root = directory) };
}

function namesAtTop(root: string): string[] {
  const own = ['..a', '..b', '..data', '..etcd-etc-agent'];
  return fs
    .readdirSync(raw(root), 'latin1')
    .filter((name) => !own.includes(name))
    .sort();
}

function inodeOf(path: string): number {
  return fs.lstatSync(raw(path)).ino;
}

describe('publish', () => {
  const CASES: readonly { readonly title: string; readonly trees: readonly Nodes[] }[] = [
    { title: 'an empty tree', trees: [{}] },
    {
      title: 'a first tree',
      trees: [{ f: file('one'), d: dir(), 'd/g': file('two', 0o600), l: symlink('d/g') }],
    },
    { title: 'a changed file', trees: [{ f: file('one') }, { f: file('two') }, { f: file('three') }] },
    { title: 'a changed mode', trees: [{ f: file('one') }, { f: file('one', 0o600) }] },
    { title: 'a removed file', trees: [{ f: file('one'), g: file('two') }, { f: file('one') }] },
    { title: 'a tree that becomes empty', trees: [{ f: file('one'), d: dir(), 'd/g': file('two') }, {}] },
    { title: 'a file that comes back', trees: [{ f: file('one') }, {}, { f: file('one') }] },
    { title: 'a file that becomes a directory', trees: [{ x: file('x') }, { x: dir(), 'x/y': file('y') }] },
    { title: 'a directory that becomes a file', trees: [{ x: dir(), 'x/y': file('y') }, { x: file('x') }] },
    { title: 'a file that becomes a symlink', trees: [{ x: file('x') }, { x: symlink('y') }] },
    { title: 'a symlink that becomes a file', trees: [{ x: symlink('y') }, { x: file('x') }] },
    {
      title: 'a directory that becomes a symlink',
      trees: [{ x: dir(), 'x/y': file('y') }, { x: symlink('y') }],
    },
    {
      title: 'a symlink that becomes a directory',
      trees: [{ x: symlink('y') }, { x: dir(), 'x/y': file('y') }],
    },
    {
      title: 'type changes below the top',
      trees: [
        { d: dir(), 'd/f': file('f'), 'd/e': dir(), 'd/e/g': file('g'), 'd/l': symlink('f') },
        { d: dir(), 'd/f': dir(), 'd/f/g': file('g'), 'd/e': symlink('f'), 'd/l': file('l') },
        { d: dir(), 'd/f': symlink('l'), 'd/e': file('e'), 'd/l': dir() },
      ],
    },
    { title: 'a retargeted symlink', trees: [{ l: symlink('one') }, { l: symlink('two') }] },
    { title: 'empty directories', trees: [{ d: dir(), 'd/e': dir(0o700) }, { d: dir() }] },
    {
      title: 'directories closed to writing',
      trees: [
        { d: dir(0o555), 'd/e': dir(0o500), 'd/e/f': file('one') },
        { d: dir(0o555), 'd/e': dir(0o500), 'd/e/f': file('two'), 'd/e/g': file('three') },
        { d: dir(0o555), 'd/e': dir(0o755) },
        {},
      ],
    },
    {
      title: 'files of every mode',
      trees: [
        { a: file('a', 0), b: file('b', 0o777), c: file('c', 0o444), d: file('d', 0o200) },
        { a: file('A', 0), b: file('b', 0), c: file('C', 0o444), d: file('d', 0o600) },
      ],
    },
    {
      title: 'names of 255 bytes, and of any bytes',
      trees: [
        {
          ['x'.repeat(255)]: file('long'),
          'caf\xe9': dir(),
          'caf\xe9/\xff\xfe': file('bytes'),
          'new\nline \\': file(''),
        },
        { ['x'.repeat(255)]: file('longer'), 'caf\xe9': dir(), 'caf\xe9/\xff\xfe': symlink('\xff') },
      ],
    },
    {
      title: 'names that are reserved at the top only',
      trees: [{ d: dir(), 'd/..data': symlink('..a'), 'd/..a': dir(), 'd/..a/f': file('f') }],
    },
    { title: 'more files than are flushed one by one', trees: [many(30, 'x'), many(30, 'y')] },
    { title: 'an empty file', trees: [{ f: file('') }, { f: file('x') }, { f: file('') }] },
  ];

  for (const { title, trees } of CASES) {
    it(title, () => serve((served) => publishInTurn(served, ...trees)));
    it(`${title}, without privileges`, () =>
      asNobody(() => serve((served) => publishInTurn(served, ...trees))));
  }

  it('keeps unchanged files as one inode in both trees, and changes no inode that is visible', () =>
    serve((served) => {
      const { root } = served;
      served.publish({ same: file('same'), f: file('one') });
      served.catchUp();
      const [same, old] = [inodeOf(served.at('same')), inodeOf(served.at('f'))];
      expect(inodeOf(served.inIdle('same'))).to.equal(same);
      served.publish({ same: file('same'), f: file('one', 0o600) });
      expect(inodeOf(served.at('same'))).to.equal(same);
      expect(inodeOf(served.inIdle('same'))).to.equal(same);
      // A new mode is a new inode; readers of the old tree see the old one.
      expect(inodeOf(served.at('f'))).to.not.equal(old);
      expect(inodeOf(served.inIdle('f'))).to.equal(old);
      expect(fs.readdirSync(root).sort()).to.include.members(['..a', '..b']);
    }));

  it('gives files their mtime, and hard links one inode', () =>
    serve((served) => {
      served.publish({ one: file('text', 0o644, 'x'), d: dir(), 'd/two': file('text', 0o644, 'x') });
      const stat = fs.statSync(served.at('one'), { bigint: true });
      expect(stat.mtimeNs).to.equal(MTIME_NS);
      expect(inodeOf(served.at('d/two'))).to.equal(Number(stat.ino));
    }));

  it('links what was replaced into kept until its time is over', () =>
    serve(async (served) => {
      served.publish({ f: file('one') });
      const old = inodeOf(served.at('f'));
      served.publish({ f: file('two') });
      // The idle tree holds it still: nothing is kept yet.
      expect(inodeOf(served.inIdle('f'))).to.equal(old);
      served.publish({ f: file('three') });
      const [name] = fs.readdirSync(served.layout.kept);
      expect(inodeOf(`${served.layout.kept}/${name}`)).to.equal(old);
      await served.lookUntilSettled();
      served.clock.pass(11 * 60_000);
      await served.lookUntilSettled();
      expect(fs.readdirSync(served.layout.kept)).to.deep.equal([]);
    }));

  it('numbers kept inodes anew when two publishes fall into one tick of the clock', () =>
    serve((served) => {
      const now = served.clock.nowNs();
      served.clock.nowNs = () => now;
      for (const text of ['one', 'two', 'three', 'four', 'five']) served.publish({ f: file(text) });
      expect(fs.readdirSync(served.layout.kept)).to.have.length(3);
      expect(readText(served.at('f'))).to.equal('five');
    }));

  it('stops before the flip when the path was edited in between, and tells which', () =>
    serve(async (served) => {
      served.publish({ f: file('one'), g: file('one') });
      served.catchUp();
      const items = served.items({ f: file('two'), g: file('two') });
      fs.writeFileSync(`${served.root}/f`, 'edited here');
      const result = served.publishItems(items, []);
      expect(result).to.deep.include({ outcome: 'edited', paths: ['f'] });
      expect(readText(served.at('f'))).to.equal('edited here');
      expect(readText(served.at('g'))).to.equal('one');
      expect((await served.lookUntilSettled()).edits).to.deep.equal([fileLine('f', 'edited here')]);
      // The next one wins knowingly, and the edit's inode is kept.
      expect(served.publish({ f: file('two'), g: file('two') }).outcome).to.equal('published');
      expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
    }));

  const EDITS_AFTER_FLIP: readonly (readonly [what: string, edit: string, line: string])[] = [
    ['in place, at the same size', 'printf mine > f', fileLine('f', 'mine')],
    ['in place, longer', 'printf more >> f', fileLine('f', 'new!more')],
    ['by rename', 'printf mine > x; mv x f', fileLine('f', 'mine')],
    ['by another link', 'ln -sfn mine l', 'l symlink mine'],
  ];
  for (const [what, edit, line] of EDITS_AFTER_FLIP) {
    it(`finds what was written right after the flip, before the ledger knows of it: ${what}`, async () => {
      let written = false;
      const port: FsPort = {
        ...unflushedFs,
        syncDir(label, path) {
          if (label !== 'sync flip' || !armed) return;
          execFileSync('bash', ['-c', edit], { cwd: fs.realpathSync(raw(`${path}/..data`)) });
          written = true;
        },
      };
      let armed = false;
      await serve(async (served) => {
        served.publish({ f: file('old!'), l: symlink('old') });
        armed = true;
        expect(served.publish({ f: file('new!'), l: symlink('new') }).outcome).to.equal('published');
        armed = false;
        expect(written).to.equal(true);
        const { edits } = await served.lookUntilSettled();
        const slot = served.ledger.state.slots.get('l');
        const found = slot?.type === 'symlink' && slot.target !== 'new' ? [`l symlink ${slot.target}`] : [];
        expect([...edits, ...found]).to.deep.equal([line]);
      }, port);
    });
  }

  it('knows the copies that it made before it stopped', () =>
    serve(async (served) => {
      const view = { d: dir(), 'd/f': file('text\n'), e: dir() };
      served.publish(view);
      served.catchUp();
      execFileSync('cp', ['-r', 'd', 'copy'], { cwd: served.root });
      await served.look();
      fs.writeFileSync(`${served.root}/e/new`, 'new\n');
      expect(served.publish(view).outcome).to.equal('edited');
      expect([...(await served.look(new Set(['']))).busy]).to.deep.equal(['e/new']);
      expect(served.publish(view).outcome).to.equal('published');
      expect(readText(`${served.root}/..data/copy/f`)).to.equal('text\n');
      expect(inodeOf(`${served.root}/copy/f`)).not.to.equal(inodeOf(`${served.root}/d/f`));
    }));

  it('stops also for an edit by rename, a removal and a new type', () =>
    serve((served) => {
      served.publish({ d: dir(), 'd/f': file('one'), 'd/g': file('one'), 'd/h': file('one') });
      served.catchUp();
      const next: Nodes = {
        d: dir(),
        'd/f': file('2'),
        'd/g': file('2'),
        'd/h': file('2'),
        'd/i': file('2'),
      };
      const items = served.items(next);
      fs.writeFileSync(served.at('d/tmp'), 'x');
      fs.renameSync(served.at('d/tmp'), served.at('d/f'));
      fs.unlinkSync(served.at('d/g'));
      fs.unlinkSync(served.at('d/h'));
      fs.mkdirSync(served.at('d/h'));
      fs.writeFileSync(served.at('d/i'), 'made here');
      const result = served.publishItems(items, []);
      expect(result).to.deep.include({ outcome: 'edited', paths: ['d/f', 'd/g', 'd/h', 'd/i'] });
    }));

  it('shows what has not settled yet through a flip as it is, and finds it afterwards', () =>
    serve(async (served) => {
      const before: Nodes = { d: dir(), 'd/f': file('one'), 'd/gone': file('gone'), g: file('one') };
      served.publish(before);
      served.catchUp();
      fs.writeFileSync(served.at('d/tmp'), 'edited');
      fs.renameSync(served.at('d/tmp'), served.at('d/f'));
      fs.writeFileSync(served.at('d/new'), 'new');
      fs.unlinkSync(served.at('d/gone'));
      const look = await served.look();
      expect([...look.busy].sort()).to.deep.equal(['d/f', 'd/gone', 'd/new']);
      expect(served.publish({ ...before, g: file('two') }).outcome).to.equal('published');
      const after = { d: dir(), 'd/f': file('edited'), 'd/new': file('new'), g: file('two') };
      expect(readTree(fs.realpathSync(`${served.root}/..data`))).to.deep.equal(lines(after));
      const { edits, losers } = await served.lookUntilSettled();
      expect(edits.sort()).to.deep.equal(
        ['d/gone gone', fileLine('d/f', 'edited'), fileLine('d/new', 'new')].sort(),
      );
      expect(losers).to.deep.equal([]);
    }));

  it('carries what the volume does not own through flips, in both trees', () =>
    serve(async (served) => {
      served.publish({ d: dir(), 'd/f': file('one') });
      served.catchUp();
      fs.writeFileSync(served.at('d/.f.swp'), 'swap');
      const socket = createServer();
      await new Promise<void>((resolve) => socket.listen(served.at('d/s'), resolve));
      fs.writeFileSync(`${served.root}/carried`, 'at the top');
      const swap = inodeOf(served.at('d/.f.swp'));
      const special = inodeOf(served.at('d/s'));
      await served.lookUntilSettled();
      for (const text of ['two', 'three', 'four']) {
        served.publish({ d: dir(), 'd/f': file(text) });
        expect(inodeOf(served.at('d/.f.swp'))).to.equal(swap);
        expect(inodeOf(served.at('d/s'))).to.equal(special);
        // The editor goes on writing.
        fs.appendFileSync(served.at('d/.f.swp'), text);
        expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
      }
      expect(readText(served.at('d/.f.swp'))).to.equal('swaptwothreefour');
      expect(readText(`${served.root}/carried`)).to.equal('at the top');
      fs.unlinkSync(served.at('d/.f.swp'));
      await served.lookUntilSettled();
      served.publish({ d: dir(), 'd/f': file('five') });
      served.publish({ d: dir(), 'd/f': file('six') });
      expect(fs.readdirSync(served.at('d')).sort()).to.deep.equal(['f', 's']);
      expect(fs.readdirSync(served.inIdle('d')).sort()).to.deep.equal(['f', 's']);
      await new Promise((resolve) => socket.close(resolve));
    }));

  it('keeps a directory that the volume removed while it carries something, as a problem', () =>
    serve(async (served) => {
      served.publish({ d: dir(), 'd/f': file('one') });
      served.catchUp();
      fs.writeFileSync(served.at('d/.f.swp'), 'swap');
      await served.lookUntilSettled();
      const result = served.publish({});
      expect(result.outcome === 'published' && [...result.problems.keys()]).to.deep.equal(['d']);
      expect(fs.readdirSync(served.at('d'))).to.deep.equal(['.f.swp']);
      expect(fs.readlinkSync(`${served.root}/d`)).to.equal('..data/d');
      expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
    }));

  it('agrees on nothing that it could not make: that is missing is no removal', () =>
    serve(async (served) => {
      served.publish({ f: file('one') });
      const result = served.publish({ f: file('one'), 'd/x': file('x') });
      expect(result.outcome === 'published' && [...result.problems.keys()]).to.deep.equal(['d/x']);
      expect([...served.ledger.state.ancestor.keys()]).to.deep.equal(['f']);
      expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
    }));

  it('removes nothing behind a symlink that a directory has become again', () =>
    serve(async (served) => {
      const outside = temporaryDirectory();
      fs.writeFileSync(`${outside}/g`, 'not ours');
      const linked: Nodes = { d: dir(), 'd/e': symlink(outside) };
      const unlinked: Nodes = { d: dir(), 'd/e': dir(), 'd/e/g': file('ours') };
      for (const tree of [linked, unlinked, linked, unlinked, linked]) {
        served.publish(tree);
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        served.catchUp();
        expect(readText(`${outside}/g`)).to.equal('not ours');
        expect(fs.readdirSync(outside)).to.deep.equal(['g']);
        expect(readTree(`${served.root}/..a`)).to.deep.equal(lines(tree));
        expect(readTree(`${served.root}/..b`)).to.deep.equal(lines(tree));
      }
      removeTree(outside);
    }));

  it('gives a symlink that climbs out of the view one more level on disk', () =>
    serve(async (served) => {
      served.publish({
        l: symlink('../outside'),
        d: dir(),
        'd/l': symlink('../../outside'),
        in: symlink('d/l'),
      });
      expect(fs.readlinkSync(served.at('l'))).to.equal('../../outside');
      expect(fs.readlinkSync(served.at('d/l'))).to.equal('../../../outside');
      expect(fs.readlinkSync(served.at('in'))).to.equal('d/l');
      expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      served.catchUp();
      expect(fs.readlinkSync(served.inIdle('l'))).to.equal('../../outside');
      expect(inodeOf(served.inIdle('l'))).to.equal(inodeOf(served.at('l')));
    }));

  it('links an adopted inode as it is into both trees', () =>
    serve(async (served) => {
      served.publish({ f: file('one') });
      served.catchUp();
      fs.writeFileSync(`${served.root}/sed`, 'by sed');
      fs.renameSync(`${served.root}/sed`, `${served.root}/f`);
      const look = await served.lookUntilSettled();
      expect(look.adoptions).to.deep.equal([fileLine('f', 'by sed')]);
      const adoption = served.local.adoptions.get('f')!;
      expect(wantedForAdoption(adoption)).to.include({ type: 'file', source: `${served.root}/f` });
      served.publish({ f: file('one') });
      served.catchUp();
      const inode = inodeOf(`${served.root}/f`);
      expect(inodeOf(served.at('f'))).to.equal(inode);
      expect(inodeOf(served.inIdle('f'))).to.equal(inode);
    }));

  it('leaves a name as it is when what was found for it elsewhere has vanished', () =>
    serve(async (served) => {
      const view = { f: file('one\n') };
      served.publish(view);
      served.catchUp();
      execFileSync('sh', ['-ec', 'echo two > .f; mv .f f'], { cwd: served.root });
      await served.look();
      served.clock.pass(1_000);
      const found = (await served.look()).tops?.get('f');
      if (found === undefined) throw new Error('the file at the top was not found');
      const gone = { ...found, source: `${served.layout.kept}/gone` };
      served.publishItems(new Map([['f', wantedForAdoption(gone)]]), []);
      expect(readText(`${served.root}/..data/f`)).to.equal('one\n');
    }));

  it('stops before the flip when what it was to link has been moved away meanwhile', () =>
    serve(async (served) => {
      const view = { d: dir(), 'd/f': file('one\n'), 'd/g': file('two\n') };
      served.publish(view);
      served.catchUp();
      const slot = served.ledger.state.slots.get('d/g');
      if (slot?.type !== 'file') throw new Error('no file was published');
      const items = new Map([['d/f', wantedForAdoption({ slot, source: served.layout.inTree('a', 'd/g') })]]);
      fs.renameSync(served.at('d/g'), served.at('d/h'));
      expect(served.publishItems(items, [])).to.deep.include({ outcome: 'edited', paths: ['d/g'] });
      expect(readText(served.at('d/f'))).to.equal('one\n');
      expect((await served.lookUntilSettled()).edits).to.deep.equal(['d/g gone', fileLine('d/h', 'two\n')]);
      served.publish({ d: dir(), 'd/f': file('one\n'), 'd/h': file('two\n') });
      expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
    }));

  it('does not put back a name that was removed at the top after its inode was taken over', () => {
    let isRemoved = false;
    const removing: FsPort = {
      ...unflushedFs,
      rename: (label, from, to) => {
        unflushedFs.rename(label, from, to);
        if (label !== 'flip' || !to.endsWith('/..data') || !fs.existsSync(to.replace('..data', 'new')))
          return;
        fs.rmSync(to.replace('..data', 'new'));
        isRemoved = true;
      },
    };
    return serve(async (served) => {
      served.publish({ f: file('one') });
      fs.writeFileSync(`${served.root}/new`, 'made at the top');
      expect((await served.lookUntilSettled()).adoptions).to.deep.equal([fileLine('new', 'made at the top')]);
      served.publish({ f: file('one') });
      expect(isRemoved, 'somebody removed it right after the flip').to.equal(true);
      expect(fs.existsSync(`${served.root}/new`)).to.equal(false);
      expect((await served.lookUntilSettled()).adoptions).to.deep.equal(['new gone']);
    }, removing);
  });

  it('loses nothing that somebody puts into the idle tree in the very moment of the exchange', async () => {
    let meddle = (_at: string): void => undefined;
    const port: FsPort = {
      ...unflushedFs,
      exchange(label, a, b) {
        meddle(b);
        unflushedFs.exchange(label, a, b);
      },
    };
    await serve(async (served) => {
      if (!served.abilities.exchanges) return;
      const view = { d: dir(), 'd/f': file('one\n') };
      served.publish(view);
      served.catchUp();
      meddle = (at) => {
        if (!at.endsWith('d/f')) return;
        fs.writeFileSync(`${at}.new`, 'unseen\n');
        fs.renameSync(`${at}.new`, at);
      };
      expect(served.publish({ ...view, 'd/f': file('two\n') }).outcome).to.equal('published');
      meddle = () => undefined;
      expect(readText(`${served.root}/d/f`)).to.equal('two\n');
      const { losers } = await served.lookUntilSettled();
      expect(losers).to.deep.equal([fileLine('d/f', 'unseen\n')]);
    }, port);
  });

  it('puts links back at the top without a moment in which a name is missing', async () => {
    const missing = new Set<string>();
    const { port, watch } = watchedFs((root, call) => {
      for (const name of ['f', 'd'])
        if (!fs.existsSync(`${root}/${name}`)) missing.add(`${name} after ${call}`);
    });
    await serve(async (served) => {
      if (!served.abilities.exchanges) return;
      const view = { f: file('one\n'), d: dir(), 'd/g': file('in\n') };
      served.publish(view);
      served.catchUp();
      execFileSync('sh', ['-ec', 'sed -i s/one/1/ f; cp -r d/ e; rm d; mv e d'], { cwd: served.root });
      watch(served.root);
      await served.lookUntilSettled();
      served.publish({ ...view, f: file('1\n') }, 2n);
      await served.lookUntilSettled();
      served.publish({ ...view, f: file('two\n') }, 3n);
      await served.lookUntilSettled();
      watch(undefined);
      expect(namesAtTop(served.root)).to.deep.equal(['d', 'f']);
      for (const name of ['d', 'f'])
        expect(fs.readlinkSync(`${served.root}/${name}`)).to.equal(`..data/${name}`);
      expect(readText(`${served.root}/f`)).to.equal('two\n');
      expect([...missing]).to.deep.equal([]);
    }, port);
  });

  it('shows what was moved at the top under its new name at every moment', async () => {
    const moved = {
      new: 'a file',
      over: 'another file',
      'tree/f': 'in a directory',
      again: 'the first of two',
    };
    const wrong = new Set<string>();
    const { port, watch } = watchedFs((root, call) => {
      for (const [path, text] of Object.entries(moved)) {
        const found = fs.existsSync(`${root}/${path}`) ? readText(`${root}/${path}`) : 'missing';
        if (found !== text) wrong.add(`${path} after ${call}: ${found}`);
      }
    });
    await serve(async (served) => {
      served.publish({
        one: file('a file'),
        two: file('another file'),
        over: file('what it takes the place of'),
        d: dir(),
        'd/f': file('in a directory'),
        same: file('the first of two'),
      });
      served.catchUp();
      const edit = 'mv one new; mv two over; mv d tree; mv same again; echo the second of two > same';
      execFileSync('sh', ['-ec', edit], { cwd: served.root });
      watch(served.root);
      await served.lookUntilSettled();
      expect(served.publishItems(new Map(), [], 2n).outcome).to.equal('published');
      watch(undefined);
      expect([...wrong]).to.deep.equal([]);
      for (const name of ['again', 'new', 'over', 'tree'])
        expect(fs.readlinkSync(`${served.root}/${name}`)).to.equal(`..data/${name}`);
      expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
    }, port);
  });

  const CHMODS: readonly {
    readonly title: string;
    readonly begin: (served: ServedDirectory) => void;
    /** What is published between the last look and the publish. */
    readonly before?: Nodes;
    readonly next: Nodes;
  }[] = [
    {
      title: 'of the tree',
      begin: (served) => {
        served.publish({ d: dir(), 'd/f': file('one') });
        served.catchUp();
      },
      next: { d: dir(), 'd/f': file('two') },
    },
    {
      title: 'that nobody has looked at since the last publish',
      begin: (served) => {
        served.publish({ d: dir(), 'd/f': file('one') });
        served.catchUp();
      },
      before: { d: dir(), 'd/f': file('two') },
      next: { d: dir(), 'd/f': file('two'), other: file('three') },
    },
    {
      title: 'that is taken over from the top',
      begin: (served) => {
        served.publish({ other: file('one') });
        execFileSync('sh', ['-ec', 'mkdir -m 755 d; echo one > d/f'], { cwd: served.root });
      },
      next: { other: file('one') },
    },
  ];
  for (const { title, begin, before, next } of CHMODS) {
    it(`loses no mode that a directory ${title} gets at any call of a publish`, async () => {
      const lost: string[] = [];
      let isThrough = false;
      for (let n = 1; !isThrough; n += 1) {
        let calls = 0;
        let after = '';
        const { port, watch } = watchedFs((root, call) => {
          calls += 1;
          // Where names cannot be exchanged it is missing for a moment.
          if (calls !== n || !fs.existsSync(`${root}/d`)) return;
          after = call;
          fs.chmodSync(`${root}/d`, 0o700);
        });
        await serve(async (served) => {
          begin(served);
          await served.lookUntilSettled();
          if (before !== undefined) served.publish(before, 2n);
          watch(served.root);
          served.publish(next, 3n);
          watch(undefined);
          isThrough = calls < n;
          if (after === '') return;
          for (let round = 0; round < 3; round += 1) {
            await served.lookUntilSettled();
            served.publish(next, 4n);
          }
          const modes = [
            fs.statSync(`${served.root}/d`).mode,
            served.ledger.state.slots.get('d')?.signature.mode ?? 0,
          ];
          const isFound = served.local.dirty.has('d');
          if (!isFound || modes.some((mode) => (mode & 0o777) !== 0o700)) lost.push(`call ${n}, ${after}`);
        }, port);
      }
      expect(lost).to.deep.equal([]);
    });
  }

  it('copies where the kernel forbids a link', () => {
    const refusing: FsPort = {
      ...unflushedFs,
      link: (label, from, to) => {
        // Only names in the trees have inodes of somebody else's.
        if (from.includes('/..a/') || from.includes('/..b/'))
          throw Object.assign(new Error(), { code: 'EPERM' });
        unflushedFs.link(label, from, to);
      },
    };
    return serve(async (served) => {
      served.publish({ f: file('one'), g: file('g', 0o600) });
      served.catchUp();
      expect(readTree(`${served.root}/..b`)).to.deep.equal(lines({ f: file('one'), g: file('g', 0o600) }));
      served.publish({ f: file('two'), g: file('g', 0o600) });
      served.publish({ f: file('three'), g: file('g', 0o600) });
      expect(readText(served.at('f'))).to.equal('three');
      expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
    }, refusing);
  });

  it('takes away what a disk that failed in the middle has left in the stage directory', () => {
    let isFull = false;
    const failing: FsPort = {
      ...unflushedFs,
      rename: (label, from, to) => {
        if (isFull && label === 'rename into tree')
          throw Object.assign(new Error('full'), { code: 'ENOSPC' });
        unflushedFs.rename(label, from, to);
      },
    };
    return serve((served) => {
      served.publish({ f: file('one') });
      isFull = true;
      expect(() => served.catchUp()).to.throw('full');
      const left = (): string[] =>
        fs.readdirSync(served.layout.stage).filter((name) => name.startsWith('p-'));
      expect(left()).to.have.length(1);
      isFull = false;
      served.catchUp();
      expect(left()).to.deep.equal([]);
      expect(readText(served.inIdle('f'))).to.equal('one');
    }, failing);
  });

  it('stops when another agent has taken the directory over', () =>
    serve((served) => {
      served.publish({ f: file('one') });
      fs.writeFileSync(`${served.layout.state}/owner`, 'somebody else');
      expect(() => served.publish({ f: file('two') })).to.throw(
        'another agent has taken this directory over',
      );
      expect(readText(served.at('f'))).to.equal('one');
    }));
});

function many(count: number, text: string): Nodes {
  return Object.fromEntries(
    Array.from({ length: count }, (_, index) => [`f${index}`, file(`${text}${index}`)]),
  );
}
