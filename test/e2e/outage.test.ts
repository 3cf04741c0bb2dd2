/** What the agent does while etcd is away, comes back, comes back empty, or loses the volume: the published tree stays. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, runCommand } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';

describe('an agent whose etcd is away', () => {
  let folder: string;
  let etcd: EtcdServer;
  let volume: string;
  let dir: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'outage-'));
    etcd = await startEtcd();
    volume = `${etcd.url}/web`;
    const { code, sentence } = await runCommand(['format', volume, 'web']);
    expect(code, sentence).to.equal(0);
    dir = join(folder, 'served');
    mkdirSync(dir);
  });
  after(async () => {
    await etcd?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  it('serves the tree of an earlier run at once, says that it is stale, and follows once etcd is back', async () => {
    expect((await runCommand(['--once', volume, dir])).code).to.equal(0);
    await etcd.kill();
    const agent = new Agent(volume, dir);
    try {
      await agent.until('it is ready and stale', ({ ready, stale }) => ready && stale);
      await etcd.start();
      await agent.ready();
      expect(readFileSync(join(dir, '..etcd-etc-agent/status.json'), 'utf8')).to.include('"volume": "web"');
    } finally {
      await agent.stop();
    }
  });
});
