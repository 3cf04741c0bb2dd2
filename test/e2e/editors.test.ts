/**
 * What editors and tools do to a directory, at its top and below: it arrives in the volume and in another directory as it
 * would stand in a plain one, in as few transactions as the tool makes logical changes, and nothing else arrives.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { QUIET_MS } from '../../src/agent/look/settle.ts';
import { EDITS, type Edit } from '../support/edits.ts';
import {
  type Agent,
  plainTree,
  publishedTree,
  runCommand,
  type ShownTree,
  startAgent,
  untilSame,
} from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { shell } from '../support/shell.ts';
import { needTool } from '../support/tools.ts';
import { until } from '../support/until.ts';
import { VolumeHistory } from '../support/volume-history.ts';

/** Where an edit is made: the prefix of all its paths. */
const PLACES = { top: '', below: 'd/' } as const;

const LOG = 'log/growing';
/**
 * Appends a line every 20 ms until its input ends, and says then how often it has paused for so long that it may have seemed
 * to be done: a busy machine lets it wait.
 */
const LOGGER = `import { appendFileSync } from 'node:fs';
let n = 0, pauses = 0, lastMs = Infinity;
const timer = setInterval(() => {
  const beforeMs = performance.now();
  appendFileSync(process.argv[1], 'line ' + (n += 1) + '\\n');
  if (performance.now() - lastMs >= ${QUIET_MS.content}) pauses += 1;
  lastMs = beforeMs;
}, 20);
process.stdin.on('end', () => {
  clearInterval(timer);
  process.stdout.write(String(pauses));
}).resume();`;

describe('edits by editors and tools', () => {
  let folder: string;
  let model: string;
  let etcd: EtcdServer;
  let volume: string;
  let here: Agent;
  let there: Agent;
  let history: VolumeHistory;
  let logger: ChildProcess;
  let loggedFromMs: number;
  /** What was there while a tool took longer than it takes to settle: it may have been seen halfway. */
  const halfway = new Set<string>();

  /** Runs one of an edit's scripts in a directory that holds what the volume does. */
  const run = async (root: string, edit: Edit, place: keyof typeof PLACES, script: string): Promise<void> => {
    const dir = join(root, PLACES[place]);
    const tmp = mkdtempSync(join(folder, 'tmp-'));
    const set = `N='${idOf(edit)}' D='${dir}' F='${join(dir, idOf(edit))}.conf' TMP='${tmp}' LINE='${lineOf(edit)}'`;
    await shell(dir, `export HOME="${folder}" ${set}\n${script}`);
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'editors-'));
    model = join(folder, 'model');
    for (const dir of ['model/d', 'model/log', 'here', 'there'])
      mkdirSync(join(folder, dir), { recursive: true });
    for (const edit of EDITS) {
      for (const place of ['top', 'below'] as const) {
        await run(model, edit, place, edit.before ?? 'echo "line 0" > "$F"');
      }
    }
    etcd = await startEtcd();
    volume = `${etcd.url}/edited`;
    await runCommand(['format', volume, 'edited']);
    cpSync(model, join(folder, 'site'), { recursive: true, verbatimSymlinks: true });
    await runCommand(['import', volume, join(folder, 'site')]);
    history = new VolumeHistory(volume);
    here = await startAgent(volume, join(folder, 'here'), ['--exclude', '.git', '--rescan', '2s']);
    there = await startAgent(volume, join(folder, 'there'), ['--min-interval', '20ms'], {
      ETCD_ETC_AGENT_NATIVE: 'off',
    });
    loggedFromMs = performance.now();
    logger = spawn(process.execPath, ['--input-type=module', '-e', LOGGER, '--', join(here.dir, LOG)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  });

  after(async () => {
    logger?.kill('SIGKILL');
    await here?.kill();
    await there?.kill();
    await history?.stop();
    await etcd?.stop();
    rmSync(folder, { recursive: true });
  });

  for (const edit of EDITS) {
    it(edit.name, async function () {
      if (edit.tool !== undefined && edit.tool !== 'emacs') needTool(this, edit.tool);
      const places = ['top', 'below'] as const;
      const prefixes = places.map((place) => PLACES[place] + idOf(edit));
      const isOurs = (path: string): boolean => prefixes.some((prefix) => path.startsWith(prefix));
      const known = new Set(Object.keys(plainTree(model)));
      const start = (await history.steps()).length;
      for (const place of places) await run(model, edit, place, edit.script);
      const startMs = performance.now();
      await Promise.all(places.map((place) => run(here.dir, edit, place, edit.script)));
      const tookMs = performance.now() - startMs;

      const wanted = partOf(withoutDroppings(plainTree(model)), isOurs);
      await untilSame(
        'the other directory is as a plain one',
        () => partOf(publishedTree(there.dir), isOurs),
        () => wanted,
      );
      for (const path of Object.keys(wanted)) known.add(path);
      const steps = (await history.steps()).slice(start);
      const isSlow = tookMs >= QUIET_MS.content;
      if (isSlow) for (const { paths } of steps) for (const path of paths) halfway.add(path);
      for (const prefix of prefixes) {
        const touching = steps.map(({ paths }) => [...paths].filter((path) => path.startsWith(prefix)));
        const written = touching.filter((paths) => paths.length > 0);
        const strays = written.flat().filter((path) => !known.has(path) && !halfway.has(path));
        expect(strays, `took ${tookMs} ms`).to.deep.equal([]);
        const [least, most] = edit.transactions ?? [1, 1];
        expect(written.length, JSON.stringify(written)).to.be.within(least, isSlow ? Infinity : most);
      }
    });
  }

  it('a log that grows all the time is appended to now and then, and pushed whole in the end', async () => {
    await until('it has grown', () => readFileSync(join(here.dir, LOG)).length > 1_000);
    await here.until('it is waited for', ({ pendingEdits }) => pendingEdits > 0);
    let pauses = '';
    logger.stdout?.setEncoding('utf8').on('data', (part: string) => (pauses += part));
    const ended = once(logger, 'close');
    logger.stdin?.end();
    await ended;
    const text = readFileSync(join(here.dir, LOG), 'latin1');
    await until('it is there', () => {
      const tree = publishedTree(there.dir);
      return tree[LOG] !== undefined && readFileSync(join(there.dir, LOG), 'latin1') === text;
    });
    const steps = (await history.steps()).filter(({ paths }) => paths.has(LOG));
    // Once after ten seconds, then each half minute, and in the end; after a pause, and then it begins with ten seconds again.
    const halfMinutes = Math.ceil((performance.now() - loggedFromMs) / 30_000);
    expect(steps.length).to.be.within(1, 2 + halfMinutes + 2 * Number(pauses));
  });

  it('and nothing else got into the volume', async () => {
    await here.until('nothing is left to push', ({ pendingEdits }) => pendingEdits === 0);
    await here.rescanned(2);
    const wanted = withoutDroppings(plainTree(model));
    for (const { dir } of [here, there]) {
      await untilSame(
        'the directory is as a plain one',
        () => partOf(withoutDroppings(publishedTree(dir)), (path) => path !== LOG),
        () => wanted,
      );
    }
    const warnings = [here, there].flatMap(({ stderr }) =>
      stderr.split('\n').filter((line) => /^(warn|error) /.test(line)),
    );
    const copies = (await runCommand(['conflicts', 'ls', volume])).stdout;
    expect(copies, warnings.join('\n')).to.equal('');
    const isExpected = (path: string): boolean =>
      /^(d\/)?e\d\d/.test(path) || /^(d|log|log\/growing)$/.test(path) || halfway.has(path);
    const strays = (await history.steps()).flatMap(({ paths }) =>
      [...paths].filter((path) => !isExpected(path)),
    );
    expect(strays).to.deep.equal([]);
    expect(warnings).to.deep.equal([]);
  });
});

/** What all paths of an edit begin with. */
function idOf(edit: Edit): string {
  return `e${String(EDITS.indexOf(edit)).padStart(2, '0')}`;
}

function lineOf(edit: Edit): string {
  return `a line by ${edit.name.replaceAll(/\W+/g, ' ')}`;
}

function partOf(tree: ShownTree, isPart: (path: string) => boolean): ShownTree {
  return Object.fromEntries(Object.entries(tree).filter(([path]) => isPart(path)));
}

/** Without what takes no part: backups of editors, repositories. */
function withoutDroppings(tree: ShownTree): ShownTree {
  return partOf(tree, (path) => !path.split('/').some((name) => name.endsWith('~') || name === '.git'));
}
