/** A TCP proxy that does to connections what networks do: cuts, delays, silence. */

import { once } from 'node:events';
import { type Socket, connect, createServer } from 'node:net';
import type { Endpoint } from '../../src/codec/url.ts';
import { freePort } from './etcd.ts';

/** One client's connection and the one to the server behind it. */
interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** Bytes of answers after which both are cut. */
  readonly cutAfter: number | undefined;
  answered: number;
}

export class TcpProxy {
  readonly endpoint: Endpoint;
  /** Connections that this proxy has cut. */
  cuts = 0;
  /** Connections that came in so far. */
  accepted = 0;
  /** Bytes of answers that came from the server so far, passed on or not. */
  answeredBytes = 0;
  /** How long each piece of an answer is held back, in milliseconds. */
  delayMs = 0;
  /** Asked for each new connection: after how many bytes of answers it is cut; `undefined` is never. */
  cutAfter: () => number | undefined = () => undefined;
  readonly #pairs = new Set<Pair>();
  readonly #listener = createServer({ allowHalfOpen: false }, (client) => this.#accept(client));
  readonly #target: Endpoint;
  #silent = false;
  #swallowing = false;

  private constructor(endpoint: Endpoint, target: Endpoint) {
    this.endpoint = endpoint;
    this.#target = target;
  }

  /** Listens on a free port of 127.0.0.1 and passes everything on to `target`. */
  static async start(target: Endpoint): Promise<TcpProxy> {
    const proxy = new TcpProxy({ host: '127.0.0.1', port: await freePort() }, target);
    proxy.#listener.listen(proxy.endpoint.port, proxy.endpoint.host);
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  /** Connections open now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Cuts every connection; returns how many. */
  cut(): number {
    const pairs = [...this.#pairs];
    for (const pair of pairs) this.#cutPair(pair);
    return pairs.length;
  }

  /** From now on nothing passes, on old and new connections, and nobody is told. */
  blackhole(): void {
    this.#silent = true;
    for (const { client, server } of this.#pairs) {
      client.pause();
      server.pause();
    }
  }

  /** What a black hole held back passes now. Swallowed answers stay lost. */
  heal(): void {
    this.#silent = false;
    this.#swallowing = false;
    for (const { client, server } of this.#pairs) {
      client.resume();
      server.resume();
    }
  }

  /** From now on requests pass, and answers are thrown away. */
  swallowReplies(): void {
    this.#swallowing = true;
  }

  async close(): Promise<void> {
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server.destroy();
    }
    await closed;
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    const server = connect(this.#target.port, this.#target.host);
    const pair: Pair = { client, server, cutAfter: this.cutAfter(), answered: 0 };
    this.#pairs.add(pair);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      // A reset is one more way to close.
      socket.on('error', () => {});
      socket.on('close', () => this.#forget(pair));
    }
    client.on('data', (bytes) => server.write(bytes));
    server.on('data', (bytes) => this.#answer(pair, bytes));
    if (this.#silent) {
      client.pause();
      server.pause();
    }
  }

  #answer(pair: Pair, bytes: Buffer): void {
    this.answeredBytes += bytes.length;
    if (this.#swallowing) return;
    const room = (pair.cutAfter ?? Number.POSITIVE_INFINITY) - pair.answered;
    pair.answered += bytes.length;
    const passed = bytes.subarray(0, Math.max(0, room));
    const cut = bytes.length > room;
    const pass = (): void => {
      // A cut in the middle: what came before it arrives.
      pair.client.write(passed, () => {
        if (cut) this.#cutPair(pair);
      });
    };
    if (this.delayMs === 0) pass();
    else setTimeout(pass, this.delayMs);
  }

  #cutPair(pair: Pair): void {
    if (!this.#pairs.has(pair)) return;
    this.cuts += 1;
    this.#forget(pair);
  }

  #forget(pair: Pair): void {
    this.#pairs.delete(pair);
    pair.client.destroy();
    pair.server.destroy();
  }
}
