import fs from 'node:fs';
import { expect } from 'chai';

import { codeOf, ConfigError } from '../../../src/agent/error.ts';
import { nodeFs } from '../../../src/agent/fs.ts';
import { acquireLock } from '../../../src/agent/lock.ts';
import { removeTree, ServedDirectory, temporaryDirectory } from '../../support/served-directory.ts';

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
