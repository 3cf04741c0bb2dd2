/** What etcd says, and which of our errors that is. */

import { expect } from 'chai';
import { castGrpcError } from 'etcd3';
import {
  closesChannel,
  isAnswerTooLarge,
  statusOf,
  translate,
  translateCancel,
  translateCommit,
  translateStream,
} from '../../../src/agent/etcd/etcd-error.ts';
import { AuthError, codeOf } from '../../../src/agent/base/error.ts';

const NAMES: Readonly<Record<number, string>> = {
  1: 'CANCELLED',
  2: 'UNKNOWN',
  3: 'INVALID_ARGUMENT',
  4: 'DEADLINE_EXCEEDED',
  5: 'NOT_FOUND',
  7: 'PERMISSION_DENIED',
  8: 'RESOURCE_EXHAUSTED',
  11: 'OUT_OF_RANGE',
  13: 'INTERNAL',
  14: 'UNAVAILABLE',
  16: 'UNAUTHENTICATED',
};

/** As grpc-js makes it and etcd3 changes it. */
function grpcError(code: number, details: string): Error {
  return castGrpcError(Object.assign(new Error(`${code} ${NAMES[code]}: ${details}`), { code, details }));
}

describe('errors of etcd', () => {
  for (const [code, details, ours, commits] of [
    [
      14,
      'No connection established. Last error: connect ECONNREFUSED',
      'ERR_UNAVAILABLE',
      'ERR_UNKNOWN_OUTCOME',
    ],
    [14, 'etcdserver: no leader', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [14, 'etcdserver: request timed out', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [14, 'Connection dropped', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [4, 'Deadline exceeded after 5.001s', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [1, 'stopped', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [2, 'anything', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [13, 'Received RST_STREAM with code 2', 'ERR_UNAVAILABLE', 'ERR_UNKNOWN_OUTCOME'],
    [11, 'etcdserver: mvcc: required revision has been compacted', 'ERR_COMPACTED', 'ERR_COMPACTED'],
    [11, 'etcdserver: mvcc: required revision is a future revision', 'ERR_UNAVAILABLE', 'ERR_UNAVAILABLE'],
    [8, 'etcdserver: mvcc: database space exceeded', 'ERR_LIMIT', 'ERR_LIMIT'],
    [8, 'grpc: received message larger than max (2097200 vs. 2097152)', 'ERR_LIMIT', 'ERR_LIMIT'],
    [8, 'etcdserver: too many requests', 'ERR_UNAVAILABLE', 'ERR_UNAVAILABLE'],
    [3, 'etcdserver: request is too large', 'ERR_LIMIT', 'ERR_LIMIT'],
    [3, 'etcdserver: too many operations in txn request', 'ERR_LIMIT', 'ERR_LIMIT'],
    [3, 'etcdserver: authentication failed, invalid user ID or password', 'ERR_AUTH', 'ERR_AUTH'],
    [3, 'etcdserver: user name is empty', 'ERR_AUTH', 'ERR_AUTH'],
    [3, 'etcdserver: revision of auth store is old', 'ERR_UNAVAILABLE', 'ERR_UNAVAILABLE'],
    [7, 'etcdserver: permission denied', 'ERR_AUTH', 'ERR_AUTH'],
    [16, 'the token was refused', 'ERR_UNAVAILABLE', 'ERR_UNAVAILABLE'],
    [14, 'Last error: unable to verify the first certificate', 'ERR_AUTH', 'ERR_UNKNOWN_OUTCOME'],
    // Our own mistakes: nothing that the world may do, so no code.
    [3, 'etcdserver: duplicate key given in txn request', undefined, undefined],
    [5, 'etcdserver: requested lease not found', 'ERR_LEASE_GONE', 'ERR_LEASE_GONE'],
  ] as const) {
    it(`${code} "${details}" is ${ours ?? 'no failure of the world'}; of a transaction ${commits ?? 'neither'}`, () => {
      const error = grpcError(code, details);
      expect(codeOf(translate(error))).to.equal(ours);
      expect(codeOf(translateCommit(error))).to.equal(commits);
    });
  }

  it('keep the status that etcd3 left in their text, and carry it as their cause', () => {
    const error = grpcError(14, 'two\nlines: of text');
    expect(statusOf(error)).to.deep.equal({ code: 14, details: 'two\nlines: of text' });
    expect(translate(error)).to.have.property('cause', error);
    expect(translate(error)).to.have.property('message', 'two\nlines: of text');
    expect(statusOf(new Error('anything else'))).to.equal(undefined);
  });

  it('tell a call that came too late for its connection: it was never sent', () => {
    const error = castGrpcError(new Error('Channel has been shut down'));
    expect(codeOf(translate(error))).to.equal('ERR_UNAVAILABLE');
    expect(codeOf(translateCommit(error))).to.equal('ERR_UNAVAILABLE');
    expect(closesChannel(error)).to.equal(true);
  });

  it('that are ours already stay what they are', () => {
    const error = new AuthError('refused');
    expect(translate(error)).to.equal(error);
  });

  it('tell an answer that is too large for us from a request that is too large for etcd', () => {
    expect(isAnswerTooLarge(grpcError(8, 'Received message larger than max (9 vs 4)'))).to.equal(true);
    expect(isAnswerTooLarge(grpcError(8, 'grpc: received message larger than max (9 vs. 4)'))).to.equal(
      false,
    );
  });

  it('tell whether etcd3 closed the channel', () => {
    expect(closesChannel(grpcError(14, 'Connection dropped'))).to.equal(true);
    expect(closesChannel(grpcError(8, 'etcdserver: mvcc: database space exceeded'))).to.equal(true);
    expect(closesChannel(grpcError(11, 'etcdserver: mvcc: required revision has been compacted'))).to.equal(
      false,
    );
  });

  for (const [reason, ours] of [
    ['rpc error: code = Unauthenticated desc = etcdserver: invalid auth token', 'ERR_UNAVAILABLE'],
    ['rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old', 'ERR_UNAVAILABLE'],
    ['rpc error: code = PermissionDenied desc = etcdserver: permission denied', 'ERR_AUTH'],
    ['rpc error: code = InvalidArgument desc = etcdserver: user name is empty', 'ERR_AUTH'],
    ['', 'ERR_UNAVAILABLE'],
    ['etcdserver: watch canceled for reasons unheard of', 'ERR_UNAVAILABLE'],
  ] as const) {
    it(`"${reason}" as the reason why a watch was canceled is ${ours}`, () => {
      expect(codeOf(translateCancel(reason))).to.equal(ours);
    });
  }

  for (const [code, details, ours] of [
    [14, 'etcdserver: no leader', 'ERR_UNAVAILABLE'],
    [7, 'etcdserver: permission denied', 'ERR_AUTH'],
    [8, 'Received message larger than max (9 vs 4)', 'ERR_COMPACTED'],
    [5, 'a load balancer that knows no such path', 'ERR_UNAVAILABLE'],
  ] as const) {
    it(`${code} "${details}" as the end of a watch stream is ${ours}`, () => {
      expect(codeOf(translateStream(grpcError(code, details)))).to.equal(ours);
    });
  }
});
