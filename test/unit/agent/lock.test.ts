import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';

import { codeOf, ConfigError } from '../../../src/agent/base/error.ts';
import { nodeFs } from '../../../src/agent/disk/fs.ts';
import { acquireLock } from '../../../src/agent/start/lock.ts';
import { removeTree, ServedDirectory, temporaryDirectory } from '../../support/served-directory.ts';
import { file } from '../../support/tree-on-disk.ts';

describe('the lock', () => {
  const made: string[] = [];
  function directory(): string {
    const path = temporaryDirectory();
    made.push(path);
    return path;
  }
  afterEach(() => {
    for (const path of made.splice(0)) removeTree(path);
  });

  async function refusal(work: Promise<unknown>): Promise<unknown> {
    return work.then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  it('is held once for a directory, under any of its names', async () => {
    const path = directory();
    const lock = await acquireLock(nodeFs, path);
    const error = await refusal(acquireLock(nodeFs, path));
    expect(error).to.be.instanceOf(ConfigError);
    expect(error).to.include({
      message: 'another agent serves this directory already: stop it first',
      path,
    });
    const other = directory();
    fs.renameSync(path, `${other}/moved`);
    expect(codeOf(await refusal(acquireLock(nodeFs, `${other}/moved`)))).to.equal('ERR_CONFIG');
    fs.renameSync(`${other}/moved`, path);
    await lock.release();
  });

  it('is another one for another directory', async () => {
    const locks = [await acquireLock(nodeFs, directory()), await acquireLock(nodeFs, directory())];
    for (const lock of locks) await lock.release();
  });

  it('is free after its release', async () => {
    const path = directory();
    for (let round = 0; round < 3; round += 1) await (await acquireLock(nodeFs, path)).release();
  });

  it('needs the directory', async () => {
    expect(codeOf(await refusal(acquireLock(nodeFs, `${directory()}/missing`)))).to.equal('ERR_CONFIG');
  });

  it('is held under the path of a bind mount as well', async function () {
    const [path, other] = [directory(), directory()];
    const bound = spawnSync('mount', ['--bind', path, other]);
    // Where nobody may mount there are no such paths.
    if (bound.status !== 0) return this.skip();
    try {
      const first = await ServedDirectory.open({ root: path });
      const error = await refusal(ServedDirectory.open({ root: other }));
      expect(error)
        .to.have.property('message')
        .that.matches(/another agent serves this directory already/);
      await first.close();
    } finally {
      expect(spawnSync('umount', [other]).status).to.equal(0);
    }
  });

  it('that another network namespace cannot see is made up for by the owner token, read before every flip', async () => {
    const root = directory();
    const served = await ServedDirectory.open({ root });
    served.publish({ f: file('one') });
    const data = fs.readlinkSync(served.layout.data);
    const token = `${served.layout.state}/owner`;
    fs.writeFileSync(`${token}.other`, 'of another agent');
    fs.renameSync(`${token}.other`, token);
    expect(() => served.publish({ f: file('two') })).to.throw(
      ConfigError,
      'another agent has taken this directory over',
    );
    expect(fs.readlinkSync(served.layout.data)).to.equal(data);
    expect(fs.readFileSync(`${root}/f`, 'utf8')).to.equal('one');
    await served.close();
  });

  it('keeps a second agent away from a served directory, and lets it in afterwards', async () => {
    const root = directory();
    const first = await ServedDirectory.open({ root });
    const error = await refusal(ServedDirectory.open({ root }));
    expect(error)
      .to.have.property('message')
      .that.matches(/another agent serves this directory already/);
    await first.close();
    await (await ServedDirectory.open({ root })).close();
  });
});
