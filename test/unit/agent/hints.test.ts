import { expect } from 'chai';

import { Hints } from '../../../src/agent/look/hints.ts';
import { layoutOf } from '../../../src/agent/disk/layout.ts';
import type { WatchPort } from '../../../src/agent/base/ports.ts';

class Told implements WatchPort {
  hint: Parameters<WatchPort['start']>[0] = () => undefined;
  error: Parameters<WatchPort['start']>[1] = () => undefined;
  start(hint: Told['hint'], error: Told['error']): void {
    this.hint = hint;
    this.error = error;
  }
  async close(): Promise<void> {}
}

function hints(): { readonly told: Told; readonly hints: Hints } {
  const told = new Told();
  const made = new Hints({ watch: told, layout: layoutOf('/dir'), rescanMs: 5000, onHint: () => undefined });
  made.start();
  made.take(false, false);
  return { told, hints: made };
}

describe('hints', () => {
  it('names directories of the view, whichever tree they are in', () => {
    const { told, hints: made } = hints();
    for (const dir of ['/dir', '/dir/..a/x', '/dir/..b/x', '/dir/..a/x/y', '/dir/real']) told.hint(dir);
    expect(made.take(false, false)).to.deep.equal(new Set(['', 'x', 'x/y']));
    expect(made.take(false, false)).to.equal(undefined);
    expect(made.take(false, true)).to.deep.equal(new Set());
  });

  it('asks for a look everywhere at the start, and when it is not known where', () => {
    const { told, hints: made } = hints();
    told.hint('/dir');
    told.hint(undefined);
    expect(made.take(false, false)).to.equal('all');
    expect(made.take(true, false)).to.equal('all');
  });

  it('looks more often while not all is watched, but not all the time', () => {
    const { told, hints: made } = hints();
    expect([made.rescanMs, made.problem]).to.deep.equal([5000, undefined]);
    told.error(new Error('no more watches'));
    told.error(new Error('no more watches either'));
    expect(made.problem).to.match(/changes are found by looking: no more watches$/);
    expect(made.rescanMs).to.equal(1000);
    made.looked(100);
    expect(made.rescanMs).to.equal(2000);
    made.looked(1000);
    expect(made.rescanMs).to.equal(5000);
    told.error(undefined);
    expect([made.rescanMs, made.problem]).to.deep.equal([5000, undefined]);
  });
});
