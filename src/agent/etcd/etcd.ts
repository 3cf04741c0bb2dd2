/** `EtcdStore` on the etcd3 package: one connection for calls, one for each watch stream, deadlines, errors translated. */

import type { CallOptions } from '@grpc/grpc-js';
import type { Etcd3, IRangeResponse } from 'etcd3';
import type { ByteString, KeyRange, Kv, StoreTransaction } from '../../codec/kv.ts';
import type { MetaAddress } from '../../codec/url.ts';
import { commitUntilKnown } from './commit.ts';
import {
  AuthError,
  LeaseGoneError,
  LimitError,
  UnavailableError,
  UnknownOutcomeError,
} from '../base/error.ts';
import {
  type ConnectionOptions,
  DEFAULT_CONNECTION_OPTIONS,
  EndpointRing,
  EtcdConnection,
} from './etcd-connection.ts';
import { isAnswerTooLarge, translate, translateCommit } from './etcd-error.ts';
import { renewOnce } from './etcd-lease.ts';
import { etcdWatchTransport } from './etcd-stream.ts';
import {
  MAX_TXN_OPS,
  commitResult,
  firstOf,
  kvOf,
  pageRequest,
  probeRequest,
  readRequest,
  txnRequest,
} from './etcd-wire.ts';
import type {
  Clock,
  CommitResult,
  LeaseStore,
  SnapshotOptions,
  StoreStatus,
  WatchHandlers,
} from '../base/ports.ts';
import { DEFAULT_WATCH_OPTIONS, type WatchOptions, type WatchTransport, followRanges } from './watch.ts';

export interface EtcdOptions extends ConnectionOptions {
  /** One small read or transaction. */
  readonly callMs: number;
  /** One page of a snapshot. */
  readonly pageMs: number;
  readonly watch: WatchOptions;
}

const DEFAULT_ETCD_OPTIONS: EtcdOptions = {
  ...DEFAULT_CONNECTION_OPTIONS,
  callMs: 5_000,
  pageMs: 20_000,
  watch: DEFAULT_WATCH_OPTIONS,
};

/** Keys of the first page of a snapshot: sixteen values of the largest size are still one message. */
const FIRST_PAGE_KEYS = 16;
const MAX_PAGE_KEYS = 1_000;
const AIMED_PAGE_BYTES = 4 << 20;

/** A call on etcd3's low-level API; it must pass `options` on. */
type Call<T> = (client: Etcd3, options: CallOptions, connection: EtcdConnection) => Promise<T>;

/** Opens nothing yet: the first call connects. */
export function etcdStore(
  address: MetaAddress,
  clock: Clock,
  options: Partial<EtcdOptions> = {},
): LeaseStore {
  return new Etcd3Store(address, clock, { ...DEFAULT_ETCD_OPTIONS, ...options });
}

class Etcd3Store implements LeaseStore {
  readonly #address: MetaAddress;
  readonly #clock: Clock;
  readonly #options: EtcdOptions;
  readonly #endpoints: EndpointRing;
  readonly #closed = new AbortController();
  /** The connection for calls, or the attempt to make it, shared by all who wait. */
  #connection: Promise<EtcdConnection> | undefined;
  #current: EtcdConnection | undefined;
  readonly #transport: WatchTransport;

  constructor(address: MetaAddress, clock: Clock, options: EtcdOptions) {
    this.#address = address;
    this.#clock = clock;
    this.#options = options;
    this.#endpoints = new EndpointRing(address.endpoints, clock.random());
    this.#transport = etcdWatchTransport(address, clock, options);
  }

  async snapshot(
    ranges: readonly KeyRange[],
    onKv: (kv: Kv, range: number) => void,
    options: SnapshotOptions = {},
  ): Promise<bigint> {
    let revision = options.revision;
    let limit = FIRST_PAGE_KEYS;
    for (const [index, range] of ranges.entries()) {
      let start = range.start;
      for (let more = true; more;) {
        const page = await this.#page({ start, end: range.end }, limit, revision, options);
        // Of the first page only: later the header tells the store's revision, not the one that was read at.
        revision ??= page.revision;
        for (const kv of page.kvs) onKv(kv, index);
        more = page.more;
        start = `${page.kvs.at(-1)?.key ?? start}\0`;
        limit = page.nextLimit;
      }
    }
    return revision ?? (await this.status(options.signal)).revision;
  }

  async get(
    keys: readonly ByteString[],
    options: { readonly revision?: bigint; readonly signal?: AbortSignal } = {},
  ): Promise<{ readonly revision: bigint; readonly kvs: readonly (Kv | undefined)[] }> {
    let revision = options.revision;
    const kvs: (Kv | undefined)[] = [];
    for (let at = 0; at < keys.length; at += MAX_TXN_OPS) {
      const request = readRequest(keys.slice(at, at + MAX_TXN_OPS), revision);
      const answer = await this.#call((client, call) => client.kv.txn(request, call), {
        timeoutMs: this.#options.pageMs,
        signal: options.signal,
      });
      revision ??= BigInt(answer.header.revision);
      kvs.push(...answer.responses.map((response) => firstOf(response.response_range)));
    }
    return { revision: revision ?? (await this.status(options.signal)).revision, kvs };
  }

  async watch(
    ranges: readonly KeyRange[],
    from: bigint,
    handlers: WatchHandlers,
    signal: AbortSignal,
  ): Promise<never> {
    const either = AbortSignal.any([signal, this.#closed.signal]);
    return followRanges(this.#transport, ranges, from, handlers, either, this.#clock, this.#options.watch);
  }

  async commit(txn: StoreTransaction, signal?: AbortSignal): Promise<CommitResult> {
    const request = txnRequest(txn);
    const limits = { timeoutMs: this.#options.callMs, signal };
    return commitUntilKnown(
      async (isAmbiguous) => {
        const answer = await this.#call(
          (client, call) => client.kv.txn(request, call),
          limits,
          translateCommit,
        );
        return commitResult(txn, answer, isAmbiguous);
      },
      this.#clock,
      signal === undefined ? [this.#closed.signal] : [signal, this.#closed.signal],
      this.#options.watch.backoff,
    );
  }

  async status(signal?: AbortSignal): Promise<StoreStatus> {
    const request = probeRequest(this.#address.prefix);
    return this.#call(
      async (client, call, connection) => {
        const { header } = await client.kv.range(request, call);
        return {
          version: connection.version,
          clusterId: header.cluster_id,
          revision: BigInt(header.revision),
        };
      },
      { timeoutMs: this.#options.callMs, signal },
    );
  }

  async grantLease(seconds: number, signal?: AbortSignal): Promise<bigint> {
    const answer = await this.#call((client, call) => client.leaseClient.leaseGrant({ TTL: seconds }, call), {
      timeoutMs: this.#options.callMs,
      signal,
    });
    return BigInt(answer.ID);
  }

  async renewLease(lease: bigint, signal?: AbortSignal): Promise<boolean> {
    return this.#call((client, call) => renewOnce(client, call, lease), {
      timeoutMs: this.#options.callMs,
      signal,
    });
  }

  async revokeLease(lease: bigint, signal?: AbortSignal): Promise<void> {
    try {
      await this.#call((client, call) => client.leaseClient.leaseRevoke({ ID: String(lease) }, call), {
        timeoutMs: this.#options.callMs,
        signal,
      });
    } catch (error) {
      if (!(error instanceof LeaseGoneError)) throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed.abort(new UnavailableError('the store is closed'));
    const connecting = this.#connection;
    this.#connection = undefined;
    // It was told to end; what it ends with is of no interest any more.
    await connecting?.then(
      (connection) => connection.close(),
      () => {},
    );
  }

  /** One page, and how many keys to ask for next. An answer that is too large is asked for in fewer keys. */
  async #page(
    range: KeyRange,
    limit: number,
    revision: bigint | undefined,
    options: SnapshotOptions,
  ): Promise<Page> {
    const limits = { timeoutMs: this.#options.pageMs, signal: options.signal };
    for (let keys = limit; ; keys = Math.max(1, keys >> 2)) {
      const request = pageRequest(range, keys, revision, options);
      try {
        return pageOf(await this.#call((client, call) => client.kv.range(request, call), limits), keys);
      } catch (error) {
        const tooLarge = error instanceof LimitError && isAnswerTooLarge(error.cause);
        if (!tooLarge || keys === 1) throw error;
      }
    }
  }

  /**
   * Runs a call, and runs it again on a new connection while it failed without effect: once with each endpoint, and
   * once more, because the first connection may only have been idle for too long, or its token expired.
   */
  async #call<T>(
    run: Call<T>,
    limits: { readonly timeoutMs: number; readonly signal: AbortSignal | undefined },
    translateWith: (error: unknown) => Error = translate,
  ): Promise<T> {
    const signals =
      limits.signal === undefined ? [this.#closed.signal] : [limits.signal, this.#closed.signal];
    for (const signal of signals) signal.throwIfAborted();
    for (let triesLeft = this.#endpoints.size; ; triesLeft -= 1) {
      const known = this.#connection !== undefined;
      let failure: Error;
      try {
        const connection = await unlessAborted(this.#connect(), limits.signal);
        try {
          return await connection.call((client, call) => run(client, call, connection), {
            timeoutMs: limits.timeoutMs,
            signals,
          });
        } catch (error) {
          failure = translateWith(error);
        } finally {
          if (!connection.usable) this.#drop(connection);
        }
      } catch (error) {
        failure = translate(error);
      }
      if (failure instanceof UnknownOutcomeError) throw failure;
      for (const signal of signals) signal.throwIfAborted();
      const again = failure instanceof UnavailableError || (failure instanceof AuthError && known);
      if (triesLeft === 0 || !again) throw failure;
    }
  }

  #connect(): Promise<EtcdConnection> {
    this.#connection ??= EtcdConnection.open(this.#endpoints.next(), this.#address, this.#options, [
      this.#closed.signal,
    ]).then(
      (connection) => {
        this.#current = connection;
        return connection;
      },
      (error: unknown) => {
        this.#connection = undefined;
        throw error;
      },
    );
    return this.#connection;
  }

  /** Other calls under way on it go on to their end. */
  #drop(connection: EtcdConnection): void {
    if (this.#current === connection) {
      this.#current = undefined;
      this.#connection = undefined;
    }
    connection.close();
  }
}

interface Page {
  readonly kvs: readonly Kv[];
  readonly more: boolean;
  readonly revision: bigint;
  readonly nextLimit: number;
}

function pageOf(answer: IRangeResponse, limit: number): Page {
  const kvs = answer.kvs.map(kvOf);
  const bytes = kvs.reduce((sum, kv) => sum + kv.key.length + kv.value.length, 0);
  const fitting = bytes === 0 ? limit : Math.floor((AIMED_PAGE_BYTES * kvs.length) / bytes);
  return {
    kvs,
    more: answer.more,
    revision: BigInt(answer.header.revision),
    nextLimit: Math.min(MAX_PAGE_KEYS, Math.max(1, fitting)),
  };
}

/** Gives up waiting, not the work: others may wait for the same. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  let abort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
