/** Every revision of a store, kept from its compactions. */

import type { ByteString, KeyRange, Kv } from '../../src/codec/kv.ts';
import { keyOf, MemoryEtcd, type CommittedRevision } from '../support/memory-etcd.ts';
import type { Keys } from './mount.ts';

interface Version {
  readonly revision: bigint;
  readonly kv: Kv | undefined;
}

export class Archive {
  readonly #versions = new Map<ByteString, Version[]>();

  note({ revision, events }: CommittedRevision): void {
    for (const event of events) {
      const kv = event.type === 'put' ? event.kv : undefined;
      const versions = this.#versions.get(keyOf(event));
      if (versions === undefined) this.#versions.set(keyOf(event), [{ revision, kv }]);
      else versions.push({ revision, kv });
    }
  }

  /** What was there at a revision. */
  get(key: ByteString, revision: bigint): Kv | undefined {
    return this.#versions.get(key)?.findLast((version) => version.revision <= revision)?.kv;
  }

  range({ start, end }: KeyRange, revision: bigint): Kv[] {
    const keys = [...this.#versions.keys()].filter((key) => key >= start && key < end).sort();
    return keys.flatMap((key) => this.get(key, revision) ?? []);
  }

  at(revision: bigint): Keys {
    return {
      get: (key) => this.get(key, revision),
      range: (range) => this.range(range, revision),
      commit: () => {
        throw new Error('an archive is read');
      },
    };
  }

  /** A store that holds what was there at a revision. */
  etcdAt(revision: bigint): MemoryEtcd {
    const etcd = new MemoryEtcd(() => 0);
    for (const { key, value } of this.range({ start: '', end: '\xff\xff' }, revision))
      etcd.commit({ compares: [], ops: [{ type: 'put', key, value }] });
    return etcd;
  }
}
