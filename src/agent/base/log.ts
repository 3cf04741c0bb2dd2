/** Log lines: stderr, one line an event, `level event key=value` or JSON. Names and paths are escaped, secrets never come here. */

import { escapeBytes } from '../../codec/bytes.ts';

/** What is below info goes to `debug`, one namespace a file. */
export type LogLevel = 'error' | 'warn' | 'info';
export type LogFormat = 'text' | 'json';

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info'];
const BYTE_FIELDS: ReadonlySet<string> = new Set(['path', 'key', 'from', 'to', 'name']);

let format: LogFormat = 'text';
let threshold = LEVELS.indexOf('info');
let write = (line: string): void => {
  process.stderr.write(line);
};

/** Sets how, how much and where to (stderr if not given) is logged; once, at the start of the command. */
export function configureLog(options: {
  readonly format: LogFormat;
  readonly level: LogLevel;
  readonly write?: (line: string) => void;
}): void {
  format = options.format;
  threshold = LEVELS.indexOf(options.level);
  if (options.write !== undefined) write = options.write;
}

export type LogFields = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

/** Writes one event. Fields called path, key, from, to and name are byte strings. */
export function log(level: LogLevel, event: string, fields: LogFields = {}): void {
  if (LEVELS.indexOf(level) > threshold) return;
  const entries = Object.entries(fields).flatMap(([name, value]) => {
    if (value === undefined) return [];
    return [[name, BYTE_FIELDS.has(name) ? escapeBytes(String(value)) : value] as const];
  });
  if (format === 'json') {
    const time = new Date().toISOString();
    const values = entries.map(([name, value]) => [name, typeof value === 'bigint' ? String(value) : value]);
    write(`${JSON.stringify({ time, level, event, ...Object.fromEntries(values) })}\n`);
    return;
  }
  const text = entries.map(([name, value]) => ` ${name}=${quote(String(value))}`).join('');
  write(`${level} ${event}${text}\n`);
}

function quote(value: string): string {
  return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
