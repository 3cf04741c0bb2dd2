/** The endpoint: `/livez`, `/readyz`, `/metrics` and `/status` over HTTP (design 3.1, G10). */

import { createServer, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { isIPv6, type AddressInfo } from 'node:net';

import { codeOf, ConfigError } from '../base/error.ts';
import { log } from '../base/log.ts';
import { Metrics } from './metrics.ts';
import type { Report } from './report.ts';

/** Where to listen; without a host on all addresses of the machine. */
export interface ListenAddress {
  readonly host: string | undefined;
  /** 0: any that is free. */
  readonly port: number;
}

const TEXT = 'text/plain; charset=utf-8';

/** `:9464`, `127.0.0.1:9464`, `[::1]:9464` or `localhost:9464`. Throws ConfigError for anything else. */
export function parseListen(text: string): ListenAddress {
  const [, host = '', bare = '', digits = ''] = /^(\[([^\]]+)\]|[^:[\]]*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535 || (bare !== '' && !isIPv6(bare)))
    throw new ConfigError(
      `--listen takes an address such as :9464, 127.0.0.1:9464 or [::1]:9464, not ${JSON.stringify(text)}`,
    );
  return { host: bare || host || undefined, port };
}

/** Answers until it is closed. Throws ConfigError when the address cannot be had. */
export async function listen({ host, port }: ListenAddress, report: Report): Promise<Server> {
  const metrics = new Metrics();
  const server = createServer((request, response) => {
    // Whatever a client sends: no URL parser, which throws.
    const [path = ''] = (request.url ?? '').split('?', 1);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      reply(response, 405, `${request.method} is not answered here\n`);
      return;
    }
    answer(path, response, report, metrics).catch((error: unknown) => {
      log('warn', 'request failed', { path, reason: String(error) });
      if (!response.headersSent) reply(response, 500, `${String(error)}\n`);
    });
  });
  try {
    server.listen({ port, ...(host === undefined ? {} : { host }) });
    await once(server, 'listening');
  } catch (error) {
    const where = `${host ?? ''}:${port}`;
    throw new ConfigError(`--listen ${where} cannot be had: ${codeOf(error) ?? String(error)}`, {
      cause: error,
    });
  }
  // Out of descriptors, for one: probes fail meanwhile, and the agent goes on.
  server.on('error', (error) => log('warn', 'endpoint failed', { reason: error.message }));
  // A client that goes away is no failure of ours.
  server.on('clientError', (_error, socket) => socket.destroy());
  const { address, port: bound } = server.address() as AddressInfo;
  log('info', 'listening', { address, port: bound });
  return server;
}

async function answer(
  path: string,
  response: ServerResponse,
  report: Report,
  metrics: Metrics,
): Promise<void> {
  switch (path) {
    case '/livez':
      return report.isLive
        ? reply(response, 200, 'live\n')
        : reply(response, 503, 'the directory has not been looked at for too long\n');
    case '/readyz': {
      const { status } = report;
      if (status?.ready !== true) return reply(response, 503, 'nothing is published\n');
      return reply(response, 200, status.stale ? 'ready, the store cannot be followed now\n' : 'ready\n');
    }
    case '/metrics':
      return reply(response, 200, await metrics.text(report.status), metrics.contentType);
    case '/status': {
      const { status } = report;
      const json = status ?? { ready: false };
      return reply(response, 200, `${JSON.stringify(json, null, 2)}\n`, 'application/json');
    }
    default:
      return reply(response, 404, 'there are /livez, /readyz, /metrics and /status\n');
  }
}

function reply(response: ServerResponse, code: number, body: string, type = TEXT): void {
  response.writeHead(code, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
}
