import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';

import type { FsPort } from '../../../src/agent/base/ports.ts';
import { asNobody } from '../../support/nobody.ts';
import {
  fileLine,
  KEEP_MS,
  NOTHING_FOUND,
  removeTree,
  ServedDirectory,
  temporaryDirectory,
  unflushedFs,
  type Findings,
} from '../../support/served-directory.ts';
import { nextTick } from '../../support/tick.ts';
import { dir, file, lines, readText, readTree, symlink, type Nodes } from '../../support/tree-on-disk.ts';

const excluded = (path: string): boolean => /(^|\/)(\.[^/]*\.swp|[^/]*~)$/.test(path);

const VIEW: Nodes = {
  'top.conf': file('one\n'),
  'other.conf': file('other\n'),
  'conf.d': dir(),
  'conf.d/a.conf': file('one\n'),
  'conf.d/b.conf': file('other\n'),
  'conf.d/sub': dir(),
  'conf.d/sub/deep': file('deep\n'),
  link: symlink('top.conf'),
};

/** A directory that shows `VIEW`, both trees alike, run by one agent. */
async function serve(work: (served: ServedDirectory) => void | Promise<void>): Promise<void> {
  const served = await ServedDirectory.open({ excluded });
  try {
    served.publish(VIEW);
    served.catchUp();
    await work(served);
  } finally {
    await served.remove();
  }
}

/** What a person types in DIR. */
function type(root: string, command: string): void {
  execFileSync('sh', ['-ec', command], { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
}

function found(findings: Partial<Findings>): Findings {
  return { ...NOTHING_FOUND, ...findings };
}

function sorted(findings: Findings): Findings {
  const { edits, adoptions, losers, problems } = findings;
  return {
    edits: [...new Set(edits)].sort(),
    adoptions: [...new Set(adoptions)].sort(),
    losers: [...losers].sort(),
    problems,
  };
}

function without(...gone: readonly string[]): Nodes {
  return Object.fromEntries(
    Object.entries(VIEW).filter(
      ([path]) => !gone.some((name) => path === name || path.startsWith(`${name}/`)),
    ),
  );
}

/** The view through the names at the top, as programs open it. */
function readTops(root: string): Map<string, string> {
  const seen = new Map<string, string>();
  for (const name of fs.readdirSync(root).sort()) {
    if (name.startsWith('..') || excluded(name)) continue;
    const stat = fs.lstatSync(`${root}/${name}`);
    const through = stat.isSymbolicLink() && fs.readlinkSync(`${root}/${name}`) === `..data/${name}`;
    const at = through ? `${root}/..data` : root;
    for (const [path, line] of readTree(at))
      if (path === name || path.startsWith(`${name}/`)) seen.set(path, line);
  }
  return seen;
}

interface Case {
  readonly title: string;
  readonly command: string;
  readonly edits?: readonly string[];
  readonly adoptions?: readonly string[];
  /** What the view is in the end. */
  readonly after: Nodes;
  /** By new path where a file was before. */
  readonly moved?: Readonly<Record<string, string>>;
}

const CASES: readonly Case[] = [
  // In place.
  {
    title: 'echo > below',
    command: 'echo two > conf.d/a.conf',
    edits: [fileLine('conf.d/a.conf', 'two\n')],
    after: { ...VIEW, 'conf.d/a.conf': file('two\n') },
  },
  {
    title: 'echo >> at the top, through the link',
    command: 'echo two >> top.conf',
    edits: [fileLine('top.conf', 'one\ntwo\n')],
    after: { ...VIEW, 'top.conf': file('one\ntwo\n') },
  },
  {
    title: 'a write of the same length with the time put back',
    command:
      'touch -r conf.d/a.conf stamp~; printf "two\\n" > conf.d/a.conf; touch -r stamp~ conf.d/a.conf; rm stamp~',
    edits: [fileLine('conf.d/a.conf', 'two\n')],
    after: { ...VIEW, 'conf.d/a.conf': file('two\n') },
  },
  { title: 'touch', command: 'touch top.conf conf.d/a.conf conf.d', after: VIEW },
  { title: 'a write of the same bytes', command: 'echo one > top.conf', after: VIEW },
  {
    title: 'chmod of a file and a directory',
    command: 'chmod 600 conf.d/a.conf; chmod 700 conf.d/sub',
    edits: [fileLine('conf.d/a.conf', 'one\n', 0o600), 'conf.d/sub dir 700'],
    after: { ...VIEW, 'conf.d/a.conf': file('one\n', 0o600), 'conf.d/sub': dir(0o700) },
  },

  // By rename.
  {
    title: 'sed -i below',
    command: 'sed -i s/one/two/ conf.d/a.conf',
    edits: [fileLine('conf.d/a.conf', 'two\n')],
    after: { ...VIEW, 'conf.d/a.conf': file('two\n') },
  },
  {
    title: 'sed -i at the top: a real file in place of the link',
    command: 'sed -i s/one/two/ top.conf',
    adoptions: [fileLine('top.conf', 'two\n')],
    after: { ...VIEW, 'top.conf': file('two\n') },
  },
  {
    title: 'sed -i --follow-symlinks at the top',
    command: 'sed -i --follow-symlinks s/one/two/ top.conf',
    edits: [fileLine('top.conf', 'two\n')],
    after: { ...VIEW, 'top.conf': file('two\n') },
  },
  {
    title: 'install: unlink and create',
    command: 'echo two > new~; install -m 640 new~ conf.d/a.conf; rm new~',
    edits: [fileLine('conf.d/a.conf', 'two\n', 0o640)],
    after: { ...VIEW, 'conf.d/a.conf': file('two\n', 0o640) },
  },
  {
    title: 'vim with a backup: f becomes f~ and is made anew',
    command: 'mv conf.d/a.conf conf.d/a.conf~; echo two > conf.d/a.conf; rm conf.d/a.conf~',
    edits: [fileLine('conf.d/a.conf', 'two\n')],
    after: { ...VIEW, 'conf.d/a.conf': file('two\n') },
  },
  {
    title: 'mv of a file below',
    command: 'mv conf.d/a.conf conf.d/sub/c.conf',
    edits: ['conf.d/a.conf gone', fileLine('conf.d/sub/c.conf', 'one\n')],
    after: { ...without('conf.d/a.conf'), 'conf.d/sub/c.conf': file('one\n') },
    moved: { 'conf.d/sub/c.conf': 'conf.d/a.conf' },
  },
  {
    title: 'mv of a directory below',
    command: 'mv conf.d/sub conf.d/dir',
    edits: [
      'conf.d/dir dir 755',
      fileLine('conf.d/dir/deep', 'deep\n'),
      'conf.d/sub gone',
      'conf.d/sub/deep gone',
    ],
    after: { ...without('conf.d/sub'), 'conf.d/dir': dir(), 'conf.d/dir/deep': file('deep\n') },
    moved: { 'conf.d/dir/deep': 'conf.d/sub/deep' },
  },
  {
    title: 'mv of a directory at the top: its link under another name',
    command: 'mv conf.d d2',
    adoptions: [
      'conf.d gone',
      'conf.d/a.conf gone',
      'conf.d/b.conf gone',
      'conf.d/sub gone',
      'conf.d/sub/deep gone',
      'd2 dir 755',
      fileLine('d2/a.conf', 'one\n'),
      fileLine('d2/b.conf', 'other\n'),
      'd2/sub dir 755',
      fileLine('d2/sub/deep', 'deep\n'),
    ],
    after: {
      ...without('conf.d'),
      d2: dir(),
      'd2/a.conf': file('one\n'),
      'd2/b.conf': file('other\n'),
      'd2/sub': dir(),
      'd2/sub/deep': file('deep\n'),
    },
    moved: { 'd2/a.conf': 'conf.d/a.conf', 'd2/sub/deep': 'conf.d/sub/deep' },
  },
  {
    title: 'mv of a file at the top',
    command: 'mv top.conf new.conf',
    adoptions: [fileLine('new.conf', 'one\n'), 'top.conf gone'],
    after: { ...without('top.conf'), 'new.conf': file('one\n') },
    moved: { 'new.conf': 'top.conf' },
  },
  {
    title: 'cp -r of a directory at the top: an alias that becomes a copy',
    command: 'cp -r conf.d conf.d.bak',
    adoptions: [
      'conf.d.bak dir 755',
      fileLine('conf.d.bak/a.conf', 'one\n'),
      fileLine('conf.d.bak/b.conf', 'other\n'),
      'conf.d.bak/sub dir 755',
      fileLine('conf.d.bak/sub/deep', 'deep\n'),
    ],
    after: {
      ...VIEW,
      'conf.d.bak': dir(),
      'conf.d.bak/a.conf': file('one\n'),
      'conf.d.bak/b.conf': file('other\n'),
      'conf.d.bak/sub': dir(),
      'conf.d.bak/sub/deep': file('deep\n'),
    },
  },

  // Removals.
  {
    title: 'rm below',
    command: 'rm conf.d/a.conf',
    edits: ['conf.d/a.conf gone'],
    after: without('conf.d/a.conf'),
  },
  {
    title: 'rm at the top: only the link goes',
    command: 'rm top.conf',
    adoptions: ['top.conf gone'],
    after: without('top.conf'),
  },
  {
    title: 'rm -rf of a directory at the top: only the link goes',
    command: 'rm -rf conf.d',
    adoptions: [
      'conf.d gone',
      'conf.d/a.conf gone',
      'conf.d/b.conf gone',
      'conf.d/sub gone',
      'conf.d/sub/deep gone',
    ],
    after: without('conf.d'),
  },
  {
    title: 'rm -rf of a directory below',
    command: 'rm -rf conf.d/sub',
    edits: ['conf.d/sub gone', 'conf.d/sub/deep gone'],
    after: without('conf.d/sub'),
  },

  // Additions.
  {
    title: 'mkdir -p and a file below',
    command: 'mkdir -p conf.d/x/y; echo new > conf.d/x/y/f',
    edits: ['conf.d/x dir 755', 'conf.d/x/y dir 755', fileLine('conf.d/x/y/f', 'new\n')],
    after: { ...VIEW, 'conf.d/x': dir(), 'conf.d/x/y': dir(), 'conf.d/x/y/f': file('new\n') },
  },
  {
    title: 'mkdir -p and a file at the top',
    command: 'mkdir -p x/y; echo new > x/y/f',
    adoptions: ['x dir 755', 'x/y dir 755', fileLine('x/y/f', 'new\n')],
    after: { ...VIEW, x: dir(), 'x/y': dir(), 'x/y/f': file('new\n') },
  },
  {
    title: 'a new file at the top',
    command: 'echo new > new.conf',
    adoptions: [fileLine('new.conf', 'new\n')],
    after: { ...VIEW, 'new.conf': file('new\n') },
  },
  {
    title: 'a hard link',
    command: 'ln conf.d/a.conf conf.d/c.conf',
    edits: [fileLine('conf.d/c.conf', 'one\n')],
    after: { ...VIEW, 'conf.d/c.conf': file('one\n') },
  },

  // Symlinks and types.
  {
    title: 'ln -s below',
    command: 'ln -s a.conf conf.d/l',
    edits: ['conf.d/l -> a.conf'],
    after: { ...VIEW, 'conf.d/l': symlink('a.conf') },
  },
  {
    title: 'ln -s at the top',
    command: 'ln -s conf.d/a.conf l',
    adoptions: ['l -> conf.d/a.conf'],
    after: { ...VIEW, l: symlink('conf.d/a.conf') },
  },
  {
    title: 'ln -sf at the top over our own link',
    command: 'ln -sf other.conf top.conf',
    adoptions: ['top.conf -> other.conf'],
    after: { ...VIEW, 'top.conf': symlink('other.conf') },
  },
  {
    title: 'ln -sfn at the top over a link of the view',
    command: 'ln -sfn other.conf link',
    adoptions: ['link -> other.conf'],
    after: { ...VIEW, link: symlink('other.conf') },
  },
  {
    title: 'a file that becomes a directory',
    command: 'rm conf.d/a.conf; mkdir conf.d/a.conf; echo in > conf.d/a.conf/f',
    edits: ['conf.d/a.conf dir 755', fileLine('conf.d/a.conf/f', 'in\n')],
    after: { ...VIEW, 'conf.d/a.conf': dir(), 'conf.d/a.conf/f': file('in\n') },
  },
  {
    title: 'a directory that becomes a file',
    command: 'rm -r conf.d/sub; echo file > conf.d/sub',
    edits: [fileLine('conf.d/sub', 'file\n'), 'conf.d/sub/deep gone'],
    after: { ...without('conf.d/sub'), 'conf.d/sub': file('file\n') },
  },
  {
    title: 'a directory at the top that becomes a symlink',
    command: 'ln -sfn other.conf conf.d',
    adoptions: [
      'conf.d -> other.conf',
      'conf.d/a.conf gone',
      'conf.d/b.conf gone',
      'conf.d/sub gone',
      'conf.d/sub/deep gone',
    ],
    after: { ...without('conf.d'), 'conf.d': symlink('other.conf') },
  },

  // Real directories at the top.
  {
    title: 'tar x over a directory at the top: its link becomes a real directory, and nothing is removed',
    command:
      'mkdir src~ src~/conf.d; echo two > src~/conf.d/a.conf; echo new > src~/conf.d/new.conf; ' +
      'tar -C src~ -cf src.tar~ conf.d; rm -r src~; rm conf.d; tar -xf src.tar~; rm src.tar~',
    adoptions: [fileLine('conf.d/a.conf', 'two\n'), fileLine('conf.d/new.conf', 'new\n')],
    after: { ...VIEW, 'conf.d/a.conf': file('two\n'), 'conf.d/new.conf': file('new\n') },
  },
  { title: 'an empty directory in place of a link', command: 'rm conf.d; mkdir conf.d', after: VIEW },

  // What takes no part.
  {
    title: 'excluded names, below and at the top',
    command:
      'echo swap > conf.d/.a.conf.swp; echo back > top.conf~; echo x > .top.conf.swp; mkdir dir~; echo x > dir~/f',
    edits: ['conf.d/.a.conf.swp other'],
    after: VIEW,
  },
];

describe('a look', () => {
  for (const { title, command, after, edits = [], adoptions = [], moved = {} } of CASES) {
    it(title, () =>
      serve(async (served) => {
        const { root } = served;
        type(root, command);
        const findings = sorted(await served.lookUntilSettled());
        expect(findings).to.deep.equal(found({ edits: [...edits], adoptions: [...adoptions].sort() }));
        for (const [path, from] of Object.entries(moved))
          expect(served.local.cameFrom(path), path).to.equal(from);
        // A publish brings it into both trees, and then there is nothing to find.
        expect(served.publish(VIEW).outcome).to.equal('published');
        expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
        served.catchUp();
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        const carried = /\.swp$/;
        for (const tree of ['..a', '..b']) {
          const seen = [...readTree(`${root}/${tree}`)].filter(([path]) => !carried.test(path));
          expect(new Map(seen), tree).to.deep.equal(lines(after));
        }
        const seen = [...readTops(root)].filter(([path]) => !carried.test(path));
        expect(new Map(seen)).to.deep.equal(lines(after));
      }),
    );
  }

  it('finds nothing where nothing happened', () =>
    serve(async (served) => {
      for (let round = 0; round < 3; round += 1)
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
    }));

  it('waits for a file that is still being written', () =>
    serve(async (served) => {
      for (const text of ['t', 'tw', 'two']) {
        fs.writeFileSync(served.at('conf.d/a.conf'), text);
        const look = await served.look();
        expect([...look.busy]).to.deep.equal(['conf.d/a.conf']);
        expect(look.edits.size).to.equal(0);
        served.clock.pass(200);
      }
      expect((await served.lookUntilSettled()).edits).to.deep.equal([fileLine('conf.d/a.conf', 'two')]);
    }));

  it('waits for whoever has a file open for writing, where that can be told', () =>
    serve(async (served) => {
      if (!served.abilities.leases) return;
      const fd = fs.openSync(served.at('conf.d/a.conf'), 'a');
      fs.writeSync(fd, 'half ');
      await served.look();
      served.clock.pass(5_000);
      const waiting = await served.look();
      expect([[...waiting.edits], [...waiting.busy]]).to.deep.equal([[], ['conf.d/a.conf']]);
      fs.writeSync(fd, 'done\n');
      fs.closeSync(fd);
      const findings = await served.lookUntilSettled();
      expect(findings).to.deep.equal(found({ edits: [fileLine('conf.d/a.conf', 'one\nhalf done\n')] }));
    }));

  it('waits for what goes while it is read, also where only another directory is looked at', async () => {
    let meddle = (): void => undefined;
    const port: FsPort = {
      ...unflushedFs,
      openRead: (label, path) => {
        if (label === 'digest' && path.endsWith('/conf.d/a.conf')) meddle();
        return unflushedFs.openRead(label, path);
      },
    };
    const served = await ServedDirectory.open({ fs: port });
    try {
      served.publish(VIEW);
      served.catchUp();
      type(served.root, 'echo two > conf.d/a.conf');
      await served.look();
      served.clock.pass(500);
      meddle = () => fs.unlinkSync(served.at('conf.d/a.conf'));
      for (const extent of ['all', new Set(['conf.d/sub'])] as const)
        expect([...(await served.look(extent)).busy]).to.deep.equal(['conf.d/a.conf']);
      served.clock.pass(1_100);
      expect([...(await served.look(new Set(['conf.d/sub']))).edits]).to.deep.equal([
        ['conf.d/a.conf', undefined],
      ]);
    } finally {
      await served.remove();
    }
  });

  it('waits for a link as for a file, so that it comes with what it leads to', () =>
    serve(async (served) => {
      type(
        served.root,
        'cd conf.d; mkdir new; echo x > new/key; ln -s new now; ln -s a.conf ../named; ln -s b.conf sub/b',
      );
      const first = await served.look();
      expect([...first.edits.keys(), ...(first.tops?.keys() ?? [])]).to.deep.equal(['conf.d/new']);
      expect([...first.busy].sort()).to.deep.equal(['conf.d/new/key', 'conf.d/now', 'conf.d/sub/b', 'named']);
      served.clock.pass(300);
      const second = await served.look();
      expect([...second.edits.keys(), ...(second.tops?.keys() ?? [])].sort()).to.deep.equal([
        'conf.d/new/key',
        'conf.d/now',
        'conf.d/sub/b',
        'named',
      ]);
    }));

  it('counts files that were saved at one moment together, although it learns of them one after the other', () =>
    serve(async (served) => {
      type(served.root, 'echo two > conf.d/a.conf; echo two > conf.d/sub/deep');
      expect([...(await served.look(new Set(['conf.d']))).busy]).to.deep.equal(['conf.d/a.conf']);
      served.clock.pass(300);
      const second = await served.look(new Set(['conf.d/sub']));
      expect([...second.edits.keys()]).to.deep.equal([]);
      served.clock.pass(300);
      const third = await served.look(new Set());
      expect([...third.edits.keys()].sort()).to.deep.equal(['conf.d/a.conf', 'conf.d/sub/deep']);
    }));

  it('finds no late edit in a file that is being written through a flip and changes whenever it is read', async () => {
    let active = '';
    const port: FsPort = {
      ...unflushedFs,
      openRead(label, at) {
        const fd = unflushedFs.openRead(label, at);
        if (at === `${active}/conf.d/log`) fs.appendFileSync(at, 'line\n');
        return fd;
      },
    };
    const served = await ServedDirectory.open({ fs: port });
    try {
      served.publish(VIEW);
      served.catchUp();
      fs.writeFileSync(served.at('conf.d/log'), 'line\n');
      await served.look();
      served.publish({ ...VIEW, 'top.conf': file('two\n') });
      active = fs.realpathSync(`${served.root}/..data`);
      const losers: string[] = [];
      for (let ms = 0; ms < 12_000; ms += 500) {
        fs.appendFileSync(served.at('conf.d/log'), 'line\n');
        served.clock.pass(500);
        losers.push(...(await served.look()).losers.map(({ path }) => path));
      }
      expect(losers).to.deep.equal([]);
    } finally {
      await served.remove();
    }
  });

  it('sees a tree move in one look, whatever is in it', () =>
    serve(async (served) => {
      const tree = { ...VIEW, 'conf.d/sub/link': symlink('deep'), 'conf.d/sub/empty': dir() };
      served.publish(tree, 2n);
      served.catchUp();
      type(served.root, 'mv conf.d/sub conf.d/moved');
      const look = await served.look();
      expect(look.busy).to.deep.equal(new Set());
      const names = ['', '/deep', '/empty', '/link'];
      expect([...look.edits.keys()].sort()).to.deep.equal(
        ['conf.d/moved', 'conf.d/sub'].flatMap((at) => names.map((name) => at + name)),
      );
    }));

  it('waits for a name that is missing, and forgets it when it is back', () =>
    serve(async (served) => {
      fs.renameSync(served.at('conf.d/a.conf'), `${served.root}/aside~`);
      expect([...(await served.look()).busy]).to.deep.equal(['conf.d/a.conf']);
      served.clock.pass(900);
      expect((await served.look()).edits.size).to.equal(0);
      fs.renameSync(`${served.root}/aside~`, served.at('conf.d/a.conf'));
      expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
    }));

  it('at hinted directories looks there alone', () =>
    serve(async (served) => {
      fs.chmodSync(served.at('conf.d/a.conf'), 0o600);
      fs.chmodSync(served.at('conf.d/sub/deep'), 0o600);
      expect([...(await served.look(new Set(['conf.d']))).edits.keys()]).to.deep.equal(['conf.d/a.conf']);
      expect([...(await served.look(new Set(['conf.d/sub', 'no/such']))).edits.keys()]).to.deep.equal([
        'conf.d/sub/deep',
      ]);
    }));

  it('at a hinted directory that is a symlink by now follows nothing', () =>
    serve(async (served) => {
      const outside = temporaryDirectory();
      fs.writeFileSync(`${outside}/secret`, 'not ours');
      fs.rmSync(served.at('conf.d/sub'), { recursive: true });
      fs.symlinkSync(outside, served.at('conf.d/sub'));
      const look = await served.look(new Set(['conf.d/sub']));
      expect([...look.edits.keys()]).to.deep.equal([]);
      const findings = await served.lookUntilSettled();
      expect(sorted(findings).edits).to.deep.equal([`conf.d/sub -> ${outside}`, 'conf.d/sub/deep gone']);
      removeTree(outside);
    }));

  describe('in the idle tree, where a shell that did `cd` before a flip works on', () => {
    const NEXT: Nodes = { ...VIEW, 'other.conf': file('next\n') };

    async function inIdle(command: string, check: (served: ServedDirectory) => Promise<void>): Promise<void> {
      await serve(async (served) => {
        const here = fs.realpathSync(served.at('conf.d'));
        served.publish(NEXT);
        expect(fs.realpathSync(served.at('conf.d'))).to.not.equal(here);
        type(here, command);
        await check(served);
      });
    }

    it('a new file comes into the view', () =>
      inIdle('echo new > new.conf', async (served) => {
        expect((await served.lookUntilSettled()).adoptions).to.deep.equal([
          fileLine('conf.d/new.conf', 'new\n'),
        ]);
        served.publish(NEXT);
        served.catchUp();
        expect(readText(`${served.root}/conf.d/new.conf`)).to.equal('new\n');
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    it('a file saved by rename is an edit', () =>
      inIdle('sed -i s/one/two/ a.conf', async (served) => {
        expect((await served.lookUntilSettled()).adoptions).to.deep.equal([
          fileLine('conf.d/a.conf', 'two\n'),
        ]);
        served.publish(NEXT);
        served.catchUp();
        expect(readText(`${served.root}/conf.d/a.conf`)).to.equal('two\n');
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    it('a file written in place is an edit, because it is the same inode', () =>
      inIdle('echo two > a.conf', async (served) => {
        expect((await served.lookUntilSettled()).edits).to.deep.equal([fileLine('conf.d/a.conf', 'two\n')]);
      }));

    it('a removal is one', () =>
      inIdle('rm a.conf', async (served) => {
        expect((await served.lookUntilSettled()).adoptions).to.deep.equal(['conf.d/a.conf gone']);
        served.publish(NEXT);
        served.catchUp();
        expect(fs.readdirSync(`${served.root}/conf.d`).sort()).to.deep.equal(['b.conf', 'sub']);
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    it('what is saved over a version that is not the published one any more is kept as a loser', () =>
      serve(async (served) => {
        const here = fs.realpathSync(served.at('conf.d'));
        served.publish({ ...VIEW, 'conf.d/a.conf': file('next\n') });
        type(here, 'sed -i s/one/two/ a.conf');
        const findings = await served.lookUntilSettled();
        expect(findings).to.deep.equal(found({ losers: [fileLine('conf.d/a.conf', 'two\n')] }));
        expect(readText(`${served.root}/conf.d/a.conf`)).to.equal('next\n');
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    it('what is saved by rename over a version that was written in place in the published tree meanwhile is a loser', () =>
      serve(async (served) => {
        const here = fs.realpathSync(served.at('conf.d'));
        served.publish(NEXT);
        type(here, 'sed -i s/one/two/ a.conf');
        fs.writeFileSync(served.at('conf.d/a.conf'), 'in place\n');
        const findings = await served.lookUntilSettled();
        expect(findings.losers).to.deep.equal([fileLine('conf.d/a.conf', 'two\n')]);
        served.publish(NEXT);
        expect(readText(`${served.root}/conf.d/a.conf`)).to.equal('in place\n');
        expect((await served.lookUntilSettled()).adoptions).to.deep.equal([]);
      }));

    it('nor does what is removed there take along what is written in place meanwhile', () =>
      serve(async (served) => {
        const here = fs.realpathSync(served.at('conf.d'));
        served.publish(NEXT);
        fs.writeFileSync(served.at('conf.d/a.conf'), 'in place\n');
        await served.look();
        served.clock.pass(1_500);
        type(here, 'rm a.conf');
        const findings = await served.lookUntilSettled();
        expect(findings.edits).to.deep.equal([fileLine('conf.d/a.conf', 'in place\n')]);
        expect(findings.adoptions).to.deep.equal([]);
        served.publish(NEXT);
        expect(readText(`${served.root}/conf.d/a.conf`)).to.equal('in place\n');
      }));

    it('what is saved by rename is a loser as well when the write in place was taken in before it settled', () =>
      serve(async (served) => {
        const here = fs.realpathSync(served.at('conf.d'));
        served.publish(NEXT);
        fs.writeFileSync(served.at('conf.d/a.conf'), 'in place\n');
        await served.look();
        served.clock.pass(1_500);
        type(here, 'echo two > .new; mv .new a.conf');
        const findings = await served.lookUntilSettled();
        expect(findings).to.deep.equal(
          found({
            edits: [fileLine('conf.d/a.conf', 'in place\n')],
            losers: [fileLine('conf.d/a.conf', 'two\n')],
          }),
        );
        served.publish(NEXT);
        expect(readText(`${served.root}/conf.d/a.conf`)).to.equal('in place\n');
      }));
  });

  describe('through a descriptor that was open before its file was replaced', () => {
    it('a write is a loser: it was made to another version', () =>
      serve(async (served) => {
        const fd = fs.openSync(served.at('conf.d/a.conf'), 'a');
        served.publish({ ...VIEW, 'conf.d/a.conf': file('two\n') });
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        served.publish({ ...VIEW, 'conf.d/a.conf': file('three\n') });
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        fs.writeSync(fd, 'late\n');
        const findings = await served.lookUntilSettled();
        expect(findings).to.deep.equal(found({ losers: [fileLine('conf.d/a.conf', 'one\nlate\n')] }));
        fs.writeSync(fd, 'later\n');
        expect((await served.lookUntilSettled()).losers).to.deep.equal([
          fileLine('conf.d/a.conf', 'one\nlate\nlater\n'),
        ]);
        fs.closeSync(fd);
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    it('a write is found after any time, where it can be told that somebody can still write', () =>
      serve(async (served) => {
        if (!served.abilities.leases) return;
        const fd = fs.openSync(served.at('conf.d/a.conf'), 'a');
        served.publish({ ...VIEW, 'conf.d/a.conf': file('two\n') });
        served.catchUp();
        await served.lookUntilSettled();
        for (let n = 0; n < 3; n += 1) {
          served.clock.pass(KEEP_MS);
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        }
        fs.writeSync(fd, 'late\n');
        const findings = await served.lookUntilSettled();
        expect(findings).to.deep.equal(found({ losers: [fileLine('conf.d/a.conf', 'one\nlate\n')] }));
        fs.closeSync(fd);
        served.clock.pass(KEEP_MS);
        await served.lookUntilSettled();
        expect(fs.readdirSync(served.layout.kept)).to.deep.equal([]);
      }));

    it('a write that was made before somebody replaced or removed the file is none: who did it had it', () =>
      serve(async (served) => {
        fs.appendFileSync(served.at('conf.d/a.conf'), 'unseen\n');
        // Two calls in one tick cannot be told apart.
        await nextTick(`${served.root}~`);
        fs.rmSync(served.at('conf.d/a.conf'));
        const removed = await served.lookUntilSettled();
        expect(removed.losers).to.deep.equal([]);
        expect(removed.adoptions).to.deep.equal([]);
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    for (const command of ['rm -r conf.d/sub', 'rm -r conf.d/sub; echo file > conf.d/sub']) {
      it(`a write that was made before the directory went with the file is none: ${command}`, () =>
        serve(async (served) => {
          fs.appendFileSync(served.at('conf.d/sub/deep'), 'unseen\n');
          await nextTick(`${served.root}~`);
          type(served.root, command);
          const view = { ...without('conf.d/sub') };
          if (command.includes('echo')) view['conf.d/sub'] = file('file\n');
          const findings = [await served.lookUntilSettled(), await served.lookUntilSettled()];
          for (const text of ['a\n', 'b\n', 'c\n']) {
            served.publish({ ...view, 'other.conf': file(text) });
            findings.push(await served.lookUntilSettled());
          }
          expect(findings.flatMap(({ losers, adoptions }) => [...losers, ...adoptions])).to.deep.equal([]);
        }));
    }

    for (const to of ['conf.d/moved', 'moved']) {
      it(`a write that was made after the directory was moved to ${to}, and before the file was replaced there, is none`, () =>
        serve(async (served) => {
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          type(served.root, `mv conf.d/sub ${to}; echo cut > ${to}/deep`);
          await nextTick(`${served.root}~`);
          type(served.root, `echo new > ${to}/.new; mv ${to}/.new ${to}/deep`);
          const findings: Findings[] = [];
          for (const text of ['a\n', 'b\n', 'c\n', 'd\n']) {
            findings.push(await served.lookUntilSettled());
            served.publish({ ...VIEW, 'other.conf': file(text) });
          }
          expect(findings.flatMap(({ losers }) => losers)).to.deep.equal([]);
          expect(readTree(served.at('conf.d')).has('sub')).to.equal(false);
        }));
    }

    it('a write to a file that was moved to the top and published there is none once it is removed', () =>
      serve(async (served) => {
        type(served.root, 'mv conf.d/a.conf moved; echo more >> moved');
        const moved = { ...without('conf.d/a.conf'), moved: file('one\nmore\n') };
        await served.lookUntilSettled();
        served.publish(VIEW);
        await served.lookUntilSettled();
        served.agree(moved);
        const findings: Findings[] = [];
        for (const text of ['a\n', 'b\n', 'c\n']) {
          served.publish({ ...without('conf.d/a.conf'), 'other.conf': file(text) });
          findings.push(await served.lookUntilSettled());
        }
        expect(findings.flatMap(({ losers }) => losers)).to.deep.equal([]);
        expect(fs.readdirSync(served.layout.kept)).to.have.length(3);
      }));

    it('a write that leaves what both sides had before is none: it was in the volume', () =>
      serve(async (served) => {
        const fd = fs.openSync(served.at('conf.d/a.conf'), 'r+');
        served.publish({ ...VIEW, 'conf.d/a.conf': file('two\n') });
        served.publish({ ...VIEW, 'conf.d/a.conf': file('three\n') });
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        fs.writeSync(fd, 'two\n', 0);
        fs.closeSync(fd);
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      }));

    it('a write that was made after somebody removed the file is a loser', () =>
      serve(async (served) => {
        const fd = fs.openSync(served.at('conf.d/a.conf'), 'a');
        fs.rmSync(served.at('conf.d/a.conf'));
        fs.writeSync(fd, 'after\n');
        fs.closeSync(fd);
        const findings = [await served.lookUntilSettled(), await served.lookUntilSettled()];
        expect(findings.flatMap(({ losers }) => losers)).to.deep.equal([
          fileLine('conf.d/a.conf', 'one\nafter\n'),
        ]);
      }));

    it('a write to a file that was replaced by the same content is an edit', () =>
      serve(async (served) => {
        const fd = fs.openSync(served.at('conf.d/a.conf'), 'a');
        // A new mode is a new inode with the old content.
        served.publish({ ...VIEW, 'conf.d/a.conf': file('one\n', 0o640) });
        served.publish({ ...VIEW, 'conf.d/a.conf': file('one\n', 0o640), 'other.conf': file('two\n') });
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        fs.writeSync(fd, 'late\n');
        fs.closeSync(fd);
        expect((await served.lookUntilSettled()).adoptions).to.deep.equal([
          fileLine('conf.d/a.conf', 'one\nlate\n'),
        ]);
      }));

    it('is found until the time to keep is over', () =>
      serve(async (served) => {
        served.publish({ ...VIEW, 'conf.d/a.conf': file('two\n') });
        await served.lookUntilSettled();
        served.publish({ ...VIEW, 'conf.d/a.conf': file('three\n') });
        await served.lookUntilSettled();
        expect(fs.readdirSync(served.layout.kept)).to.have.length(1);
        served.clock.pass(9 * 60_000);
        await served.lookUntilSettled();
        expect(fs.readdirSync(served.layout.kept)).to.have.length(1);
        served.clock.pass(2 * 60_000);
        await served.lookUntilSettled();
        expect(fs.readdirSync(served.layout.kept)).to.deep.equal([]);
      }));

    for (const [way, jumpMs] of [
      ['on', 5 * 3_600_000],
      ['back', -5 * 3_600_000],
    ] as const) {
      it(`is found until the time to keep is over, when the time of day is set ${way} meanwhile`, () =>
        serve(async (served) => {
          served.publish({ ...VIEW, 'conf.d/a.conf': file('two\n') });
          await served.lookUntilSettled();
          served.publish({ ...VIEW, 'conf.d/a.conf': file('three\n') });
          await served.lookUntilSettled();
          served.clock.jump(jumpMs);
          await served.lookUntilSettled();
          expect(fs.readdirSync(served.layout.kept)).to.have.length(1);
          served.clock.pass(KEEP_MS);
          await served.lookUntilSettled();
          expect(fs.readdirSync(served.layout.kept)).to.deep.equal([]);
        }));
    }
  });

  it('reports what cannot be read as a problem, and nothing else of it', () =>
    asNobody(() =>
      serve(async (served) => {
        const { root } = served;
        type(root, 'echo secret > conf.d/new; chmod 000 conf.d/new; echo two > conf.d/a.conf');
        const findings = await served.lookUntilSettled();
        expect(findings.edits).to.deep.equal([fileLine('conf.d/a.conf', 'two\n')]);
        expect([...findings.problems]).to.deep.equal([['conf.d/new', 'cannot be read: EACCES']]);
      }),
    ));

  it('reports a directory that cannot be listed as a problem, and takes nothing in it for removed', () =>
    asNobody(() =>
      serve(async (served) => {
        const { root } = served;
        type(root, 'echo two > top.conf; chmod 000 conf.d/sub');
        const findings = await served.lookUntilSettled();
        expect(sorted(findings).edits).to.deep.equal(['conf.d/sub dir 0', fileLine('top.conf', 'two\n')]);
        expect([...findings.problems]).to.deep.equal([['conf.d/sub', 'cannot be read: EACCES']]);
        type(root, 'chmod 755 conf.d/sub');
        expect((await served.lookUntilSettled()).edits).to.deep.equal(['conf.d/sub dir 755']);
      }),
    ));

  describe('of a damaged directory infers nothing', () => {
    for (const [command, damage] of [
      ['rm ..data', '..data is missing or no symlink'],
      ['rm ..data; mkdir ..data', '..data is missing or no symlink'],
      ['ln -sfn conf.d ..data', '..data points to conf.d'],
      ['rm -rf ..a', '..a is missing or no directory'],
      ['rm -rf ..b; echo > ..b', '..b is missing or no directory'],
      ['rm -rf conf.d top.conf other.conf link ..a ..b ..data', '..a is missing or no directory'],
    ] as const) {
      it(command, () =>
        serve(async (served) => {
          type(served.root, command);
          const look = await served.look();
          expect(look.damage).to.equal(damage);
          expect([look.edits.size, look.adoptions.size, look.tops?.size ?? 0]).to.deep.equal([0, 0, 0]);
        }),
      );
    }
  });
});
