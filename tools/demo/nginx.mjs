/** One nginx on a published directory, as it runs in a pod: the directory has the configuration, a file beside it the port. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Writes what this nginx does not share with others to `podDir` (`pod.conf`, named by the site's configuration, and a
 * folder for its temporary files) and returns the arguments that serve `podDir/nginx` in the foreground.
 */
export function prepareNginx(podDir, port) {
  const runDir = join(podDir, 'run');
  mkdirSync(runDir, { recursive: true });
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const temporary = kinds.map((kind) => `${kind}_temp_path ${join(runDir, kind)};\n`).join('');
  writeFileSync(join(podDir, 'pod.conf'), `listen 127.0.0.1:${port};\n${temporary}`);
  // As root, nginx would give its workers to a user who may not read what the volume keeps for its owner.
  const user = process.getuid() === 0 ? 'user root; ' : '';
  const globals = `daemon off; ${user}pid ${join(runDir, 'nginx.pid')}; error_log stderr warn;`;
  const dir = join(podDir, 'nginx');
  return ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr', '-g', globals];
}
