#!/usr/bin/env node
/** The command: parse, run, exit code. */

import { appendFileSync, existsSync } from 'node:fs';
import yargs, { type Argv } from 'yargs';

import { DecodeError } from '../codec/error.ts';
import type { ConflictPolicy } from '../reconcile/conflict.ts';
import { parseMetaUrl, redactUrl, type MetaAddress } from '../codec/url.ts';
import type { SpecialFiles } from './disk/abilities.ts';
import { systemClock } from './base/clock.ts';
import { AgentError, codeOf, ConfigError } from './base/error.ts';
import { etcdStore } from './etcd/etcd.ts';
import { layoutOf, type Layout } from './disk/layout.ts';
import { configureLog, type LogFormat, type LogLevel } from './base/log.ts';
import { dataOptionsFrom } from './volume/open-blocks.ts';
import { ARGUMENT_ENV, defaultAgentId, envOf, OPTIONS, OptionValues, type OptionSpec } from './options.ts';
import { listen, parseListen } from './report/listen.ts';
import { Report } from './report/report.ts';
import type { RunOptions } from './run-options.ts';
import { run } from './run.ts';
import { accept } from './verbs/accept.ts';
import { bytesOfText, type VerbContext } from './verbs/context.ts';
import { VERBS, type Verb } from './verbs/index.ts';
import { systemPorts, type Watcher } from './system.ts';
import { status } from './verbs/status.ts';

/** Where a pod's termination message is read from (design 3.1). */
let terminationLog = '/dev/termination-log';

const MEBIBYTE = 1 << 20;

const EXIT_OF_CODE: Readonly<Record<string, number>> = {
  ERR_CONFIG: 2,
  ERR_DECODE: 3,
  ERR_VOLUME: 3,
};

async function main(args: readonly string[]): Promise<number> {
  const verb = VERBS.find(({ name }) => name === args.slice(0, wordsOf(name)).join(' '));
  if (verb !== undefined) return runVerb(verb, args.slice(wordsOf(verb.name)));
  const family = VERBS.filter(({ name }) => name.startsWith(`${args[0]} `));
  if (family.length > 0) throw new ConfigError(`one of: ${family.map(({ usage }) => usage).join(', ')}`);
  if (args[0] === 'status') return runStatus(args.slice(1));
  if (args[0] === 'accept') return runAccept(args.slice(1));
  return runAgent(args);
}

function wordsOf(verb: string): number {
  return verb.split(' ').length;
}

function parser(args: readonly string[], usage: string): Argv {
  return yargs([...args])
    .scriptName('etcd-etc-agent')
    .usage(usage)
    .strictOptions()
    .exitProcess(false)
    .wrap(Math.min(110, process.stdout.columns || 110))
    .parserConfiguration({
      'camel-case-expansion': false,
      'parse-positional-numbers': false,
      // `--exclude X META-URL DIR` is one pattern and two arguments.
      'greedy-arrays': false,
    })
    .fail((message, error) => {
      throw error ?? new ConfigError(message);
    });
}

function yargsType(spec: OptionSpec): 'boolean' | 'string' | 'number' | 'array' {
  if (spec.type === 'list') return 'array';
  return spec.type === 'duration' ? 'string' : spec.type;
}

async function runAgent(args: readonly string[]): Promise<number> {
  let cli = parser(
    args,
    [
      '$0 [--once|--watch] META-URL DIR',
      '',
      'Publishes a JuiceFS volume that lives in etcd as plain files in DIR, whole revision by whole revision,',
      'and pushes what is edited there back. META-URL is the address that juicefs takes: etcd://host:2379/prefix.',
      '',
      'Verbs:',
      ...VERBS.map(({ usage, help }) => `  ${usage.padEnd(39)} ${help}`),
      `  ${'status DIR [--ready]'.padEnd(39)} What the agent of DIR says of itself.`,
      `  ${'accept DIR ID'.padEnd(39)} What a tripped guard holds back is meant.`,
    ].join('\n'),
  );
  for (const spec of OPTIONS) {
    const shown = spec.default === undefined ? '' : ` [default: ${spec.default}]`;
    cli = cli.option(spec.name, {
      type: yargsType(spec),
      describe: `${spec.help}${shown}`,
      requiresArg: spec.type !== 'boolean',
    });
  }
  cli = cli
    .epilogue(
      [
        `Every option can be a variable: --min-interval is ETCD_ETC_AGENT_MIN_INTERVAL. META-URL and DIR are ${ARGUMENT_ENV.metaUrl} and ${ARGUMENT_ENV.dir}.`,
        '',
        'Exit codes: 0 done, 1 unexpected, 2 usage, 3 the volume cannot be used, 4 timed out with nothing published, 5 problems left.',
        '',
        'Examples:',
        '  etcd-etc-agent format etcd://127.0.0.1:2379/web web',
        '  etcd-etc-agent import etcd://127.0.0.1:2379/web ./nginx',
        '  etcd-etc-agent --watch etcd://127.0.0.1:2379/web /etc/nginx',
      ].join('\n'),
    )
    .version(false)
    .help();
  const parsed = await cli.parse();
  if (parsed['help'] === true) return 0;
  const values = new OptionValues(parsed, process.env);
  const positional = parsed._.map(String);
  const metaUrl = positional[0] ?? process.env[ARGUMENT_ENV.metaUrl];
  const dir = positional[1] ?? process.env[ARGUMENT_ENV.dir];
  const usage = 'etcd-etc-agent [--once|--watch] META-URL DIR (--help tells more)';
  if (metaUrl === undefined) throw new ConfigError(`META-URL is missing: ${usage}`);
  if (!metaUrl.includes('://'))
    throw new ConfigError(`${metaUrl} is neither a verb nor an address: ${usage}`);
  const address = addressOf(metaUrl);
  if (dir === undefined) throw new ConfigError(`DIR is missing: ${usage}`);
  if (positional.length > 2) throw new ConfigError(`there is one argument too many: ${positional[2]}`);
  if (values.flag('once') && values.flag('watch'))
    throw new ConfigError('--once and --watch exclude each other');
  configureLog({
    format: values.text('log-format') as LogFormat,
    level: values.text('log-level') as LogLevel,
  });
  terminationLog = values.text('termination-log');
  const options: RunOptions = {
    address,
    data: dataOptionsFrom(
      values.text('bucket') || undefined,
      values.text('rsa-passphrase-file') || undefined,
      process.env,
    ),
    dir,
    once: !values.flag('watch'),
    mode: values.text('mode') as 'two-way' | 'pull',
    adopt: values.flag('adopt'),
    strict: values.flag('strict'),
    allowStale: values.flag('allow-stale'),
    agentId: values.text('agent-id') || defaultAgentId(),
    subdir: values.text('subdir'),
    exclude: values.list('exclude'),
    stateDir: values.text('state-dir') || undefined,
    minIntervalMs: values.durationMs('min-interval'),
    holdMaxMs: values.durationMs('hold-max'),
    settleMs: values.durationMs('settle'),
    rescanMs: values.durationMs('rescan'),
    keepMs: values.durationMs('keep'),
    maxDeletePercent: values.percent('max-delete'),
    conflict: values.text('conflict') as ConflictPolicy,
    ancestorCacheBytes: values.count('ancestor-cache') * MEBIBYTE,
    specialFiles: values.text('special-files') as SpecialFiles,
    syncTimes: values.flag('sync-times'),
    timeoutMs: values.durationMs('timeout'),
    accept: values.list('accept'),
  };
  const wanted = values.text('listen');
  const where = wanted === '' ? undefined : parseListen(wanted);
  const report = new Report(systemClock);
  const server = where === undefined || options.once ? undefined : await listen(where, report);
  try {
    const ports = systemPorts(values.text('watcher') as Watcher);
    const result = await run(options, ports, untilTerminated(), report);
    conclude(result.sentence);
    return result.exitCode;
  } finally {
    server?.close();
    server?.closeAllConnections();
  }
}

async function runVerb(verb: Verb, args: readonly string[]): Promise<number> {
  let cli = parser(args, `$0 ${verb.usage}\n\n${verb.help}`).version(false).help();
  for (const [name, spec] of Object.entries({ ...DATA_OPTIONS, ...verb.options }))
    cli = cli.option(name, spec);
  const parsed = await cli.parse();
  if (parsed['help'] === true) return 0;
  const [metaUrl = process.env[ARGUMENT_ENV.metaUrl], ...rest] = parsed._.map(String);
  if (metaUrl === undefined) throw new ConfigError(`META-URL is missing: etcd-etc-agent ${verb.usage}`);
  if (rest.length < verb.arguments.least || rest.length > verb.arguments.most) {
    throw new ConfigError(`etcd-etc-agent ${verb.usage}`);
  }
  const address = addressOf(metaUrl);
  const text = (name: string): string | undefined => {
    const value = parsed[name] ?? process.env[envOf(name)];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const data = dataOptionsFrom(text('bucket'), text('rsa-passphrase-file'), process.env);
  const store = etcdStore(address, systemClock);
  const context: VerbContext = {
    store,
    address,
    data,
    clock: systemClock,
    out: process.stdout,
    err: process.stderr,
    signal: untilTerminated(),
  };
  try {
    return await verb.run(context, rest, parsed);
  } finally {
    await store.close();
  }
}

async function runStatus(args: readonly string[]): Promise<number> {
  const parsed = await parser(
    args,
    '$0 status DIR [--ready] [--json]\n\nWhat the agent of DIR says of itself.',
  )
    .option('ready', {
      type: 'boolean',
      describe: 'Print nothing; exit 0 when a tree is published, 1 when not (for a probe).',
    })
    .option('json', { type: 'boolean', describe: 'As JSON.' })
    .option('state-dir', STATE_DIR)
    .version(false)
    .help()
    .parse();
  if (parsed['help'] === true) return 0;
  const dir = parsed._.map(String)[0] ?? process.env[ARGUMENT_ENV.dir];
  if (dir === undefined) throw new ConfigError('DIR is missing: etcd-etc-agent status DIR [--ready]');
  return status({
    layout: servedLayout(dir, parsed['state-dir']),
    ready: parsed.ready === true,
    json: parsed.json === true,
    out: process.stdout,
  });
}

async function runAccept(args: readonly string[]): Promise<number> {
  const usage = 'etcd-etc-agent accept DIR ID';
  const parsed = await parser(
    args,
    '$0 accept DIR ID\n\nWhat the guard with this id holds back is meant: the agent of DIR does it once, when it looks next or starts.',
  )
    .option('state-dir', STATE_DIR)
    .version(false)
    .help()
    .parse();
  if (parsed['help'] === true) return 0;
  const [dir, id, more] = parsed._.map(String);
  if (dir === undefined || id === undefined || more !== undefined) throw new ConfigError(usage);
  return accept({ layout: servedLayout(dir, parsed['state-dir']), id, out: process.stdout });
}

const STATE_DIR = { type: 'string', describe: 'Where the state is kept, when not in DIR.' } as const;

function servedLayout(dir: string, typed: string | undefined): Layout {
  const stateDir = typed ?? process.env['ETCD_ETC_AGENT_STATE_DIR'];
  return layoutOf(
    bytesOfText(dir).replace(/(?<=.)\/+$/, ''),
    stateDir === undefined ? undefined : bytesOfText(stateDir),
  );
}

function addressOf(metaUrl: string): MetaAddress {
  try {
    return parseMetaUrl(metaUrl);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new ConfigError(`${redactUrl(metaUrl)}: ${error.message}`, { cause: error });
  }
}

/** How every verb is told where a volume's data are and how they are decrypted; as the agent's options of the same names. */
const DATA_OPTIONS = Object.fromEntries(
  OPTIONS.filter(({ name }) => name === 'bucket' || name === 'rsa-passphrase-file').map(({ name, help }) => [
    name,
    { type: 'string', describe: help, requiresArg: true } as const,
  ]),
);

/** Aborts at the first SIGTERM or SIGINT. */
function untilTerminated(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

/** The last line on stderr; in a pod it is the termination message as well. */
function conclude(sentence: string): void {
  process.stderr.write(`etcd-etc-agent: ${sentence}\n`);
  // Only a file that is there: nobody but the kubelet makes it.
  if (!existsSync(terminationLog)) return;
  try {
    appendFileSync(terminationLog, `${sentence}\n`);
  } catch {
    // Not ours to write: the line on stderr is all there is.
  }
}

function sentenceOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const about = error instanceof AgentError ? (error.path ?? error.key) : undefined;
  const where = about === undefined ? '' : `${Buffer.from(about, 'latin1').toString('utf8')}: `;
  return where + error.message;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const code = codeOf(error);
  const known = error instanceof AgentError || error instanceof DecodeError;
  if (!known && error instanceof Error && error.stack !== undefined) process.stderr.write(`${error.stack}\n`);
  conclude(sentenceOf(error));
  process.exitCode = EXIT_OF_CODE[code ?? ''] ?? 1;
}
