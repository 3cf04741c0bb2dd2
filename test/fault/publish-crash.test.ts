/** A publish that is killed at any of its steps: readers see one whole tree, and the next start takes nothing for an edit. */

import fs from 'node:fs';
import { expect } from 'chai';

import { codeOf } from '../../src/agent/base/error.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import {
  fileLine,
  NOTHING_FOUND,
  removeTree,
  ServedDirectory,
  temporaryDirectory,
  unflushedFs,
} from '../support/served-directory.ts';
import { isStop, StoppingFs } from '../support/stopping-fs.ts';
import { dir, file, lines, readText, readTree, symlink, type Nodes } from '../support/tree-on-disk.ts';

const FIRST: Nodes = {
  'changed.conf': file('first'),
  'edited.conf': file('as published'),
  'gone.conf': file('soon gone'),
  link: symlink('changed.conf'),
  d: dir(),
  'd/changed': file('first below'),
  'd/edited': file('as published below'),
  'd/gone': file('soon gone below'),
  'd/kept': file('unchanged'),
  'd/sub': dir(),
  'd/sub/deep': file('deep'),
  'file-to-dir': file('a file'),
  'dir-to-file': dir(),
  'dir-to-file/below': file('below'),
  'file-to-link': file('another file'),
  'link-to-dir': symlink('nowhere'),
  closed: dir(0o555),
  'closed/in': file('in a closed directory', 0o400),
  'gone-dir': dir(),
  'gone-dir/one': file('one'),
  'gone-dir/two': dir(),
  'gone-dir/two/three': file('three'),
};

/** One small change, so that the idle tree has something to catch up with. */
const SECOND: Nodes = {
  ...FIRST,
  'changed.conf': file('second'),
  'd/changed': file('second below'),
  'd/sub/second': file('new in the second'),
};

const THIRD: Nodes = {
  'changed.conf': file('third'),
  'edited.conf': file('as published'),
  link: symlink('edited.conf'),
  'new.conf': file('new at the top'),
  d: dir(0o750),
  'd/changed': file('third below'),
  'd/edited': file('as published below'),
  'd/kept': file('unchanged', 0o600),
  'd/sub': dir(),
  'd/sub/deep': file('deep'),
  'd/sub/second': file('new in the second'),
  'd/new': dir(),
  'd/new/in': file('in a new directory'),
  'd/one': file('two names', 0o644, 'x'),
  'd/other': file('two names', 0o644, 'x'),
  'file-to-dir': dir(),
  'file-to-dir/in': file('in what was a file'),
  'dir-to-file': file('was a directory'),
  'file-to-link': symlink('edited.conf'),
  'link-to-dir': dir(),
  'link-to-dir/in': file('in what was a link'),
  closed: dir(0o555),
  'closed/in': file('changed in a closed directory', 0o400),
};

type Act = (served: ServedDirectory) => void | Promise<void>;

interface Scene {
  readonly title: string;
  /** Makes the directory as it is before the publish that is killed. */
  readonly prepare: (root: ByteString) => Promise<void>;
  /** The publish. */
  readonly act: Act;
  /** What readers may see; the last is what `act` leads to. */
  readonly trees: readonly (Nodes | undefined)[];
}

const excluded = (path: string): boolean => path.endsWith('.swp');

async function run<T>(root: ByteString, work: (served: ServedDirectory) => T | Promise<T>): Promise<T> {
  const served = await ServedDirectory.open({ root, excluded });
  try {
    return await work(served);
  } finally {
    await served.close();
  }
}

async function prepareSecond(root: ByteString): Promise<void> {
  await run(root, (served) => {
    served.publish(FIRST);
    served.catchUp();
    served.publish(SECOND);
  });
}

const SCENES: readonly Scene[] = [
  {
    title: 'the first publish',
    prepare: () => Promise.resolve(),
    act: (served) => {
      served.publish(FIRST);
      served.catchUp();
    },
    trees: [undefined, FIRST],
  },
  {
    title: 'a publish of every kind of change',
    prepare: prepareSecond,
    act: (served) => void served.publish(THIRD),
    trees: [SECOND, THIRD],
  },
  {
    title: 'catching up after a publish',
    prepare: async (root) => {
      await prepareSecond(root);
      await run(root, (served) => served.publish(THIRD));
    },
    act: (served) => served.catchUp(),
    trees: [THIRD],
  },
];

/** What readers see through `..data`; `undefined` before the first publish. */
function seen(root: ByteString): ReadonlyMap<string, string> | undefined {
  return fs.existsSync(`${root}/..data`) ? readTree(fs.realpathSync(`${root}/..data`)) : undefined;
}

/** Runs `act` until its `at`-th changing call; `undefined` when it has fewer. Closes what a killed process leaves open. */
async function kill(
  scene: Pick<Scene, 'act'>,
  root: ByteString,
  at: number,
  torn: boolean,
): Promise<string | undefined> {
  const stopping = new StoppingFs(unflushedFs);
  const served = await ServedDirectory.open({ root, fs: stopping.port, excluded });
  stopping.arm(at, torn);
  try {
    await scene.act(served);
  } catch (error) {
    if (!isStop(error)) throw error;
  }
  stopping.revive();
  await served.close();
  return stopping.stoppedAt;
}

/** Calls `check` with a directory killed at each changing call of the scene, until the scene runs through. */
async function atEveryCall(
  scene: Pick<Scene, 'prepare' | 'act'>,
  check: (root: ByteString, where: string) => Promise<void>,
): Promise<number> {
  for (let at = 1; ; at += 1) {
    for (const torn of [false, true]) {
      const root = temporaryDirectory();
      try {
        await scene.prepare(root);
        const stoppedAt = await kill(scene, root, at, torn);
        if (stoppedAt === undefined) return at - 1;
        if (torn && !stoppedAt.startsWith('write')) continue;
        const where = `killed at call ${at}, ${stoppedAt}`;
        try {
          await check(root, where);
        } catch (error) {
          if (error instanceof Error) error.message = `${where}: ${error.message}`;
          throw error;
        }
      } finally {
        removeTree(root);
      }
    }
  }
}

function expectWhole(scene: Scene, root: ByteString): void {
  const now = seen(root);
  const allowed = scene.trees.map((tree) => tree && lines(tree));
  const one = allowed.some((tree) => JSON.stringify([...(tree ?? [])]) === JSON.stringify([...(now ?? [])]));
  // The comparison that fails says more than `false`.
  if (!one) expect(now).to.deep.equal(allowed.at(-1));
}

/** Names at the top that are in the old and in the new tree never go away. */
function expectTopNames(scene: Scene, root: ByteString): void {
  const [first, ...rest] = scene.trees;
  const names = Object.keys(first ?? {}).filter((path) => !path.includes('/'));
  for (const name of names) {
    if (rest.every((tree) => tree?.[name] !== undefined)) fs.lstatSync(`${root}/${name}`);
  }
}

function expectEnd(served: ServedDirectory, tree: Nodes): void {
  const { root } = served;
  expect(readTree(`${root}/..a`), '..a').to.deep.equal(lines(tree));
  expect(readTree(`${root}/..b`), '..b').to.deep.equal(lines(tree));
  for (const [path, node] of Object.entries(tree)) {
    if (node.type === 'file')
      expect(fs.statSync(`${root}/..a/${path}`).ino, path).to.equal(fs.statSync(`${root}/..b/${path}`).ino);
  }
  const tops = Object.keys(tree).filter((path) => !path.includes('/'));
  const own = ['..a', '..b', '..data', '..etcd-etc-agent'];
  expect(fs.readdirSync(root).sort()).to.deep.equal([...tops, ...own].sort());
  for (const name of tops) expect(fs.readlinkSync(`${root}/${name}`)).to.equal(`..data/${name}`);
  expect(fs.readdirSync(served.layout.stage)).to.deep.equal([]);
}

/** Nothing is kept for longer than late writers need. */
async function expectReleased(served: ServedDirectory): Promise<void> {
  served.clock.pass(11 * 60_000);
  expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
  expect(fs.readdirSync(served.layout.kept)).to.deep.equal([]);
}

for (const scene of SCENES) {
  const target = scene.trees.at(-1)!;

  describe(`${scene.title}, killed at any call`, function () {
    // Hundreds of directories are made and recovered.
    this.timeout(300_000);

    it('leaves one whole tree, is no edit afterwards, and is finished by the next run', async () => {
      const calls = await atEveryCall(scene, async (root) => {
        expectWhole(scene, root);
        expectTopNames(scene, root);
        await run(root, async (served) => {
          expectWhole(scene, root);
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          for (const path of served.local.dirty) served.local.settle(path);
          expect([...served.local.dirty]).to.deep.equal([]);
          expectTopNames(scene, root);
          expect(served.publish(target).outcome).to.equal('published');
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          served.catchUp();
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          expectEnd(served, target);
          await expectReleased(served);
        });
      });
      expect(calls).to.be.greaterThan(5);
    });

    it('or failing there for lack of space, and going on: nothing is an edit, and the log stays readable', async () => {
      for (let at = 1; ; at += 1) {
        const root = temporaryDirectory();
        try {
          await scene.prepare(root);
          const disk = new StoppingFs(unflushedFs);
          const served = await ServedDirectory.open({ root, fs: disk.port, excluded });
          disk.fill(at);
          try {
            await scene.act(served);
          } catch (error) {
            if (codeOf(error) !== 'ENOSPC') throw error;
          }
          disk.revive();
          const { stoppedAt } = disk;
          expectWhole(scene, root);
          expect(await served.lookUntilSettled(), stoppedAt).to.deep.equal(NOTHING_FOUND);
          expect(served.publish(target).outcome).to.equal('published');
          expect(await served.lookUntilSettled(), stoppedAt).to.deep.equal(NOTHING_FOUND);
          served.catchUp();
          expect(readTree(`${root}/..data/.`), stoppedAt).to.deep.equal(lines(target));
          await served.close();
          await run(root, async (next) => {
            expect(await next.lookUntilSettled(), stoppedAt).to.deep.equal(NOTHING_FOUND);
            expectEnd(next, target);
          });
          if (stoppedAt === undefined) break;
        } finally {
          removeTree(root);
        }
      }
    });

    if (scene.trees[0] === undefined) {
      it('and the volume moved on meanwhile: nothing of what was never shown is left', async () => {
        const next: Nodes = { 'next.conf': file('next'), d: symlink('next.conf'), 'link-to-dir': dir() };
        await atEveryCall(scene, async (root) => {
          await run(root, async (served) => {
            await served.lookUntilSettled();
            expect(served.publish(next).outcome).to.equal('published');
            expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
            served.catchUp();
            expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
            expect(readTree(`${root}/..a`), '..a').to.deep.equal(lines(next));
            if (fs.existsSync(`${root}/..b`))
              expect(readTree(`${root}/..b`), '..b').to.deep.equal(lines(next));
          });
        });
      });
    }
    if (scene.trees[0] !== SECOND) return;

    it('and killed again at any call of the recovery', async () => {
      // A start has few calls: those of one crash point in seven are enough to meet each step.
      let point = 0;
      await atEveryCall(scene, async (root) => {
        point += 1;
        if (point % 7 !== 0) return;
        for (let at = 1; ; at += 1) {
          const stopping = new StoppingFs(unflushedFs);
          stopping.arm(at, false);
          let served: ServedDirectory | undefined;
          try {
            served = await ServedDirectory.open({ root, fs: stopping.port, excluded });
          } catch (error) {
            if (!isStop(error)) throw error;
          }
          stopping.revive();
          await served?.close();
          expectWhole(scene, root);
          if (stopping.stoppedAt === undefined) break;
        }
        await run(root, async (served) => {
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          served.publish(target);
          served.catchUp();
          expectEnd(served, target);
        });
      });
    });

    it('and a local edit made while the agent was down is found once', async () => {
      await atEveryCall(scene, async (root) => {
        // In place below, as `sed -i` does at the top, a new file, and one at a path that the publish changes.
        fs.appendFileSync(`${root}/..data/d/edited`, ', and edited');
        fs.writeFileSync(`${root}/sed`, 'by sed');
        fs.renameSync(`${root}/sed`, `${root}/edited.conf`);
        fs.writeFileSync(`${root}/d/made`, 'made');
        fs.writeFileSync(`${root}/d/tmp`, 'changed here');
        fs.renameSync(`${root}/d/tmp`, `${root}/d/changed`);
        await run(root, async (served) => {
          const found = await served.lookUntilSettled();
          expect(found.edits.sort()).to.deep.equal(
            [
              fileLine('d/changed', 'changed here'),
              fileLine('d/edited', 'as published below, and edited'),
              fileLine('d/made', 'made'),
            ].sort(),
          );
          expect(found.adoptions).to.deep.equal([fileLine('edited.conf', 'by sed')]);
          expect(found.losers).to.deep.equal([]);
          // A publish that knows nothing of them carries them into both trees.
          const isFlipped = served.ledger.state.ancestor.get('dir-to-file')?.type === 'file';
          served.publish(isFlipped ? THIRD : SECOND);
          served.catchUp();
          for (const tree of ['a', 'b']) {
            expect(readText(`${root}/..${tree}/d/changed`)).to.equal('changed here');
            expect(readText(`${root}/..${tree}/d/edited`)).to.equal('as published below, and edited');
            expect(readText(`${root}/..${tree}/d/made`)).to.equal('made');
            expect(readText(`${root}/..${tree}/edited.conf`)).to.equal('by sed');
          }
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        });
      });
    });
  });
}

describe('a publish beside edits that have not settled, killed at any call', function () {
  this.timeout(300_000);

  const edited: Nodes = {
    ...Object.fromEntries(Object.entries(THIRD).filter(([path]) => path !== 'd/sub/second')),
    'd/edited': file('saved here'),
    'd/made': file('made here'),
  };
  const prepare = async (root: ByteString): Promise<void> => {
    await prepareSecond(root);
    fs.writeFileSync(`${root}/d/tmp.swp`, 'saved here');
    fs.renameSync(`${root}/d/tmp.swp`, `${root}/d/edited`);
    fs.writeFileSync(`${root}/d/made`, 'made here');
    fs.unlinkSync(`${root}/d/sub/second`);
  };
  const act: Act = async (served) => {
    await served.look();
    served.publish(THIRD);
  };

  it('takes none of them back, and finds each', async () => {
    const calls = await atEveryCall({ prepare, act }, async (root) => {
      const expectEdits = (): void => {
        expect(readText(`${root}/d/edited`)).to.equal('saved here');
        expect(readText(`${root}/d/made`)).to.equal('made here');
        expect(fs.existsSync(`${root}/d/sub/second`)).to.equal(false);
      };
      expectEdits();
      await run(root, async (served) => {
        expectEdits();
        const { edits, adoptions, losers } = await served.lookUntilSettled();
        expect([...new Set([...edits, ...adoptions])].sort()).to.deep.equal(
          [fileLine('d/edited', 'saved here'), fileLine('d/made', 'made here'), 'd/sub/second gone'].sort(),
        );
        expect(losers).to.deep.equal([]);
        expect(served.publish(THIRD).outcome).to.equal('published');
        served.catchUp();
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        for (const tree of ['..a', '..b'])
          expect(readTree(`${root}/${tree}`), tree).to.deep.equal(lines(edited));
      });
    });
    expect(calls).to.be.greaterThan(20);
  });
});

describe('what an editor put at the top, killed at any call of bringing it home', function () {
  this.timeout(300_000);

  const prepare = async (root: ByteString): Promise<void> => {
    await prepareSecond(root);
    // `sed -i` on a link, and `tar x` over one.
    fs.writeFileSync(`${root}/sed`, 'by sed');
    fs.renameSync(`${root}/sed`, `${root}/changed.conf`);
    fs.unlinkSync(`${root}/d`);
    fs.mkdirSync(`${root}/d`);
    fs.writeFileSync(`${root}/d/changed`, 'by tar');
    fs.writeFileSync(`${root}/d/added`, 'added by tar');
  };
  const home: Nodes = {
    ...SECOND,
    'changed.conf': file('by sed'),
    'd/changed': file('by tar'),
    'd/added': file('added by tar'),
  };

  const bringHome: Act = async (served) => {
    await served.lookUntilSettled();
    served.publish(SECOND);
    await served.lookUntilSettled();
  };

  it('ends with the edits in both trees and the link of the directory back', async () => {
    const calls = await atEveryCall({ prepare, act: bringHome }, async (root) => {
      await run(root, async (served) => {
        await bringHome(served);
        served.catchUp();
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        for (const tree of ['..a', '..b'])
          expect(readTree(`${root}/${tree}`), tree).to.deep.equal(lines(home));
        expect(fs.readlinkSync(`${root}/d`)).to.equal('..data/d');
        expect(readText(`${root}/changed.conf`)).to.equal('by sed');
        expect(fs.statSync(`${root}/changed.conf`).ino).to.equal(fs.statSync(served.at('changed.conf')).ino);
        for (const path of served.local.dirty) served.local.settle(path);
        expect([...served.local.dirty].sort()).to.deep.equal(['changed.conf', 'd/added', 'd/changed']);
      });
    });
    expect(calls).to.be.greaterThan(20);
  });

  it('and then replaced by the volume, killed at any call: the link is back and nothing is an edit', async () => {
    const replaced: Nodes = { ...home, 'changed.conf': file('by the volume') };
    const prepareHome = async (root: ByteString): Promise<void> => {
      await prepare(root);
      await run(root, async (served) => {
        await bringHome(served);
        // The push of the edits has been answered.
        served.agree(home);
      });
    };
    await atEveryCall(
      { prepare: prepareHome, act: (served) => void served.publish(replaced) },
      async (root) => {
        // Without an exchange of names there is a moment without one: a start gives it back.
        await run(root, async (served) => {
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          served.publish(replaced);
          served.catchUp();
          expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
          expectEnd(served, replaced);
          await expectReleased(served);
        });
      },
    );
  });
  it('or a link that is put back over an empty directory: nothing is taken for removed', async () => {
    const prepareEmpty = async (root: ByteString): Promise<void> => {
      await prepareSecond(root);
      fs.unlinkSync(`${root}/d`);
      fs.mkdirSync(`${root}/d`);
    };
    const look: Act = async (served) => void (await served.lookUntilSettled());
    await atEveryCall({ prepare: prepareEmpty, act: look }, async (root) => {
      await run(root, async (served) => {
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        expect(fs.readlinkSync(`${root}/d`)).to.equal('..data/d');
      });
    });
  });
});
