import { expect } from 'chai';

import { isText, mergeTexts } from '../../../src/reconcile/merge-text.ts';

const NGINX = `worker_processes auto;

http {
    server {
        listen 80;
        server_name example.com;

        location / {
            root /srv/www;
        }
    }
}
`;

function merged(ancestor: string, local: string, remote: string): string | undefined {
  const [o, a, b] = [ancestor, local, remote].map((text) => Buffer.from(text));
  const bytes = mergeTexts(o ?? Buffer.of(), a ?? Buffer.of(), b ?? Buffer.of());
  return bytes === undefined ? undefined : Buffer.from(bytes).toString();
}

const edit = (text: string, from: string, to: string): string => text.replace(from, to);

const CASES: readonly {
  readonly what: string;
  readonly ancestor: string;
  readonly local: string;
  readonly remote: string;
  readonly merged: string | undefined;
}[] = [
  {
    what: 'edits of different lines',
    ancestor: NGINX,
    local: edit(NGINX, 'listen 80;', 'listen 8080;'),
    remote: edit(NGINX, '/srv/www', '/srv/new'),
    merged: edit(edit(NGINX, 'listen 80;', 'listen 8080;'), '/srv/www', '/srv/new'),
  },
  {
    what: 'an added block and an edit above it',
    ancestor: NGINX,
    local: edit(NGINX, '        location / {', '        location /a {\n        }\n\n        location / {'),
    remote: edit(NGINX, 'auto', '4'),
    merged: edit(
      edit(NGINX, '        location / {', '        location /a {\n        }\n\n        location / {'),
      'auto',
      '4',
    ),
  },
  {
    what: 'a removed line and an edit elsewhere',
    ancestor: NGINX,
    local: edit(NGINX, '        server_name example.com;\n', ''),
    remote: edit(NGINX, 'auto', '4'),
    merged: edit(edit(NGINX, '        server_name example.com;\n', ''), 'auto', '4'),
  },
  {
    what: 'the same edit on both sides, and one more',
    ancestor: NGINX,
    local: edit(NGINX, 'listen 80;', 'listen 81;'),
    remote: edit(edit(NGINX, 'listen 80;', 'listen 81;'), 'auto', '4'),
    merged: edit(edit(NGINX, 'listen 80;', 'listen 81;'), 'auto', '4'),
  },
  {
    what: 'two edits of one line',
    ancestor: NGINX,
    local: edit(NGINX, 'listen 80;', 'listen 81;'),
    remote: edit(NGINX, 'listen 80;', 'listen 82;'),
    merged: undefined,
  },
  {
    what: 'edits of lines that touch',
    ancestor: NGINX,
    local: edit(NGINX, 'listen 80;', 'listen 81;'),
    remote: edit(NGINX, 'example.com', 'example.org'),
    merged: undefined,
  },
  {
    what: 'two lines added at one place',
    ancestor: 'a\n',
    local: 'a\nlocal\n',
    remote: 'a\nremote\n',
    merged: undefined,
  },
  {
    what: 'a line removed that the other side edited',
    ancestor: 'a\nb\nc\n',
    local: 'a\nc\n',
    remote: 'a\nB\nc\n',
    merged: undefined,
  },
  {
    what: 'lines that end with CR LF, which stay so',
    ancestor: 'a\r\nb\r\nc\r\n',
    local: 'A\r\nb\r\nc\r\n',
    remote: 'a\r\nb\r\nC\r\n',
    merged: 'A\r\nb\r\nC\r\n',
  },
  {
    what: 'all line ends changed on one side and a line on the other',
    ancestor: 'a\nb\nc\n',
    local: 'a\r\nb\r\nc\r\n',
    remote: 'a\nb\nC\n',
    merged: undefined,
  },
  {
    what: 'a last line without an end that nobody touches',
    ancestor: 'a\nb\nc',
    local: 'A\nb\nc',
    remote: 'a\nb\nc',
    merged: 'A\nb\nc',
  },
  {
    what: 'an edit above a last line without an end, and one of that line',
    ancestor: 'a\nb\nc',
    local: 'A\nb\nc',
    remote: 'a\nb\nC',
    merged: 'A\nb\nC',
  },
  {
    what: 'an end given to the last line and a line behind it',
    ancestor: 'a\nb\nc',
    local: 'A\nb\nc',
    remote: 'a\nb\nc\nd',
    merged: 'A\nb\nc\nd',
  },
  {
    what: 'a last line that lost its end and got one behind it',
    ancestor: 'a\nb\n',
    local: 'a\nb',
    remote: 'a\nb\nc\n',
    merged: undefined,
  },
  {
    what: 'a byte order mark, which stays',
    ancestor: '\uFEFFa\nb\nc\n',
    local: '\uFEFFA\nb\nc\n',
    remote: '\uFEFFa\nb\nC\n',
    merged: '\uFEFFA\nb\nC\n',
  },
  {
    what: 'lines named like members of an object',
    ancestor: '__proto__\nconstructor\ntoString\n',
    local: '__proto__ \nconstructor\ntoString\n',
    remote: '__proto__\nconstructor\ntoString \n',
    merged: '__proto__ \nconstructor\ntoString \n',
  },
  { what: 'an emptied text and an edited one', ancestor: 'a\n', local: '', remote: 'b\n', merged: undefined },
  {
    what: 'what is no text',
    ancestor: 'a\nb\nc\n',
    local: 'A\nb\nc\n\0',
    remote: 'a\nb\nC\n',
    merged: undefined,
  },
];

describe('mergeTexts', () => {
  for (const { what, ancestor, local, remote, merged: expected } of CASES) {
    it(`${expected === undefined ? 'refuses' : 'joins'} ${what}`, () => {
      expect(merged(ancestor, local, remote)).to.equal(expected);
      expect(merged(ancestor, remote, local), 'the other way round').to.equal(expected);
    });
  }

  it('refuses invalid UTF-8', () => {
    const [o, a] = [Buffer.from('a\nb\nc\n'), Buffer.from('A\nb\nc\n')];
    expect(mergeTexts(o, a, Buffer.from('a\nb\n\xff\n', 'latin1'))).to.equal(undefined);
    expect(isText(Buffer.from('\xff', 'latin1'))).to.equal(false);
    expect(isText(Buffer.from('grün\n'))).to.equal(true);
  });

  it('refuses what would take long: long texts, and texts of thousands of equal lines', () => {
    const long = 'x'.repeat(300_000);
    expect(merged(`a\nb\n${long}`, `A\nb\n${long}`, `a\nB\n${long}`)).to.equal(undefined);
    const equal = 'x\n'.repeat(5000);
    expect(merged(`a\n${equal}b\n`, `A\n${equal}b\n`, `a\n${equal}B\n`)).to.equal(undefined);
  });

  it('joins edits at both ends of a long file', () => {
    const lines = Array.from({ length: 6000 }, (_, n) => `server 10.0.${n >> 8}.${n & 255};\n`).join('');
    expect(merged(`a\n${lines}b\n`, `A\n${lines}b\n`, `a\n${lines}B\n`)).to.equal(`A\n${lines}B\n`);
  });
});
