/** One agent a directory: an abstract socket named by device and inode of the state directory, freed by death. */

import { createServer, type Server } from 'node:net';

import type { ByteString } from '../../codec/kv.ts';
import { codeOf, ConfigError } from '../base/error.ts';
import type { FsPort, Lock } from '../base/ports.ts';

/** Takes the lock. Throws ConfigError when another agent of this network namespace serves the directory. */
export async function acquireLock(fs: FsPort, stateDir: ByteString): Promise<Lock> {
  const stat = fs.lstat('lock', stateDir);
  if (stat === undefined) throw new ConfigError('the state directory is missing', { path: stateDir });
  const server = createServer((socket) => socket.destroy());
  server.unref();
  try {
    await listen(server, `\0etcd-etc-agent:${stat.dev}:${stat.ino}`);
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE') throw error;
    throw new ConfigError('another agent serves this directory already: stop it first', { path: stateDir });
  }
  return {
    release: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
