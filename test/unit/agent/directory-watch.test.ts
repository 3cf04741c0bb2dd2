import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { expect } from 'chai';

import { DirectoryWatch } from '../../../src/agent/disk/directory-watch.ts';
import { until } from '../../support/until.ts';

describe('a watch on each directory', () => {
  it('tells once that a limit is reached, watches what it can, and tells when there is room again', async () => {
    const root = fs.mkdtempSync(`${tmpdir()}/watched-`);
    for (const dir of ['a', 'b', 'c', 'd/e/f']) fs.mkdirSync(`${root}/${dir}`, { recursive: true });
    let room = 3;
    const watch = new DirectoryWatch(root, `${root}/own`, (at) => {
      if (room === 0) throw Object.assign(new Error('no more watches'), { code: 'ENOSPC' });
      room -= 1;
      return fs.watch(at, { encoding: 'buffer' });
    });
    const errors: (string | undefined)[] = [];
    const hinted: (string | undefined)[] = [];
    watch.start(
      (dir) => hinted.push(dir),
      (error) => errors.push(error?.message),
    );
    try {
      await until('it has watched what it can', () => hinted.includes(undefined));
      expect(errors).to.deep.equal(['no more watches']);
      expect(watch.size).to.equal(3);
      watch.check();
      fs.writeFileSync(`${root}/f`, '');
      await until('it hears what it watches', () => hinted.includes(root));
      expect(errors).to.deep.equal(['no more watches']);
      room = 100;
      watch.check();
      await until('it has room again', () => errors.length > 1);
      expect(errors).to.deep.equal(['no more watches', undefined]);
      expect(watch.size).to.equal(7);
      // What came to a directory that was not watched.
      expect(hinted).to.include(`${root}/d/e/f`);
    } finally {
      await watch.close();
      fs.rmSync(root, { recursive: true });
    }
  });

  it('watches a directory again that could not be read, once it can', async () => {
    const root = fs.mkdtempSync(`${tmpdir()}/watched-`);
    fs.mkdirSync(`${root}/d`);
    let isClosed = true;
    const watch = new DirectoryWatch(root, `${root}/own`, (at) => {
      if (isClosed && at.endsWith('/d')) throw Object.assign(new Error('closed'), { code: 'EACCES' });
      return fs.watch(at, { encoding: 'buffer' });
    });
    const errors: unknown[] = [];
    let isStarted = false;
    watch.start(
      () => (isStarted = true),
      (error) => errors.push(error),
    );
    try {
      await until('it has begun', () => isStarted);
      expect(watch.size).to.equal(1);
      isClosed = false;
      fs.chmodSync(`${root}/d`, 0o700);
      await until('it watches the directory', () => watch.size === 2);
      expect(errors).to.deep.equal([]);
    } finally {
      await watch.close();
      fs.rmSync(root, { recursive: true });
    }
  });
});
