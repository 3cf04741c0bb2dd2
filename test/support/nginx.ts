/** A real nginx that reads a published directory: own port, own temporary files, stopped by its pid. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { prepareNginx } from '../../tools/demo/nginx.mjs';
import { findTool } from '../../tools/find.mjs';
import { freePort } from './etcd.ts';
import { until } from './until.ts';

export interface NginxServer {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly pid: number;
  /** Status and body of a page; the connection is not kept. */
  get(path: string): Promise<{ readonly status: number; readonly body: string }>;
  /** Ends master and workers and waits for them. */
  stop(): Promise<void>;
}

/**
 * Serves `podDir/nginx`, whose `nginx.conf` takes its port from `podDir/pod.conf` as the demo's site does. Resolves when
 * it answers; throws with what nginx said when it ends instead.
 */
export async function startNginx(podDir: string): Promise<NginxServer> {
  const program = findTool('nginx');
  if (program === undefined) throw new Error('nginx is missing; "npm run tools" fetches it');
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(program, prepareNginx(podDir, port), { stdio: ['ignore', 'ignore', 'pipe'] });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} cannot be run`);
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = once(child, 'close');

  const get = async (path: string): Promise<{ status: number; body: string }> => {
    const response = await fetch(`${url}${path}`, { headers: { connection: 'close' } });
    return { status: response.status, body: await response.text() };
  };
  await until(`nginx answers on ${url}`, async () => {
    if (child.exitCode !== null) throw new Error(`nginx ended with ${child.exitCode}: ${said}`);
    return get('/').then(
      () => true,
      () => false,
    );
  });
  return {
    url,
    pid,
    get,
    async stop() {
      if (child.exitCode === null) child.kill('SIGTERM');
      await ended;
    },
  };
}
