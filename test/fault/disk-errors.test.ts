/**
 * A disk that fails: each kind of call of an agent, by its label, fails for a while as a full, read-only, closed or broken disk does,
 * while both sides are edited. The agent lives on, what is published stays whole, and once the disk is well again all is as wanted.
 * `ALL=1` takes each error at each call instead of one by turns, `CALL` only the calls that have it in their name.
 */

import { expect } from 'chai';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { codeOf } from '../../src/agent/error.ts';
import { nodeFs } from '../../src/agent/fs.ts';
import { layoutOf } from '../../src/agent/layout.ts';
import type { RunResult } from '../../src/agent/run-options.ts';
import { run } from '../../src/agent/run.ts';
import { readStatus } from '../../src/agent/status.ts';
import { VolumeTree } from '../../src/agent/volume-tree.ts';
import { captureLog, releaseLog } from '../support/captured-log.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { FailingFs } from '../support/failing-fs.ts';
import { MortalPorts } from '../support/mortal-ports.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { watchOptions } from '../support/run-options.ts';
import { storeRevision } from '../support/stillness.ts';
import { needTool } from '../support/tools.ts';
import { until } from '../support/until.ts';

const ERRORS = ['ENOSPC', 'EROFS', 'EACCES', 'EMFILE', 'EIO'] as const;
/** Time passes this many times faster for the agent. */
const SPEED = 20;
/** A call that has failed this often has failed for good: then the disk is well again. */
const FAILURES = 3;

describe('a disk that fails', function () {
  this.timeout(process.env['ALL'] === undefined ? 300_000 : 1_200_000);
  let server: EtcdServer;
  let folder: string;
  let logged: string[] = [];

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'disk-'));
    logged = captureLog();
  });
  after(async () => {
    releaseLog();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  it('at any call of a turn: nothing is lost, and all goes on once it is well again', async () => {
    const volume = await TestVolume.format(server, { name: 'failing', hashPrefix: false, trashDays: 1 });
    const dir = join(folder, 'dir');
    mkdirSync(dir);
    await volume.push(
      volume.make('d', directory()),
      ...['d/remote', 'd/local', 'top'].map((path) => volume.make(path, file('first\n'))),
    );
    const disk = new FailingFs();
    const world = new MortalPorts(Infinity, SPEED);
    const stop = new AbortController();
    let ended: RunResult | Error | undefined;
    const running = run(
      watchOptions(`${server.url}/failing`, dir, { rescanMs: 1_000 }),
      { ...world.ports, fs: disk.port },
      stop.signal,
    ).then(
      (result) => (ended = result),
      (error: unknown) => (ended = error instanceof Error ? error : new Error(String(error))),
    );
    const shown = (path: string): string | undefined => {
      try {
        return readFileSync(join(dir, '..data', path), 'latin1');
      } catch (error) {
        if (codeOf(error) === 'ENOENT') return undefined;
        throw error;
      }
    };
    const stored = async (path: string): Promise<string> => {
      const tree = new VolumeTree(volume.store, volume.volume, await storeRevision(volume.store));
      const node = await tree.find(path);
      const parts: Uint8Array[] = [];
      if (node !== undefined) for await (const part of tree.content(node)) parts.push(part);
      return Buffer.concat(parts).toString('latin1');
    };
    const status = (): ReturnType<typeof readStatus> => readStatus(nodeFs, layoutOf(dir));
    const namesAtTop = (): string =>
      readdirSync(dir, { withFileTypes: true })
        .map((entry) =>
          entry.isSymbolicLink() ? `${entry.name} -> ${readlinkSync(join(dir, entry.name))}` : entry.name,
        )
        .join(' ');
    /** Edits both sides, the local one below and at the top; resolves once each has the other's edit. */
    const edit = async (text: string, meanwhile: () => void): Promise<void> => {
      writeFileSync(join(dir, 'd/local'), `local ${text}`);
      writeFileSync(join(dir, '.top~'), `top ${text}`);
      renameSync(join(dir, '.top~'), join(dir, 'top'));
      await volume.push(volume.edit('d/remote', file(`remote ${text}`)));
      const left = async (): Promise<string[]> => {
        const wrong: string[] = [];
        for (const path of ['d/remote', 'd/local', 'top']) {
          const wanted = `${path.slice(path.indexOf('/') + 1)} ${text}`;
          if (shown(path) !== wanted) wrong.push(`${path} is shown as ${shown(path)}`);
          else if (path !== 'd/remote' && wrong.length === 0 && (await stored(path)) !== wanted)
            wrong.push(`${path} is ${await stored(path)} in the volume`);
        }
        if (status()?.pendingEdits !== 0) wrong.push(`${status()?.pendingEdits} edits are pending`);
        return wrong;
      };
      let wrong: readonly string[] = [];
      try {
        await until('both sides have all', async () => {
          if (ended !== undefined)
            throw new Error(`the agent ended: ${ended instanceof Error ? ended.message : ended.sentence}`);
          // A reader has each file whole all the time.
          for (const path of ['d/remote', 'd/local', 'top'])
            expect(shown(path), path).to.match(/^(first|\w+ .*)\n$/);
          meanwhile();
          wrong = await left();
          return wrong.length === 0;
        });
      } catch (cause) {
        throw new Error(`${String(cause)}\n${wrong.join('\n')}\nat the top: ${namesAtTop()}`, { cause });
      }
    };
    try {
      await until('it has begun', () => shown('top') === 'first\n' && status()?.stale === false);
      await edit('well\n', () => undefined);
      await edit('well again\n', () => undefined);
      const tried: string[] = [];
      let turn = 0;
      // Failing calls lead to other calls: those are tried as well.
      for (const call of disk.seen) {
        if (call.startsWith('close ') || !call.includes(process.env['CALL'] ?? '')) continue;
        const errors = process.env['ALL'] === undefined ? [ERRORS[turn % ERRORS.length] ?? 'EIO'] : ERRORS;
        for (const code of errors) {
          turn += 1;
          disk.fail(call, code);
          const text = `${code} at ${call} ${turn}\n`;
          try {
            const startMs = performance.now();
            await edit(text, () => {
              if (disk.failures >= FAILURES || performance.now() - startMs > 200) disk.heal();
            });
          } catch (cause) {
            throw new Error(`${text}${String(cause)}\n${logged.slice(-20).join('')}`, { cause });
          } finally {
            disk.heal();
          }
          if (disk.failures > 0) tried.push(call);
        }
      }
      process.stderr.write(`    ${tried.length} of ${turn} failures happened\n`);
      if (process.env['CALL'] === undefined) expect(tried.length).to.be.greaterThan(30);
      const tree = new VolumeTree(volume.store, volume.volume, await storeRevision(volume.store));
      expect(await tree.find('.conflicts'), 'conflict copies').to.equal(undefined);
    } finally {
      stop.abort();
      await running;
      await world.bury();
      await volume.store.close();
    }
  });
});
