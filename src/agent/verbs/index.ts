/** The verbs for people: `VERB META-URL [ARGS]`. */

import type { Options } from 'yargs';

import { cat } from './cat.ts';
import { bytesOfText, type VerbContext } from './context.ts';
import { format } from './format.ts';
import { importDir } from './import.ts';
import { ls } from './ls.ts';
import { put } from './put.ts';
import { rm } from './rm.ts';

export interface Verb {
  readonly name: string;
  readonly usage: string;
  readonly help: string;
  /** How many arguments may follow META-URL. */
  readonly arguments: { readonly least: number; readonly most: number };
  readonly options: Readonly<Record<string, Options>>;
  /** Returns the exit code. */
  run(
    context: VerbContext,
    args: readonly string[],
    options: Readonly<Record<string, unknown>>,
  ): Promise<number>;
}

const recursive: Options = { type: 'boolean', default: false, describe: 'With everything below it.' };

export const VERBS: readonly Verb[] = [
  {
    name: 'format',
    usage: 'format META-URL NAME',
    help: 'Makes a volume that JuiceFS accepts, with metadata and data in this etcd.',
    arguments: { least: 1, most: 1 },
    options: {
      'block-size': { type: 'number', default: 1024, describe: 'KiB: 64, 128, 256, 512 or 1024.' },
      'trash-days': {
        type: 'number',
        default: 1,
        describe: 'Days that deleted files stay in the trash; 0: none.',
      },
      'hash-prefix': { type: 'boolean', default: false, describe: 'Spread block keys over 256 folders.' },
    },
    run: (context, [name = ''], options) =>
      format(context, {
        name,
        blockSizeKiB: Number(options['block-size']),
        trashDays: Number(options['trash-days']),
        hashPrefix: options['hash-prefix'] === true,
      }),
  },
  {
    name: 'import',
    usage: 'import META-URL LOCAL-DIR [PATH]',
    help: 'Copies a local directory into the volume; adds and replaces, never deletes.',
    arguments: { least: 1, most: 2 },
    options: {
      force: { type: 'boolean', default: false, describe: 'Also into a directory that is not empty.' },
    },
    run: (context, [localDir = '', path], options) =>
      importDir(context, {
        localDir: bytesOfText(localDir),
        ...(path === undefined ? {} : { path: bytesOfText(path) }),
        force: options['force'] === true,
      }),
  },
  {
    name: 'ls',
    usage: 'ls META-URL [PATH]',
    help: 'Lists a directory of the volume.',
    arguments: { least: 0, most: 1 },
    options: {
      recursive: { ...recursive, alias: 'R' },
      json: { type: 'boolean', default: false, describe: 'One JSON array.' },
    },
    run: (context, [path], options) =>
      ls(context, {
        ...(path === undefined ? {} : { path: bytesOfText(path) }),
        recursive: options['recursive'] === true,
        json: options['json'] === true,
      }),
  },
  {
    name: 'cat',
    usage: 'cat META-URL PATH',
    help: 'Prints a file of the volume.',
    arguments: { least: 1, most: 1 },
    options: {},
    run: (context, [path = '']) => cat(context, { path: bytesOfText(path) }),
  },
  {
    name: 'put',
    usage: 'put META-URL LOCAL|- PATH',
    help: 'Writes a local file, or what comes in on stdin, to a path of the volume.',
    arguments: { least: 2, most: 2 },
    options: {},
    run: (context, [local = '', path = '']) =>
      put(context, {
        local: bytesOfText(local),
        path: bytesOfText(path),
        ...(local === '-' ? { stdin: process.stdin } : {}),
      }),
  },
  {
    name: 'rm',
    usage: 'rm META-URL PATH',
    help: 'Removes a file or, with -r, a directory from the volume; it goes to the trash where there is one.',
    arguments: { least: 1, most: 1 },
    options: { recursive: { ...recursive, alias: 'r' } },
    run: (context, [path = ''], options) =>
      rm(context, { path: bytesOfText(path), recursive: options['recursive'] === true }),
  },
];
