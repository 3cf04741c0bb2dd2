/** The verbs for people: `VERB META-URL [ARGS]`. */

import type { Options } from 'yargs';

import type { VerbContext } from './context.ts';
import { format } from './format.ts';

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

export const VERBS: readonly Verb[] = [
  {
    name: 'format',
    usage: 'format META-URL NAME',
    help: 'Makes a volume that JuiceFS accepts, with data and metadata in this etcd.',
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
];
