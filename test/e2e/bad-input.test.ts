/** What the command says to input that it cannot use, and that it then leaves everything as it was. */

import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../support/agent.ts';
import { namesOnDisk } from '../support/stillness.ts';

describe('bad usage', () => {
  let folder: string;
  let dir: string;
  const url = 'etcd://127.0.0.1:1/volume';

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'usage-'));
    dir = join(folder, 'served');
    mkdirSync(dir);
    writeFileSync(join(folder, 'file'), 'a file\n');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Each is refused with exit code 2, whatever the store would say. */
  const refusals: readonly [string, (dir: string) => readonly string[], RegExp][] = [
    ['no META-URL', () => [], /META-URL is missing/],
    ['no DIR', () => [url], /DIR is missing/],
    ['a third argument', (at) => [url, at, 'third'], /one argument too many: third/],
    ['an unknown option', (at) => ['--nonsense', url, at], /nonsense/],
    ['an unknown verb', (at) => ['publish', url, at], /publish is neither a verb nor an address/],
    ['--once with --watch', (at) => ['--once', '--watch', url, at], /--once and --watch exclude each other/],
    [
      'a duration that is none',
      (at) => ['--timeout', '2 parsecs', url, at],
      /--timeout takes a time such as/,
    ],
    [
      'a percentage that is none',
      (at) => ['--max-delete', 'half', url, at],
      /--max-delete takes a percentage/,
    ],
    ['an unknown mode', (at) => ['--mode', 'push', url, at], /--mode is one of two-way, pull, not "push"/],
    ['an address of another engine', (at) => ['redis://127.0.0.1/1', at], /redis:\/\/127\.0\.0\.1\/1: /],
    ['an address without a host', (at) => ['etcd:///volume', at], /etcd:\/\/\/volume: /],
    ['a port that is none', (at) => ['etcd://127.0.0.1:port/volume', at], /127\.0\.0\.1:port/],
    ['DIR that is missing', (at) => [url, join(at, 'missing')], /missing/],
    ['DIR that is a file', (at) => [url, join(at, '../file')], /file.*is no directory/],
  ];

  for (const [what, args, sentence] of refusals) {
    it(`refuses ${what}`, async () => {
      const before = namesOnDisk(folder);
      const result = await runCommand(args(dir));
      expect(result.sentence).to.match(sentence);
      expect(result.sentence).to.match(/^etcd-etc-agent: /);
      expect(result.code, result.stderr).to.equal(2);
      expect(result.stderr.trimEnd().split('\n'), 'one line').to.have.length(1);
      expect(namesOnDisk(folder)).to.deep.equal(before);
    });
  }
});
