/** The status as metrics in the text format of Prometheus (design 3.4), with the process defaults of the client library. */

import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

import { GUARD_NAMES } from '../../reconcile/safety.ts';
import type { CurrentStatus } from './status.ts';

const PREFIX = 'etcd_etc_agent_';

/** Gauges that are one number of the status. */
const NUMBERS: readonly (readonly [name: string, help: string, of: (status: CurrentStatus) => number])[] = [
  ['published_revision', 'Revision of the store that DIR shows.', (s) => Number(s.publishedRevision)],
  ['store_revision', 'Newest revision of the store that was taken in.', (s) => Number(s.storeRevision)],
  ['ready', '1 when a tree is published.', (s) => Number(s.ready)],
  ['stale', '1 while the store cannot be followed.', (s) => Number(s.stale)],
  ['pending_local_edits', 'Local edits that are not in the volume.', (s) => s.pendingEdits],
  ['parked', 'Contents that lost and wait to become conflict copies.', (s) => s.parked.length],
  ['unadopted', 'Files that DIR held before the first publish.', (s) => s.unadopted.length],
  ['problems', 'Paths that could not be done.', (s) => Object.keys(s.problems).length],
  ['tree_files', 'Entries of the published tree.', (s) => s.files],
];

export class Metrics {
  readonly #registry = new Registry();
  readonly #numbers = NUMBERS.map(([name, help, of]) => ({ gauge: this.#gauge(name, help), of }));
  readonly #holding: Gauge;
  readonly #trips: Counter;

  constructor() {
    const registers = [this.#registry];
    const labelNames = ['guard'];
    this.#holding = new Gauge({
      name: `${PREFIX}guards_holding`,
      help: '1 while a guard holds everything back until a person accepts it.',
      labelNames,
      registers,
    });
    this.#trips = new Counter({
      name: `${PREFIX}guards_tripped_total`,
      help: 'How often a guard has tripped since the start.',
      labelNames,
      registers,
    });
    collectDefaultMetrics({ register: this.#registry });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** `status`: `undefined` while no run is under way; then only the process is told of. */
  async text(status: CurrentStatus | undefined): Promise<string> {
    for (const { gauge, of } of this.#numbers) {
      gauge.reset();
      if (status !== undefined) gauge.set(of(status));
    }
    this.#holding.reset();
    this.#trips.reset();
    for (const guard of status === undefined ? [] : GUARD_NAMES) {
      this.#holding.set({ guard }, Number(status?.guards.some((tripped) => tripped.guard === guard)));
      this.#trips.inc({ guard }, status?.trips[guard] ?? 0);
    }
    return this.#registry.metrics();
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name: PREFIX + name, help, registers: [this.#registry] });
  }
}
