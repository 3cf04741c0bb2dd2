import fs from 'node:fs';
import { expect } from 'chai';

import { acceptTrip, Guards } from '../../../src/agent/guard/guards.ts';
import { MassDelete, type Turn } from '../../../src/agent/guard/mass-delete.ts';
import type { Change } from '../../../src/reconcile/change.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { removeTree, ServedDirectory, unflushedFs } from '../../support/served-directory.ts';
import { file, type Nodes } from '../../support/tree-on-disk.ts';
import { fileEntry } from '../../support/trees.ts';

const NAMES = Array.from({ length: 40 }, (_, index) => `f${index}`);

describe('the removals of a turn', () => {
  let served: ServedDirectory;
  let clock: ManualClock;
  let guards: Guards;
  let massDelete: MassDelete;

  beforeEach(async () => {
    served = await ServedDirectory.open();
    const view: Nodes = Object.fromEntries(NAMES.map((name) => [name, file(name)]));
    served.publish(view);
    served.catchUp();
    clock = new ManualClock();
    const { layout, ledger } = served;
    guards = new Guards({ fs: unflushedFs, layout, clock });
    massDelete = new MassDelete({ fs: unflushedFs, layout, clock, ledger, guards, maxPercent: 50 });
  });
  afterEach(async () => {
    await served.close();
    removeTree(served.root);
  });

  const removals = (names: readonly string[]): Change[] =>
    names.map((path) => ({ path, old: fileEntry(path), new: undefined }));

  function turn(fields: Partial<Turn>): Turn {
    return { toLocal: [], toRemote: [], busy: new Set(), isRootGone: false, ...fields };
  }

  /** Removals in the volume are judged, and when they may run both sides agree. */
  function pushed(names: readonly string[], busy: readonly string[] = []): string {
    const verdict = massDelete.judge(turn({ toRemote: removals(names), busy: new Set(busy) }));
    if (verdict === 'pass')
      served.ledger.write([{ t: 'ancestor', entries: names.map((name) => [name, null] as const) }], false);
    return verdict;
  }

  it('in small portions are seen for what they are together', () => {
    expect(pushed(NAMES.slice(0, 8))).to.equal('pass');
    expect(pushed(NAMES.slice(8, 16))).to.equal('pass');
    expect(pushed(NAMES.slice(16, 24))).to.equal('held');
    expect(guards.tripped[0]?.reason).to.match(/^24 of 40 files/);
  });

  it('in small portions with time between them may run', async () => {
    for (const start of [0, 8, 16, 24]) {
      expect(pushed(NAMES.slice(start, start + 8))).to.equal('pass');
      await clock.advance(11_000);
    }
  });

  it('do not count what a person has let go, nor what came in place of it', async () => {
    expect(pushed(NAMES.slice(0, 30))).to.equal('held');
    acceptTrip(unflushedFs, served.layout, guards.tripped[0]?.id ?? '');
    // Two turns: a push may need more than one.
    expect(massDelete.judge(turn({ toRemote: removals(NAMES.slice(0, 30)) }))).to.equal('pass');
    expect(pushed(NAMES.slice(0, 30))).to.equal('pass');
    expect(fs.readdirSync(served.layout.accept)).to.deep.equal([]);
    expect(pushed(NAMES.slice(30, 32))).to.equal('pass');
    // Ten again, of which a moved one is none.
    const moved = { path: 'new', old: undefined, new: fileEntry('f32') };
    expect(massDelete.judge(turn({ toRemote: [...removals(['f32']), moved] }))).to.equal('pass');
  });

  it('are judged anew when they come back', () => {
    expect(pushed(NAMES.slice(0, 30))).to.equal('held');
    acceptTrip(unflushedFs, served.layout, guards.tripped[0]?.id ?? '');
    expect(pushed(NAMES.slice(0, 30))).to.equal('pass');
    const again = NAMES.slice(0, 30).map((path) => [path, fileEntry(path)] as const);
    served.ledger.write([{ t: 'ancestor', entries: again }], false);
    massDelete.judge(
      turn({ toRemote: again.map(([path, entry]) => ({ path, old: undefined, new: entry })) }),
    );
    expect(pushed(NAMES.slice(0, 30))).to.equal('held');
  });

  it('wait while more is going, but not for ever', async () => {
    for (const name of NAMES) fs.unlinkSync(`${served.root}/..data/${name}`);
    expect(pushed(NAMES.slice(0, 3), NAMES.slice(3))).to.equal('later');
    await clock.advance(9_000);
    expect(pushed(NAMES.slice(0, 3), NAMES.slice(3))).to.equal('later');
    await clock.advance(2_000);
    expect(pushed(NAMES.slice(0, 3), NAMES.slice(3))).to.equal('pass');
  });

  it('do not wait for what is only being written', () => {
    expect(pushed(NAMES.slice(0, 3), NAMES.slice(3))).to.equal('pass');
  });

  it('of everything are no removals: the directory is restored', () => {
    expect(pushed(NAMES)).to.equal('restore');
    expect(guards.tripped.map(({ guard }) => guard)).to.deep.equal(['directory']);
    expect(pushed([])).to.equal('pass');
    expect(guards.tripped).to.deep.equal([]);
    expect([...guards.counts]).to.deep.equal([['directory', 1]]);
  });

  it('make nothing of what was accepted for something else', () => {
    acceptTrip(unflushedFs, served.layout, 'delete-01234567');
    expect(pushed(NAMES.slice(0, 30))).to.equal('held');
    guards.forgetUnused();
    expect(fs.readdirSync(served.layout.accept)).to.deep.equal(['delete-01234567']);
    expect(pushed([])).to.equal('pass');
    guards.forgetUnused();
    expect(fs.readdirSync(served.layout.accept)).to.deep.equal([]);
  });
});
