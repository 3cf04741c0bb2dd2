/** The watch state machine, message by message. */

import { expect } from 'chai';
import { AuthError, UnavailableError } from '../../../src/agent/base/error.ts';
import {
  DEFAULT_WATCH_OPTIONS,
  type WatchListener,
  type WatchMessage,
  type WatchStream,
  type WatchTransport,
  followRanges,
} from '../../../src/agent/etcd/watch.ts';
import type { KeyRange, StoreEvent } from '../../../src/codec/kv.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { WatchRecorder } from '../../support/watch-recorder.ts';

const A: KeyRange = { start: 'A', end: 'B' };
const D: KeyRange = { start: 'D', end: 'E' };

/** A stream whose server is the test. */
class FakeStream implements WatchStream {
  readonly revision: bigint;
  readonly clusterId: string;
  readonly exactProgress: boolean;
  /** `START@REVISION` of each watch asked for. */
  readonly asked: string[] = [];
  progressRequests = 0;
  canceled = false;
  readonly #listener: WatchListener;

  constructor(listener: WatchListener, server: FakeTransport) {
    this.#listener = listener;
    this.revision = server.revision;
    this.clusterId = server.clusterId;
    this.exactProgress = server.exactProgress;
  }

  create(range: KeyRange, from: bigint): void {
    this.asked.push(`${range.start}@${from}`);
  }

  requestProgress(): void {
    this.progressRequests += 1;
  }

  cancel(): void {
    this.canceled = true;
  }

  send(message: Partial<WatchMessage>): void {
    this.#listener.onMessage({
      watchId: '0',
      created: false,
      canceled: false,
      compactRevision: 0n,
      fragment: false,
      revision: 1_000n,
      events: [],
      ...message,
    });
  }

  /** Confirms watches, with numbers from 0 on. */
  confirm(count: number): void {
    for (let id = 0; id < count; id += 1) this.send({ watchId: String(id), created: true });
  }

  async end(error: Error): Promise<void> {
    this.#listener.onEnd(error);
    await settle();
  }
}

class FakeTransport implements WatchTransport {
  readonly streams: FakeStream[] = [];
  revision = 1_000n;
  clusterId = '7';
  exactProgress = true;
  /** What the next opening fails with. */
  refusals: Error[] = [];

  async open(listener: WatchListener): Promise<WatchStream> {
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    const stream = new FakeStream(listener, this);
    this.streams.push(stream);
    return stream;
  }

  /** The newest stream. */
  get stream(): FakeStream {
    const stream = this.streams.at(-1);
    if (stream === undefined) throw new Error('no stream was opened');
    return stream;
  }
}

class Subject extends WatchRecorder {
  readonly transport = new FakeTransport();
  readonly clock = new ManualClock();
  ended: unknown;
  readonly #abort = new AbortController();

  /** Starts to follow ranges from revision 10 on. */
  async follow(...ranges: KeyRange[]): Promise<void> {
    followRanges(this.transport, ranges, 10n, this, this.#abort.signal, this.clock).catch(
      (error: unknown) => {
        this.ended = error;
      },
    );
    await settle();
  }

  get stream(): FakeStream {
    return this.transport.stream;
  }

  /** Cuts the stream and waits for the next one. */
  async cut(): Promise<void> {
    const before = this.transport.streams.length;
    await this.stream.end(new UnavailableError('cut'));
    await this.clock.advance(DEFAULT_WATCH_OPTIONS.backoff.maxMs);
    expect(this.transport.streams).to.have.length(before + 1);
  }

  async abort(): Promise<void> {
    this.#abort.abort();
    await settle();
  }
}

function put(key: string, modRevision: bigint): StoreEvent {
  return { type: 'put', kv: { key, value: new Uint8Array(), modRevision, createRevision: modRevision } };
}

describe('a watch', () => {
  let subject: Subject;

  beforeEach(() => {
    subject = new Subject();
  });
  afterEach(async () => {
    await subject.abort();
    expect(subject.ended, 'the watch ended').to.not.equal(undefined);
    for (const stream of subject.transport.streams) expect(stream.canceled).to.equal(true);
  });

  it('asks for one range after the other, and is up when all stand', async () => {
    await subject.follow(A, D);
    expect(subject.stream.asked).to.deep.equal(['A@10']);
    subject.stream.send({ watchId: '5', created: true });
    expect(subject.stream.asked).to.deep.equal(['A@10', 'D@10']);
    expect(subject.up).to.equal(false);
    subject.stream.send({ watchId: '3', created: true });
    expect(subject.up).to.equal(true);
    subject.stream.send({ watchId: '3', events: [put('D1', 12n)] });
    subject.stream.send({ watchId: '5', events: [put('A1', 12n)] });
    expect([subject.told(0), subject.told(1)]).to.deep.equal([['12: A1'], ['12: D1']]);
  });

  it('takes events of the first range before the second stands', async () => {
    await subject.follow(A, D);
    subject.stream.confirm(1);
    subject.stream.send({ events: [put('A1', 12n)] });
    subject.stream.send({ watchId: '1', created: true });
    expect(subject.told(0)).to.deep.equal(['12: A1']);
    expect(subject.up).to.equal(true);
  });

  it('takes a message of history apart into its revisions', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({
      events: [
        put('A1', 11n),
        put('A2', 11n),
        { type: 'delete', key: 'A1', modRevision: 13n },
        put('A3', 14n),
      ],
    });
    expect(subject.told(0)).to.deep.equal(['11: A1 A2', '13: -A1', '14: A3']);
  });

  it('holds the last revision of a fragment until the rest of it came', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ fragment: true, events: [put('A1', 11n), put('A1', 12n)] });
    expect(subject.told(0)).to.deep.equal(['11: A1']);
    subject.stream.send({ fragment: true, events: [put('A2', 12n)] });
    expect(subject.told(0)).to.deep.equal(['11: A1']);
    subject.stream.send({ fragment: true, events: [put('A3', 12n), put('A1', 13n)] });
    expect(subject.told(0)).to.deep.equal(['11: A1', '12: A1 A2 A3']);
    subject.stream.send({ events: [put('A2', 13n)] });
    expect(subject.told(0)).to.deep.equal(['11: A1', '12: A1 A2 A3', '13: A1 A2']);
  });

  it('keeps the fragments of two ranges apart', async () => {
    await subject.follow(A, D);
    subject.stream.confirm(2);
    subject.stream.send({ watchId: '0', fragment: true, events: [put('A1', 12n)] });
    subject.stream.send({ watchId: '1', events: [put('D1', 12n)] });
    subject.stream.send({ watchId: '0', events: [put('A2', 12n)] });
    expect([subject.told(0), subject.told(1)]).to.deep.equal([['12: A1 A2'], ['12: D1']]);
  });

  it('forgets half a revision when the stream ends, and asks for it again', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ fragment: true, events: [put('A1', 11n), put('A1', 12n)] });
    await subject.cut();
    expect(subject.stream.asked).to.deep.equal(['A@12']);
    subject.stream.confirm(1);
    subject.stream.send({ events: [put('A1', 12n), put('A2', 12n)] });
    expect(subject.told(0)).to.deep.equal(['11: A1', '12: A1 A2']);
  });

  it('resumes each range behind what it was told, whatever the headers say', async () => {
    await subject.follow(A, D);
    subject.stream.send({ created: true, revision: 500n });
    subject.stream.send({ watchId: '1', created: true, revision: 500n });
    subject.stream.send({ events: [put('A1', 20n)], revision: 600n });
    await subject.cut();
    subject.stream.confirm(1);
    expect(subject.stream.asked).to.deep.equal(['A@21', 'D@10']);
  });

  it('drops what it was told before', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ events: [put('A1', 20n)] });
    subject.stream.send({ events: [put('A1', 9n), put('A1', 20n), put('A1', 21n)] });
    expect(subject.told(0)).to.deep.equal(['20: A1', '21: A1']);
  });

  it('moves on with progress: of all ranges, or of one', async () => {
    await subject.follow(A, D);
    subject.stream.confirm(2);
    subject.stream.send({ watchId: '-1', revision: 30n });
    subject.stream.send({ watchId: '1', revision: 40n });
    subject.stream.send({ watchId: '-1', revision: 25n });
    expect(subject.progress).to.deep.equal([30n, 40n]);
    await subject.cut();
    subject.stream.confirm(1);
    expect(subject.stream.asked).to.deep.equal(['A@31', 'D@41']);
  });

  it('takes progress of an old server as a sign of life only', async () => {
    subject.transport.exactProgress = false;
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ watchId: '-1', revision: 30n });
    subject.stream.send({ watchId: '0', revision: 30n });
    subject.stream.send({ events: [put('A1', 20n)] });
    expect(subject.progress).to.deep.equal([]);
    await subject.cut();
    expect(subject.stream.asked).to.deep.equal(['A@21']);
    expect(subject.told(0)).to.deep.equal(['20: A1']);
  });

  it('asks for progress time and again, and gives up a stream that stopped to answer', async () => {
    const { createMs, progressMs, silentMs } = DEFAULT_WATCH_OPTIONS;
    await subject.follow(A);
    subject.stream.confirm(1);
    await subject.clock.advance(createMs);
    expect(subject.stream.progressRequests).to.equal(1);
    subject.stream.send({ watchId: '-1' });
    await subject.clock.advance(progressMs);
    subject.stream.send({ watchId: '-1' });
    expect(subject.stream.progressRequests).to.equal(2);
    await subject.clock.advance(silentMs - 1);
    expect(subject.up).to.equal(true);
    await subject.clock.advance(progressMs);
    expect(subject.downs).to.deep.equal(['silent']);
  });

  it('keeps a stream that never answered: a proxy may stand between', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    await subject.clock.advance(10 * DEFAULT_WATCH_OPTIONS.silentMs);
    expect(subject.up).to.equal(true);
    expect(subject.stream.progressRequests).to.be.greaterThan(10);
  });

  it('gives up a stream that is not confirmed in time', async () => {
    await subject.follow(A, D);
    subject.stream.confirm(1);
    await subject.clock.advance(DEFAULT_WATCH_OPTIONS.createMs + DEFAULT_WATCH_OPTIONS.backoff.maxMs);
    expect(subject.ups).to.equal(0);
    expect(subject.transport.streams).to.have.length(2);
    expect(subject.stream.asked).to.deep.equal(['A@10']);
  });

  it('waits longer after each failure, and starts anew after a success', async () => {
    await subject.follow(A);
    for (let n = 0; n < 8; n += 1) await subject.cut();
    const waits = (): number[] => subject.clock.sleeps.filter((ms) => ms !== DEFAULT_WATCH_OPTIONS.createMs);
    expect(waits()).to.deep.equal([50, 100, 200, 400, 800, 1_600, 3_000, 3_000]);
    subject.stream.confirm(1);
    subject.stream.send({ events: [put('A1', 20n)] });
    await subject.cut();
    expect(waits().at(-1)).to.equal(50);
  });

  it('waits longer, too, when streams stand but are canceled at once', async () => {
    await subject.follow(A);
    for (let n = 0; n < 3; n += 1) {
      subject.stream.confirm(1);
      await subject.cut();
    }
    expect(subject.clock.sleeps.filter((ms) => ms < 10_000)).to.deep.equal([50, 100, 200]);
  });

  it('opens again when it was canceled for an old token', async () => {
    await subject.follow(A);
    const cancelError = new UnavailableError('the token was refused');
    subject.stream.send({ watchId: '-1', created: true, canceled: true, cancelError });
    await settle();
    await subject.clock.advance(DEFAULT_WATCH_OPTIONS.backoff.maxMs);
    expect(subject.transport.streams).to.have.length(2);
    expect(subject.ended).to.equal(undefined);
  });

  it('asks once more when it was refused, and then rejects with AuthError', async () => {
    await subject.follow(A);
    const canceled = { canceled: true, cancelError: new AuthError('permission denied') };
    subject.stream.send({ created: true, ...canceled });
    await settle();
    await subject.clock.advance(DEFAULT_WATCH_OPTIONS.backoff.maxMs);
    expect(subject.transport.streams).to.have.length(2);
    expect(subject.ended).to.equal(undefined);
    subject.stream.send({ created: true, ...canceled });
    await settle();
    expect(subject.ended).to.equal(canceled.cancelError);
  });

  it('goes on when only the first of two tries was refused', async () => {
    subject.transport.refusals = [new AuthError('a'), new UnavailableError('b'), new AuthError('c')];
    await subject.follow(A);
    await subject.clock.advance(10_000);
    subject.stream.confirm(1);
    expect(subject.up).to.equal(true);
  });

  it('rejects with CompactedError when its revision is compacted, even right after the confirmation', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ canceled: true, compactRevision: 70n, revision: 0n });
    await settle();
    expect(subject.ended).to.include({ code: 'ERR_COMPACTED', revision: 70n });
  });

  it('rejects with CompactedError when another cluster answers', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.transport.clusterId = '8';
    await subject.cut();
    await settle();
    expect(subject.ended).to.have.property('code', 'ERR_COMPACTED');
    expect(subject.stream.asked).to.deep.equal([]);
  });

  it('rejects with CompactedError when the store is older than what was told', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ events: [put('A1', 20n)] });
    subject.transport.revision = 19n;
    await subject.cut();
    expect(subject.ended).to.include({ code: 'ERR_COMPACTED', revision: 19n });
  });

  it('waits for a revision that is the next to come', async () => {
    subject.transport.revision = 9n;
    await subject.follow(A);
    expect(subject.stream.asked).to.deep.equal(['A@10']);
  });

  it('rejects with what a handler threw, and tells nothing after that', async () => {
    const mistake = new Error('a mistake');
    subject.onRevision = () => {
      throw mistake;
    };
    await subject.follow(A);
    subject.stream.confirm(1);
    subject.stream.send({ events: [put('A1', 11n), put('A1', 12n)] });
    await settle();
    expect(subject.ended).to.equal(mistake);
  });

  it('tells nothing of what comes after its end', async () => {
    await subject.follow(A);
    subject.stream.confirm(1);
    const old = subject.stream;
    await subject.cut();
    old.send({ events: [put('A1', 11n)] });
    await old.end(new UnavailableError('again'));
    expect(subject.told(0)).to.deep.equal([]);
    subject.stream.confirm(1);
    await subject.abort();
    subject.stream.send({ events: [put('A1', 11n)] });
    expect(subject.told(0)).to.deep.equal([]);
    expect(subject.ended).to.have.property('name', 'AbortError');
  });

  it('ends while it waits to open again', async () => {
    await subject.follow(A);
    await subject.stream.end(new UnavailableError('cut'));
    await subject.abort();
    expect(subject.ended).to.have.property('name', 'AbortError');
    expect(subject.transport.streams).to.have.length(1);
  });
});
