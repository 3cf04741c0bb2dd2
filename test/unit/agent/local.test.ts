/** What a look found, taken into the ledger. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { nodeFs } from '../../../src/agent/fs.ts';
import { layoutOf } from '../../../src/agent/layout.ts';
import { Ledger } from '../../../src/agent/ledger.ts';
import { NOTHING_HELD } from '../../../src/reconcile/attributes.ts';
import { Local } from '../../../src/agent/local.ts';
import type { Look } from '../../../src/agent/look.ts';
import type { Slot } from '../../../src/agent/slot.ts';

const FILE: Slot = {
  type: 'file',
  digest: 'd1',
  signature: { ino: 7n, size: 1n, mtimeNs: 1n, ctimeNs: 1n, mode: 0o644, uid: 0, gid: 0 },
};

function lookWith(found: Partial<Look>): Look {
  return {
    edits: new Map(),
    adoptions: new Map(),
    losers: [],
    idle: new Map(),
    same: new Set(),
    kept: new Map(),
    mend: new Set(),
    busy: new Set(),
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
});
