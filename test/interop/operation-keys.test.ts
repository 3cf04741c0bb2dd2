/**
 * The keys that one local edit changes in the volume, by kind, next to the recording of the same operation by the real
 * client. Each difference is a line of a table in `docs/format.md`, with its reason.
 */

import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { prefixRange } from '../../src/codec/bytes.ts';
import { decodeKey, TRASH_INO, type MetaKey } from '../../src/codec/key.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import type { PushChange } from '../../src/reconcile/push-change.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { loadRecording, metaEvents, metaKvs } from '../support/fixture.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { projectDir } from '../support/tools.ts';

interface Operation {
  readonly recording: string;
  readonly trashDays: 0 | 1;
  /** What is there before. */
  readonly before?: (volume: TestVolume) => readonly PushChange[];
  readonly edit: (volume: TestVolume) => PushChange;
}

const OLD = (volume: TestVolume): readonly PushChange[] => [volume.make('old', file('old\n'))];
const TWO = (volume: TestVolume): readonly PushChange[] => [
  volume.make('old', file('old\n')),
  volume.make('new', file('new\n')),
];
const DIR = (volume: TestVolume): readonly PushChange[] => [volume.make('dir', directory())];

const OPERATIONS: readonly Operation[] = [
  { recording: 'create', trashDays: 1, edit: (volume) => volume.make('new', file('')) },
  { recording: 'write-new', trashDays: 1, edit: (volume) => volume.make('new', file('hello\n')) },
  { recording: 'mkdir', trashDays: 1, edit: (volume) => volume.make('dir', directory()) },
  { recording: 'symlink', trashDays: 1, edit: (volume) => volume.make('link', symlink('old')) },
  { recording: 'chmod', trashDays: 1, before: OLD, edit: (volume) => volume.edit('old', { mode: 0o600 }) },
  ...(['overwrite-truncate', 'overwrite-in-place', 'append'] as const).map((recording): Operation => ({
    recording,
    trashDays: 1,
    before: OLD,
    edit: (volume) => volume.edit('old', { ...file('other contents\n'), ino: volume.at('old').ino }),
  })),
  {
    recording: 'truncate-down',
    trashDays: 1,
    before: OLD,
    edit: (volume) => volume.edit('old', { ...file('ol'), ino: volume.at('old').ino }),
  },
  { recording: 'unlink', trashDays: 1, before: OLD, edit: (volume) => volume.remove('old') },
  { recording: 'unlink-trash0', trashDays: 0, before: OLD, edit: (volume) => volume.remove('old') },
  { recording: 'rmdir', trashDays: 1, before: DIR, edit: (volume) => volume.remove('dir') },
  { recording: 'rename', trashDays: 1, before: OLD, edit: (volume) => volume.move('old', 'new') },
  { recording: 'rename-dir', trashDays: 1, before: DIR, edit: (volume) => volume.move('dir', 'new') },
  {
    recording: 'rename-across-dirs',
    trashDays: 1,
    before: (volume) => [
      volume.make('a', directory()),
      volume.make('b', directory()),
      volume.make('a/old', file('old\n')),
    ],
    edit: (volume) => volume.move('a/old', 'b/old'),
  },
  {
    recording: 'rename-over',
    trashDays: 1,
    before: TWO,
    edit: (volume) => volume.move('new', 'old', { over: volume.at('old') }),
  },
  {
    recording: 'rename-over-trash0',
    trashDays: 0,
    before: TWO,
    edit: (volume) => volume.move('new', 'old', { over: volume.at('old') }),
  },
];

/** `put attr`, `delete dentry`, `put counter usedSpace`; `undefined` for what no edit is about. */
function describeKey(name: ByteString, isPut: boolean): string | undefined {
  const key = decodeKey(name);
  const word = wordOf(key);
  return word === undefined ? undefined : `${isPut ? 'put' : 'delete'} ${word}`;
}

function wordOf(key: MetaKey): string | undefined {
  switch (key.kind) {
    case 'counter':
      // Numbers are claimed beforehand, many at a time; jobs note when they ran.
      return /^(?:next|last)/.test(key.name) ? undefined : key.name;
    case 'sessionExpire':
    case 'sessionInfo':
      return undefined;
    case 'dentry':
      return key.parent > TRASH_INO ? 'dentry in the trash' : 'dentry';
    default:
      return key.kind;
  }
}

/** What the recorded operation made of the keys that it changed, what the client adds later included. */
function recordedKeys(name: string): Set<string> {
  const { start, revisions, metaPrefix } = loadRecording(name);
  const known = new Set([...metaKvs({ kvs: start, metaPrefix })].map(({ key }) => key));
  const last = new Map<ByteString, boolean>();
  for (const { events } of revisions) {
    for (const event of metaEvents(events, metaPrefix)) {
      last.set(event.type === 'put' ? event.kv.key : event.key, event.type === 'put');
    }
  }
  const words = new Set<string>();
  for (const [key, isPut] of last) {
    // Put and deleted again, such as the note of a file whose data await deletion.
    if (!isPut && !known.has(key)) continue;
    const word = describeKey(key, isPut);
    if (word !== undefined) words.add(word);
  }
  return words;
}

async function metadata(volume: TestVolume): Promise<Map<ByteString, bigint>> {
  const { prefix } = volume.address;
  const revisions = new Map<ByteString, bigint>();
  await volume.store.snapshot([prefixRange(prefix)], ({ key, modRevision }) => {
    revisions.set(key.slice(prefix.length), modRevision);
  });
  return revisions;
}

/** What our transactions make of the keys that they change. */
async function ourKeys(
  server: EtcdServer,
  { recording, trashDays, before, edit }: Operation,
): Promise<Set<string>> {
  const volume = await TestVolume.format(server, { name: `keys-${recording}`, trashDays, blockSizeKiB: 64 });
  try {
    // The trash has its directory of the hour already, as in the recordings.
    await volume.push(volume.make('gone', file('gone\n')));
    await volume.push(volume.remove('gone'));
    for (const change of before?.(volume) ?? []) await volume.push(change);
    const old = await metadata(volume);
    await volume.push(edit(volume));
    const now = await metadata(volume);
    const words = new Set<string>();
    for (const key of new Set([...old.keys(), ...now.keys()])) {
      if (old.get(key) === now.get(key)) continue;
      const word = describeKey(key, now.has(key));
      if (word !== undefined) words.add(word);
    }
    return words;
  } finally {
    await volume.store.close();
  }
}

/** The rows of the table with this heading: operation, what only we do, what only the real client does, reason. */
function documented(): Map<string, readonly string[]> {
  const text = readFileSync(join(projectDir, 'docs/format.md'), 'utf8');
  const lines = text.slice(text.indexOf('### Keys of one operation')).split('\n');
  const rows = new Map<string, readonly string[]>();
  for (const line of lines) {
    const cells = line.split('|').map((cell) => cell.trim());
    if (cells.length !== 6 || cells[1] === 'operation' || /^-+$/.test(cells[1] ?? '')) continue;
    rows.set((cells[1] ?? '').replaceAll('`', ''), cells.slice(2, 5));
  }
  return rows;
}

function listed(words: Iterable<string>): string {
  return [...words].sort().join(', ');
}

describe('the keys of one operation', function () {
  let server: EtcdServer;
  const rows = documented();
  before(async () => {
    server = await startEtcd();
  });
  after(async () => server?.stop());

  for (const operation of OPERATIONS) {
    const { recording } = operation;
    it(`differ from the recording ${recording} as docs/format.md says`, async () => {
      const theirs = recordedKeys(recording);
      const ours = await ourKeys(server, operation);
      const besides = listed([...ours].filter((word) => !theirs.has(word)));
      const missing = listed([...theirs].filter((word) => !ours.has(word)));
      const [onlyOurs = '', onlyTheirs = '', reason = ''] = rows.get(recording) ?? [];
      expect({ besides, missing }).to.deep.equal({ besides: onlyOurs, missing: onlyTheirs });
      expect(reason === '').to.equal(besides === '' && missing === '');
    });
  }

  it('differ nowhere else', () => {
    const known = new Set(OPERATIONS.map(({ recording }) => recording));
    expect([...rows.keys()].filter((recording) => !known.has(recording))).to.deep.equal([]);
  });
});
