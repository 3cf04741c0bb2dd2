/** A watch whose connection is cut over and over misses nothing and tells nothing twice. */

import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { type EtcdOptions, etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import type { KeyRange, StoreOp } from '../../src/codec/kv.ts';
import { DEFAULT_WATCH_OPTIONS } from '../../src/agent/etcd/watch.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { needTool } from '../support/tools.ts';
import { followWatch, tell } from '../support/watch-recorder.ts';

const RANGES: readonly KeyRange[] = [
  { start: 'A', end: 'B' },
  { start: 'D', end: 'E' },
  { start: 'setting', end: 'setting\0' },
];
const OPTIONS: Partial<EtcdOptions> = {
  watch: { ...DEFAULT_WATCH_OPTIONS, backoff: { firstMs: 5, maxMs: 50 } },
};
const HISTORY = 3_000;
const CUTS = 100;
/** A busy machine takes a second and more for each connection. */
const CUTS_LIMIT_MS = 100_000;
/** Writes meanwhile, at least. */
const LOAD = 1_000;
const WRITERS = 16;
/** Between two transactions of one writer: some 400 a second. */
const LOAD_PAUSE_MS = 40;

/** Writes transactions of all shapes, and remembers what a watch of each range must tell. */
class Writer {
  readonly #store: EtcdStore;
  readonly #expected = RANGES.map(() => new Map<bigint, string[]>());
  #written = 0;
  stopped = false;

  constructor(store: EtcdStore) {
    this.#store = store;
  }

  get written(): number {
    return this.#written;
  }

  /** Several at a time, until `count` or until stopped. */
  async run(count: number, pauseMs = 0): Promise<void> {
    const target = this.#written + count;
    const one = async (): Promise<void> => {
      while (!this.stopped && this.#written < target) {
        this.#written += 1;
        await this.#write(this.#written);
        if (pauseMs > 0) await systemClock.sleep(pauseMs);
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, one));
  }

  /** In order of revisions, as `told` of the recorder has it. */
  expected(range: number): string[] {
    const revisions = [...(this.#expected[range] ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
    return revisions.map(([revision, names]) => tell(revision, names));
  }

  async #write(n: number): Promise<void> {
    for (const ops of transactionsOf(n)) await this.#commit(ops);
  }

  async #commit(ops: readonly StoreOp[]): Promise<void> {
    const result = await this.#store.commit({ compares: [], ops });
    if (result.outcome !== 'committed') throw new Error('a transaction without compares was lost');
    for (const op of ops) {
      if (op.type === 'deleteRange') continue;
      const range = RANGES.findIndex(({ start, end }) => op.key >= start && op.key < end);
      // A key that nobody watches is there to make revisions that a range does not see.
      const expected = this.#expected[range];
      if (expected === undefined) continue;
      const names = expected.get(result.revision) ?? [];
      expected.set(result.revision, [...names, op.type === 'delete' ? `-${op.key}` : op.key]);
    }
  }
}

/** The transactions of one write, by its number: one key or many, in one range or several, watched or not. */
function transactionsOf(n: number): StoreOp[][] {
  const value = new Uint8Array(100 + ((n * 37) % 400));
  const put = (key: string): StoreOp => ({ type: 'put', key, value });
  switch (n % 8) {
    case 0:
      return [[put(`A${n}`), put(`A${n}\xff`), put(`D${n}`)]];
    case 1:
      return [Array.from({ length: 40 }, (_, i) => put(`${i % 2 === 0 ? 'A' : 'D'}${n}.${i}`))];
    case 2:
      return [[put(`D${n}`), put('setting')]];
    case 3:
      return [[put(`unwatched${n % 100}`)]];
    case 4:
      return [[put(`A${n}`)], [{ type: 'delete', key: `A${n}` }, put('Asame')]];
    default:
      return [[put(`A${n % 500}`)]];
  }
}

describe('a watch whose connection is cut', () => {
  let server: EtcdServer;
  let proxy: TcpProxy;
  let direct: EtcdStore;
  let proxied: EtcdStore;

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    proxy = await TcpProxy.start(server.endpoint);
    direct = etcdStore({ endpoints: [server.endpoint], prefix: '\xfd' }, systemClock);
    proxied = etcdStore({ endpoints: [proxy.endpoint], prefix: '\xfd' }, systemClock, OPTIONS);
  });

  after(async () => {
    await proxied?.close();
    await direct?.close();
    await proxy?.close();
    await server?.stop();
  });

  it('tells every revision once, in order and whole, through 100 cuts in history and under load', async function () {
    this.timeout(4 * CUTS_LIMIT_MS);
    const writer = new Writer(direct);
    await writer.run(HISTORY);

    // Too early for the first message, which is up to 1,000 revisions: nothing is gained by any of these streams.
    proxy.cutAfter = () => between(4 << 10, 64 << 10);
    const watch = followWatch(proxied, RANGES, 2n);
    const wasCut = (): boolean => watch.downs.length >= CUTS / 5;
    await watch.until('the watch was cut early in history', wasCut, CUTS_LIMIT_MS);
    const early = { cuts: watch.downs.length, newest: watch.newest(0) };
    // Between messages and in the middle of them: history comes in pieces, of which the first is too short for half of it.
    let pieces = 0;
    proxy.cutAfter = () => ((pieces += 1) === 1 ? 512 << 10 : between(512 << 10, 2 << 20));
    await watch.until('history comes in pieces', () => watch.newest(0) > HISTORY / 2);
    const late = { cuts: watch.downs.length, newest: watch.newest(0) };
    proxy.cutAfter = () => undefined;
    const caughtUp = (): boolean =>
      RANGES.every((_, range) => watch.told(range).length >= writer.expected(range).length);
    await watch.until('the watch caught up', caughtUp);

    const writing = writer.run(Number.POSITIVE_INFINITY, LOAD_PAUSE_MS);
    // Live, some revisions after the last cut; and each third stream in the middle of what it missed.
    let streams = 0;
    proxy.cutAfter = () => ((streams += 1) % 3 === 0 ? between(4 << 10, 64 << 10) : undefined);
    while (watch.downs.length < CUTS || writer.written - HISTORY < LOAD) {
      const target = watch.newest(0) + BigInt(Math.floor(Math.random() * 50));
      await watch.until('the watch went on after a cut', () => watch.newest(0) > target);
      proxy.cut();
    }
    const underLoad = writer.written - HISTORY;
    writer.stopped = true;
    await writing;
    proxy.cutAfter = () => undefined;
    await watch.until('the watch has told everything', caughtUp);
    await watch.stop();

    // First the fault: streams that stood were cut by the proxy, in history and under load.
    expect(proxy.cuts).to.be.at.least(CUTS);
    expect(watch.downs.length).to.be.at.least(CUTS);
    expect(early.newest).to.equal(0n);
    expect(late.cuts).to.be.greaterThan(early.cuts);
    expect(underLoad).to.be.at.least(LOAD);
    for (const range of RANGES.keys()) {
      const expected = writer.expected(range);
      expect(expected.length).to.be.at.least(500);
      expect(watch.told(range)).to.deep.equal(expected);
    }
  });
});

/** Bytes between two bounds, each order of magnitude as likely. */
function between(low: number, high: number): number {
  return Math.floor(low * (high / low) ** Math.random());
}
