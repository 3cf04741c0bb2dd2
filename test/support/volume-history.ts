/** What every transaction did to the tree of a volume, by path. */

import { systemClock } from '../../src/agent/base/clock.ts';
import { etcdStore } from '../../src/agent/etcd/etcd.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, ROOT_INO } from '../../src/codec/key.ts';
import type { ByteString, StoreEvent } from '../../src/codec/kv.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import { volumeRevision } from './stillness.ts';
import { followWatch, type Followed } from './watch-recorder.ts';

/** One revision. */
export interface Step {
  readonly revision: bigint;
  /** The names that were set or removed and the inodes that were written, where they were then. What has no name then is left out. */
  readonly paths: ReadonlySet<Path>;
}

export class VolumeHistory {
  readonly #store: EtcdStore;
  readonly #prefix: ByteString;
  readonly #watch: Followed;
  /** Where each inode was named last. */
  readonly #names = new Map<bigint, { readonly parent: bigint; readonly name: ByteString }>();
  readonly #steps: Step[] = [];
  #read = 0;

  /** Follows a volume from its first revision on. */
  constructor(metaUrl: string) {
    const address = parseMetaUrl(metaUrl);
    this.#store = etcdStore(address, systemClock);
    this.#prefix = `${address.prefix}A`;
    this.#watch = followWatch(this.#store, [prefixRange(this.#prefix)], 1n);
  }

  /** All steps until now. */
  async steps(): Promise<readonly Step[]> {
    const newest = await volumeRevision(this.#store, this.#prefix);
    await this.#watch.until('the history is complete', () => this.#watch.newest(0) >= newest);
    for (const { revision, events } of (this.#watch.revisions[0] ?? []).slice(this.#read)) {
      this.#read += 1;
      this.#steps.push({ revision, paths: this.#pathsOf(events) });
    }
    return this.#steps;
  }

  #pathsOf(events: readonly StoreEvent[]): Set<Path> {
    const paths = new Set<Path>();
    const note = (path: Path | undefined): void => {
      if (path !== undefined && path !== '') paths.add(path);
    };
    const decoded = events.map((event) => ({
      key: decodeKey(`A${(event.type === 'put' ? event.kv.key : event.key).slice(this.#prefix.length)}`),
      value: event.type === 'put' ? event.kv.value : undefined,
    }));
    for (const { key, value } of decoded) {
      if (key.kind === 'dentry' && value !== undefined) this.#names.set(decodeDentry(value).ino, key);
    }
    for (const { key } of decoded) {
      if (key.kind === 'dentry') note(this.#below(key.parent, key.name));
      else if ('ino' in key) note(this.#pathOf(key.ino));
    }
    return paths;
  }

  #below(parent: bigint, name: ByteString): Path | undefined {
    const dir = this.#pathOf(parent);
    return dir === '' ? name : dir && `${dir}/${name}`;
  }

  #pathOf(ino: bigint): Path | undefined {
    if (ino === ROOT_INO) return '';
    const at = this.#names.get(ino);
    return at && this.#below(at.parent, at.name);
  }

  async stop(): Promise<void> {
    await this.#watch.stop();
    await this.#store.close();
  }
}
