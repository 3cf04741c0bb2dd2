/** What a look found, taken into the ledger. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { nodeFs } from '../../../src/agent/disk/fs.ts';
import { layoutOf } from '../../../src/agent/disk/layout.ts';
import { Ledger } from '../../../src/agent/state/ledger.ts';
import { NOTHING_HELD } from '../../../src/reconcile/attributes.ts';
import { Local } from '../../../src/agent/look/local.ts';
import type { Look } from '../../../src/agent/look/look.ts';
import type { Slot } from '../../../src/agent/disk/slot.ts';
import { fileEntry } from '../../support/trees.ts';

const FILE: Slot = {
  type: 'file',
  digest: 'd1',
  signature: { ino: 7n, size: 1n, mtimeNs: 1n, ctimeNs: 1n, mode: 0o644, uid: 0, gid: 0 },
};

function slotOf(ino: bigint, digest: string): Slot {
  return { ...FILE, digest, signature: { ...FILE.signature, ino } } as Slot;
}

function lookWith(found: Partial<Look>): Look {
  return {
    edits: new Map(),
    adoptions: new Map(),
    losers: [],
    idle: new Map(),
    found: { idle: new Map(), kept: new Map() },
    parted: new Set(),
    same: new Set(),
    kept: new Map(),
    mend: new Set(),
    busy: new Set(),
    leaving: new Set(),
    born: new Map(),
    problems: new Map(),
    damage: undefined,
    ...found,
  };
}

describe('a look taken in', () => {
  let folder: string;
  let ledger: Ledger;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'local-'));
    const layout = layoutOf(folder);
    mkdirSync(layout.state);
    ledger = Ledger.open(nodeFs, layout);
    const slots = [['f', FILE]] as const;
    ledger.write([{ t: 'commit', tree: 'a', revision: 5n, slots, stale: [], ancestor: [] }], false);
  });

  afterEach(() => {
    ledger.close();
    rmSync(folder, { recursive: true });
  });

  it('keeps in mind that the idle tree still has what was removed', () => {
    new Local(ledger, () => false, NOTHING_HELD).absorb(lookWith({ edits: new Map([['f', undefined]]) }));
    expect(ledger.state.slots.get('f')).to.equal(undefined);
    expect(ledger.state.stale.get('f')).to.deep.equal(FILE);
  });

  it('does so too when the same look found that the idle tree had caught up', () => {
    const older: Slot = { ...FILE, signature: { ...FILE.signature, ctimeNs: 0n } };
    ledger.write([{ t: 'look', slots: [], stale: [['f', older]], same: [] }], false);
    const look = lookWith({ edits: new Map([['f', undefined]]), same: new Set(['f']) });
    new Local(ledger, () => false, NOTHING_HELD).absorb(look);
    expect(ledger.state.slots.get('f')).to.equal(undefined);
    expect(ledger.state.stale.get('f'), 'else the next look takes it for a new file').to.deep.equal(FILE);
  });

  it('judges a new file that was missed at the top and is found there again, although its end had been agreed on', () => {
    const local = new Local(ledger, () => false, NOTHING_HELD);
    local.absorb(lookWith({ tops: new Map([['f', undefined]]) }));
    local.settle('f');
    expect([...local.dirty]).to.deep.equal([]);
    local.absorb(lookWith({ tops: new Map() }));
    expect([...local.dirty], 'else it is never pushed').to.deep.equal(['f']);
  });

  it('is judged again when a push agrees on what has been removed here since, and had been dealt with', () => {
    const made = { ...FILE, signature: { ...FILE.signature, ino: 9n } };
    const local = new Local(ledger, () => false, NOTHING_HELD);
    local.absorb(lookWith({ edits: new Map([['new', made]]) }));
    local.absorb(lookWith({ edits: new Map([['new', undefined]]) }));
    local.settle('new');
    expect([...local.dirty]).not.to.include('new');
    const agreed = [['new', fileEntry('d1', 0o644, { ino: 90n })]] as const;
    ledger.write([{ t: 'ancestor', entries: agreed }], false);
    local.settle('new');
    expect([...local.dirty], 'else it stays in the volume').to.include('new');
  });

  /** A settled find over `f`, that a publish then moves into `kept` and leaves for a later one, as a crossing edit ends it. */
  const findMovedToKept = (local: Local): void => {
    const find = slotOf(8n, 'd2');
    const source = join(folder, '..b/f');
    local.absorb(
      lookWith({
        adoptions: new Map([['f', { slot: find, source }]]),
        found: { idle: new Map([['f', find]]), kept: new Map() },
      }),
    );
    ledger.write([{ t: 'kept', name: '1-1', record: { path: 'f', slot: FILE } }], false);
    ledger.write([{ t: 'look', slots: [], stale: [['f', FILE]], same: [] }], false);
    local.movedToKept(new Map([['f', { ino: 8n, at: join(folder, '..etcd-etc/kept/1-1') }]]));
  };

  it('keeps an edit over which an older find waits that a publish has moved to kept: the find is parked', () => {
    const local = new Local(ledger, () => false, NOTHING_HELD);
    findMovedToKept(local);
    const edit = slotOf(9n, 'd3');
    local.absorb(lookWith({ edits: new Map([['f', edit]]) }));
    expect(local.slotAt('f'), 'else the find takes the place of what is newer').to.deep.equal(edit);
    expect(local.losers.map(({ slot, kept }) => [slot.digest, kept])).to.deep.equal([['d2', '1-1']]);
  });

  it('keeps a find that a publish has moved to kept when nothing newer came to its path', () => {
    const local = new Local(ledger, () => false, NOTHING_HELD);
    findMovedToKept(local);
    local.absorb(
      lookWith({ edits: new Map([['f', { ...FILE, signature: { ...FILE.signature, ctimeNs: 2n } }]]) }),
    );
    expect(local.slotAt('f')).to.deep.equal(slotOf(8n, 'd2'));
    expect(local.losers).to.deep.equal([]);
  });

  it('keeps what is made over a removal that waits after a publish that did not take it over', () => {
    const local = new Local(ledger, () => false, NOTHING_HELD);
    local.absorb(
      lookWith({
        adoptions: new Map([['f', undefined]]),
        found: { idle: new Map([['f', undefined]]), kept: new Map() },
      }),
    );
    ledger.write([{ t: 'look', slots: [], stale: [['f', FILE]], same: [] }], false);
    const edit = slotOf(9n, 'd3');
    local.absorb(lookWith({ edits: new Map([['f', edit]]) }));
    expect(local.slotAt('f')).to.deep.equal(edit);
  });
});

describe('the inode that a local file is in the volume', () => {
  const state = (): { ledger: Ledger; local: Local; folder: string } => {
    const folder = mkdtempSync(join(tmpdir(), 'local-'));
    const layout = layoutOf(folder);
    mkdirSync(layout.state);
    const ledger = Ledger.open(nodeFs, layout);
    const slots = [
      ['f', FILE],
      ['g', FILE],
      ['h', { ...FILE, signature: { ...FILE.signature, ino: 8n } }],
    ] as const;
    const linked = fileEntry('d1', 0o644, { ino: 70n, nlink: 2 });
    const ancestor = [
      ['f', linked],
      ['g', linked],
      ['h', fileEntry('d1', 0o644, { ino: 80n })],
    ] as const;
    ledger.write([{ t: 'commit', tree: 'a', revision: 5n, slots, stale: [], ancestor }], false);
    return { ledger, local: new Local(ledger, () => false, NOTHING_HELD), folder };
  };
  const file = (ino: bigint, digest = 'd1'): Slot => ({
    type: 'file',
    digest,
    signature: { ...FILE.signature, ino },
  });

  const CASES: readonly {
    readonly title: string;
    readonly edits: Readonly<Record<string, Slot | undefined>>;
    readonly born?: readonly (readonly [bigint, bigint])[];
    readonly inodes: Readonly<Record<string, string>>;
  }[] = [
    { title: 'untouched', edits: {}, inodes: { f: '70 x2', g: '70 x2', h: '80 x1' } },
    {
      title: 'edited in place: the same',
      edits: { f: file(7n, 'd2'), g: file(7n, 'd2') },
      inodes: { f: '70 x2', g: '70 x2' },
    },
    {
      title: 'replaced: none, and the other name keeps it',
      edits: { f: file(9n) },
      inodes: { f: '0 x1', g: '70 x2' },
    },
    {
      title: 'replaced and put back: the same',
      edits: { f: file(7n) },
      inodes: { f: '70 x2' },
    },
    {
      title: 'one more name of a file with one: that of the other name',
      edits: { i: file(8n) },
      inodes: { h: '80 x2', i: '80 x2' },
    },
    {
      title: 'linked over another file: that of the other name',
      edits: { h: file(7n) },
      inodes: { f: '70 x3', h: '70 x3' },
    },
    {
      title: 'renamed: what it was where it left',
      edits: { h: undefined, i: file(8n, 'd2') },
      inodes: { i: '80 x1' },
    },
    {
      title: 'renamed, and its number given to a new file before the name was missed: none',
      edits: { h: undefined, i: file(8n, 'd2') },
      born: [[8n, 2n]],
      inodes: { h: '0 x1', i: '0 x1' },
    },
    {
      title: 'one of two names replaced by a file with the number of another one that went: none',
      edits: { f: file(8n, 'd2'), h: undefined },
      born: [[8n, 2n]],
      inodes: { f: '0 x1', g: '70 x2' },
    },
    {
      title: 'a file whose age nobody tells: by its number',
      edits: { h: undefined, i: file(8n, 'd2') },
      born: [[8n, 0n]],
      inodes: { i: '80 x1' },
    },
    {
      title: 'a new file with two names: none, twice',
      edits: { i: file(9n), j: file(9n) },
      inodes: { i: '0 x2', j: '0 x2' },
    },
  ];

  for (const { title, edits, born, inodes } of CASES) {
    it(`${title}, after another start as well`, () => {
      const { ledger, local, folder } = state();
      try {
        local.absorb(lookWith({ edits: new Map(Object.entries(edits)), born: new Map(born) }));
        for (const one of [local, new Local(ledger, () => false, NOTHING_HELD)]) {
          const found = Object.keys(inodes).map((path) => {
            const { ino, nlink } = one.inodeAt(path);
            return [path, `${ino} x${nlink}`];
          });
          expect(Object.fromEntries(found)).to.deep.equal(inodes);
        }
      } finally {
        ledger.close();
        rmSync(folder, { recursive: true });
      }
    });
  }

  for (const isRestarted of [false, true]) {
    it(`a number given out again long after its file had gone: none${isRestarted ? ', after another start' : ''}`, () => {
      const { ledger: first, local, folder } = state();
      let ledger = first;
      try {
        local.absorb(lookWith({ edits: new Map([['h', undefined]]) }));
        if (isRestarted) {
          first.close();
          ledger = Ledger.open(nodeFs, layoutOf(folder));
        }
        const later = isRestarted ? new Local(ledger, () => false, NOTHING_HELD) : local;
        later.absorb(lookWith({ edits: new Map([['i', file(8n, 'd2')]]), born: new Map([[8n, 2n]]) }));
        expect(later.inodeAt('i')).to.deep.equal({ ino: 0n, nlink: 1 });
        expect(later.cameFrom('i')).to.equal(undefined);
      } finally {
        ledger.close();
        rmSync(folder, { recursive: true });
      }
    });
  }
});
