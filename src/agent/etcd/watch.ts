/** Follows ranges from a revision on: each revision of a range once, whole and in order, over any number of streams. */

import type { KeyRange, StoreEvent } from '../../codec/kv.ts';
import type { Clock, WatchHandlers } from '../base/ports.ts';
import { AuthError, CompactedError, UnavailableError } from '../base/error.ts';
import { type BackoffLimits, DEFAULT_BACKOFF, backoffMs } from '../base/backoff.ts';

/** One message of a watch stream. */
export interface WatchMessage {
  /** The server's number of the watch; -1 for all of the stream. */
  readonly watchId: string;
  readonly created: boolean;
  readonly canceled: boolean;
  /** Why it was canceled, translated. */
  readonly cancelError?: Error;
  /** When canceled because of a compaction: the oldest revision that can be watched; else 0. */
  readonly compactRevision: bigint;
  /** More of the same message follows; may end in the middle of a revision. */
  readonly fragment: boolean;
  /** The store's revision when the message was made. In history it runs ahead of the events. */
  readonly revision: bigint;
  /** In the order of their mod revisions, up to 1,000 revisions in one message. */
  readonly events: readonly StoreEvent[];
}

export interface WatchListener {
  onMessage(message: WatchMessage): void;
  /** Called once at most; no message follows. */
  onEnd(error: Error): void;
}

/** One open stream. */
export interface WatchStream {
  /** The store's revision, read from a majority when the stream was opened. */
  readonly revision: bigint;
  readonly clusterId: string;
  /** Whether the server sends progress only after the events before it (3.4.25, 3.5.8 and newer do). */
  readonly exactProgress: boolean;
  create(range: KeyRange, from: bigint): void;
  requestProgress(): void;
  /** Ends it without waiting for the server. */
  cancel(): void;
}

/** Makes streams: every one over a new connection, each time to the next endpoint. */
export interface WatchTransport {
  /** Rejects with UnavailableError or AuthError. */
  open(listener: WatchListener, signal: AbortSignal): Promise<WatchStream>;
}

export interface WatchOptions {
  /** How long the server may take to confirm all watches of a stream. */
  readonly createMs: number;
  /** How often the server is asked for progress: a sign of life, and it keeps the resume point ahead of compactions. */
  readonly progressMs: number;
  /** A stream that was silent for so long, though it was asked, is given up. */
  readonly silentMs: number;
  /** A stream that lived this long, or brought something, ends a row of failures. */
  readonly settledMs: number;
  readonly backoff: BackoffLimits;
}

export const DEFAULT_WATCH_OPTIONS: WatchOptions = {
  createMs: 10_000,
  progressMs: 30_000,
  silentMs: 60_000,
  settledMs: 5_000,
  backoff: DEFAULT_BACKOFF,
};

/** Where a range stands. It outlives the stream. */
interface Cursor {
  readonly index: number;
  readonly range: KeyRange;
  /** The oldest revision that has not been delivered: where the next stream resumes. */
  next: bigint;
}

/** What one call of `followRanges` remembers from stream to stream. */
interface Following {
  readonly cursors: readonly Cursor[];
  readonly handlers: WatchHandlers;
  readonly clock: Clock;
  readonly options: WatchOptions;
  clusterId: string | undefined;
  /** Whether a request for progress was ever answered. A grpc-proxy answers none, and its silence means nothing. */
  answered: boolean;
}

/**
 * The watch of the `EtcdStore` port, over any transport. Rejects with CompactedError (compacted, or the store is not the
 * one it was: list again), AuthError (refused twice in a row), the signal's reason, or what a handler threw.
 */
export async function followRanges(
  transport: WatchTransport,
  ranges: readonly KeyRange[],
  from: bigint,
  handlers: WatchHandlers,
  signal: AbortSignal,
  clock: Clock,
  options: WatchOptions = DEFAULT_WATCH_OPTIONS,
): Promise<never> {
  const following: Following = {
    cursors: ranges.map((range, index) => ({ index, range, next: from })),
    handlers,
    clock,
    options,
    clusterId: undefined,
    answered: false,
  };
  let failures = 0;
  let refusals = 0;
  for (;;) {
    signal.throwIfAborted();
    const run = new StreamRun(following);
    const startedMs = clock.monotonicMs();
    const error = await run.follow(transport, signal);
    signal.throwIfAborted();
    if (!(error instanceof UnavailableError || error instanceof AuthError)) throw error;
    refusals = error instanceof AuthError ? refusals + 1 : 0;
    if (refusals > 1) throw error;
    if (run.delivered || (run.up && clock.monotonicMs() - startedMs >= options.settledMs)) failures = 0;
    failures += 1;
    handlers.onState(false, error.message);
    await clock.sleep(backoffMs(failures, clock.random(), options.backoff), signal);
  }
}

/** The life of one stream, from opening it to the error that ends it. */
class StreamRun implements WatchListener {
  /** All watches stand. */
  up = false;
  /** A revision was delivered. */
  delivered = false;
  readonly #following: Following;
  readonly #over = new AbortController();
  /** Cursors by the server's numbers, which come in the order of creation. */
  readonly #created = new Map<string, { readonly cursor: Cursor; events: readonly StoreEvent[] }>();
  #stream: WatchStream | undefined;
  #heardMs: number;
  #end: (error: Error) => void = () => {};

  constructor(following: Following) {
    this.#following = following;
    this.#heardMs = following.clock.monotonicMs();
  }

  /** Resolves with the error that ended the stream; afterwards no handler is called any more. */
  async follow(transport: WatchTransport, signal: AbortSignal): Promise<Error> {
    const ended = new Promise<Error>((resolve) => {
      this.#end = resolve;
    });
    const stop = (): void => this.#end(new UnavailableError('stopped'));
    signal.addEventListener('abort', stop, { once: true });
    try {
      this.#stream = await transport.open(this, signal);
      if (!this.#over.signal.aborted) this.#begin(this.#stream);
      return await Promise.race([ended, this.#watchOver(this.#stream)]);
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#over.abort();
      signal.removeEventListener('abort', stop);
      this.#stream?.cancel();
    }
  }

  onEnd(error: Error): void {
    // First the reason, then the end of everything that waits: what waits must not be the reason.
    this.#end(error);
    this.#over.abort();
  }

  onMessage(message: WatchMessage): void {
    if (this.#over.signal.aborted) return;
    this.#heardMs = this.#following.clock.monotonicMs();
    try {
      this.#take(message);
    } catch (error) {
      this.onEnd(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #begin(stream: WatchStream): void {
    const { cursors, clusterId } = this.#following;
    this.#following.clusterId = stream.clusterId;
    // etcd gives no error when it was wiped or restored: the same names, other contents, older revisions.
    if (clusterId !== undefined && clusterId !== stream.clusterId) {
      throw new CompactedError('another cluster answers now');
    }
    for (const cursor of cursors) {
      if (stream.revision + 1n < cursor.next) {
        throw new CompactedError('the store went back to an older revision', { revision: stream.revision });
      }
    }
    this.#createNext(stream);
  }

  /** One at a time: a grpc-proxy ignores numbers that we would choose, so the order of the answers has to tell. */
  #createNext(stream: WatchStream): void {
    const cursor = this.#following.cursors[this.#created.size];
    if (cursor !== undefined) {
      stream.create(cursor.range, cursor.next);
      return;
    }
    this.up = true;
    this.#following.handlers.onState(true);
  }

  #take(message: WatchMessage): void {
    const stream = this.#stream;
    if (stream === undefined) throw new Error('a message came before the stream was open');
    // A refused watch is `created` and `canceled` in one message.
    if (message.canceled) {
      if (message.compactRevision !== 0n) {
        throw new CompactedError('the watched revision has been compacted', {
          revision: message.compactRevision,
        });
      }
      throw message.cancelError ?? new UnavailableError('the server ended the watch');
    }
    if (message.created) {
      const cursor = this.#following.cursors[this.#created.size];
      if (cursor === undefined) throw new Error('the server created a watch that nobody asked for');
      this.#created.set(message.watchId, { cursor, events: [] });
      this.#createNext(stream);
      return;
    }
    if (message.events.length > 0 || message.fragment) this.#takeEvents(message);
    else this.#takeProgress(message, stream.exactProgress);
  }

  #takeEvents(message: WatchMessage): void {
    const watch = this.#created.get(message.watchId);
    if (watch === undefined) throw new Error(`events for watch ${message.watchId}, which does not exist`);
    const events = watch.events.length === 0 ? message.events : [...watch.events, ...message.events];
    let start = 0;
    while (start < events.length) {
      const end = endOfRevision(events, start);
      // Only without the flag, or with a later revision behind it, is the last revision of a message whole.
      if (end === events.length && message.fragment) break;
      this.#deliver(watch.cursor, events.slice(start, end));
      if (this.#over.signal.aborted) return;
      start = end;
    }
    watch.events = events.slice(start);
  }

  #deliver(cursor: Cursor, events: readonly StoreEvent[]): void {
    const revision = modRevision(events[0]);
    // Servers before 3.4.24 and 3.5.8 may send again what they sent.
    if (revision < cursor.next) return;
    this.delivered = true;
    this.#following.handlers.onRevision(cursor.index, revision, events);
    cursor.next = revision + 1n;
  }

  /** Never on `created`, and never from the header of a message with events: both run ahead of what was delivered. */
  #takeProgress(message: WatchMessage, exact: boolean): void {
    this.#following.answered = true;
    if (!exact) return;
    const one = this.#created.get(message.watchId)?.cursor;
    for (const cursor of one === undefined ? this.#following.cursors : [one]) {
      if (message.revision < cursor.next) continue;
      cursor.next = message.revision + 1n;
      this.#following.handlers.onProgress(cursor.index, message.revision);
    }
  }

  /** Ends by throwing when the stream is not confirmed in time, or is silent though it was asked. */
  async #watchOver(stream: WatchStream): Promise<never> {
    const { clock, options } = this.#following;
    const over = this.#over.signal;
    await clock.sleep(options.createMs, over);
    if (!this.up) throw new UnavailableError('the server did not confirm the watch');
    for (;;) {
      stream.requestProgress();
      await clock.sleep(options.progressMs, over);
      if (this.#following.answered && clock.monotonicMs() - this.#heardMs >= options.silentMs) {
        throw new UnavailableError('silent');
      }
    }
  }
}

function endOfRevision(events: readonly StoreEvent[], start: number): number {
  const revision = modRevision(events[start]);
  let end = start + 1;
  while (end < events.length && modRevision(events[end]) === revision) end += 1;
  return end;
}

function modRevision(event: StoreEvent | undefined): bigint {
  if (event === undefined) throw new Error('a revision without events');
  return event.type === 'put' ? event.kv.modRevision : event.modRevision;
}
