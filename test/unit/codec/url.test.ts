import { expect } from 'chai';
import { DecodeError } from '../../../src/codec/error.ts';
import { parseBucket, parseMetaUrl, redactUrl } from '../../../src/codec/url.ts';
import { hexString } from '../../support/hex.ts';

describe('metadata address: prefix', () => {
  for (const [rest, prefix] of [
    ['', 'fd'],
    ['/', '2f fd'],
    ['/jfs', '2f 6a 66 73 fd'],
    ['/a/b', '2f 61 2f 62 fd'],
    ['/trail/', '2f 74 72 61 69 6c 2f fd'],
    ['/sp%20ace%2Fx', '2f 73 70 20 61 63 65 2f 78 fd'],
    ['/a+b', '2f 61 2b 62 fd'],
    ['/é', '2f c3 a9 fd'],
    ['/%ff', '2f ff fd'],
    ['/jfs?cacert=/x', '2f 6a 66 73 fd'],
    ['/jfs#ignored?cacert=/x', '2f 6a 66 73 fd'],
    ['?unknown=1', 'fd'],
  ] as const) {
    it(`${JSON.stringify(rest)} after the host`, () => {
      expect(parseMetaUrl(`etcd://host:2379${rest}`).prefix).to.equal(hexString(prefix));
    });
  }
});

describe('metadata address: hosts and user', () => {
  const local = { host: 'h', port: 2379 };
  for (const [url, address] of [
    ['etcd://h', { endpoints: [local] }],
    ['etcd://h:', { endpoints: [local] }],
    ['etcd://h:1', { endpoints: [{ host: 'h', port: 1 }] }],
    ['etcd://h,10.0.0.1:65535', { endpoints: [local, { host: '10.0.0.1', port: 65535 }] }],
    [
      'etcd://[::1]:23,[fe80::2]',
      {
        endpoints: [
          { host: '::1', port: 23 },
          { host: 'fe80::2', port: 2379 },
        ],
      },
    ],
    ['etcd://u:p@h', { endpoints: [local], user: 'u', password: 'p' }],
    ['etcd://u@h', { endpoints: [local], user: 'u' }],
    ['etcd://:p@h', { endpoints: [local], password: 'p' }],
    ['etcd://@h', { endpoints: [local] }],
    ['etcd://u:a:b@h', { endpoints: [local], user: 'u', password: 'a:b' }],
    ['etcd://u:a@b@h', { endpoints: [local], user: 'u', password: 'a@b' }],
    ['etcd://u%40x:%2F%3a%23%c3%a9+@h', { endpoints: [local], user: 'u@x', password: '/:#é+' }],
  ] as const) {
    it(url, () => {
      expect(parseMetaUrl(url)).to.deep.equal({ ...address, prefix: '\xfd' });
    });
  }
});

describe('metadata address: TLS', () => {
  for (const [query, tls] of [
    ['', undefined],
    ['insecure-skip-verify=1', undefined],
    ['cacert=', undefined],
    ['cacert=/etc/ca.pem', { ca: '/etc/ca.pem', insecureSkipVerify: false }],
    ['cacert=/a%20b+c', { ca: '/a b c', insecureSkipVerify: false }],
    ['cert=/c&key=/k', { cert: '/c', key: '/k', insecureSkipVerify: false }],
    ['server-name=x', { serverName: 'x', insecureSkipVerify: false }],
    ['cacert=/x&insecure-skip-verify=false', { ca: '/x', insecureSkipVerify: true }],
    ['cacert=/x&insecure-skip-verify=', { ca: '/x', insecureSkipVerify: false }],
    ['cacert=/first&cacert=/second', { ca: '/first', insecureSkipVerify: false }],
    ['cacert=/a=b', { ca: '/a=b', insecureSkipVerify: false }],
  ] as const) {
    it(`?${query}`, () => {
      expect(parseMetaUrl(`etcd://h/?${query}`).tls).to.deep.equal(tls);
    });
  }
});

describe('metadata address: errors', () => {
  for (const [what, url] of [
    ['nothing', ''],
    ['another scheme', 'etcds://h'],
    ['no scheme', 'h:2379'],
    ['capitals', 'ETCD://h'],
    ['no host', 'etcd://'],
    ['no host before the path', 'etcd:///jfs'],
    ['no host after the user', 'etcd://u:secret@'],
    ['an empty host', 'etcd://h,,g'],
    ['a port of letters', 'etcd://h:secret'],
    ['port 0', 'etcd://h:0'],
    ['port 65536', 'etcd://h:65536'],
    ['an address without brackets', 'etcd://::1'],
    ['a blank in a host', 'etcd://a b'],
    ['a broken escape', 'etcd://h/%zz'],
    ['an escape cut short', 'etcd://h/%2'],
    ['a password that is no UTF-8', 'etcd://u:secret%ff@h'],
    ['a password with a slash', 'etcd://u:sec/ret@h'],
  ] as const) {
    it(`${what}: is refused without quoting it`, () => {
      expect(() => parseMetaUrl(url))
        .to.throw(DecodeError)
        .that.satisfies(
          (error: DecodeError) => error.what === 'metadata address' && !/sec|ret@/.test(error.message),
        );
    });
  }

  it('tell where', () => {
    expect(() => parseMetaUrl('etcd://good,bad:x'))
      .to.throw(DecodeError)
      .that.includes({ offset: 12 });
  });
});

describe('bucket address', () => {
  for (const [bucket, address] of [
    ['h', { endpoints: [{ host: 'h', port: 2379 }] }],
    [
      'h:1,g',
      {
        endpoints: [
          { host: 'h', port: 1 },
          { host: 'g', port: 2379 },
        ],
      },
    ],
    ['etcd://h:2379/data', { endpoints: [{ host: 'h', port: 2379 }] }],
    ['u:p@h/data', { endpoints: [{ host: 'h', port: 2379 }] }],
    [
      'etcd://h?cacert=/x',
      { endpoints: [{ host: 'h', port: 2379 }], tls: { ca: '/x', insecureSkipVerify: false } },
    ],
  ] as const) {
    it(bucket, () => {
      expect(parseBucket(bucket)).to.deep.equal(address);
    });
  }

  it('without a host is refused', () => {
    expect(() => parseBucket(''))
      .to.throw(DecodeError)
      .that.includes({ what: 'bucket address' });
  });
});

describe('redacted addresses', () => {
  for (const [url, redacted] of [
    ['etcd://h:2379/jfs', 'etcd://h:2379/jfs'],
    ['etcd://u@h:2379/jfs', 'etcd://u@h:2379/jfs'],
    ['etcd://u:p@h:2379/jfs', 'etcd://u:****@h:2379/jfs'],
    ['etcd://u:p@q@h', 'etcd://u:****@h'],
    ['etcd://u:p/q@h', 'etcd://u:****@h'],
    ['etcd://u:p?q#r@h', 'etcd://u:****@h'],
    ['u:p@h:2379', 'u:****@h:2379'],
    ['', ''],
  ] as const) {
    it(JSON.stringify(url), () => {
      expect(redactUrl(url)).to.equal(redacted);
    });
  }
});
