/** The looks and publishes of an agent without the native help. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'chai';
import { projectDir } from '../../support/tools.ts';

describe('without the native help', () => {
  it('looks and publishes are held to the same tests', () => {
    const tests = ['scan', 'scan-top', 'publish', 'recover', 'fs'].map(
      (name) => `test/unit/agent/${name}.test.ts`,
    );
    const mocha = join(projectDir, 'node_modules/mocha/bin/mocha.js');
    const { status, stdout } = spawnSync(process.execPath, [mocha, '--reporter', 'dot', ...tests], {
      cwd: projectDir,
      env: { ...process.env, ETCD_ETC_AGENT_NATIVE: 'off' },
      encoding: 'utf8',
    });
    expect(status, stdout).to.equal(0);
  });
});
