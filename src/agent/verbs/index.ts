/** The verbs for people: `VERB META-URL [ARGS]`. */

import { readFileSync } from 'node:fs';
import type { Options } from 'yargs';

import { ConfigError } from '../base/error.ts';
import { cat } from './cat.ts';
import { parseDuration } from '../options.ts';
import { conflictsDrop, conflictsLs, conflictsShow, conflictsTake } from './conflicts.ts';
import { bytesOfText, type VerbContext } from './context.ts';
import { format } from './format.ts';
import { fsck } from './fsck.ts';
import { gc } from './gc.ts';
import { importDir } from './import.ts';
import { ls } from './ls.ts';
import { put } from './put.ts';
import { rm } from './rm.ts';

export interface Verb {
  /** One word, or two: `conflicts ls`. */
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

function readKeyFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError('the key of --encrypt-rsa-key cannot be read', { path: file, cause: error });
  }
}

const recursive: Options = { type: 'boolean', default: false, describe: 'With everything below it.' };

export const VERBS: readonly Verb[] = [
  {
    name: 'format',
    usage: 'format META-URL NAME',
    help: 'Make a volume, metadata in this etcd, data here or with --bucket elsewhere.',
    arguments: { least: 1, most: 1 },
    options: {
      'block-size': { type: 'number', default: 1024, describe: 'KiB: 64, 128, 256, 512 or 1024.' },
      'trash-days': {
        type: 'number',
        default: 1,
        describe: 'Days that deleted files stay in the trash; 0: none.',
      },
      compress: { type: 'string', default: 'none', describe: 'Compress blocks: none, lz4 or zstd.' },
      'encrypt-rsa-key': {
        type: 'string',
        describe: 'File with a private RSA key (PEM): encrypt blocks. JFS_RSA_PASSPHRASE opens it.',
        requiresArg: true,
      },
      'encrypt-algo': {
        type: 'string',
        describe: 'aes256gcm-rsa (the default) or chacha20-rsa.',
        requiresArg: true,
      },
      'hash-prefix': { type: 'boolean', default: false, describe: 'Spread block keys over 256 folders.' },
    },
    run: (context, [name = ''], options) =>
      format(context, {
        name,
        blockSizeKiB: Number(options['block-size']),
        trashDays: Number(options['trash-days']),
        hashPrefix: options['hash-prefix'] === true,
        compression: String(options['compress']),
        ...(typeof options['encrypt-rsa-key'] === 'string'
          ? { encryptKey: readKeyFile(options['encrypt-rsa-key']) }
          : {}),
        ...(typeof options['encrypt-algo'] === 'string' ? { encryptAlgo: options['encrypt-algo'] } : {}),
      }),
  },
  {
    name: 'import',
    usage: 'import META-URL LOCAL-DIR [PATH]',
    help: 'Copy a directory into the volume; never deletes.',
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
    help: 'List a directory of the volume.',
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
    help: 'Print a file of the volume.',
    arguments: { least: 1, most: 1 },
    options: {},
    run: (context, [path = '']) => cat(context, { path: bytesOfText(path) }),
  },
  {
    name: 'put',
    usage: 'put META-URL [LOCAL|-] PATH',
    help: 'Write a local file, or stdin, to a path of the volume.',
    arguments: { least: 1, most: 2 },
    options: {},
    run: (context, args) => {
      const [local = '-', path = ''] = args.length === 1 ? ['-', ...args] : args;
      return put(context, {
        local: bytesOfText(local),
        path: bytesOfText(path),
        ...(local === '-' ? { stdin: process.stdin } : {}),
      });
    },
  },
  {
    name: 'rm',
    usage: 'rm META-URL PATH',
    help: 'Remove a file or, with -r, a directory.',
    arguments: { least: 1, most: 1 },
    options: { recursive: { ...recursive, alias: 'r' } },
    run: (context, [path = ''], options) =>
      rm(context, { path: bytesOfText(path), recursive: options['recursive'] === true }),
  },
  {
    name: 'conflicts ls',
    usage: 'conflicts ls META-URL',
    help: 'List what lost where two sides changed a file.',
    arguments: { least: 0, most: 0 },
    options: { json: { type: 'boolean', default: false, describe: 'One JSON object a line.' } },
    run: (context, _args, options) => conflictsLs(context, { json: options['json'] === true }),
  },
  {
    name: 'conflicts show',
    usage: 'conflicts show META-URL ID|PATH',
    help: 'Show one: who, when, why, and the difference.',
    arguments: { least: 1, most: 1 },
    options: { json: { type: 'boolean', default: false, describe: 'One JSON object.' } },
    run: (context, [which = ''], options) =>
      conflictsShow(context, { which: bytesOfText(which), json: options['json'] === true }),
  },
  {
    name: 'conflicts take',
    usage: 'conflicts take META-URL ID SIDE|FILE',
    help: 'Put local, remote or a FILE in place, end the conflict.',
    arguments: { least: 2, most: 2 },
    options: {},
    run: (context, [which = '', take = '']) =>
      conflictsTake(context, { which: bytesOfText(which), take: bytesOfText(take) }),
  },
  {
    name: 'conflicts drop',
    usage: 'conflicts drop META-URL ID...|--all',
    help: 'Remove copies; what is in place stays.',
    arguments: { least: 0, most: 1000 },
    options: { all: { type: 'boolean', default: false, describe: 'All that there are now.' } },
    run: (context, args, options) =>
      conflictsDrop(context, { which: args.map(bytesOfText), all: options['all'] === true }),
  },
  {
    name: 'fsck',
    usage: 'fsck META-URL [--repair]',
    help: 'Check all of the volume, block bytes and counts included.',
    arguments: { least: 0, most: 0 },
    options: {
      repair: { type: 'boolean', default: false, describe: 'Say what will be done, and do it.' },
      json: { type: 'boolean', default: false, describe: 'One JSON object.' },
    },
    run: (context, _args, options) =>
      fsck(context, { repair: options['repair'] === true, json: options['json'] === true }),
  },
  {
    name: 'gc',
    usage: 'gc META-URL [--dry-run | --watch]',
    help: 'Remove what is left over: old trash, dead sessions, lost blocks.',
    arguments: { least: 0, most: 0 },
    options: {
      'dry-run': { type: 'boolean', default: false, describe: 'Only say what would be removed.' },
      'min-age': {
        type: 'string',
        default: '1h',
        describe:
          'How long nothing must have named what goes; 0: no time, for a volume that nobody writes to.',
      },
      watch: {
        type: 'boolean',
        default: false,
        describe: 'Stay and do it again and again; of all that run, one elected worker does.',
      },
      interval: {
        type: 'string',
        default: '10m',
        describe: 'With --watch: the pause between two clean-ups.',
      },
      takeover: {
        type: 'string',
        default: '15s',
        describe: 'With --watch: how long the elected worker may be silent before another one takes over.',
      },
      'log-format': {
        type: 'string',
        default: 'text',
        choices: ['text', 'json'],
        describe: 'Lines on stderr.',
      },
      json: { type: 'boolean', default: false, describe: 'One JSON object, with --watch one a line.' },
    },
    run: (context, _args, options) => {
      const ms = (name: string): number => parseDuration(name, String(options[name]));
      return gc(context, {
        dryRun: options['dry-run'] === true,
        json: options['json'] === true,
        minAge: Math.ceil(ms('min-age') / 1000),
        ...(options['watch'] === true
          ? {
              watch: {
                intervalMs: ms('interval'),
                takeoverSeconds: Math.max(2, Math.ceil(ms('takeover') / 1000)),
                logFormat: options['log-format'] === 'json' ? 'json' : 'text',
              },
            }
          : {}),
      });
    },
  },
];
