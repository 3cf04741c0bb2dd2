/** `EtcdStore` on an etcd in memory: the agent's own watch and commit loops over calls that a network carries. */

import { commitUntilKnown } from '../../src/agent/etcd/commit.ts';
import { UnavailableError } from '../../src/agent/base/error.ts';
import type {
  Clock,
  CommitResult,
  LeaseStore,
  SnapshotOptions,
  StoreStatus,
  WatchHandlers,
} from '../../src/agent/base/ports.ts';
import {
  DEFAULT_WATCH_OPTIONS,
  followRanges,
  type WatchListener,
  type WatchMessage,
  type WatchStream,
} from '../../src/agent/etcd/watch.ts';
import type { ByteString, KeyRange, Kv, StoreTransaction } from '../../src/codec/kv.ts';
import { keyOf, type MemoryEtcd, type Revision } from './memory-etcd.ts';

/** What lies between a client and the server. */
export interface Network {
  /** Carries a request there and the answer back. Rejects with the errors of the port. */
  call<T>(kind: 'read' | 'commit', serve: () => T, signal: AbortSignal | undefined): Promise<T>;
  /** Carries messages of one stream, in order within a lane, and without one after all; `end` when the stream is cut. */
  stream(end: (error: Error) => void): { send(deliver: () => void, lane?: string): void; close(): void };
  /** How many events the next message has at most; the rest follows as fragments. */
  fragment(): number;
}

/** Nothing is slow and nothing fails. */
const DIRECT: Network = {
  async call(_kind, serve, signal) {
    await Promise.resolve();
    signal?.throwIfAborted();
    return serve();
  },
  stream: () => ({ send: (deliver) => queueMicrotask(deliver), close: () => undefined }),
  fragment: () => 5,
};

const FIRST_PAGE_KEYS = 16;
const PAGE_KEYS = 1000;
const KEYS_A_CALL = 128;

export class MemoryStore implements LeaseStore {
  readonly #etcd: MemoryEtcd;
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #client: string;
  readonly #closed = new AbortController();

  /** `client` is the name under which it commits. */
  constructor(etcd: MemoryEtcd, clock: Clock, network: Network = DIRECT, client = 'client') {
    this.#etcd = etcd;
    this.#clock = clock;
    this.#network = network;
    this.#client = client;
  }

  async #call<T>(kind: 'read' | 'commit', serve: () => T, signal?: AbortSignal): Promise<T> {
    this.#closed.signal.throwIfAborted();
    signal?.throwIfAborted();
    const either =
      signal === undefined ? this.#closed.signal : AbortSignal.any([signal, this.#closed.signal]);
    return this.#network.call(kind, serve, either);
  }

  async snapshot(
    ranges: readonly KeyRange[],
    onKv: (kv: Kv, range: number) => void,
    options: SnapshotOptions = {},
  ): Promise<bigint> {
    let { revision } = options;
    let limit = FIRST_PAGE_KEYS;
    for (const [index, { start, end }] of ranges.entries()) {
      for (let next = start; ;) {
        const keys = limit;
        const page = await this.#call(
          'read',
          () => ({
            revision: this.#etcd.revision,
            kvs: this.#etcd.range({ start: next, end }, revision, keys),
          }),
          options.signal,
        );
        revision ??= page.revision;
        for (const kv of page.kvs) {
          if (options.changedSince !== undefined && kv.modRevision < options.changedSince) continue;
          onKv(options.keysOnly === true ? { ...kv, value: new Uint8Array(0) } : kv, index);
        }
        const last = page.kvs.at(-1);
        if (last === undefined || page.kvs.length < keys) break;
        next = `${last.key}\0`;
        limit = PAGE_KEYS;
      }
    }
    options.signal?.throwIfAborted();
    return revision ?? this.#etcd.revision;
  }

  async get(
    keys: readonly ByteString[],
    options: { readonly revision?: bigint; readonly signal?: AbortSignal } = {},
  ): Promise<{ readonly revision: bigint; readonly kvs: readonly (Kv | undefined)[] }> {
    let { revision } = options;
    const kvs: (Kv | undefined)[] = [];
    for (let at = 0; at < Math.max(keys.length, 1); at += KEYS_A_CALL) {
      const some = keys.slice(at, at + KEYS_A_CALL);
      const answer = await this.#call(
        'read',
        () => ({ revision: this.#etcd.revision, kvs: some.map((key) => this.#etcd.get(key, revision)) }),
        options.signal,
      );
      revision ??= answer.revision;
      kvs.push(...answer.kvs);
    }
    return { revision: revision ?? this.#etcd.revision, kvs };
  }

  async watch(
    ranges: readonly KeyRange[],
    from: bigint,
    handlers: WatchHandlers,
    signal: AbortSignal,
  ): Promise<never> {
    return followRanges(
      { open: async (listener, stop) => this.#openStream(listener, stop) },
      ranges,
      from,
      handlers,
      AbortSignal.any([signal, this.#closed.signal]),
      this.#clock,
    );
  }

  async #openStream(listener: WatchListener, signal: AbortSignal): Promise<WatchStream> {
    const { revision, clusterId } = await this.status(signal);
    return new MemoryStream(this.#etcd, this.#network, listener, revision, clusterId);
  }

  async commit(txn: StoreTransaction, signal?: AbortSignal): Promise<CommitResult> {
    return commitUntilKnown(
      async (isAmbiguous) => {
        const result = await this.#call('commit', () => this.#etcd.commit(txn, this.#client), signal);
        return result.outcome === 'lost' ? { ...result, ambiguous: isAmbiguous } : result;
      },
      this.#clock,
      signal === undefined ? [this.#closed.signal] : [signal, this.#closed.signal],
      DEFAULT_WATCH_OPTIONS.backoff,
    );
  }

  async status(signal?: AbortSignal): Promise<StoreStatus> {
    const { version, clusterId, revision } = await this.#call(
      'read',
      () => ({
        version: this.#etcd.version,
        clusterId: this.#etcd.clusterId,
        revision: this.#etcd.revision,
      }),
      signal,
    );
    return { version, clusterId, revision };
  }

  async grantLease(seconds: number, signal?: AbortSignal): Promise<bigint> {
    return this.#call('read', () => this.#etcd.grantLease(seconds), signal);
  }

  async renewLease(lease: bigint, signal?: AbortSignal): Promise<boolean> {
    return this.#call('read', () => this.#etcd.renewLease(lease), signal);
  }

  async revokeLease(lease: bigint, signal?: AbortSignal): Promise<void> {
    return this.#call('read', () => this.#etcd.revokeLease(lease), signal);
  }

  async close(): Promise<void> {
    this.#closed.abort(new UnavailableError('the store is closed'));
  }
}

class MemoryStream implements WatchStream {
  readonly revision: bigint;
  readonly clusterId: string;
  readonly exactProgress = true;
  readonly #etcd: MemoryEtcd;
  readonly #network: Network;
  readonly #listener: WatchListener;
  readonly #line: ReturnType<Network['stream']>;
  readonly #watches: { readonly id: string; readonly range: KeyRange }[] = [];
  readonly #stopListening: () => void;
  #isOver = false;

  constructor(
    etcd: MemoryEtcd,
    network: Network,
    listener: WatchListener,
    revision: bigint,
    clusterId: string,
  ) {
    this.#etcd = etcd;
    this.#network = network;
    this.#listener = listener;
    this.revision = revision;
    this.clusterId = clusterId;
    this.#line = network.stream((error) => {
      if (this.#isOver) return;
      this.cancel();
      listener.onEnd(error);
    });
    this.#stopListening = etcd.listen((change) => {
      for (const { id, range } of this.#watches) {
        const events = change.events.filter(
          (event) => keyOf(event) >= range.start && keyOf(event) < range.end,
        );
        if (events.length > 0) this.#sendEvents(id, [{ revision: change.revision, events }]);
      }
    });
  }

  create(range: KeyRange, from: bigint): void {
    this.#line.send(() => {
      if (this.#isOver) return;
      const id = String(this.#watches.length);
      this.#send({ watchId: id, created: true });
      if (from < this.#etcd.compacted) {
        this.#send({ watchId: id, canceled: true, compactRevision: this.#etcd.compacted });
        return;
      }
      this.#watches.push({ id, range });
      this.#sendEvents(id, this.#etcd.history(range, from));
    });
  }

  /** In pieces, as a server does with what is larger than a message. */
  #sendEvents(watchId: string, revisions: readonly Revision[]): void {
    const events = revisions.flatMap((revision) => revision.events);
    for (let at = 0; at < events.length;) {
      const some = events.slice(at, at + Math.max(1, this.#network.fragment()));
      at += some.length;
      this.#send({ watchId, events: some, fragment: at < events.length });
    }
  }

  #send(message: Partial<WatchMessage>): void {
    const whole: WatchMessage = {
      watchId: '-1',
      created: false,
      canceled: false,
      compactRevision: 0n,
      fragment: false,
      // Ahead of the events, as a server's header is.
      revision: this.#etcd.revision,
      events: [],
      ...message,
    };
    const lane = whole.watchId === '-1' ? undefined : whole.watchId;
    this.#line.send(() => {
      if (!this.#isOver) this.#listener.onMessage(whole);
    }, lane);
  }

  requestProgress(): void {
    this.#line.send(() => this.#send({}));
  }

  cancel(): void {
    this.#isOver = true;
    this.#stopListening();
    this.#line.close();
  }
}
