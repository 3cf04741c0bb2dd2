/** Watch streams over etcd3's low-level call: each on a connection of its own, to the next endpoint. */

import type { IDuplexStream, IWatchRequest, IWatchResponse } from 'etcd3';
import type { MetaAddress } from '../../codec/url.ts';
import { UnavailableError } from '../base/error.ts';
import { type ConnectionOptions, EndpointRing, EtcdConnection } from './etcd-connection.ts';
import { translate, translateCancel, translateStream } from './etcd-error.ts';
import { buffer, eventOf, probeRequest } from './etcd-wire.ts';
import type { Clock } from '../base/ports.ts';
import type { WatchListener, WatchMessage, WatchStream, WatchTransport } from './watch.ts';

/** Makes streams for the endpoints of an address. `callMs` limits the read that proves a majority is there. */
export function etcdWatchTransport(
  address: MetaAddress,
  clock: Clock,
  options: ConnectionOptions & { readonly callMs: number },
): WatchTransport {
  const endpoints = new EndpointRing(address.endpoints, clock.random());
  return {
    async open(listener, signal) {
      const connection = await EtcdConnection.open(endpoints.next(), address, options, [signal]);
      try {
        return await openStream(connection, address, options.callMs, listener, signal);
      } catch (error) {
        connection.close();
        signal.throwIfAborted();
        throw translate(error);
      }
    },
  };
}

async function openStream(
  connection: EtcdConnection,
  address: MetaAddress,
  callMs: number,
  listener: WatchListener,
  signal: AbortSignal,
): Promise<WatchStream> {
  const { header } = await connection.call(
    (client, options) => client.kv.range(probeRequest(address.prefix), options),
    { timeoutMs: callMs, signals: [signal] },
  );
  // Without `hasleader` a member that lost its majority keeps the stream open and silent.
  const stream = await connection.call((client, options) => client.watchClient.watch(options), {
    signals: [],
    headers: { hasleader: 'true' },
  });
  listen(stream, listener);
  return {
    revision: BigInt(header.revision),
    clusterId: header.cluster_id,
    exactProgress: hasExactProgress(connection.version),
    create(range, from) {
      stream.write({
        create_request: {
          key: buffer(range.start),
          range_end: buffer(range.end),
          start_revision: String(from),
          progress_notify: true,
          fragment: true,
        },
      });
    },
    requestProgress() {
      stream.write({ progress_request: {} });
    },
    cancel() {
      stream.cancel();
      connection.close();
    },
  };
}

/** `error` stays listened to after the end: a canceled stream emits one more, and nobody listening ends the process. */
function listen(stream: IDuplexStream<IWatchRequest, IWatchResponse>, listener: WatchListener): void {
  let ended = false;
  const end = (error: Error): void => {
    if (ended) return;
    ended = true;
    listener.onEnd(error);
  };
  stream.on('data', (response) => {
    if (!ended) listener.onMessage(messageOf(response));
  });
  stream.on('error', (error) => end(translateStream(error)));
  stream.on('end', () => end(new UnavailableError('the server ended the stream')));
}

function messageOf(response: IWatchResponse): WatchMessage {
  return {
    watchId: response.watch_id,
    created: response.created,
    canceled: response.canceled,
    ...(response.canceled ? { cancelError: translateCancel(response.cancel_reason) } : {}),
    compactRevision: BigInt(response.compact_revision),
    fragment: response.fragment,
    revision: BigInt(response.header.revision),
    events: response.events.map(eventOf),
  };
}

/** The first patch of each minor release that sends progress in step with events; later minor releases all do. */
const EXACT_PROGRESS_FROM: Readonly<Record<string, number>> = { '3.4': 25, '3.5': 8 };

/** Whether a progress message of this version comes only after the events it speaks of. */
export function hasExactProgress(version: string): boolean {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version);
  if (parts === null) return false;
  const [major, minor, patch] = [Number(parts[1]), Number(parts[2]), Number(parts[3])];
  const from = EXACT_PROGRESS_FROM[`${major}.${minor}`];
  return from === undefined ? major > 3 || (major === 3 && minor > 5) : patch >= from;
}
