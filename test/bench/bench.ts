/** The numbers: how soon a change is visible, what a seed costs, what a large tree costs, what an idle agent costs. */

import { existsSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Agent, runCommand, startAgent } from '../support/agent.ts';
import { WATCHERS } from '../../src/agent/system.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { directory, file, TestVolume } from '../support/pushing.ts';
import { EDITED, measureEdits } from './edits.ts';
import { measureWatchers, type WatcherCost } from './watchers.ts';
import { cpuSeconds, quantile, residentMiB } from './samples.ts';

/** Two flips are at least this far apart, and the edits further. */
const MIN_INTERVAL_MS = 20;
const PACE_MS = 60;
const SMALL = { files: 100, edits: 500 };
const LARGE = { files: 10_000, edits: 100 };
const SEED_FILES = 5_000;
const SEED_RUNS = 3;
const QUIET_MS = 5_000;
const IDLE_MS = 10_000;
const FILES_PER_DIRECTORY = 100;

/** Where a directory is served: syncs of the file system are part of what is measured. */
interface Place {
  readonly name: string;
  readonly parent: string;
}

interface Followed {
  readonly floor: readonly number[];
  readonly visible: readonly number[];
  readonly restMiB: number;
  readonly idleCpuSeconds: number;
}

interface Seeded {
  readonly totalMs: number;
  readonly publishMs: number;
  /** Making as many small files, nothing else. */
  readonly plainMs: number;
}

interface Results {
  readonly watchers: readonly WatcherCost[];
  readonly small: Followed;
  readonly large: Followed;
  readonly seed: Seeded;
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

/** A volume of small files, 100 a directory, and the file that is edited. */
async function makeVolume(server: EtcdServer, name: string, files: number): Promise<TestVolume> {
  say(`a volume of ${files} files`);
  const volume = await TestVolume.format(server, { name });
  const changes = [volume.make(EDITED, file('edit 0'))];
  for (let n = 0; n < files - 1; n += 1) {
    const dir = `conf-${Math.floor(n / FILES_PER_DIRECTORY)}`;
    if (n % FILES_PER_DIRECTORY === 0) changes.push(volume.make(dir, directory()));
    changes.push(
      volume.make(`${dir}/site-${n}.conf`, file(`server { listen ${n}; server_name ${n}.test; }\n`)),
    );
  }
  await volume.push(...changes);
  return volume;
}

/** An agent on a directory: what it costs while nothing happens, then how soon edits are visible. */
async function follow(place: Place, volume: TestVolume, files: number, edits: number): Promise<Followed> {
  say(`${place.name}: an idle agent with ${files} files, then ${edits} edits`);
  const dir = mkdtempSync(join(place.parent, 'follow-'));
  const agent = await startAgent(volume.url, dir, ['--min-interval', `${MIN_INTERVAL_MS}ms`]);
  try {
    const idle = await measureIdle(agent);
    const { watched, visible } = await measureEdits(volume, dir, edits, PACE_MS);
    return { floor: watched, visible, ...idle };
  } finally {
    await agent.stop();
  }
}

async function measureIdle({ pid }: Agent): Promise<Pick<Followed, 'restMiB' | 'idleCpuSeconds'>> {
  await delay(QUIET_MS);
  const restMiB = residentMiB(pid);
  const before = cpuSeconds(pid);
  await delay(IDLE_MS);
  return { restMiB, idleCpuSeconds: cpuSeconds(pid) - before };
}

/** `--once` into empty directories, the whole process, and beside it what the file system alone asks for that many files. */
async function seed(place: Place, volume: TestVolume): Promise<Seeded> {
  say(`${place.name}: a first seed of ${SEED_FILES} files, ${SEED_RUNS} times`);
  const runs: { totalMs: number; publishMs: number; plainMs: number }[] = [];
  for (let run = 0; run < SEED_RUNS; run += 1) {
    const plainMs = makePlainFiles(mkdtempSync(join(place.parent, 'plain-')));
    const dir = mkdtempSync(join(place.parent, 'seed-'));
    const startMs = performance.now();
    const result = await runCommand(['--once', volume.url, dir]);
    const totalMs = performance.now() - startMs;
    const publishMs = / published .* ms=(\d+)/.exec(result.stderr)?.[1];
    if (result.code !== 0 || publishMs === undefined) throw new Error(result.stderr);
    runs.push({ totalMs, publishMs: Number(publishMs), plainMs });
  }
  const median = (field: keyof Seeded): number =>
    quantile(
      runs.map((run) => run[field]),
      0.5,
    );
  return { totalMs: median('totalMs'), publishMs: median('publishMs'), plainMs: median('plainMs') };
}

function makePlainFiles(dir: string): number {
  const startMs = performance.now();
  for (let n = 0; n < SEED_FILES; n += 1) writeFileSync(join(dir, String(n)), 'a small file\n');
  return performance.now() - startMs;
}

/** How much later than a bare watch the median edit is visible, in milliseconds. */
function beyondFloor({ floor, visible }: Followed): number {
  return quantile(visible, 0.5) - quantile(floor, 0.5);
}

type Row = readonly [label: string, value: (results: Results) => string, goal?: string];

const ms = (value: number): string => `${value.toFixed(1)} ms`;
const both = (samples: readonly number[]): string =>
  `${quantile(samples, 0.5).toFixed(1)} / ${quantile(samples, 0.99).toFixed(1)} ms`;

const ROWS: readonly Row[] = [
  [
    `${SMALL.edits} edits, ${SMALL.files} files: commit acknowledged -> bare watch, p50 / p99`,
    ({ small }) => both(small.floor),
  ],
  ['  commit acknowledged -> visible in DIR, p50 / p99', ({ small }) => both(small.visible)],
  ['  visible later than the watch, median', ({ small }) => ms(beyondFloor(small)), '<= 5 ms'],
  [
    `${LARGE.edits} edits, ${LARGE.files} files: commit acknowledged -> bare watch, p50 / p99`,
    ({ large }) => both(large.floor),
  ],
  ['  commit acknowledged -> visible in DIR, p50 / p99', ({ large }) => both(large.visible)],
  ['  visible later than the watch, median', ({ large }) => ms(beyondFloor(large))],
  [
    '  of the time with the small tree',
    ({ small, large }) => `${(beyondFloor(large) / beyondFloor(small)).toFixed(2)} times`,
    '<= 2 times',
  ],
  [
    `first seed of ${SEED_FILES} files, --once, whole process, median of ${SEED_RUNS}`,
    ({ seed: { totalMs } }) => ms(totalMs),
    '< 3000 ms',
  ],
  ['  its publish alone', ({ seed: { publishMs } }) => ms(publishMs)],
  ['  as many small files made one by one, nothing else', ({ seed: { plainMs } }) => ms(plainMs)],
  [`idle, ${SMALL.files} files: RSS`, ({ small }) => `${small.restMiB.toFixed(0)} MiB`],
  [`  CPU in ${IDLE_MS / 1000} s`, ({ small }) => `${small.idleCpuSeconds.toFixed(2)} s`],
  [`idle, ${LARGE.files} files: RSS`, ({ large }) => `${large.restMiB.toFixed(0)} MiB`],
  [`  CPU in ${IDLE_MS / 1000} s`, ({ large }) => `${large.idleCpuSeconds.toFixed(2)} s`],
  ...WATCHERS.map((watcher): Row => [
    `  RSS and kernel watches with --watcher ${watcher}`,
    ({ watchers }) => {
      const { restMiB = 0, watches = 0 } = watchers.find((cost) => cost.watcher === watcher) ?? {};
      return `${restMiB.toFixed(0)} MiB, ${watches}`;
    },
  ]),
];

function table(places: readonly Place[], results: readonly Results[]): string {
  const lines = [
    ['', ...places.map(({ name }) => name), 'goal'],
    ...ROWS.map(([label, value, goal = '']) => [label, ...results.map(value), goal]),
  ];
  const widths =
    lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  return lines
    .map((line) =>
      line
        .map((cell, n) => (n === 0 ? cell.padEnd(widths[n] ?? 0) : cell.padStart(widths[n] ?? 0)))
        .join('  '),
    )
    .join('\n');
}

const TMPFS_MAGIC = 0x01021994;

/** A real disk and memory, where this machine has both. */
function places(): Place[] {
  return [tmpdir(), '/dev/shm'].filter(existsSync).map((parent) => {
    const kind = statfsSync(parent).type === TMPFS_MAGIC ? 'memory' : 'disk';
    return { name: `${parent} (${kind})`, parent: mkdtempSync(join(parent, 'bench-')) };
  });
}

async function main(): Promise<void> {
  const [load = 0] = loadavg();
  const server = await startEtcd({ dataRoot: tmpdir() });
  const where = places();
  try {
    const small = await makeVolume(server, 'small', SMALL.files);
    const large = await makeVolume(server, 'large', LARGE.files);
    const seeded = await makeVolume(server, 'seeded', SEED_FILES);
    const { version } = await small.store.status();
    const results: Results[] = [];
    for (const place of where) {
      results.push({
        seed: await seed(place, seeded),
        small: await follow(place, small, SMALL.files, SMALL.edits),
        large: await follow(place, large, LARGE.files, LARGE.edits),
        watchers: await measureWatchers(large.url, place.parent),
      });
    }
    process.stdout.write(
      [
        `etcd ${version} with its data below ${tmpdir()}, fsync on; Node ${process.version}; ${availableParallelism()} CPUs, load average ${load.toFixed(1)} before.`,
        `Agents run with --min-interval ${MIN_INTERVAL_MS}ms; each edit is one transaction, ${PACE_MS} ms after the one before was seen.`,
        '',
        table(where, results),
        '',
      ].join('\n'),
    );
    for (const volume of [small, large, seeded]) await volume.store.close();
  } finally {
    await server.stop();
    // Not sooner: ext4 makes new files slowly for a minute after many were removed.
    for (const { parent } of where) rmSync(parent, { recursive: true, force: true });
  }
}

await main();
