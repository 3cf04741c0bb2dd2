/** The Dockerfile as its last stage leaves the image: entry point, user, and which file of the project lands where. */

import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { projectDir } from './tools.ts';

export interface Image {
  readonly entrypoint: readonly string[];
  readonly user: string;
  readonly run: readonly string[];
  readonly copies: readonly { readonly from?: string; readonly source: string; readonly target: string }[];
}

/** Reads the subset of the Dockerfile language that the project uses; an unknown instruction throws. */
export function readDockerfile(): {
  readonly stages: readonly string[];
  readonly stage: (name?: string) => Image;
} {
  const stages = new Map<string, string[][]>();
  let lines: string[][] = [];
  const text = readFileSync(`${projectDir}/Dockerfile`, 'utf8');
  for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
    const words = line.split(/\s+/);
    if (words[0] === 'FROM') {
      lines = [];
      stages.set(words[3] ?? '', lines);
    } else if (words[0] !== 'ARG') {
      lines.push(words);
    }
  }
  return { stages: [...stages.keys()], stage: (name = '') => readStage(stages.get(name) ?? []) };
}

function readStage(lines: readonly (readonly string[])[]): Image {
  let workdir = '/';
  let entrypoint: string[] = [];
  let user = '0';
  const run: string[] = [];
  const copies: { from?: string; source: string; target: string }[] = [];
  for (const [instruction, ...words] of lines) {
    switch (instruction) {
      case 'WORKDIR':
        workdir = posix.resolve(workdir, words[0] ?? '');
        break;
      case 'ENTRYPOINT':
        entrypoint = JSON.parse(words.join(' ')) as string[];
        break;
      case 'USER':
        user = words[0] ?? '';
        break;
      case 'RUN':
        run.push(words.join(' '));
        break;
      case 'COPY': {
        const from = words[0]?.startsWith('--from=') ? words.shift()?.slice('--from='.length) : undefined;
        const to = words.at(-1) ?? '';
        for (const source of words.slice(0, -1)) {
          const into = to.endsWith('/') ? posix.join(to, posix.basename(source)) : to;
          const copy = { source, target: posix.resolve(workdir, into) };
          copies.push(from === undefined ? copy : { ...copy, from });
        }
        break;
      }
      case 'ENV':
        break;
      default:
        throw new Error(`the Dockerfile has an instruction that this test cannot read: ${instruction}`);
    }
  }
  return { entrypoint, user, run, copies };
}
