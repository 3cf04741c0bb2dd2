/** Targets that climb out of the view, and targets that run through the agent's own names. */

import { expect } from 'chai';

import { targetInVolume, targetOnDisk, topTargetInVolume } from '../../../src/reconcile/target.ts';

describe('symlink targets', () => {
  const table: [what: string, link: string, volume: string, disk: string][] = [
    ['a sibling stays', 'a/l', 'f', 'f'],
    ['within the view stays', 'a/l', '../b/f', '../b/f'],
    ['a top-level link that climbs out gets one more', 'cert.pem', '../ssl/c.pem', '../../ssl/c.pem'],
    ['a deeper link that climbs out gets one more', 'a/b/l', '../../../x', '../../../../x'],
    ['the extra part stands where the target leaves the view', 'l', 'a/../../x', 'a/../../../x'],
    ['absolute stays', 'l', '/etc/hostname', '/etc/hostname'],
    ['dots and doubled slashes are not levels', 'l', './/../x', './/../../x'],
    ['the parent of the view itself', 'l', '..', '../..'],
  ];
  for (const [what, link, volume, disk] of table) {
    it(what, () => {
      expect(targetOnDisk(volume, link)).to.equal(disk);
      expect(targetInVolume(disk, link, '/etc/nginx')).to.equal(volume);
    });
  }

  it('takes the tree names off a local target', () => {
    expect(targetInVolume('../..data/x', 'l', '/d')).to.equal('x');
    expect(targetInVolume('../../..a/x/y', 'c/l', '/d')).to.equal('../x/y');
    expect(targetInVolume('/d/..data/x', 'l', '/d')).to.equal('/d/x');
    expect(targetInVolume('/e/..data/x', 'l', '/d')).to.equal('/e/..data/x');
    expect(targetInVolume('../x', 'l', '/d')).to.equal('x');
    expect(topTargetInVolume('..data/x', '/d')).to.equal('x');
    expect(topTargetInVolume('../x', '/d')).to.equal('../x');
  });
});
