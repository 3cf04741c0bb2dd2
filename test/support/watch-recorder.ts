/** Handlers that write down what a watch told, and complain about what it must never tell. */

import { expect } from 'chai';
import type { KeyRange, StoreEvent } from '../../src/codec/kv.ts';
import type { EtcdStore, WatchHandlers } from '../../src/agent/base/ports.ts';
import { until } from './until.ts';

export interface RecordedRevision {
  readonly revision: bigint;
  readonly events: readonly StoreEvent[];
}

export class WatchRecorder implements WatchHandlers {
  /** By range. */
  readonly revisions: RecordedRevision[][] = [];
  /** The newest progress by range. */
  readonly progress: (bigint | undefined)[] = [];
  /** Reasons, in order, for which a stream that was up went down. */
  readonly downs: string[] = [];
  up = false;
  ups = 0;

  onRevision(range: number, revision: bigint, events: readonly StoreEvent[]): void {
    (this.revisions[range] ??= []).push({ revision, events });
  }

  onProgress(range: number, revision: bigint): void {
    this.progress[range] = revision;
  }

  onState(up: boolean, reason?: string): void {
    if (this.up && !up) this.downs.push(reason ?? '');
    if (up) this.ups += 1;
    this.up = up;
  }

  /** The newest revision delivered for a range; 0 before any. */
  newest(range: number): bigint {
    return this.revisions[range]?.at(-1)?.revision ?? 0n;
  }

  /** What a range got, short enough to compare: revision and sorted keys, deletes with a minus. */
  told(range: number): string[] {
    return (this.revisions[range] ?? []).map(({ revision, events }) => tell(revision, events.map(nameOf)));
  }
}

/** A watch under way, with what it told so far. */
export interface Followed extends WatchRecorder {
  /** Waits for a condition; fails at once when the watch has ended. */
  until(what: string, condition: () => boolean, limitMs?: number): Promise<void>;
  /** The error the watch ended with, when it did. */
  readonly ended: Error | undefined;
  /** Ends the watch, which must have lasted until now. */
  stop(): Promise<void>;
}

export function followWatch(store: EtcdStore, ranges: readonly KeyRange[], from: bigint): Followed {
  const abort = new AbortController();
  class FollowedWatch extends WatchRecorder implements Followed {
    ended: Error | undefined;

    async until(what: string, condition: () => boolean, limitMs?: number): Promise<void> {
      const met = (): boolean => {
        if (this.ended !== undefined) throw this.ended;
        return condition();
      };
      await until(what, met, limitMs);
    }

    async stop(): Promise<void> {
      expect(this.ended).to.equal(undefined);
      abort.abort();
      await watching;
      expect(this.ended).to.have.property('name', 'AbortError');
    }
  }
  const followed = new FollowedWatch();
  const watching = store.watch(ranges, from, followed, abort.signal).catch((error: unknown) => {
    followed.ended = error instanceof Error ? error : new Error(String(error));
  });
  return followed;
}

/** The short form of one revision, as `told` has it. */
export function tell(revision: bigint, names: readonly string[]): string {
  return `${revision}: ${[...names].sort().join(' ')}`;
}

function nameOf(event: StoreEvent): string {
  return event.type === 'put' ? event.kv.key : `-${event.key}`;
}
