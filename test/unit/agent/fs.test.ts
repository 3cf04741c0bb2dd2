/** What Node alone would not do as meant. */

import { expect } from 'chai';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { nodeFs } from '../../../src/agent/fs.ts';

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
});
