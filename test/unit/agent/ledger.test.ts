import fs from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';

import { codeOf, LocalError } from '../../../src/agent/error.ts';
import { layoutOf, type Layout } from '../../../src/agent/layout.ts';
import { Ledger, LedgerState, type AncestorEntry, type LedgerRecord } from '../../../src/agent/ledger.ts';
import type { Slot } from '../../../src/agent/slot.ts';
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
    replaced: sorted(state.replaced),
    kept: sorted(state.kept),
    parked: sorted(state.parked),
    unadopted: [...state.unadopted].sort(),
    mending: [...state.mending].sort(),
    pushing: sorted(state.pushing),
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
    format: fc.constant(1),
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
  fc.record({ t: fc.constant('pushed' as const) }),
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
    expect(fs.readdirSync(layout.state)).to.deep.equal(['ledger']);
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
    write({ t: 'unadopted', add: ['caf\xc3\xa9', '12n'], remove: [] });
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

  for (const [title, line] of [
    ['no JSON', '{"t":"unadopted"'],
    ['no object', '5'],
    ['null', 'null'],
    ['an object of another kind', '{"a":1}'],
  ] as const) {
    it(`is refused with ${title} in the middle`, () => {
      write({ t: 'settled' });
      fs.appendFileSync(layout.ledger, `${line}\n`);
      write2(layout.ledger);
      let caught: unknown;
      try {
        Ledger.open(unflushedFs, layout);
      } catch (error) {
        caught = error;
      }
      expect(caught).to.be.instanceOf(LocalError);
      expect(caught).to.include({ message: 'line 2 of the state file is not a record', path: layout.ledger });
      expect(codeOf(caught)).to.equal('ERR_LOCAL');
    });
  }

  it('of a newer format is refused', () => {
    write({ t: 'owner', format: 2, owner: { uuid: 'u', subdir: '' } });
    expect(() => Ledger.open(unflushedFs, layout)).to.throw(LocalError, 'format 2, newer than 1');
  });
});

/** One more good line. */
function write2(file: string): void {
  fs.appendFileSync(file, '{"t":"settled"}\n');
}
