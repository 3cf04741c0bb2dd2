/** Every option of the agent once: flag, environment name, type, default, help. */

import { hostname } from 'node:os';

import { CONFLICT_POLICIES } from '../reconcile/conflict.ts';
import { ConfigError } from './base/error.ts';
import { EDITOR_DROPPINGS } from './disk/filter.ts';

export interface OptionSpec {
  /** The flag without its dashes. */
  readonly name: string;
  readonly env: string;
  readonly type: 'boolean' | 'string' | 'number' | 'duration' | 'list';
  /** As a person would type it; absent: none. */
  readonly default?: string | number | boolean;
  readonly choices?: readonly string[];
  readonly help: string;
}

const ENV_PREFIX = 'ETCD_ETC_AGENT_';

/** The variable of an option. */
export function envOf(name: string): string {
  return ENV_PREFIX + name.toUpperCase().replaceAll('-', '_');
}

function option(name: string, rest: Omit<OptionSpec, 'name' | 'env'>): OptionSpec {
  return { name, env: envOf(name), ...rest };
}

/** The options of `etcd-etc-agent [options] [META-URL] [DIR]`. */
export const OPTIONS: readonly OptionSpec[] = [
  option('once', {
    type: 'boolean',
    help: 'Publish one revision and exit (the default; for an init container).',
  }),
  option('watch', {
    type: 'boolean',
    help: 'Stay, follow the volume and push local edits back (for a sidecar).',
  }),
  option('mode', {
    type: 'string',
    default: 'two-way',
    choices: ['two-way', 'pull'],
    help: 'two-way, or pull: local edits are never pushed, but parked in the state directory and undone.',
  }),
  option('adopt', {
    type: 'boolean',
    help: 'Push what DIR held before the first publish; without it such files stay, unpushed, and are listed as unadopted.',
  }),
  option('strict', {
    type: 'boolean',
    help: 'With --once: exit 5 when the tree was published and problems remain.',
  }),
  option('allow-stale', {
    type: 'boolean',
    help: 'With --once: accept the tree of an earlier run while the store is not reachable.',
  }),
  option('agent-id', {
    type: 'string',
    help: 'Who we are in the paths of conflict copies (default: the host name).',
  }),
  option('subdir', { type: 'string', default: '/', help: 'Which directory of the volume appears as DIR.' }),
  option('bucket', {
    type: 'string',
    help: "Address of the etcd that holds the volume's data, when it is neither that of the metadata nor the one that the volume names; its user and password are ACCESS_KEY and SECRET_KEY.",
  }),
  option('rsa-passphrase-file', {
    type: 'string',
    help: 'File with the passphrase of an encrypted volume (default: the variable JFS_RSA_PASSPHRASE).',
  }),
  option('exclude', {
    type: 'list',
    help: `Paths that take no part, both ways; can be repeated. Always left out: ${EDITOR_DROPPINGS.join(' ')}`,
  }),
  option('min-interval', {
    type: 'duration',
    default: '250ms',
    help: 'Least time between two flips while changes keep coming; the first is immediate.',
  }),
  option('hold-max', {
    type: 'duration',
    default: '2s',
    help: 'How long a file that a mount is still writing may hold back a publish.',
  }),
  option('settle', {
    type: 'duration',
    default: '0',
    help: 'Extra quiet time wanted before a local edit is pushed.',
  }),
  option('rescan', {
    type: 'duration',
    default: '5s',
    help: 'How often the whole of DIR is looked at; events are only hints.',
  }),
  option('watcher', {
    type: 'string',
    default: 'directories',
    choices: ['directories', 'chokidar', 'none'],
    help: 'What hints at changes of DIR: a plain watch on each directory, the package chokidar, or nothing (then --rescan alone finds them).',
  }),
  option('keep', {
    type: 'duration',
    default: '10m',
    help: 'How long a replaced file is watched for a late write through an open descriptor.',
  }),
  option('max-delete', {
    type: 'number',
    default: 50,
    help: 'Percent of the files (at least 10) whose removal at once stops everything until a person accepts it; 100: never.',
  }),
  option('accept', {
    type: 'list',
    help: 'Id of a tripped guard that is meant (`status` shows it); spent once. Can be repeated.',
  }),
  option('conflict', {
    type: 'string',
    default: 'merge',
    choices: CONFLICT_POLICIES,
    help: 'Which version stays where DIR and the volume both changed a file: merge (texts are joined where the edits do not touch, else as remote), remote, local, or newest by modification time; the other one is kept under /.conflicts in the volume.',
  }),
  option('ancestor-cache', {
    type: 'number',
    default: 64,
    help: 'MiB that the state may take for copies of texts as both sides had them last, which a merge starts from; 0: none.',
  }),
  option('special-files', {
    type: 'string',
    default: 'fifo',
    choices: ['none', 'fifo', 'all'],
    help: 'Which special files take part, both ways: fifos, or sockets and devices too (which takes root), or none.',
  }),
  option('sync-times', {
    type: 'boolean',
    help: 'Times of files take part, both ways; without it a change of them alone is no change.',
  }),
  option('state-dir', {
    type: 'string',
    help: 'Where the state is kept, in the same mount as DIR (default: DIR/..etcd-etc-agent).',
  }),
  option('timeout', {
    type: 'duration',
    default: '0',
    help: 'With --once: give up after this long with exit code 4; 0: never.',
  }),
  option('listen', {
    type: 'string',
    help: 'With --watch: address that answers /livez, /readyz, /metrics and /status over HTTP, as :9464 (default: none).',
  }),
  option('termination-log', {
    type: 'string',
    default: '/dev/termination-log',
    help: 'File that takes the last line as well, when it is there: the termination message of a pod.',
  }),
  option('log-format', {
    type: 'string',
    default: 'text',
    choices: ['text', 'json'],
    help: 'Lines on stderr.',
  }),
  option('log-level', {
    type: 'string',
    default: 'info',
    choices: ['error', 'warn', 'info'],
    help: 'Least important events that are logged; DEBUG=etcd-etc-agent:* shows the inside.',
  }),
];

/** The variables that stand for the two arguments. */
export const ARGUMENT_ENV = { metaUrl: `${ENV_PREFIX}META_URL`, dir: `${ENV_PREFIX}DIR` } as const;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of `250ms`, `5s`, `10m`, `1h` or `0`. Throws ConfigError for anything else. */
export function parseDuration(name: string, text: string): number {
  if (text === '0') return 0;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  const unit = UNITS[match?.[2] ?? ''];
  if (match === null || unit === undefined) {
    throw new ConfigError(`--${name} takes a time such as 250ms, 5s, 10m or 1h, not ${JSON.stringify(text)}`);
  }
  return Number(match[1]) * unit;
}

/** The options' values by flag: what was typed, else the environment, else the default. */
export class OptionValues {
  readonly #values = new Map<string, OptionValue>();

  /** `flags` holds only what was typed. Throws ConfigError for a value that the option does not take. */
  constructor(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv) {
    for (const spec of OPTIONS) {
      const value = typed(flags[spec.name]) ?? fromEnvironment(spec, env) ?? spec.default;
      if (typeof value === 'object' && spec.type !== 'list')
        throw new ConfigError(`--${spec.name} is given more than once`);
      if (
        spec.choices !== undefined &&
        value !== undefined &&
        !(typeof value === 'string' && spec.choices.includes(value))
      ) {
        throw new ConfigError(
          `--${spec.name} is one of ${spec.choices.join(', ')}, not ${JSON.stringify(value)}`,
        );
      }
      if (value !== undefined) this.#values.set(spec.name, value);
    }
  }

  flag(name: string): boolean {
    return this.#values.get(name) === true;
  }

  text(name: string): string {
    const value = this.#values.get(name) ?? '';
    return typeof value === 'object' ? value.join(',') : String(value);
  }

  list(name: string): string[] {
    const value = this.#values.get(name);
    return typeof value === 'object' ? [...value] : [];
  }

  durationMs(name: string): number {
    return parseDuration(name, this.text(name));
  }

  /** A number from 0 on. */
  count(name: string): number {
    const value = Number(this.#values.get(name));
    if (!(value >= 0 && Number.isFinite(value))) throw new ConfigError(`--${name} takes a number from 0 on`);
    return value;
  }

  percent(name: string): number {
    const value = Number(this.#values.get(name));
    if (!(value >= 0 && value <= 100)) throw new ConfigError(`--${name} takes a percentage from 0 to 100`);
    return value;
  }
}

type OptionValue = string | number | boolean | readonly string[];

/** What yargs read for a flag. */
function typed(value: unknown): OptionValue | undefined {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? value
    : undefined;
}

function fromEnvironment(spec: OptionSpec, env: NodeJS.ProcessEnv): OptionValue | undefined {
  const text = env[spec.env];
  if (text === undefined || text === '') return undefined;
  if (spec.type === 'list') return text.split(',').filter((part) => part !== '');
  if (spec.type !== 'boolean') return text;
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw new ConfigError(`${spec.env} is true or false, not ${JSON.stringify(text)}`);
}

/** The agent's id when none is given. */
export function defaultAgentId(): string {
  return hostname();
}
