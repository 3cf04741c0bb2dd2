/** Edits of one file of a volume: when each was acknowledged, when a bare watch told of it, when a reader of DIR saw it. */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../src/agent/base/clock.ts';
import type { ReadContent } from '../../src/agent/push/content.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { Pusher } from '../../src/agent/push/push.ts';
import { ROOT_INO } from '../../src/codec/key.ts';
import type { Entry } from '../../src/reconcile/entry.ts';
import { contentOf, file, type TestVolume } from '../support/pushing.ts';
import { until } from '../support/until.ts';
import type { Sight } from './observer.ts';

/** The file that is edited, at the top of the volume. */
export const EDITED = 'edited.conf';

/** Milliseconds after the acknowledgement, one for each edit; a watch may be told first. */
export interface Delays {
  readonly watched: readonly number[];
  readonly visible: readonly number[];
}

const NS_PER_MS = 1e6;

/** Makes `count` edits, each `paceMs` after a reader of `dir` saw the one before. */
export async function measureEdits(
  volume: TestVolume,
  dir: string,
  count: number,
  paceMs: number,
): Promise<Delays> {
  const key = volume.volume.keyOf({ kind: 'dentry', parent: ROOT_INO, name: EDITED });
  let ackNs = 0n;
  const store: EtcdStore = {
    snapshot: (...args) => volume.store.snapshot(...args),
    get: (...args) => volume.store.get(...args),
    watch: (...args) => volume.store.watch(...args),
    status: (...args) => volume.store.status(...args),
    close: () => volume.store.close(),
    async commit(transaction, signal) {
      const result = await volume.store.commit(transaction, signal);
      // The transaction that is the edit; others claim numbers or tidy up.
      if (transaction.ops.some((op) => op.type === 'put' && op.key === key)) ackNs = process.hrtime.bigint();
      return result;
    },
  };
  const pusher = new Pusher(store, volume.volume, systemClock);

  const watched: bigint[] = [];
  const abort = new AbortController();
  const { revision } = await volume.store.status();
  let up = false;
  const watching = volume.store.watch(
    [{ start: key, end: `${key}\0` }],
    revision + 1n,
    {
      onRevision: () => void watched.push(process.hrtime.bigint()),
      onProgress: () => undefined,
      onState: (isUp) => void (up = isUp),
    },
    abort.signal,
  );
  watching.catch(() => undefined);
  await until('the bare watch stands', () => up);

  const sights: Sight[] = [];
  const observer = fork(new URL('observer.ts', import.meta.url), [dir, EDITED], {
    execArgv: ['--import', 'tsx'],
  });
  observer.on('message', (sight: Sight) => void sights.push(sight));
  await once(observer, 'message');

  const acked: bigint[] = [];
  const seen: bigint[] = [];
  let old: Entry = volume.at(EDITED);
  try {
    for (let n = 1; n <= count; n += 1) {
      const text = `edit ${n} of ${dir}`;
      const { changes } = await pusher.push([{ path: EDITED, old, new: file(text) }], { read: readEntry });
      const outcome = changes[0];
      if (outcome?.outcome !== 'committed' || outcome.entry === undefined)
        throw new Error(`edit ${n} was not committed: ${JSON.stringify(outcome?.outcome)}`);
      old = outcome.entry;
      volume.tree.set(EDITED, old);
      acked.push(ackNs);
      await until(`edit ${n} is visible and watched`, () => {
        return sights.at(-1)?.text === text && watched.length === n;
      });
      seen.push(BigInt(sights.at(-1)?.atNs ?? 0));
      await delay(paceMs);
    }
  } finally {
    abort.abort();
    observer.disconnect();
    await Promise.all([once(observer, 'exit'), watching.catch(() => undefined)]);
  }

  const after = (times: readonly bigint[]): number[] =>
    times.map((time, n) => Number(time - (acked[n] ?? 0n)) / NS_PER_MS);
  return { watched: after(watched), visible: after(seen) };
}

const readEntry: ReadContent = async ({ new: entry }, offset, length) => {
  if (entry?.type !== 'file') throw new Error('only files are read');
  return contentOf(entry).subarray(Number(offset), Number(offset) + length);
};
