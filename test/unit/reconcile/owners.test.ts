/** New entries of an agent that may not chown belong to whom their directory belongs. */

import { expect } from 'chai';

import type { Change } from '../../../src/reconcile/change.ts';
import type { Entry } from '../../../src/reconcile/entry.ts';
import { inheritOwners } from '../../../src/reconcile/owners.ts';

const directory = (uid: number): Entry => ({
  type: 'directory',
  ino: 0n,
  mode: 0o755,
  uid,
  gid: uid,
  mtimeNs: 0n,
});
const owners = (changes: readonly Change[]): (number | undefined)[] =>
  changes.map((change) => change.new?.uid);

describe('owners of new entries', () => {
  const volume = new Map([['conf.d', { uid: 33, gid: 33 }]]);
  const root = { uid: 7, gid: 7 };
  const added = (path: string): Change => ({ path, old: undefined, new: directory(65534) });

  it('come from the parent in the volume, the root included', () => {
    expect(
      owners(inheritOwners([added('conf.d/x'), added('y')], (path) => volume.get(path), root)),
    ).to.deep.equal([33, 7]);
  });

  it('are handed down through directories that are new as well, whatever the order of the changes', () => {
    const changes = [added('conf.d/a/b/c'), added('conf.d/a/b'), added('conf.d/a')];
    expect(owners(inheritOwners(changes, (path) => volume.get(path), root))).to.deep.equal([33, 33, 33]);
  });

  it('stay what they are where something was there', () => {
    const change: Change = { path: 'conf.d', old: directory(33), new: directory(33) };
    expect(inheritOwners([change], () => undefined, root)).to.deep.equal([change]);
  });
});
