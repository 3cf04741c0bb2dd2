/** The real file system and the one in memory keep the same contract. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { MemoryFs } from '../support/memory-fs.ts';
import { describeFs } from './fs.ts';

describe('the file system of Node', () => {
  describeFs(() => {
    const dir = mkdtempSync(join(tmpdir(), 'fs-contract-'));
    return { fs: nodeFs, dir, close: () => rmSync(dir, { recursive: true, force: true }) };
  });
});

describe('the file system in memory', () => {
  describeFs(() => {
    const fs = new MemoryFs(() => BigInt(Date.now()) * 1_000_000n);
    fs.mkdir('test', '/dir', 0o755);
    return { fs, dir: '/dir', close: () => undefined };
  });
});
