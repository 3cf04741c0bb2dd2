/** The error taxonomy: what went wrong in the world, told apart by `code`, never by message. */

import { DecodeError } from '../../codec/error.ts';

export { DecodeError };

/** What an error is about: any of a path, a key or a revision. The message does not repeat them. */
export interface ErrorAbout {
  readonly path?: string;
  readonly key?: string;
  readonly revision?: bigint;
  readonly cause?: unknown;
}

/** The base of every error of this package that the loop or the command tells apart. */
export class AgentError extends Error {
  readonly code: string;
  readonly path?: string;
  readonly key?: string;
  readonly revision?: bigint;

  constructor(code: string, message: string, about: ErrorAbout = {}) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause });
    this.name = new.target.name;
    this.code = code;
    if (about.path !== undefined) this.path = about.path;
    if (about.key !== undefined) this.key = about.key;
    if (about.revision !== undefined) this.revision = about.revision;
  }
}

/** An option is missing or contradicts another: usage, exit 2. */
export class ConfigError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_CONFIG', message, about);
  }
}

/** The volume cannot be used (not formatted, unknown version, encryption or compression we lack): exit 3, disk untouched. */
export class VolumeError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_VOLUME', message, about);
  }
}

/** The watch or read cannot resume at this revision: list again. */
export class CompactedError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_COMPACTED', message, about);
  }
}

/** No leader, timeout, lost connection: back off with jitter, no limit. The request had no effect. */
export class UnavailableError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_UNAVAILABLE', message, about);
  }
}

/** A transaction had no answer and may have committed: read back (design 4.4). */
export class UnknownOutcomeError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_UNKNOWN_OUTCOME', message, about);
  }
}

/** A lease has ended, and the keys that were put with it: whoever held it is no longer who it was. */
export class LeaseGoneError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_LEASE_GONE', message, about);
  }
}

/** Too big for a request, or the store is out of space: hold that change, say so, retry slowly. */
export class LimitError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_LIMIT', message, about);
  }
}

/** Credentials or certificate refused: read them again, back off. */
export class AuthError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_AUTH', message, about);
  }
}

/** ENOSPC, EACCES, EROFS, EMFILE: keep the published tree; a problem with the errno. */
export class LocalError extends AgentError {
  constructor(message: string, about?: ErrorAbout) {
    super('ERR_LOCAL', message, about);
  }
}

/** The `code` of any error, ours or Node's; `undefined` if it has none. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Whether an error of the file system says that a name is not there, or not any more. */
export function isMissing(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}
