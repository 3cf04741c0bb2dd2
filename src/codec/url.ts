/** The metadata address and the bucket address, as the real client reads them. */

import { utf8ByteString, utf8Text } from './bytes.ts';
import { DecodeError } from './error.ts';
import type { ByteString } from './kv.ts';

export interface Endpoint {
  /** A name or an address; an IPv6 address without its brackets. */
  readonly host: string;
  readonly port: number;
}

/** Where to find the files for TLS, and what to verify. */
export interface TlsAddress {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Without effect on the real client, which verifies the endpoint's host (layout 1.1). */
  readonly serverName?: string;
  readonly insecureSkipVerify: boolean;
}

/** Where a volume's blocks are. Without `tls` the connection is plain text. */
export interface BucketAddress {
  readonly endpoints: readonly Endpoint[];
  readonly tls?: TlsAddress;
}

/** Where a volume's metadata are. */
export interface MetaAddress extends BucketAddress {
  readonly user?: string;
  readonly password?: string;
  /** What every metadata key starts with: the decoded path and one byte 0xFD. */
  readonly prefix: ByteString;
}

const DEFAULT_PORT = 2379;
const META = 'metadata address';

/**
 * Reads `etcd://[user[:password]@]host[:port][,...][/prefix][?param=value&...][#ignored]` (layout 1.1). Throws
 * `DecodeError`, whose message quotes nothing of the address: there may be a password in it.
 */
export function parseMetaUrl(url: string): MetaAddress {
  if (!url.startsWith('etcd://')) throw new DecodeError(META, 0, 'it does not start with etcd://');
  const parts = split(url, META);
  const [user = '', password = ''] = parts.userInfo;
  return {
    ...addressOf(parts, META),
    ...(user === '' ? {} : { user: decodeText(user, META, false) }),
    ...(password === '' ? {} : { password: decodeText(password, META, false) }),
    prefix: `${percentDecode(parts.path, META)}\xfd`,
  };
}

/** Reads `etcd://host[:port][,...][/ignored][?params]` or just the hosts; user and path are ignored (layout 1.3). */
export function parseBucket(bucket: string): BucketAddress {
  const what = 'bucket address';
  return addressOf(split(bucket.includes('://') ? bucket : `etcd://${bucket}`, what), what);
}

/**
 * The address with its password replaced by stars, for logs; works on anything. Where an `@` leaves a doubt about the
 * end of the password (it may hold an unescaped slash), rather too much is starred than too little.
 */
export function redactUrl(url: string): string {
  const scheme = url.indexOf('://');
  const start = scheme < 0 ? 0 : scheme + 3;
  const at = url.lastIndexOf('@');
  const colon = url.indexOf(':', start);
  if (colon < 0 || at < colon) return url;
  return `${url.slice(0, colon)}:****${url.slice(at)}`;
}

/** An address cut at its separators, still percent-encoded, as byte strings. */
interface Parts {
  readonly userInfo: readonly string[];
  readonly hosts: string;
  /** Offset of `hosts` in the address. */
  readonly hostsAt: number;
  readonly path: ByteString;
  readonly query: string;
}

/** Cuts in the order of Go's `url.Parse`: fragment, query, scheme, path, then user info at the last `@`. */
function split(url: string, what: string): Parts {
  const [beforeFragment = ''] = utf8ByteString(url).split('#', 1);
  const [beforeQuery, query] = cutAt(beforeFragment, '?');
  const authorityAt = beforeQuery.indexOf('://') + 3;
  const slash = beforeQuery.indexOf('/', authorityAt);
  const authorityEnd = slash < 0 ? beforeQuery.length : slash;
  const authority = beforeQuery.slice(authorityAt, authorityEnd);
  const at = authority.lastIndexOf('@');
  const hostsAt = authorityAt + at + 1;
  if (hostsAt === authorityEnd) throw new DecodeError(what, hostsAt, 'there is no host in it');
  return {
    userInfo: at < 0 ? [] : cutAt(authority.slice(0, at), ':'),
    hosts: authority.slice(at + 1),
    hostsAt,
    path: beforeQuery.slice(authorityEnd),
    query,
  };
}

function cutAt(text: string, separator: string): [before: string, after: string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function addressOf(parts: Parts, what: string): BucketAddress {
  const endpoints: Endpoint[] = [];
  let offset = parts.hostsAt;
  for (const host of parts.hosts.split(',')) {
    endpoints.push(parseEndpoint(host, what, offset));
    offset += host.length + 1;
  }
  const tls = tlsOf(parts.query, what);
  return tls === undefined ? { endpoints } : { endpoints, tls };
}

function parseEndpoint(text: string, what: string, offset: number): Endpoint {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:[\]@]+))(?::(\d{0,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined) throw new DecodeError(what, offset, 'a host is not of the form host or host:port');
  const port = Number(match?.[3] || DEFAULT_PORT);
  if (port < 1 || port > 65535) throw new DecodeError(what, offset, 'a port is not between 1 and 65535');
  return { host: decodeText(host, what, false), port };
}

/** `undefined` unless one of the four parameters that enable TLS is there: skip-verify alone does not (layout 1.1). */
function tlsOf(query: string, what: string): TlsAddress | undefined {
  const params = new Map<string, string>();
  for (const param of query.split('&')) {
    const [name, value] = cutAt(param, '=');
    const key = decodeText(name, what, true);
    // The first one counts, as in Go's `Values.Get`.
    if (!params.has(key)) params.set(key, decodeText(value, what, true));
  }
  const file = (name: string): string => params.get(name) ?? '';
  const [ca, cert, key, serverName] = [file('cacert'), file('cert'), file('key'), file('server-name')];
  if (ca === '' && cert === '' && key === '' && serverName === '') return undefined;
  return {
    ...(ca === '' ? {} : { ca }),
    ...(cert === '' ? {} : { cert }),
    ...(key === '' ? {} : { key }),
    ...(serverName === '' ? {} : { serverName }),
    // Any value counts, even `false`.
    insecureSkipVerify: file('insecure-skip-verify') !== '',
  };
}

/** Percent-decodes to text. `+` is a blank in a query. */
function decodeText(encoded: ByteString, what: string, inQuery: boolean): string {
  const text = utf8Text(percentDecode(inQuery ? encoded.replaceAll('+', ' ') : encoded, what));
  if (text === undefined) throw new DecodeError(what, 0, 'a part of it is no UTF-8');
  return text;
}

function percentDecode(encoded: ByteString, what: string): ByteString {
  return encoded.replace(/%(.{0,2})/gs, (_match, digits: string) => {
    if (!/^[0-9A-Fa-f]{2}$/.test(digits)) {
      throw new DecodeError(what, 0, 'a percent sign is not followed by two hexadecimal digits');
    }
    return String.fromCharCode(Number.parseInt(digits, 16));
  });
}
