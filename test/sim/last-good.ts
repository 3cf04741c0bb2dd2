/**
 * G6: while the store is away, wiped, replaced, or restored from a backup, what is shown stays as it was. G7: an agent that starts
 * then serves what was published, and says that it may be behind.
 */

import { readStatus } from '../../src/agent/report/status.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import type { CommittedRevision } from '../support/memory-etcd.ts';
import type { Weather } from './network.ts';
import type { AgentProcess, Pod } from './pod.ts';
import type { Scheduler } from './scheduler.ts';
import { differences, diskShown, type Shown } from './shown.ts';
import type { Fail, Validator } from './validator.ts';

/** An edit that was made before this time is in what was shown; milliseconds. */
const EDIT_MS = 30_000;
/** How long a start may take; milliseconds. */
const START_MS = 3_000;
/** How long one that only waits for the store at most takes to keep what it has; milliseconds. */
const ONCE_MS = 1_000;
/**
 * How long what was under way when the stores were exchanged is sent again, as the outcome is not known: a transaction whose
 * compared keys are in the other store as well can land there (docs/testing.md). Milliseconds.
 */
const UNDER_WAY_MS = 5_000;

interface Needs {
  readonly scheduler: Scheduler;
  readonly weather: Weather;
  readonly pods: () => readonly Pod[];
  /** What the right store holds of the volume, or held last, or at a revision. */
  readonly volumeShown: (revision?: bigint) => Shown;
  /** The newest of the right store. */
  readonly revision: () => bigint;
  readonly isForeign: () => boolean;
  readonly fail: Fail;
}

export class LastGood implements Validator {
  readonly #needs: Needs;
  #before = new Map<Pod, Shown>();
  /** What each had published by then. */
  #published = new Map<Pod, bigint>();
  #sinceMs = 0;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  /** Another store has just taken the place of the right one. */
  begin(): void {
    this.#sinceMs = this.#needs.scheduler.nowMs;
    const pods = this.#needs.pods();
    this.#before = new Map(pods.map((pod) => [pod, diskShown(pod.fs)]));
    this.#published = new Map(pods.map((pod) => [pod, publishedRevision(pod)]));
  }

  /** The right one is about to come back. */
  end(): void {
    const { fail, volumeShown, scheduler } = this.#needs;
    const volume = volumeShown();
    for (const [pod, before] of this.#before) {
      const now = diskShown(pod.fs);
      for (const difference of differences(before, now)) {
        const path = difference.slice(0, difference.indexOf(': '));
        // On its way when the store went, or an edit of a local program.
        if (now.get(path) === volume.get(path) || isEdited(pod, path, scheduler.nowMs - EDIT_MS)) continue;
        if (this.#wasShown(pod, path, now.get(path))) continue;
        fail('G6', `${pod.name}, before | with another store: ${difference}`);
      }
    }
    this.#before.clear();
  }

  /** A save that was in the middle when the store went is shown as it was then, once it has been held long enough. */
  #wasShown(pod: Pod, path: Path, now: string | undefined): boolean {
    const { volumeShown, revision } = this.#needs;
    for (let at = this.#published.get(pod) ?? 0n; at < revision(); at += 1n)
      if (volumeShown(at).get(path) === now) return true;
    return false;
  }

  onRevision({ by, revision }: CommittedRevision): void {
    const { isForeign, pods, fail, scheduler } = this.#needs;
    if (scheduler.nowMs - this.#sinceMs < UNDER_WAY_MS) return;
    if (isForeign() && pods().some(({ name }) => name === by))
      fail('G6', `${by} writes into another store, at ${revision}`);
  }

  onStart(pod: Pod, agent: AgentProcess): void {
    if (pod.fs.stat(pod.layout.data) === undefined) return;
    const { scheduler, weather } = this.#needs;
    let isDown = weather.isDown;
    const shown = diskShown(pod.fs);
    const startMs = scheduler.nowMs;
    const look = (leftMs: number): void => {
      isDown &&= weather.isDown;
      if (pod.agent !== agent) return;
      if (agent.isOnce) {
        if (isDown && scheduler.nowMs - startMs >= ONCE_MS)
          this.#needs.fail('G7', `${pod.name}: --once --allow-stale goes on without the store`);
        else if (isDown) void scheduler.after(100, () => look(leftMs - 100));
      } else if (leftMs > 0) void scheduler.after(100, () => look(leftMs - 100));
      else if (isDown) this.#checkStarted(pod, shown, startMs);
    };
    look(START_MS);
  }

  #checkStarted(pod: Pod, shown: Shown, startMs: number): void {
    const { fail } = this.#needs;
    const status = readStatus(pod.fs, pod.layout);
    if (status?.ready !== true || !status.stale)
      fail(
        'G7',
        `${pod.name} was started without the store, and is ${JSON.stringify({ ready: status?.ready, stale: status?.stale })}`,
      );
    for (const difference of differences(shown, diskShown(pod.fs))) {
      const path = difference.slice(0, difference.indexOf(': '));
      if (!isEdited(pod, path, startMs - EDIT_MS))
        fail('G7', `${pod.name}, before | started without the store: ${difference}`);
    }
  }

  onEnd(pod: Pod, agent: AgentProcess, exitCode: number): void {
    if (agent.isOnce && exitCode !== 0 && pod.fs.stat(pod.layout.data) !== undefined)
      this.#needs.fail(
        'G7',
        `${pod.name}: --once --allow-stale ended with ${exitCode} although a tree is there`,
      );
  }
}

/** Whether a local program has been at a path, above it or below it since. */
function isEdited(pod: Pod, path: Path, sinceMs: number): boolean {
  for (const [edited, atMs] of pod.edited)
    if (
      atMs >= sinceMs &&
      (edited === path || edited.startsWith(`${path}/`) || path.startsWith(`${edited}/`))
    )
      return true;
  return false;
}

/** The revision that a machine shows; 0n before it shows one. */
export function publishedRevision(pod: Pod): bigint {
  return BigInt(readStatus(pod.fs, pod.layout)?.publishedRevision ?? '0');
}
