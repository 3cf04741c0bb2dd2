import { expect } from 'chai';
import { conflictMode, conflictPath } from '../../../src/reconcile/conflict-path.ts';

const timeNs = BigInt(Date.UTC(2026, 10, 22, 15, 4, 5)) * 1_000_000n + 678n;

describe('conflictPath', () => {
  it('tells when, at which revision, by whom, and of which file', () => {
    expect(conflictPath('etc/nginx/nginx.conf', { timeNs, revision: 42n, agentId: 'pod-0.web' })).to.equal(
      '.conflicts/20261122T150405Z-r42-pod-0.web/etc/nginx/nginx.conf',
    );
  });

  it('makes one name of any agent id', () => {
    expect(conflictPath('f', { timeNs, revision: 1n, agentId: '../a b\xff/c' })).to.equal(
      '.conflicts/20261122T150405Z-r1-.._a_b__c/f',
    );
  });
});

describe('conflictMode', () => {
  it('leaves the owner his bits and nobody else any', () => {
    expect(conflictMode(0o4755)).to.equal(0o700);
    expect(conflictMode(0o644)).to.equal(0o600);
  });
});
