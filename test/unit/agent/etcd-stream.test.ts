/** Which servers' progress may be believed. */

import { expect } from 'chai';
import { hasExactProgress } from '../../../src/agent/etcd/etcd-stream.ts';

describe('progress of a watch', () => {
  for (const [version, exact] of [
    ['3.3.27', false],
    ['3.4.23', false],
    ['3.4.24', false],
    ['3.4.25', true],
    ['3.4.45', true],
    ['3.5.1', false],
    ['3.5.7', false],
    ['3.5.8', true],
    ['3.5.33', true],
    ['3.6.0', true],
    ['3.6.0-rc.1', true],
    ['3.10.2', true],
    ['4.0.0', true],
    ['2.3.8', false],
    ['', false],
    ['not decided', false],
  ] as const) {
    it(`of etcd ${version === '' ? 'without a version' : version} is ${exact ? '' : 'not '}in step with the events`, () => {
      expect(hasExactProgress(version)).to.equal(exact);
    });
  }
});
