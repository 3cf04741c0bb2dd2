/** What Node alone would not do as meant. */

import { expect } from 'chai';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { nodeFs } from '../../../src/agent/disk/fs.ts';
import { native } from '../../../src/agent/disk/native.ts';

describe('nodeFs', () => {
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'fs-'))));
  after(() => rmSync(folder, { recursive: true }));

  it('sets the very microsecond, which a double of seconds misses by one half of the time', () => {
    const path = join(folder, 'f');
    writeFileSync(path, '');
    for (let us = 1_795_713_028_278_000n; us < 1_795_713_028_278_100n; us += 1n) {
      nodeFs.lutimes('', path, us * 1000n + 999n);
      expect(nodeFs.lstat('', path)?.mtimeNs).to.equal(us * 1000n);
    }
  });

  it('makes fifos, and says why it cannot make something', () => {
    nodeFs.mknod('', join(folder, 'fifo'), 'fifo', 0);
    expect(nodeFs.lstat('', join(folder, 'fifo'))).to.deep.include({ type: 'fifo', mode: 0o600, rdev: 0 });
    expect(() => nodeFs.mknod('', join(folder, 'no/such'), 'fifo', 0)).to.throw(/ENOENT|No such/);
  });

  // Switched off, or there is no build of the package for this system.
  if (native() === undefined) return;

  describe('with the native calls', () => {
    it('lets names change places, of whatever kind they are', () => {
      const [a, b] = [join(folder, 'a'), join(folder, 'b')];
      writeFileSync(a, 'a');
      mkdirSync(b);
      nodeFs.exchange('', a, b);
      expect(nodeFs.lstat('', a)?.type).to.equal('directory');
      expect(readFileSync(b, 'utf8')).to.equal('a');
      expect(() => nodeFs.exchange('', a, join(folder, 'none')))
        .to.throw()
        .with.property('code', 'ENOENT');
    });

    it('tells whether somebody can write to a file', () => {
      const path = join(folder, 'written');
      writeFileSync(path, '');
      expect(nodeFs.hasWriter('', path)).to.equal(false);
      const reading = openSync(path, 'r');
      expect(nodeFs.hasWriter('', path)).to.equal(false);
      const writing = openSync(path, 'a');
      expect(nodeFs.hasWriter('', path)).to.equal(true);
      closeSync(writing);
      expect(nodeFs.hasWriter('', path)).to.equal(false);
      closeSync(reading);
    });

    it('hinders nobody who opens a file for writing just then', async () => {
      const path = join(folder, 'contended');
      writeFileSync(path, '');
      const writer = spawn(process.execPath, [
        '-e',
        `const fs = require('node:fs'); for (let n = 0; n < 5000; n += 1) fs.appendFileSync(process.argv[1], '.');`,
        path,
      ]);
      const ended = once(writer, 'close');
      while (writer.exitCode === null) {
        for (let n = 0; n < 100; n += 1) nodeFs.hasWriter('', path);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await ended;
      expect(readFileSync(path).length).to.equal(5000);
    });

    it('flushes a file system', () => nodeFs.syncFs('', folder));
  });
});
