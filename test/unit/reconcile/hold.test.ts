import { expect } from 'chai';

import { TRASH_INO } from '../../../src/codec/key.ts';
import type { StoreEvent } from '../../../src/codec/kv.ts';
import { HoldTracker, type InView } from '../../../src/reconcile/hold.ts';
import { InodeIndex } from '../../../src/reconcile/inode-index.ts';
import { loadRecording, metaEvents, metaKvs, recordingNames } from '../../support/fixture.ts';
import { delDentry, make, putAttr, putChunk, putDentry } from '../../support/meta.ts';
import { rootFor } from '../../support/recording.ts';
import { indexOf } from '../../support/remote.ts';

/** As the agent's filter: editors' backups and the trash are not shown. */
const inView: InView = ({ parent, name }) => parent < TRASH_INO && !name.endsWith('~');

/** What may be shown after a revision: `.` all, `t` all in a while, `H` not before more comes. */
function verdict(remainingMs: number): string {
  if (remainingMs === 0) return '.';
  return remainingMs === Infinity ? 'H' : 't';
}

/** The verdict after each revision of a recording that changes the tree, as if they came all at once. */
function verdictsOf(name: string): string {
  const recording = loadRecording(name);
  const revisions = recording.revisions
    .map(({ events }) => metaEvents(events, recording.metaPrefix).filter(isAboutTree))
    .filter((events) => events.length > 0);
  const start = metaKvs({ kvs: recording.start, metaPrefix: recording.metaPrefix });
  const index = indexOf([...start, ...rootFor(start, revisions)]);
  const holds = new HoldTracker(index, inView);
  const verdicts = revisions.map((events) => {
    holds.note(events, false, 0);
    index.apply(events);
    return verdict(holds.remainingMs(0));
  });
  return verdicts.join(' ');
}

function isAboutTree(event: StoreEvent): boolean {
  return (event.type === 'put' ? event.kv.key : event.key).startsWith('A');
}

describe('hold', () => {
  // Revision by revision; the fixtures' README lists the key families of each.
  const RECORDINGS: Readonly<Record<string, string>> = {
    // A file that was just made is empty until its first write.
    create: 'H',
    'write-new': 'H .',
    'write-existing-empty': '.',
    'write-3-blocks-64k': 'H .',
    'write-held-open': 'H .',
    'write-fsync-write-close': 'H . .',
    'overwrite-truncate': 'H .',
    'overwrite-same-bytes': 'H .',
    'overwrite-in-place': '.',
    append: '.',
    'truncate-down': '.',
    'truncate-up': '.',
    // The new file is for its owner alone until the chmod; the rename is whole.
    'save-tmp-rename': 'H t . .',
    'sed-i': 'H H . .',
    'sed-i-trash0': 'H H . . .',
    // f becomes f~ (not shown) and is made anew; removing f~ is nothing to wait for.
    'save-vim-backup': 't H . .',
    // f is copied to f~ (not shown) and rewritten in place.
    'save-vim-copy': '. . H . .',
    // What vanishes may come back in a moment.
    unlink: 't',
    'unlink-second': 't',
    'unlink-trash0': 't t',
    'unlink-one-of-two-links': 't',
    // What moves within the view is whole.
    rename: '.',
    'rename-across-dirs': '.',
    'rename-over': '.',
    'rename-over-trash0': '. .',
    'rename-dir': '.',
    // Directories, links and attributes.
    mkdir: '.',
    'mkdir-p-3': '. . .',
    rmdir: '.',
    symlink: '.',
    link: '.',
    mkfifo: '.',
    chmod: '.',
    chown: '.',
    utimes: '.',
    setxattr: '.',
    'read-12-slices': '.',
  };

  for (const [name, expected] of Object.entries(RECORDINGS)) {
    it(`recording ${name}: ${expected}`, () => {
      expect(verdictsOf(name)).to.equal(expected);
    });
  }

  it('every recording ends with nothing to wait for but time, or an empty file', () => {
    for (const name of recordingNames()) expect(verdictsOf(name), name).to.match(/^$|[.t]$|^H$/);
  });

  /** A tracker over a volume with the file `f` (inode 2, 4 bytes) in its root, fed with the agent's clock. */
  function tracked(): {
    readonly see: (ms: number, events: StoreEvent[], own?: boolean) => string;
    readonly at: (ms: number) => string;
    readonly holds: HoldTracker;
  } {
    const index = new InodeIndex();
    index.apply([putAttr(1n, 'directory'), ...make(1n, 'f', 2n, 'file', { length: 4n })]);
    const holds = new HoldTracker(index, inView);
    const at = (ms: number): string => verdict(holds.remainingMs(ms));
    return {
      holds,
      at,
      see: (ms, events, own = false) => {
        holds.note(events, own, ms);
        index.apply(events);
        return at(ms);
      },
    };
  }

  /** A file as a mount leaves it: mtime and ctime are the same. */
  function byMount(length: bigint, mode = 0o644, timeNs = 5n): Parameters<typeof putAttr>[2] {
    return { length, mode, mtimeNs: timeNs, ctimeNs: timeNs };
  }

  it('install: unlink, create for the owner alone, write, chmod', () => {
    const { see, at } = tracked();
    expect(see(0, [delDentry(1n, 'f')])).to.equal('t');
    expect(see(10, [putAttr(3n, 'file', byMount(0n, 0o600)), putDentry(1n, 'f', 3n, 'file')])).to.equal('H');
    expect(see(20, [putAttr(3n, 'file', byMount(9n, 0o600))])).to.equal('t');
    // The chmod changes the ctime only.
    expect(see(30, [putAttr(3n, 'file', { ...byMount(9n, 0o644), ctimeNs: 9n })])).to.equal('.');
    expect(at(40)).to.equal('.');
  });

  it('a private file that stays private is shown after a moment', () => {
    const { see, at } = tracked();
    see(0, make(1n, 'g', 3n, 'file', byMount(0n, 0o600)));
    expect(see(20, [putAttr(3n, 'file', byMount(9n, 0o600))])).to.equal('t');
    expect(at(299)).to.equal('t');
    expect(at(300)).to.equal('.');
    // A later write is no creation.
    expect(see(400, [putAttr(3n, 'file', byMount(12n, 0o600))])).to.equal('.');
  });

  it('a name that vanished: until it is back, or a moment has passed', () => {
    const first = tracked();
    expect(first.see(0, [delDentry(1n, 'f')])).to.equal('t');
    expect(first.holds.remainingMs(100)).to.equal(200);
    expect(first.at(300)).to.equal('.');
    const second = tracked();
    second.see(0, [delDentry(1n, 'f')]);
    expect(second.see(10, make(1n, 'f', 3n, 'file', byMount(3n)))).to.equal('.');
  });

  it('a name that is not shown may vanish', () => {
    const { see } = tracked();
    see(0, make(1n, 'f~', 3n, 'file', byMount(3n)));
    expect(see(1, [delDentry(1n, 'f~')])).to.equal('.');
  });

  it('an empty file that is renamed out of the view holds nothing', () => {
    const { see } = tracked();
    expect(see(0, make(1n, 'g', 3n, 'file', byMount(0n)))).to.equal('H');
    expect(see(400, [delDentry(1n, 'g'), putDentry(1n, 'g~', 3n, 'file')])).to.equal('t');
    expect(see(800, [])).to.equal('.');
  });

  it('an empty file whose inode goes holds nothing', () => {
    const { see } = tracked();
    see(0, make(1n, 'g', 3n, 'file', byMount(0n)));
    expect(see(400, [{ type: 'delete', key: keyOfAttr(3n), modRevision: 1n }])).to.equal('.');
  });

  it('what an agent pushes is whole: its mtime is that of its file, not its ctime', () => {
    const { see } = tracked();
    const byAgent = { mtimeNs: 5n, ctimeNs: 900n };
    expect(see(0, make(1n, 'empty', 3n, 'file', { ...byAgent, length: 0n }))).to.equal('.');
    expect(see(1, make(1n, 'private', 4n, 'file', { ...byAgent, length: 3n, mode: 0o600 }))).to.equal('.');
    expect(see(2, [putAttr(2n, 'file', { ...byAgent, length: 0n })])).to.equal('.');
  });

  it('our own transactions hold nothing, whatever they look like', () => {
    const { see } = tracked();
    expect(see(0, [delDentry(1n, 'f')], true)).to.equal('.');
    expect(see(1, make(1n, 'g', 3n, 'file', byMount(0n)), true)).to.equal('.');
    expect(see(2, [putAttr(2n, 'file', byMount(0n))], true)).to.equal('.');
  });

  it('a file that is accepted as it is holds nothing until it is emptied again', () => {
    const { see, holds, at } = tracked();
    expect(see(0, [putAttr(2n, 'file', byMount(0n))])).to.equal('H');
    expect(holds.isEmptied(2n)).to.equal(true);
    holds.accept(2n);
    expect(holds.isEmptied(2n)).to.equal(false);
    expect(at(1)).to.equal('.');
    expect(see(2, [putAttr(2n, 'file', byMount(0n, 0o644, 6n))])).to.equal('.');
    see(3, [putAttr(2n, 'file', byMount(4n, 0o644, 7n))]);
    expect(see(4, [putAttr(2n, 'file', byMount(0n, 0o644, 8n))])).to.equal('H');
  });

  it('the first listing: an empty file that has chunk records is being rewritten, one that has none is empty', () => {
    const index = new InodeIndex();
    index.apply([
      putAttr(1n, 'directory'),
      ...make(1n, 'rewritten', 2n, 'file', byMount(0n)),
      putChunk(2n, 0, [{ pos: 0, id: 1n, size: 4, off: 0, len: 4 }]),
      ...make(1n, 'empty', 3n, 'file', byMount(0n)),
    ]);
    const holds = new HoldTracker(index, inView);
    holds.noteListed(3n);
    expect(verdict(holds.remainingMs(0))).to.equal('.');
    holds.noteListed(2n);
    expect(verdict(holds.remainingMs(0))).to.equal('H');
    expect(holds.isEmptied(2n)).to.equal(true);
  });

  it('bytes that are no layout are somebody else’s concern', () => {
    const { see } = tracked();
    expect(
      see(0, [
        {
          type: 'put',
          kv: { key: keyOfAttr(2n), value: new Uint8Array(3), modRevision: 1n, createRevision: 1n },
        },
      ]),
    ).to.equal('.');
  });
});

function keyOfAttr(ino: bigint): string {
  const event = putAttr(ino, 'file');
  return event.type === 'put' ? event.kv.key : '';
}
