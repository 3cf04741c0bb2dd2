/** What editors and tools do to a file, at the top of DIR and below a directory, arrives in the other directory once and whole. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { findTool } from '../../tools/find.mjs';
import { type Agent, plainTree, publishedTree, runCommand, startAgent, untilSame } from '../support/agent.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { shell } from '../support/shell.ts';
import { until } from '../support/until.ts';

/** Makes the file `$F` hold the line `$LINE`. */
const SAVES: readonly { readonly name: string; readonly tool?: string; readonly script: string }[] = [
  { name: 'a shell that writes', script: 'echo "$LINE" > "$F"' },
  { name: 'a shell that truncates and appends', script: ': > "$F"; echo "$LINE" >> "$F"' },
  { name: 'tee', script: 'echo "$LINE" | tee "$F" > /dev/null' },
  { name: 'sed -i', script: 'sed -i "s/.*/$LINE/" "$F"' },
  { name: 'perl -i', tool: 'perl', script: 'perl -i -pe "s/.*/$LINE/" "$F"' },
  { name: 'cp over it', script: 'echo "$LINE" > "$TMP/new"; cp "$TMP/new" "$F"' },
  {
    name: 'cp --remove-destination',
    script: 'echo "$LINE" > "$TMP/new"; cp --remove-destination "$TMP/new" "$F"',
  },
  { name: 'install', script: 'echo "$LINE" > "$TMP/new"; install -m 644 "$TMP/new" "$F"' },
  { name: 'mv over it', script: 'echo "$LINE" > "$TMP/new"; mv "$TMP/new" "$F"' },
  {
    name: 'a temporary file beside it and a rename',
    script: 'echo "$LINE" > "$F.new"; sync "$F.new"; mv "$F.new" "$F"',
  },
  { name: 'rm and a new file', script: 'rm "$F"; echo "$LINE" > "$F"' },
  {
    name: 'truncate and dd',
    script: 'truncate -s 0 "$F"; printf "%s\\n" "$LINE" | dd of="$F" conv=notrunc status=none',
  },
  ...['auto', 'no', 'yes'].map((copy) => ({
    name: `vim with backupcopy=${copy}`,
    tool: 'vim',
    script: `TERM=dumb vim -es -u NONE -c 'set backupcopy=${copy}' -c "call setline(1, '$LINE')" -c wq "$F" < /dev/null`,
  })),
];

describe('edits by editors and tools', () => {
  let folder: string;
  let etcd: EtcdServer;
  let volume: string;
  let here: Agent;
  let there: Agent;
  let saves = 0;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'editors-'));
    etcd = await startEtcd();
    volume = `${etcd.url}/edited`;
    await runCommand(['format', volume, 'edited']);
    const site = join(folder, 'site');
    mkdirSync(join(site, 'conf.d'), { recursive: true });
    for (const file of ['top.conf', 'conf.d/site.conf']) writeFileSync(join(site, file), 'line 0\n');
    await runCommand(['import', volume, site]);
    for (const dir of ['here', 'there', 'tmp']) mkdirSync(join(folder, dir));
    here = await startAgent(volume, join(folder, 'here'));
    there = await startAgent(volume, join(folder, 'there'), ['--min-interval', '20ms']);
  });

  after(async () => {
    await here?.kill();
    await there?.kill();
    await etcd?.stop();
    rmSync(folder, { recursive: true });
  });

  for (const file of ['conf.d/site.conf', 'top.conf']) {
    for (const { name, tool, script } of SAVES) {
      it(`${name}: ${file}`, async function () {
        if (tool !== undefined && findTool(tool) === undefined) {
          console.error(`\n  !!! skipped: ${tool} is missing`);
          this.skip();
        }
        const line = `line ${(saves += 1)} by ${name}`.replaceAll('/', ' ');
        const set = `LINE='${line}' F='${join(here.dir, file)}' TMP='${join(folder, 'tmp')}'`;
        await shell(here.dir, `${set}; ${script}`);
        const read = (): string => readFileSync(join(there.dir, file), 'latin1');
        await until(`the other directory has ${line}`, () => read() === `${line}\n`);
        expect(readFileSync(join(here.dir, file), 'latin1')).to.equal(`${line}\n`);
      });
    }
  }

  it('and nothing else got into the volume', async () => {
    await here.until('nothing is left to push', ({ pendingEdits }) => pendingEdits === 0);
    await untilSame(
      'both directories are equal',
      () => publishedTree(here.dir),
      () => publishedTree(there.dir),
    );
    expect(Object.keys(publishedTree(there.dir)).sort()).to.deep.equal([
      'conf.d',
      'conf.d/site.conf',
      'top.conf',
    ]);
    const { stdout } = await runCommand(['ls', volume, '-R']);
    expect(stdout).not.to.include('.conflicts');
    expect(here.stderr).not.to.match(/^(warn|error) /m);
  });

  it('moves, copies, links and modes of whole trees', async () => {
    const steps = [
      'mkdir -p t/a/b; echo 1 > t/a/b/f; echo 2 > t/g',
      'mv t/g t/a/g2',
      'mv t/a t/z',
      'mv t t2',
      'cp -r t2 t3',
      'chmod 600 t2/z/g2; chmod 700 t2/z',
      'ln -s ../x t2/l; ln -s /etc/hostname l2; ln -s t2/z l3',
      'ln -sfn /etc/passwd l2',
      'rm t2/z/g2; mkdir t2/z/g2; echo 5 > t2/z/g2/x',
      'rm -r t2/z/g2; echo file > t2/z/g2',
      'rm -rf t2',
      `mkdir -p ${join(folder, 'x')}/t3; echo new > ${join(folder, 'x')}/t3/new; tar -C ${join(folder, 'x')} -cf - . | tar xf -`,
      'rm -rf t3',
    ];
    const model = join(folder, 'model');
    await shell(folder, `cp -rL there/. model; rm -rf model/..*`);
    for (const step of steps) {
      await shell(model, step);
      await shell(here.dir, step);
      await untilSame(
        `the other directory is as a plain one after: ${step}`,
        () => publishedTree(there.dir),
        () => plainTree(model),
      );
    }
    await untilSame(
      'so is this one',
      () => publishedTree(here.dir),
      () => plainTree(model),
    );
    expect(here.stderr).not.to.match(/^(warn|error) /m);
  });
});
