/** Which guards hold everything back now, what a person has accepted, and how often each has tripped (design 4.6). */

import { createHash } from 'node:crypto';

import type { ByteString } from '../../codec/kv.ts';
import type { GuardName, Trip } from '../../reconcile/safety.ts';
import { codeOf, isMissing } from '../base/error.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import { log } from '../base/log.ts';
import type { Clock, FsPort } from '../base/ports.ts';

/** A guard that has tripped. */
export interface Tripped {
  /** What a person accepts. It says what tripped: another trip has another one. */
  readonly id: string;
  readonly guard: GuardName;
  readonly reason: string;
  /** When it tripped; ISO 8601. */
  readonly since: string;
}

/** `held`: wait for a person. `accepted`: a person has said that it is meant; said once, and spent by this answer. */
export type Verdict = 'clear' | 'held' | 'accepted';

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
}

/** The guards of one directory. They outlive the runs that a restored directory or an accepted trip begins anew. */
export class Guards {
  readonly #o: Options;
  readonly #tripped = new Map<GuardName, Tripped>();
  readonly #counts = new Map<GuardName, number>();

  constructor(options: Options) {
    this.#o = options;
  }

  /** Those that hold now. */
  get tripped(): readonly Tripped[] {
    return [...this.#tripped.values()];
  }

  /** How often each has tripped since the start. */
  get counts(): ReadonlyMap<GuardName, number> {
    return this.#counts;
  }

  /** Takes what a guard says now: that it trips, or (`undefined`) that it does not. */
  judge(ledger: Ledger, guard: GuardName, trip: Trip | undefined): Verdict {
    const before = this.#tripped.get(guard);
    if (trip === undefined) {
      if (before !== undefined) log('info', 'guard released', { guard, id: before.id });
      this.#tripped.delete(guard);
      return 'clear';
    }
    const { id, base } = this.#identify(ledger, trip);
    if (before?.id !== id) {
      const since = new Date(Number(this.#o.clock.nowNs() / 1_000_000n)).toISOString();
      this.#tripped.set(guard, { id, guard, reason: trip.reason, since });
      this.#counts.set(guard, (this.#counts.get(guard) ?? 0) + 1);
      log('error', 'guard tripped', { guard, id, reason: trip.reason });
    }
    if (!this.#isAccepted(id)) return 'held';
    // Spent before anything is done: a crash in between asks again.
    ledger.write([{ t: 'accepted', trip: base }], true);
    this.#forgetAcceptance(id);
    this.#tripped.delete(guard);
    log('warn', 'guard accepted', { guard, id });
    return 'accepted';
  }

  /** All is done and nothing trips: what was accepted and is not tripped any more shall not stand for a later trip. */
  forgetUnused(): void {
    if (this.#tripped.size > 0) return;
    for (const id of this.#accepted()) {
      log('warn', 'nothing to accept', { id, reason: 'no guard with this id is tripped' });
      this.#forgetAcceptance(id);
    }
  }

  #identify(ledger: Ledger, { guard, facts }: Trip): { readonly id: string; readonly base: string } {
    const hash = (parts: readonly string[]): string =>
      createHash('sha256').update(parts.join('\0'), 'latin1').digest('hex');
    const base = hash([guard, ...facts]);
    // The same once more is another trip.
    const times = ledger.state.accepted.get(base) ?? 0;
    return { id: `${guard}-${hash([base, String(times)]).slice(0, 8)}`, base };
  }

  #accepted(): readonly string[] {
    try {
      return this.#o.fs.readdir('accepted', this.#o.layout.accept);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  #isAccepted(id: string): boolean {
    return this.#accepted().includes(id);
  }

  #forgetAcceptance(id: string): void {
    this.#o.fs.unlink('accepted', `${this.#o.layout.accept}/${id}`);
  }
}

/**
 * Says that a trip is meant: an empty file that the agent finds with its next look, or when it starts. Throws the disk's
 * error; ENOENT when no agent has served the directory.
 */
export function acceptTrip(fs: FsPort, layout: Layout, id: ByteString): void {
  try {
    fs.close('accept', fs.openNew('accept', `${layout.accept}/${id}`));
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
  }
}

/** Whether a text can be the id of a trip. */
export function isTripId(id: string): boolean {
  return /^[a-z]+-[0-9a-f]{8}$/.test(id);
}
