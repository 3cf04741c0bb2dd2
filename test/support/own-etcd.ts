/** What a suite of faults has for itself: an etcd, a folder, and what an agent in this process says. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { captureLog, releaseLog } from './captured-log.ts';
import { startEtcd, type EtcdServer } from './etcd.ts';
import { needTool } from './tools.ts';

export interface OwnEtcd {
  readonly server: EtcdServer;
  readonly folder: string;
  /** Lines; a test may empty it. */
  readonly logged: string[];
}

/** Call it in `describe`: all of it is there in the tests, and gone after the last one. */
export function ownEtcd(prefix: string): OwnEtcd {
  let server: EtcdServer;
  let folder: string;
  let logged: string[] = [];

  before(async function () {
    needTool(this, 'etcd');
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), prefix));
    logged = captureLog();
  });
  after(async () => {
    releaseLog();
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  return {
    get server() {
      return server;
    },
    get folder() {
      return folder;
    },
    get logged() {
      return logged;
    },
  };
}
