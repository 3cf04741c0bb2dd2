/** What went wrong in a call to etcd, translated into the errors of `error.ts`. */

import { EtcdLeaseInvalidError, isRecoverableError } from 'etcd3';
import {
  AgentError,
  AuthError,
  CompactedError,
  LeaseGoneError,
  LimitError,
  UnavailableError,
  UnknownOutcomeError,
} from '../base/error.ts';

/** gRPC status codes, by their names in the protocol. */
const CANCELLED = 1;
const UNKNOWN = 2;
const INVALID_ARGUMENT = 3;
const DEADLINE_EXCEEDED = 4;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;
const OUT_OF_RANGE = 11;
const INTERNAL = 13;
const UNAVAILABLE = 14;
const UNAUTHENTICATED = 16;

/** With these a request may or may not have been carried out. */
const OUTCOME_UNKNOWN: readonly number[] = [CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE];

export interface GrpcStatus {
  readonly code: number;
  readonly details: string;
}

/** The status of a failed call. etcd3 drops the code from its errors and keeps it in the text: `14 UNAVAILABLE: details`. */
export function statusOf(error: unknown): GrpcStatus | undefined {
  if (!(error instanceof Error)) return undefined;
  // The one error whose text etcd3 replaces by its own.
  if (error instanceof EtcdLeaseInvalidError)
    return { code: NOT_FOUND, details: 'requested lease not found' };
  const text = /^(\d+) [A-Z_]+: (.*)$/s.exec(error.message);
  if (text === null) return undefined;
  return { code: Number(text[1]), details: text[2] ?? '' };
}

/**
 * The sentence of a refused token. etcd3 repeats a call that ends with etcd's own sentence, at once and without end;
 * so it never gets to see that one (`etcd-connection.ts`).
 */
export const TOKEN_REFUSED = 'the token was refused';

/** What grpc-js throws for a call on a channel that is closed; nothing was sent. */
const CHANNEL_CLOSED = 'Channel has been shut down';

/** etcd's sentences for a token that a new one replaces: expired, forgotten by a restarted member, or older than a change of users. */
export function isTokenProblem(details: string): boolean {
  return (
    details.includes('invalid auth token') ||
    details.includes('revision of auth store is old') ||
    details.includes(TOKEN_REFUSED)
  );
}

/** Whether the answer was larger than this side takes; nothing of it was kept. The server's own limit has a lower-case text. */
export function isAnswerTooLarge(error: unknown): boolean {
  const status = statusOf(error);
  return status?.code === RESOURCE_EXHAUSTED && status.details.startsWith('Received message larger than max');
}

/** Whether etcd3 closed the channel because of this error, so that the connection is of no more use. */
export function closesChannel(error: unknown): boolean {
  return !(error instanceof Error) || isRecoverableError(error) || statusOf(error) === undefined;
}

/** A failed request that had no effect or only read. What is no failure of the world stays as it is: our own mistake. */
export function translate(error: unknown): Error {
  if (error instanceof AgentError) return error;
  const status = statusOf(error);
  if (status === undefined) {
    const other = error instanceof Error ? error : new Error(String(error));
    // RACE: another call's failure closed the channel between our taking the connection and our first packet.
    return other.message.includes(CHANNEL_CLOSED)
      ? new UnavailableError('the connection was given up', { cause: error })
      : other;
  }
  return fromStatus(status, error);
}

/** A failed transaction: as `translate`, but UnknownOutcomeError where it may have been carried out. */
export function translateCommit(error: unknown): Error {
  const status = statusOf(error);
  if (status !== undefined && OUTCOME_UNKNOWN.includes(status.code) && !isTokenProblem(status.details)) {
    return new UnknownOutcomeError(status.details, { cause: error });
  }
  return translate(error);
}

/** Why a watch stream ended: the next one may work, unless it was refused or cannot deliver what comes next. */
export function translateStream(error: unknown): Error {
  if (isAnswerTooLarge(error)) {
    return new CompactedError('a message of the watch is too large to be taken', { cause: error });
  }
  const translated = translate(error);
  if (translated instanceof AuthError || translated instanceof UnavailableError) return translated;
  return new UnavailableError(translated.message, { cause: error });
}

/** Why the server ended a watch, from the `cancel_reason` of its last message. */
export function translateCancel(reason: string): Error {
  if (isTokenProblem(reason)) return new UnavailableError(TOKEN_REFUSED);
  if (isDenied(reason)) return new AuthError(reason);
  return new UnavailableError(reason === '' ? 'the server ended the watch' : reason);
}

function fromStatus({ code, details }: GrpcStatus, cause: unknown): Error {
  if (isTokenProblem(details)) return new UnavailableError(TOKEN_REFUSED, { cause });
  if (code === PERMISSION_DENIED || code === UNAUTHENTICATED || isDenied(details)) {
    return new AuthError(details, { cause });
  }
  switch (code) {
    case OUT_OF_RANGE:
      // A member that lags behind calls a revision that exists `future`; another one has it.
      return details.includes('compacted')
        ? new CompactedError(details, { cause })
        : new UnavailableError(details, { cause });
    case RESOURCE_EXHAUSTED:
      return details.includes('too many requests')
        ? new UnavailableError(details, { cause })
        : new LimitError(details, { cause });
    case INVALID_ARGUMENT:
      return details.includes('request is too large') || details.includes('too many operations')
        ? new LimitError(details, { cause })
        : new Error(`etcd refused a request: ${details}`, { cause });
    case NOT_FOUND:
      return details.includes('lease not found')
        ? new LeaseGoneError(details, { cause })
        : new Error(`etcd refused a request: ${details}`, { cause });
    case UNAVAILABLE:
      // A handshake that fails looks like a server that is away; the text is all there is.
      return /certificate|tlsv1 alert|sslv3 alert|unable to verify/i.test(details)
        ? new AuthError(details, { cause })
        : new UnavailableError(details, { cause });
    case CANCELLED:
    case UNKNOWN:
    case DEADLINE_EXCEEDED:
    case INTERNAL:
      return new UnavailableError(details, { cause });
    default:
      return new Error(`etcd refused a request: ${code} ${details}`, { cause });
  }
}

function isDenied(details: string): boolean {
  return (
    details.includes('permission denied') ||
    details.includes('invalid user ID or password') ||
    details.includes('user name is empty')
  );
}
