/** `npm run readme`: the option table of the README from the program's own declaration; `--check` only compares. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { projectDir } from './find.mjs';

const README = join(projectDir, 'README.md');
const BLOCK = /(?<=<!-- options -->\n)[\s\S]*(?=<!-- \/options -->)/;

function table(options) {
  const rows = options.map(({ name, env, default: value, help }) => {
    const shown = value === undefined || value === false || value === '' ? '' : `\`${value}\``;
    return `| \`--${name}\` | \`${env}\` | ${shown} | ${help.replace(/[\\*_|<`]/g, '\\$&')} |`;
  });
  return ['', '| option | variable | default | meaning |', '|---|---|---|---|', ...rows, '', ''].join('\n');
}

const { OPTIONS } = await import('../dist/agent/options.js');
const current = readFileSync(README, 'utf8');
const style = await resolveConfig(README);
const wanted = await format(current.replace(BLOCK, table(OPTIONS)), { ...style, filepath: README });
if (process.argv.includes('--check')) {
  if (current !== wanted) {
    console.error('The option table of README.md is not current: "npm run readme" updates it.');
    process.exitCode = 1;
  }
} else {
  writeFileSync(README, wanted);
}
