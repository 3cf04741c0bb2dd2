/** `status`: what the agent of a directory says of itself, read from its state directory; the probe of the manifests. */

import { ConfigError } from '../base/error.ts';
import { nodeFs } from '../disk/fs.ts';
import type { Layout } from '../disk/layout.ts';
import { readStatus, type Status } from '../report/status.ts';
import { EXIT, print, type Output } from './context.ts';

export interface StatusOptions {
  readonly layout: Layout;
  /** Say nothing but by the exit code. */
  readonly ready: boolean;
  readonly json: boolean;
  readonly out: Output;
}

/** Prints the status. With `ready` exits 0 or 1 for a probe. Throws ConfigError when no agent has served the directory. */
export async function status({ layout, ready, json, out }: StatusOptions): Promise<number> {
  const found = readStatus(nodeFs, layout);
  if (ready) return found?.ready === true && isRunning(found.pid) ? EXIT.done : EXIT.failed;
  if (found === undefined)
    throw new ConfigError('no agent has served this directory yet', { path: layout.root });
  await print(
    out,
    json ? `${JSON.stringify({ ...found, running: isRunning(found.pid) }, null, 2)}\n` : describe(found),
  );
  return EXIT.done;
}

/** Whether the process that wrote the status is there. A pid of another namespace cannot be seen and counts as there. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function describe(status: Status): string {
  const { cutPush } = status;
  const problems = Object.entries(status.problems);
  const lines = [
    `volume      ${status.volume ?? 'not opened yet'}`,
    `agent       ${isRunning(status.pid) ? `running, pid ${status.pid}` : 'not running'}`,
    `ready       ${status.ready ? 'yes' : 'no'}${status.stale ? ', the store cannot be followed now' : ''}`,
    `published   revision ${status.publishedRevision}, ${status.files} entries`,
    `store       revision ${status.storeRevision}`,
    `unpushed    ${status.pendingEdits} local edits`,
    `last look   ${status.lastScan}`,
    ...(cutPush === undefined
      ? []
      : [`push cut    into ${cutPush.steps} transactions, the last one revision ${cutPush.revision}`]),
    ...status.guards.map(({ id, reason }) => `guard       ${id}: ${reason}`),
    ...(status.storeError === undefined ? [] : [`store error ${status.storeError}`]),
    ...status.parked.map((path) => `parked      ${path}`),
    ...status.unadopted.map((path) => `unadopted   ${path}`),
    ...problems.map(([path, reason]) => `problem     ${path === '' ? 'volume' : path}: ${reason}`),
  ];
  return `${lines.join('\n')}\n`;
}
