/** What people do to files, by the programs that they use. */

import { execFile } from 'node:child_process';
import { closeSync, fsyncSync, openSync, renameSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { findTool } from '../../tools/find.mjs';

/** Runs a bash script in a directory; fails with what it printed. */
export async function shell(dir: string, script: string): Promise<string> {
  const { stdout } = await promisify(execFile)('bash', ['--norc', '-euo', 'pipefail', '-c', script], {
    cwd: dir,
  });
  return stdout;
}

/** Saves a file as vim does, by vim itself where it is installed, else by the calls that it makes. */
export async function saveWithVim(file: string, line: string): Promise<void> {
  const vim = findTool('vim');
  if (vim !== undefined) {
    const args = [
      '-es',
      '-u',
      'NONE',
      '-c',
      'set nobackup writebackup',
      '-c',
      `call setline(1, '${line}')`,
      '-c',
      'wq',
    ];
    await promisify(execFile)(vim, [...args, file], { env: { ...process.env, TERM: 'dumb' } });
    return;
  }
  const { mode } = statSync(file);
  renameSync(file, `${file}~`);
  const fd = openSync(file, 'wx', mode & 0o777);
  writeSync(fd, `${line}\n`);
  fsyncSync(fd);
  closeSync(fd);
  unlinkSync(`${file}~`);
}
