import fs from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';

import { ConfigError } from '../../../src/agent/base/error.ts';
import { layoutOf, type Layout } from '../../../src/agent/disk/layout.ts';
import type { AncestorEntry } from '../../../src/agent/state/ancestor-entry.ts';
import { Ledger } from '../../../src/agent/state/ledger.ts';
import type { LedgerRecord } from '../../../src/agent/state/ledger-record.ts';
import { LedgerState } from '../../../src/agent/state/ledger-state.ts';
import type { Slot } from '../../../src/agent/disk/slot.ts';
import { seeded } from '../../support/seed.ts';
import { removeTree, temporaryDirectory, unflushedFs } from '../../support/served-directory.ts';
import { StoppingFs } from '../../support/stopping-fs.ts';
import { fileEntry } from '../../support/trees.ts';

/** Everything a state holds, in an order of its own. */
function contents(state: LedgerState): unknown {
  const sorted = <V>(entries: Iterable<readonly [string, V]>): (readonly [string, V])[] =>
    [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    owner: state.owner,
    active: state.active,
    revision: state.revision,
    slots: sorted(state.slots.entries()),
    stale: sorted(state.stale),
    ancestor: sorted(state.ancestor),
    replaced: sorted(state.replaced.entries()),
    kept: sorted(state.kept),
    parked: sorted(state.parked),
    unadopted: [...state.unadopted].sort(),
    mending: [...state.mending].sort(),
    pushing: sorted(state.pushing),
    doubts: sorted(state.doubts.entries()),
    intent: state.intent,
  };
}

function fold(records: Iterable<LedgerRecord>): LedgerState {
  const state = new LedgerState();
  for (const record of records) state.apply(record);
  return state;
}

const SIGNATURE = { ino: 1n, size: 2n, mtimeNs: 3n, ctimeNs: 4n, mode: 0o644, uid: 0, gid: 0 };

function slot(digest: string): Slot {
  return { type: 'file', signature: SIGNATURE, digest };
}

// Records of every kind, over few paths so that they meet; names are any bytes, and strings that look like numbers.
const path = fc.oneof(
  fc.constantFrom('a', 'b', 'a/b', '12n', "'12n", "''-3n", '\xff\xfe', 'caf\xc3\xa9', '\n', '__proto__'),
  fc.string({
    minLength: 1,
    maxLength: 4,
    unit: fc.integer({ min: 1, max: 255 }).map((byte) => String.fromCharCode(byte)),
  }),
);
const anySlot: fc.Arbitrary<Slot> = fc.oneof(
  fc.constantFrom('one', '7n').map(slot),
  path.map((target): Slot => ({ type: 'symlink', signature: SIGNATURE, target })),
  fc
    .bigInt({ min: 0n, max: 2n ** 64n })
    .map((ino): Slot => ({ type: 'directory', signature: { ...SIGNATURE, ino } })),
);
const entry: fc.Arbitrary<AncestorEntry> = fc
  .tuple(fc.constantFrom('one', '8n'), fc.option(path, { nil: undefined }))
  .map(([digest, contentKey]) => ({
    ...fileEntry(digest),
    ...(contentKey === undefined ? {} : { contentKey }),
  }));
const pairs = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<(readonly [string, T | null])[]> =>
  fc.array(fc.tuple(path, fc.option(value, { nil: null })), { maxLength: 3 });
const tree = fc.constantFrom('a' as const, 'b' as const);
const revision = fc.bigInt({ min: 0n, max: 9n });
const name = fc.constantFrom('k1', 'k2', '5n');

const record: fc.Arbitrary<LedgerRecord> = fc.oneof(
  fc.record({
    t: fc.constant('owner' as const),
    owner: fc.record({ uuid: path, subdir: path }),
  }),
  fc.record({
    t: fc.constant('intent' as const),
    tree,
    revision,
    slots: pairs(anySlot),
    ancestor: pairs(entry),
  }),
  fc.record({
    t: fc.constant('commit' as const),
    tree,
    revision,
    slots: pairs(anySlot),
    stale: pairs(anySlot),
    ancestor: pairs(entry),
  }),
  fc.record({
    t: fc.constant('look' as const),
    slots: pairs(anySlot),
    stale: pairs(anySlot),
    same: fc.array(path, { maxLength: 2 }),
  }),
  fc.record({ t: fc.constant('settled' as const) }),
  fc.record({ t: fc.constant('mending' as const), names: fc.array(path, { maxLength: 2 }) }),
  fc.record({
    t: fc.constant('unadopted' as const),
    add: fc.array(path, { maxLength: 2 }),
    remove: fc.array(path, { maxLength: 2 }),
  }),
  fc.record(
    { t: fc.constant('ancestor' as const), entries: pairs(entry), revision },
    { requiredKeys: ['t', 'entries'] },
  ),
  fc.record({ t: fc.constant('pushing' as const), entries: pairs(entry) }),
  fc.record({ t: fc.constant('pushed' as const), all: fc.constant(true as const) }, { requiredKeys: ['t'] }),
  fc.record({ t: fc.constant('kept' as const), name, record: fc.option(fc.record({ path, slot: anySlot })) }),
  fc.record({
    t: fc.constant('parked' as const),
    name,
    record: fc.option(fc.record({ path, entry, revision, reason: path })),
  }),
);

describe('ledger', () => {
  let root: string;
  let layout: Layout;
  beforeEach(() => {
    root = temporaryDirectory();
    layout = layoutOf(root);
    fs.mkdirSync(layout.state);
  });
  afterEach(() => removeTree(root));

  function reopened(): unknown {
    const ledger = Ledger.open(unflushedFs, layout);
    try {
      return contents(ledger.state);
    } finally {
      ledger.close();
    }
  }

  function write(...records: LedgerRecord[]): void {
    const ledger = Ledger.open(unflushedFs, layout);
    ledger.write(records, true);
    ledger.close();
  }

  it('that is not there yet is empty', () => {
    expect(reopened()).to.deep.equal(contents(new LedgerState()));
    expect(fs.statSync(layout.ledger).mode & 0o777).to.equal(0o600);
  });

  it('gives back what was written', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 8 }), (records) => {
        fs.rmSync(layout.ledger, { force: true });
        write(...records);
        expect(reopened()).to.deep.equal(contents(fold(records)));
      }),
      seeded({ numRuns: 300 }),
    );
  });

  it('folds to the same as its few records do', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 12 }), (records) => {
        const state = fold(records);
        expect(contents(fold(state.records()))).to.deep.equal(contents(state));
      }),
      seeded({ numRuns: 1000 }),
    );
  });

  it('is rewritten when it has grown, and holds the same then', () => {
    const ledger = Ledger.open(unflushedFs, layout);
    const inode = fs.statSync(layout.ledger).ino;
    for (let round = 0; round < 300; round += 1) {
      const slots = Array.from(
        { length: 20 },
        (_, index) => [`f${index}`, slot(`${round} `.repeat(60))] as const,
      );
      ledger.write([{ t: 'look', slots, stale: [], same: [] }], false);
    }
    const state = contents(ledger.state);
    expect(fs.statSync(layout.ledger).ino).to.not.equal(inode);
    expect(fs.statSync(layout.ledger).size).to.be.lessThan(2 << 20);
    // What is appended afterwards goes to the new file.
    ledger.write([{ t: 'unadopted', add: ['x'], remove: [] }], true);
    ledger.close();
    expect(reopened()).to.deep.equal({ ...(state as object), unadopted: ['x'] });
    expect(fs.readdirSync(layout.state)).to.deep.equal(['ledger', 'ledger.mark']);
  });

  it('goes on in the old file when there is no room for a new one', () => {
    const disk = new StoppingFs(unflushedFs);
    const ledger = Ledger.open({ ...disk.port, write: (...args) => unflushedFs.write(...args) }, layout);
    const slots = Array.from({ length: 20 }, (_, index) => [`f${index}`, slot('x'.repeat(1000))] as const);
    const look: LedgerRecord = { t: 'look', slots, stale: [], same: [] };
    const inode = fs.statSync(layout.ledger).ino;
    disk.fill(1);
    for (let round = 0; round < 80; round += 1) ledger.write([look], false);
    expect(disk.stoppedAt).to.match(/ledger new/);
    expect(fs.statSync(layout.ledger).ino).to.equal(inode);
    disk.revive();
    for (let round = 0; round < 200; round += 1) ledger.write([look], false);
    expect(fs.statSync(layout.ledger).ino).to.not.equal(inode);
    ledger.close();
    expect(reopened()).to.deep.equal(contents(fold([look])));
  });

  it('has whole lines again after one that the disk took only a part of', () => {
    const disk = new StoppingFs(unflushedFs);
    const ledger = Ledger.open(disk.port, layout);
    ledger.write([{ t: 'unadopted', add: ['a'], remove: [] }], false);
    disk.fill(1);
    expect(() => ledger.write([{ t: 'unadopted', add: ['b'], remove: [] }], false)).to.throw('no space left');
    // Still full.
    expect(() => ledger.write([{ t: 'unadopted', add: ['c'], remove: [] }], false)).to.throw('no space left');
    disk.revive();
    ledger.write([{ t: 'unadopted', add: ['d'], remove: [] }], false);
    expect([...ledger.state.unadopted]).to.deep.equal(['a', 'd']);
    ledger.close();
    expect(reopened()).to.have.property('unadopted').that.deep.equals(['a', 'd']);
  });

  it('loses only the last line when that is torn anywhere', () => {
    write({ t: 'unadopted', add: ['a'], remove: [] });
    const whole = fs.readFileSync(layout.ledger);
    const ledger = Ledger.open(unflushedFs, layout);
    ledger.write([{ t: 'unadopted', add: ['caf\xc3\xa9', '12n'], remove: [] }], false);
    ledger.close();
    const both = fs.readFileSync(layout.ledger);
    for (let length = whole.length; length < both.length; length += 1) {
      fs.writeFileSync(layout.ledger, both.subarray(0, length));
      expect(reopened()).to.have.property('unadopted').that.deep.equals(['a']);
      expect(fs.statSync(layout.ledger).size).to.equal(whole.length);
    }
    // Zeros, as a power cut leaves them behind.
    fs.writeFileSync(layout.ledger, Buffer.concat([whole, Buffer.alloc(100)]));
    expect(reopened()).to.have.property('unadopted').that.deep.equals(['a']);
  });

  describe('that is not what it was', () => {
    beforeEach(() => {
      write({ t: 'unadopted', add: ['a'], remove: [] });
      write({ t: 'unadopted', add: ['b'], remove: [] });
      write({ t: 'mending', names: ['c'] });
    });

    /** It is empty now, what there was is set aside, and it goes on. */
    function expectLost(reason: RegExp, content: Uint8Array | string | undefined): void {
      const ledger = Ledger.open(unflushedFs, layout);
      expect(ledger.lost).to.match(reason);
      expect(contents(ledger.state)).to.deep.equal(contents(new LedgerState()));
      ledger.write([{ t: 'unadopted', add: ['z'], remove: [] }], true);
      ledger.close();
      expect(reopened()).to.have.property('unadopted').that.deep.equals(['z']);
      if (content !== undefined)
        expect(fs.readFileSync(`${layout.ledger}.lost`)).to.deep.equal(Buffer.from(content));
    }

    for (const [title, line] of [
      ['no JSON', '{"t":"unadopted"'],
      ['no object', '5'],
      ['null', 'null'],
      ['an object of another kind', '{"a":1}'],
    ] as const) {
      it(`is lost with ${title} in the middle`, () => {
        fs.appendFileSync(layout.ledger, `${line}\n{"t":"settled"}\n`);
        expectLost(/^line 5 is no record$/, fs.readFileSync(layout.ledger));
      });
    }

    it('is lost when it was cut, whatever the length', () => {
      const [whole, mark] = [fs.readFileSync(layout.ledger), fs.readFileSync(layout.mark)];
      for (let length = 0; length < whole.length; length += 1) {
        fs.writeFileSync(layout.ledger, whole.subarray(0, length));
        fs.writeFileSync(layout.mark, mark);
        expectLost(/^it was cut/, whole.subarray(0, length));
      }
    });

    it('is what it was when only the mark was lost, and is read without it', () => {
      const whole = reopened();
      for (const text of ['', 'no mark', '\0'.repeat(60)]) {
        fs.writeFileSync(layout.mark, text);
        expect(reopened()).to.deep.equal(whole);
      }
      fs.unlinkSync(layout.mark);
      expect(reopened()).to.deep.equal(whole);
    });

    it('is lost when it holds nothing but zeros', () => {
      const zeros = Buffer.alloc(fs.statSync(layout.ledger).size);
      fs.writeFileSync(layout.ledger, zeros);
      expectLost(/^it was cut/, zeros);
    });

    it('is lost when zeros are in it', () => {
      const bytes = fs.readFileSync(layout.ledger);
      bytes.fill(0, bytes.indexOf(0x0a) + 5, bytes.indexOf(0x0a) + 9);
      fs.writeFileSync(layout.ledger, bytes);
      expectLost(/^line 2 is no record$/, bytes);
    });

    it('is lost when it is something else', () => {
      fs.writeFileSync(layout.ledger, 'server { listen 80; }\n');
      expectLost(/^line 1 is no record$/, 'server { listen 80; }\n');
      fs.unlinkSync(layout.ledger);
      fs.mkdirSync(layout.ledger);
      expectLost(/^it is a directory$/, undefined);
    });

    it('is lost when it is of another directory', () => {
      const other = temporaryDirectory();
      const there = layoutOf(other);
      fs.cpSync(layout.state, there.state, { recursive: true });
      const ledger = Ledger.open(unflushedFs, there);
      ledger.close();
      expect(ledger.lost).to.equal('it is of another directory');
      removeTree(other);
    });

    it('is lost when another one was appended to it', () => {
      const bytes = fs.readFileSync(layout.ledger);
      fs.writeFileSync(layout.ledger, Buffer.concat([bytes, bytes]));
      expectLost(/^line 5 is the first one of another log$/, Buffer.concat([bytes, bytes]));
    });
  });

  it('of a newer format is refused and not touched', () => {
    write({ t: 'settled' });
    const text = fs.readFileSync(layout.ledger, 'utf8').replace('"format":2', '"format":3');
    fs.writeFileSync(layout.ledger, `${text}{"t":"of the future"}\n{"torn`);
    const before = [fs.readFileSync(layout.ledger), fs.statSync(layout.ledger, { bigint: true }).ctimeNs];
    for (const open of [
      (): unknown => Ledger.open(unflushedFs, layout),
      (): unknown => Ledger.assertReadable(unflushedFs, layout),
    ]) {
      expect(open).to.throw(ConfigError, /format 3, .* up to 2: use a newer one/);
    }
    const after = [fs.readFileSync(layout.ledger), fs.statSync(layout.ledger, { bigint: true }).ctimeNs];
    expect(after).to.deep.equal(before);
  });

  it('of format 1, as an agent wrote it, is upgraded', () => {
    const recorded = new URL('../../fixtures/ledger-format-1.jsonl', import.meta.url);
    fs.copyFileSync(recorded, layout.ledger);
    const ledger = Ledger.open(unflushedFs, layout);
    const before = contents(ledger.state);
    ledger.close();
    const { state } = ledger;
    expect(state.owner?.uuid).to.equal('f37de561-ad6f-4e83-91fc-c270f0d2fb3e');
    expect([state.active, state.revision]).to.deep.equal(['b', 10n]);
    expect([...state.unadopted]).to.deep.equal(['before']);
    expect([...state.ancestor.keys()].sort()).to.deep.equal(['a', 'd', 'd/12n', 'd/f', 'd/new', 'l']);
    expect([...state.slots.entries()].map(([path]) => path).sort()).to.deep.equal([
      'a',
      'before',
      'd',
      'd/12n',
      'd/f',
      'd/new',
      'l',
    ]);
    const [shown, agreed] = [state.slots.get('d/new'), state.ancestor.get('d/new')];
    expect(shown?.type === 'file' && agreed?.type === 'file' && shown.digest === agreed.digest).to.equal(
      true,
    );
    expect(fs.readFileSync(layout.ledger, 'utf8')).to.match(/^\{"t":"format","format":2,/);
    expect(reopened()).to.deep.equal(before);
  });
});
