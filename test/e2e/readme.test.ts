/** The README: its option table is what the program declares. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { projectDir } from '../support/tools.ts';

describe('README.md', () => {
  it('lists the options as the built program declares them', async () => {
    await promisify(execFile)(process.execPath, ['tools/readme.mjs', '--check'], { cwd: projectDir });
  });
});
