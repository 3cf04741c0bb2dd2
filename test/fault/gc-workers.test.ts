/** Several workers of `gc --watch`: one works, another takes over when it dies or hangs, and who was replaced cannot act. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { systemClock } from '../../src/agent/base/clock.ts';
import { codeOf } from '../../src/agent/base/error.ts';
import { cleanUp } from '../../src/agent/housekeeping/clean-up.ts';
import { elect } from '../../src/agent/housekeeping/election.ts';
import { encodeTimeCounter } from '../../src/codec/counter.ts';
import { builtMain } from '../support/built.ts';
import { ownEtcd } from '../support/own-etcd.ts';
import { TestVolume } from '../support/pushing.ts';
import { writeKeys } from '../support/raw-keys.ts';
import { until } from '../support/until.ts';

/** A running `gc --watch`. */
class Worker {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = '';

  constructor(url: string) {
    const args = ['gc', url, '--watch', '--interval', '100ms', '--min-age', '1h', '--takeover', '2s'];
    this.#child = spawn(process.execPath, [builtMain(), ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#said += text));
    this.#ended = once(this.#child, 'close');
  }

  get said(): string {
    return this.#said;
  }

  /** Whether it was elected and has not been replaced since, by what it says. */
  get isElected(): boolean {
    const says = this.#said.split('\n').findLast((line) => / (not )?elected( |$)/.test(line));
    return says?.startsWith('info elected') === true;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async end(name: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(name);
    await this.#ended;
    return this.#child.exitCode;
  }
}

describe('workers of a clean-up', function () {
  const own = ownEtcd('gc-workers-');
  let volume: TestVolume;
  const workers: Worker[] = [];
  before(async () => {
    volume = await TestVolume.format(own.server, { name: 'workers', trashDays: 0, blockSizeKiB: 64 });
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.end('SIGKILL')));
  });
  after(async () => volume?.store.close());

  function start(): Worker {
    const worker = new Worker(volume.url);
    workers.push(worker);
    return worker;
  }

  /** Something that a clean-up removes, and whether it did. */
  async function litter(ino: bigint): Promise<() => Promise<boolean>> {
    const key = volume.volume.keyOf({ kind: 'deletedFile', ino, length: 5n });
    await writeKeys(volume.store, [{ type: 'put', key, value: encodeTimeCounter(1n) }]);
    return async () => (await volume.store.get([key])).kvs[0] === undefined;
  }

  it('are elected one at a time, and the next one at once when the first resigns', async () => {
    const { store } = volume;
    const options = { key: 'election', seconds: 60 };
    const { signal } = new AbortController();
    const first = await elect(store, systemClock, { ...options, worker: 'first' }, signal);
    let isSecond = false;
    const second = elect(store, systemClock, { ...options, worker: 'second' }, signal).then((term) => {
      isSecond = true;
      return term;
    });
    const passes = async (guard: typeof first.guard): Promise<boolean> => {
      const op = { type: 'put', key: 'act', value: new Uint8Array(1) } as const;
      return (await store.commit({ compares: guard, ops: [op] })).outcome === 'committed';
    };
    expect([isSecond, await passes(first.guard)]).to.deep.equal([false, true]);
    await first.resign();
    const term = await second;
    expect([first.over.aborted, term.over.aborted]).to.deep.equal([true, false]);
    expect([await passes(first.guard), await passes(term.guard)]).to.deep.equal([false, true]);
    await term.resign();
  });

  it('write nothing once another one was elected', async () => {
    const isGone = await litter(1000n);
    const { store, volume: opened } = volume;
    const guard = [{ key: 'not-held', modRevision: 7n }];
    const code = await cleanUp(
      { store, volume: opened, clock: systemClock, guard },
      { minAge: 3600, dryRun: false },
    ).catch(codeOf);
    expect(code).to.equal('ERR_DEPOSED');
    expect(await isGone()).to.equal(false);
  });

  it('take over from one that is killed and from one that hangs, which then stands by', async () => {
    const first = start();
    await until('the first is elected', () => first.isElected);
    await until('it works', await litter(1001n));
    const second = start();
    await until('the second waits', () => second.said.includes('info standing by'));
    // A machine that stands still for the time of a lease has made them change places.
    const [one, other] = second.isElected ? [second, first] : [first, second];
    one.signal('SIGSTOP');
    await until('the other is elected', () => other.isElected);
    await until('it works', await litter(1002n));
    one.signal('SIGCONT');
    await until('the one knows', () => !one.isElected);
    await other.end('SIGKILL');
    await until('the one is elected again', () => one.isElected);
    await until('it works', await litter(1003n));
    expect(await one.end('SIGTERM'), one.said).to.equal(0);
    const { kvs } = await volume.store.get([`etcd-etc-agent/${volume.volume.setting.uuid}/gc-worker`]);
    expect(kvs, 'who ends well resigns').to.deep.equal([undefined]);
  });
});
