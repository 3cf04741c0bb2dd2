import { expect } from 'chai';
import { conflictMode, conflictStamp, copyPath, recordPath } from '../../../src/reconcile/conflict-path.ts';

const timeNs = BigInt(Date.UTC(2026, 10, 22, 15, 4, 5)) * 1_000_000n + 678n;

describe('conflictStamp', () => {
  it('tells when, at which revision, by whom, and of which file', () => {
    const stamp = conflictStamp({ timeNs, revision: 42n, agentId: 'pod-0.web' });
    expect(stamp).to.equal('20261122T150405Z-r42-pod-0.web');
    expect(copyPath(stamp, 'etc/nginx/nginx.conf')).to.equal(`.conflicts/${stamp}/etc/nginx/nginx.conf`);
    expect(recordPath(stamp, '12ab')).to.equal(`.conflicts/.records/${stamp}/12ab.json`);
  });

  it('makes one name of any agent id', () => {
    expect(conflictStamp({ timeNs, revision: 1n, agentId: '../a b\xff/c' })).to.equal(
      '20261122T150405Z-r1-.._a_b__c',
    );
  });
});

describe('conflictMode', () => {
  it('leaves the owner his bits and nobody else any', () => {
    expect(conflictMode(0o4755)).to.equal(0o700);
    expect(conflictMode(0o644)).to.equal(0o600);
  });
});
