/** Recordings of the real client, applied one revision at a time, end where a fresh reading of the final state does. */

import { expect } from 'chai';
import type { ByteString, Kv, StoreEvent } from '../../../src/codec/kv.ts';
import { RemoteView } from '../../../src/reconcile/assemble.ts';
import { loadRecording, metaEvents, metaKvs, recordingNames } from '../../support/fixture.ts';
import { rootFor } from '../../support/recording.ts';
import { indexOf, viewOf } from '../../support/remote.ts';
import { contentsOf } from '../../support/same-index.ts';

describe('recordings of single operations', () => {
  for (const name of recordingNames()) {
    const recording = loadRecording(name);
    const start = metaKvs({ kvs: recording.start, metaPrefix: recording.metaPrefix });
    const revisions = recording.revisions.map(({ events }) => metaEvents(events, recording.metaPrefix));
    const state = new Map([...start, ...rootFor(start, revisions)].map((kv) => [kv.key, kv]));

    it(`${name}: revision by revision is the same as afresh`, () => {
      const index = indexOf(state.values());
      const view = new RemoteView(index, { subdir: [], hidden: () => false });
      view.refresh();
      for (const events of revisions) {
        const before = new Map(view.entries);
        const changed = view.refresh(index.apply(events));
        applyTo(state, events);
        const afresh = indexOf(state.values());
        expect(contentsOf(index)).to.deep.equal(contentsOf(afresh));
        const fresh = viewOf(afresh);
        expect(new Map(view.entries)).to.deep.equal(new Map(fresh.entries));
        expect(new Map(view.problems)).to.deep.equal(new Map(fresh.problems));
        expect(changed).to.deep.equal(differences(before, view.entries));
      }
    });
  }

  it('show what the operation did', () => {
    const shown = (name: string): string[] => {
      const recording = loadRecording(name);
      const start = metaKvs({ kvs: recording.start, metaPrefix: recording.metaPrefix });
      const revisions = recording.revisions.map(({ events }) => metaEvents(events, recording.metaPrefix));
      const index = indexOf([...start, ...rootFor(start, revisions)]);
      const view = viewOf(index);
      return revisions.flatMap((events) => {
        const changed = [...view.refresh(index.apply(events))].sort();
        const names = changed.map((path) => `${view.entries.has(path) ? '' : '-'}${path}`);
        return names.length === 0 ? [] : [names.join(' ')];
      });
    };
    expect(shown('append')).to.deep.equal(['i18']);
    expect(shown('chmod')).to.have.length(1);
    expect(shown('rename')[0]).to.match(/^(i\d+) -\1\/f \1\/g$/);
    expect(shown('rename-dir')[0]).to.match(/^(i\d+) -\1\/d \1\/e$/);
    expect(shown('overwrite-truncate')).to.have.length(2);
    expect(shown('mkdir-p-3').at(-1)).to.match(/\/a\/b i\d+\/a\/b\/c$/);
    expect(shown('unlink')[0]).to.match(/^(i\d+) -\1\/f$/);
    expect(shown('cp-r-20').slice(0, 2).join(' ')).to.match(/^(i\d+) \1\/dst \1\/dst\/f1$/);
    expect(shown('configmap-swap').slice(-3).join(' ')).to.match(
      /^(i\d+)\/\.\.data -\1\/\.\.data_tmp \1\/\.\.v1 -\1\/\.\.v1\/k \1 -\1\/\.\.v1$/,
    );
    for (const quiet of ['idle-60s', 'flock', 'setxattr', 'session-mount']) {
      expect(shown(quiet)).to.deep.equal([]);
    }
  });
});

function applyTo(state: Map<ByteString, Kv>, events: readonly StoreEvent[]): void {
  for (const event of events) {
    if (event.type === 'put') state.set(event.kv.key, event.kv);
    else state.delete(event.key);
  }
}

function differences(before: ReadonlyMap<string, unknown>, after: ReadonlyMap<string, unknown>): Set<string> {
  const paths = new Set<string>();
  for (const path of new Set([...before.keys(), ...after.keys()])) {
    if (!sameJson(before.get(path), after.get(path))) paths.add(path);
  }
  return paths;
}

function sameJson(a: unknown, b: unknown): boolean {
  return toJson(a) === toJson(b);
}

function toJson(value: unknown): string | undefined {
  return JSON.stringify(value, (_key, field: unknown) => (typeof field === 'bigint' ? `${field}n` : field));
}
