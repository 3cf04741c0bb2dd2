import { expect } from 'chai';
import { parseListen } from '../../../src/agent/report/listen.ts';
import { Metrics } from '../../../src/agent/report/metrics.ts';
import { Report } from '../../../src/agent/report/report.ts';
import type { CurrentStatus } from '../../../src/agent/report/status.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const STATUS: CurrentStatus = {
  version: 1,
  pid: 1,
  ready: true,
  stale: false,
  publishedRevision: '7',
  storeRevision: '9',
  files: 3,
  pendingEdits: 2,
  parked: ['a'],
  unadopted: [],
  problems: { b: 'why' },
  guards: [{ id: 'delete-00000000', guard: 'delete', reason: 'many', since: '2026-01-01T00:00:00.000Z' }],
  trips: { delete: 2 },
};

describe('--listen', () => {
  const accepted: readonly (readonly [string, object])[] = [
    [':9464', { host: undefined, port: 9464 }],
    ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
    ['localhost:80', { host: 'localhost', port: 80 }],
    ['[::1]:65535', { host: '::1', port: 65_535 }],
  ];
  for (const [text, address] of accepted)
    it(`takes ${text}`, () => expect(parseListen(text)).to.deep.equal(address));

  for (const text of ['9464', '::1:9464', ':65536', ':', 'host:', '[host]:1', ':1x', 'a:b:1', ' :1 '])
    it(`refuses ${JSON.stringify(text)} and says what it takes`, () => {
      expect(() => parseListen(text)).to.throw('--listen takes an address such as :9464');
    });
});

describe('a report', () => {
  /** Milliseconds of `--rescan`. */
  const RESCAN_MS = 5_000;
  /** Three of them and 30 s (design G10). */
  const LIMIT_MS = 45_000;
  let clock: ManualClock;
  let report: Report;
  let lastScanMs: number;

  beforeEach(() => {
    clock = new ManualClock();
    report = new Report(clock);
    lastScanMs = -Infinity;
    report.source = {
      status: () => STATUS,
      lastScanMs: () => lastScanMs,
      rescanMs: () => RESCAN_MS,
    };
  });

  it('is live for three rescans and half a minute after the last look', async () => {
    await clock.advance(10_000);
    lastScanMs = clock.monotonicMs();
    await clock.advance(LIMIT_MS);
    expect(report.isLive).to.equal(true);
    await clock.advance(1);
    expect(report.isLive).to.equal(false);
    lastScanMs = clock.monotonicMs();
    expect(report.isLive).to.equal(true);
  });

  it('counts from the start while nothing was looked at, also between two runs', async () => {
    await clock.advance(LIMIT_MS);
    expect(report.isLive).to.equal(true);
    report.source = undefined;
    expect(report.status).to.equal(undefined);
    await clock.advance(1);
    expect(report.isLive).to.equal(false);
  });
});

describe('the metrics', () => {
  const sample = (text: string, name: string): string | undefined =>
    text
      .split('\n')
      .find((line) => line.startsWith(`etcd_etc_agent_${name} `))
      ?.split(' ')[1];

  it('are the numbers of the status', async () => {
    const text = await new Metrics().text(STATUS);
    expect(
      [
        'published_revision',
        'store_revision',
        'ready',
        'stale',
        'pending_local_edits',
        'parked',
        'unadopted',
        'problems',
        'tree_files',
        'guards_tripped_total{guard="delete"}',
        'guards_holding{guard="delete"}',
        'guards_holding{guard="volume"}',
      ].map((name) => [name, sample(text, name)]),
    ).to.deep.equal([
      ['published_revision', '7'],
      ['store_revision', '9'],
      ['ready', '1'],
      ['stale', '0'],
      ['pending_local_edits', '2'],
      ['parked', '1'],
      ['unadopted', '0'],
      ['problems', '1'],
      ['tree_files', '3'],
      ['guards_tripped_total{guard="delete"}', '2'],
      ['guards_holding{guard="delete"}', '1'],
      ['guards_holding{guard="volume"}', '0'],
    ]);
  });

  it('are those of now, however often they are asked for', async () => {
    const metrics = new Metrics();
    await metrics.text(STATUS);
    const text = await metrics.text({ ...STATUS, publishedRevision: '8', guards: [] });
    expect(sample(text, 'published_revision')).to.equal('8');
    expect(sample(text, 'guards_tripped_total{guard="delete"}')).to.equal('2');
    expect(sample(text, 'guards_holding{guard="delete"}')).to.equal('0');
  });

  it('say that nothing is ready while no run is under way', async () => {
    expect(sample(await new Metrics().text(undefined), 'ready')).to.equal('0');
  });
});
