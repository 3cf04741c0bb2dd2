import fs from 'node:fs';
import { expect } from 'chai';

import { codeOf } from '../../../src/agent/base/error.ts';
import type { FsPort } from '../../../src/agent/base/ports.ts';
import {
  fileLine,
  NOTHING_FOUND,
  removeTree,
  ServedDirectory,
  temporaryDirectory,
  unflushedFs,
} from '../../support/served-directory.ts';
import { dir, file, lines, readText, readTree, symlink, type Nodes } from '../../support/tree-on-disk.ts';

const VIEW: Nodes = { f: file('one'), d: dir(), 'd/g': file('two'), l: symlink('f') };

describe('a start', () => {
  let root: string;
  beforeEach(() => {
    root = temporaryDirectory();
  });
  afterEach(() => removeTree(root));

  async function run(work: (served: ServedDirectory) => void | Promise<void>): Promise<void> {
    const served = await ServedDirectory.open({ root });
    try {
      await work(served);
    } finally {
      await served.close();
    }
  }

  async function refusal(path: string): Promise<unknown> {
    return ServedDirectory.open({ root: path }).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  it('writes nothing when nothing changed: no inode, no ctime', async () => {
    await run(async (served) => {
      served.publish(VIEW);
      served.catchUp();
      await served.lookUntilSettled();
    });
    const stats = (): string[] =>
      ['f', 'd', 'd/g', 'l']
        .flatMap((path) => [`${root}/..a/${path}`, `${root}/..b/${path}`, `${root}/${path.split('/')[0]}`])
        .map((path) => `${path} ${fs.lstatSync(path).ino} ${fs.lstatSync(path).ctimeMs}`);
    const before = stats();
    await run(async (served) => {
      expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      expect(served.local.dirty.size).to.equal(0);
    });
    expect(stats()).to.deep.equal(before);
  });

  it('finds what was edited meanwhile', async () => {
    await run((served) => {
      served.publish(VIEW);
      served.catchUp();
    });
    fs.writeFileSync(`${root}/f`, 'edited');
    await run(async (served) => {
      expect((await served.lookUntilSettled()).edits).to.deep.equal([fileLine('f', 'edited')]);
    });
    // Found once, and remembered as something to push.
    await run(async (served) => {
      expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      expect([...served.local.dirty]).to.deep.equal(['f']);
    });
  });

  it('finds a link that was changed after a publish was killed between its flip and its commit', async () => {
    await run((served) => {
      served.publish(VIEW);
      served.catchUp();
    });
    let flipped = false;
    const port: FsPort = {
      ...unflushedFs,
      syncDir: (label) => {
        flipped ||= label === 'sync flip';
      },
      write(...args) {
        if (flipped) throw new Error('killed');
        unflushedFs.write(...args);
      },
    };
    const served = await ServedDirectory.open({ root, fs: port });
    expect(() => served.publish({ ...VIEW, l: symlink('d') })).to.throw();
    await served.close();
    fs.unlinkSync(`${root}/..data/l`);
    fs.symlinkSync('mine', `${root}/..data/l`);
    await run(async (again) => {
      await again.lookUntilSettled();
      const slot = again.ledger.state.slots.get('l');
      expect(slot?.type === 'symlink' ? slot.target : undefined).to.equal('mine');
      expect([...again.local.dirty]).to.include('l');
    });
  });

  for (const { title, edit, found } of [
    {
      title: 'written',
      edit: () => fs.writeFileSync(`${root}/..data/d/g`, 'later'),
      found: fileLine('d/g', 'later'),
    },
    {
      title: 'given another mode',
      edit: () => fs.chmodSync(`${root}/..data/d/g`, 0o600),
      found: fileLine('d/g', 'edited', 0o600),
    },
  ]) {
    for (const step of ['into the tree', 'flip', 'lstat placed']) {
      it(`finds a file that was ${title} right before a publish that failed at "${step}"`, async () => {
        let isFailing = false;
        const failing = (label: string): void => {
          // By exchange, or by rename where there is none.
          const isStep = label === step || (step === 'into the tree' && / (into|with) tree$/.test(label));
          if (isFailing && isStep) throw Object.assign(new Error('made up'), { code: 'EIO' });
        };
        const port: FsPort = {
          ...unflushedFs,
          lstat: (label, at) => (failing(label), unflushedFs.lstat(label, at)),
          rename: (label, from, to) => (failing(label), unflushedFs.rename(label, from, to)),
          exchange: (label, one, other) => (failing(label), unflushedFs.exchange(label, one, other)),
        };
        const served = await ServedDirectory.open({ root, fs: port });
        served.publish(VIEW);
        served.catchUp();
        // By rename: the idle tree gets it with the next publish.
        fs.writeFileSync(`${root}/edited`, 'edited');
        fs.renameSync(`${root}/edited`, `${root}/..data/d/g`);
        expect((await served.lookUntilSettled()).edits).to.deep.equal([fileLine('d/g', 'edited')]);
        served.agree({ ...VIEW, 'd/g': file('edited') });
        edit();
        isFailing = true;
        expect(() => served.publish({ ...VIEW, 'd/g': file('edited'), f: file('new') })).to.throw('made up');
        isFailing = false;
        await served.close();
        await run(async (again) => {
          const { edits } = await again.lookUntilSettled();
          expect(edits).to.include(found);
          expect([...again.local.dirty]).to.include('d/g');
        });
      });
    }
  }

  describe('without the state of an earlier run', () => {
    async function lose(): Promise<void> {
      await run((served) => {
        served.publish({ ...VIEW, f: file('older') });
        served.catchUp();
        served.publish(VIEW);
      });
      fs.rmSync(`${root}/..etcd-etc-agent`, { recursive: true });
    }

    it('leaves the published tree and its names as they are', async () => {
      await lose();
      await run(async (served) => {
        const { edits, adoptions, losers } = await served.lookUntilSettled();
        expect(edits.sort()).to.deep.equal(
          ['d dir 755', fileLine('d/g', 'two'), fileLine('f', 'one'), 'l -> f'].sort(),
        );
        expect([adoptions, losers]).to.deep.equal([[], []]);
        expect(served.ledger.state.revision).to.equal(0n);
        for (const name of ['f', 'd', 'l'])
          expect(fs.readlinkSync(`${root}/${name}`)).to.equal(`..data/${name}`);
        expect(readTree(fs.realpathSync(`${root}/..data`))).to.deep.equal(lines(VIEW));
      });
    });

    it('publishes again, carries what the volume has not, and drops no content unseen', async () => {
      await lose();
      fs.writeFileSync(`${root}/..data/d/mine`, 'mine');
      fs.writeFileSync(`${root}/..b/f`, 'in whichever tree');
      fs.writeFileSync(`${root}/..a/f`, 'and in the other');
      await run(async (served) => {
        const active = served.ledger.state.active;
        const [shown, hidden] =
          active === 'b'
            ? ['in whichever tree', 'and in the other']
            : ['and in the other', 'in whichever tree'];
        const findings = await served.lookUntilSettled();
        expect(findings.edits).to.include.members([fileLine('f', shown), fileLine('d/mine', 'mine')]);
        served.publish(VIEW);
        served.catchUp();
        const after = await served.lookUntilSettled();
        expect(after.losers).to.deep.equal([fileLine('f', hidden)]);
        for (const tree of ['..a', '..b'])
          expect(readTree(`${root}/${tree}`)).to.deep.equal(lines({ ...VIEW, 'd/mine': file('mine') }));
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
      });
    });

    it('with `..data` gone as well starts from nothing', async () => {
      await lose();
      fs.unlinkSync(`${root}/..data`);
      await run((served) => {
        expect(served.ledger.state.active).to.equal(undefined);
      });
    });
  });

  it('is refused in what is no directory', async () => {
    expect(codeOf(await refusal(`${root}/missing`))).to.equal('ERR_CONFIG');
    fs.writeFileSync(`${root}/file`, '');
    expect(codeOf(await refusal(`${root}/file`))).to.equal('ERR_CONFIG');
  });

  it('empties the stage, and nothing else', async () => {
    await run((served) => void served.publish(VIEW));
    const state = `${root}/..etcd-etc-agent`;
    fs.mkdirSync(`${state}/stage/left/over`, { recursive: true });
    fs.writeFileSync(`${state}/stage/left/over/file`, '');
    fs.writeFileSync(`${state}/parked/file`, 'parked');
    await run(() => {
      expect(fs.readdirSync(`${state}/stage`)).to.deep.equal([]);
      expect(readText(`${state}/parked/file`)).to.equal('parked');
    });
  });
});
