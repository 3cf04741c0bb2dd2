/** One connection to one endpoint, with its own channel and token: used until its first failure, never repaired. */

import { setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import {
  Channel,
  type CallOptions,
  type ChannelOptions,
  type Interceptor,
  InterceptingCall,
  credentials,
  status,
} from '@grpc/grpc-js';
import { noop } from 'cockatiel';
import { Etcd3 } from 'etcd3';
import type { Endpoint, MetaAddress } from '../../codec/url.ts';
import { AuthError, UnavailableError } from '../base/error.ts';
import { TOKEN_REFUSED, closesChannel, isTokenProblem, statusOf, translate } from './etcd-error.ts';

export interface ConnectionOptions {
  /** From the first packet to the first answer. */
  readonly connectMs: number;
  /** One token for a user and password: the server hashes for some 60 ms each time. */
  readonly authenticateMs: number;
  /** Silence after which the other side is asked for a sign of life. At least 6 s: etcd hangs up below 5 s. */
  readonly keepaliveMs: number;
  /** How long that sign may take; must be longer than this process may stall. */
  readonly keepaliveTimeoutMs: number;
}

export const DEFAULT_CONNECTION_OPTIONS: ConnectionOptions = {
  connectMs: 3_000,
  authenticateMs: 5_000,
  keepaliveMs: 10_000,
  keepaliveTimeoutMs: 5_000,
};

/** A call on the low-level API of etcd3: it must pass `options` on. */
type Call<T> = (client: Etcd3, options: CallOptions) => Promise<T>;

export interface CallLimits {
  /** No limit when absent: for streams. */
  readonly timeoutMs?: number;
  /** Any of them ends the call. */
  readonly signals: readonly AbortSignal[];
  /** Metadata besides the token. */
  readonly headers?: Readonly<Record<string, string>>;
}

export class EtcdConnection {
  /** Version of the member, such as `3.4.23`. */
  readonly version: string;
  readonly clusterId: string;
  readonly #client: Etcd3;
  readonly #channel: Channel;
  readonly #token: string | undefined;
  #usable = true;

  private constructor(wire: Wire, token: string | undefined, version: string, clusterId: string) {
    this.#client = wire.client;
    this.#channel = wire.channel;
    this.#token = token;
    this.version = version;
    this.clusterId = clusterId;
  }

  /**
   * Reads the certificate files anew, connects, gets a token anew and proves that the member answers. Rejects with
   * UnavailableError or AuthError.
   */
  static async open(
    endpoint: Endpoint,
    address: MetaAddress,
    options: ConnectionOptions,
    signals: readonly AbortSignal[],
  ): Promise<EtcdConnection> {
    const wire = await newWire(endpoint, address, options);
    const { client } = wire;
    try {
      const token = await authenticate(client, address, options, signals);
      const { version, header } = await client.maintenance.status(
        callOptions(token, { timeoutMs: options.connectMs, signals }),
      );
      return new EtcdConnection(wire, token, version, header.cluster_id);
    } catch (error) {
      wire.channel.close();
      for (const signal of signals) signal.throwIfAborted();
      throw translate(error);
    }
  }

  /** False once a call has failed in a way that ends the connection. */
  get usable(): boolean {
    return this.#usable;
  }

  /** Runs one call; its errors are etcd3's own. */
  async call<T>(run: Call<T>, limits: CallLimits): Promise<T> {
    try {
      return await run(this.#client, callOptions(this.#token, limits));
    } catch (error) {
      if (closesChannel(error) || translate(error) instanceof AuthError) this.#usable = false;
      if (isTokenProblem(statusOf(error)?.details ?? '')) this.#usable = false;
      throw error;
    }
  }

  /** Calls under way go on to their end; what is to end now needs a signal. */
  close(): void {
    this.#usable = false;
    // Not by the client: while it is connecting, etcd3 puts that off.
    this.#channel.close();
  }
}

interface Wire {
  readonly client: Etcd3;
  readonly channel: Channel;
}

async function newWire(endpoint: Endpoint, address: MetaAddress, options: ConnectionOptions): Promise<Wire> {
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host;
  const target = `${host}:${endpoint.port}`;
  const channelOptions: ChannelOptions = {
    // Else grpc-js shares one connection between channels, and the watch suffers for failures of others.
    'grpc.use_local_subchannel_pool': 1,
    // Else a proxy meant for the web captures the connection to etcd.
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.keepalive_time_ms': options.keepaliveMs,
    'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2_000,
    'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
    'grpc.max_send_message_length': -1,
    // The default of 64 KiB allows some 6 MiB/s at 6 ms round trip.
    'grpc-node.flow_control_window': 8 << 20,
  };
  // The channel is ours: one for all services, and with TLS options that etcd3 does not know.
  const channel = new Channel(target, await channelCredentials(address.tls), channelOptions);
  const client = new Etcd3({
    hosts: `http://${target}`,
    grpcOptions: { channelOverride: channel },
    faultHandling: { host: () => noop, global: noop },
  });
  return { client, channel };
}

/** Above what fragments (2 MiB) and pages (aimed at 4 MiB) need; a page that is larger is asked for in smaller parts. */
const MAX_ANSWER_BYTES = 64 << 20;

async function channelCredentials(
  tls: MetaAddress['tls'],
): Promise<ReturnType<typeof credentials.createSsl>> {
  if (tls === undefined) return credentials.createInsecure();
  const [ca, cert, key] = await Promise.all([tls.ca, tls.cert, tls.key].map(readIfGiven));
  try {
    return credentials.createSsl(ca ?? null, key ?? null, cert ?? null, {
      rejectUnauthorized: !tls.insecureSkipVerify,
    });
  } catch (error) {
    throw new AuthError('the certificate or key cannot be used', { cause: error });
  }
}

async function readIfGiven(path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path);
  } catch (error) {
    throw new AuthError('a certificate file cannot be read', { path, cause: error });
  }
}

/** etcd3's own authentication is not used: it ignores the channel options, never closes its channel, and keeps a dead token. */
async function authenticate(
  client: Etcd3,
  address: MetaAddress,
  options: ConnectionOptions,
  signals: readonly AbortSignal[],
): Promise<string | undefined> {
  if (address.user === undefined || address.password === undefined) return undefined;
  try {
    const answer = await client.auth.authenticate(
      { name: address.user, password: address.password },
      callOptions(undefined, { timeoutMs: options.authenticateMs, signals }),
    );
    return answer.token;
  } catch (error) {
    // As the real client: a user for a server that asks for none does no harm.
    if (statusOf(error)?.details.includes('authentication is not enabled') === true) return undefined;
    throw error;
  }
}

function callOptions(token: string | undefined, limits: CallLimits): CallOptions {
  // Many calls may end with one signal.
  setMaxListeners(0, ...limits.signals);
  const headers = { ...limits.headers, ...(token === undefined ? {} : { token }) };
  return {
    interceptors: [interceptor(headers, limits.signals)],
    ...(limits.timeoutMs === undefined ? {} : { deadline: Date.now() + limits.timeoutMs }),
  };
}

/** Adds metadata, ends the call when a signal says so, and hides a refused token from etcd3 (see TOKEN_REFUSED). */
function interceptor(
  headers: Readonly<Record<string, string>>,
  signals: readonly AbortSignal[],
): Interceptor {
  return (options, nextCall) => {
    const call = nextCall(options);
    const abort = (): void => call.cancelWithStatus(status.CANCELLED, 'stopped');
    return new InterceptingCall(call, {
      start(metadata, _listener, next) {
        for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
        for (const signal of signals) signal.addEventListener('abort', abort);
        next(metadata, {
          onReceiveStatus(received, nextStatus) {
            for (const signal of signals) signal.removeEventListener('abort', abort);
            nextStatus(isTokenProblem(received.details) ? { ...received, details: TOKEN_REFUSED } : received);
          },
        });
        if (signals.some((signal) => signal.aborted)) abort();
      },
    });
  };
}

/** Endpoints in turn. Each user of endpoints has its own, so that one's failures do not move the other. */
export class EndpointRing {
  readonly #endpoints: readonly Endpoint[];
  #at: number;

  /** `random` in [0, 1) says where to start, so that not all agents are on the first member. */
  constructor(endpoints: readonly Endpoint[], random: number) {
    this.#endpoints = endpoints;
    this.#at = Math.floor(random * endpoints.length);
  }

  get size(): number {
    return this.#endpoints.length;
  }

  next(): Endpoint {
    const endpoint = this.#endpoints[this.#at % this.#endpoints.length];
    if (endpoint === undefined) throw new UnavailableError('the address names no endpoint');
    this.#at += 1;
    return endpoint;
  }
}
