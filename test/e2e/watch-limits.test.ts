/** The built agent where the kernel gives it no more watches: edits are found by looking, and `status` says so. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Agent, runCommand } from '../support/agent.ts';
import { startEtcd } from '../support/etcd.ts';
import { until } from '../support/until.ts';

const WATCHES = 4;
/** A user namespace has limits of its own. */
const LIMITED = [
  ...['unshare', '--user', '--map-root-user', 'sh', '-c'],
  `echo ${WATCHES} > /proc/sys/user/max_inotify_watches && exec "$@"`,
  'sh',
];

describe('an agent without enough watches', () => {
  for (const watcher of ['directories', 'chokidar']) {
    it(`finds edits by looking, and says so once: ${watcher}`, async function () {
      const [program = '', ...args] = LIMITED;
      if (spawnSync(program, [...args, 'true']).status !== 0) {
        console.error('\n  !!! SKIPPED: there are no user namespaces to limit watches in');
        this.skip();
      }
      const folder = mkdtempSync(join(tmpdir(), 'limits-'));
      const etcd = await startEtcd();
      let agent: Agent | undefined;
      try {
        const url = `${etcd.url}/limited`;
        await runCommand(['format', url, 'limited']);
        for (let n = 0; n < 8; n += 1) {
          mkdirSync(join(folder, `site/d${n}`), { recursive: true });
          writeFileSync(join(folder, `site/d${n}/f`), 'first\n');
        }
        await runCommand(['import', url, join(folder, 'site')]);
        const dir = join(folder, 'dir');
        mkdirSync(dir);
        agent = new Agent(url, dir, ['--watcher', watcher], {}, LIMITED);
        await agent.until('it says what is not watched', ({ problems }) =>
          (problems[''] ?? '').startsWith('not everything is watched'),
        );
        for (let n = 0; n < 8; n += 1) writeFileSync(join(dir, `d${n}/f`), `edit ${n}\n`);
        await until('all are in the volume', async () => {
          const shown = await Promise.all(
            [6, 7].map(async (n) => (await runCommand(['cat', url, `d${n}/f`])).stdout),
          );
          return shown.join('') === 'edit 6\nedit 7\n';
        });
        expect(readFileSync(join(dir, 'd7/f'), 'utf8')).to.equal('edit 7\n');
        expect(agent.stderr.match(/not everything is watched/g)).to.have.length(1);
      } finally {
        await agent?.kill();
        await etcd.stop();
        rmSync(folder, { recursive: true });
      }
    });
  }
});
