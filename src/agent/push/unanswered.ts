/** Pushes whose outcome is not known: what the volume comes to have of them is nobody else's edit. */

import type { Path } from '../../reconcile/entry.ts';
import type { Clock } from '../base/ports.ts';
import type { Remote } from '../follow/remote.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Agreement } from './agreement.ts';
import type { PushOutcome } from './push-outcome.ts';

/**
 * What was sent may get there after its sender has given up, or has been killed. When the volume was followed without a break for this
 * long afterwards, and does not show it, it never will; milliseconds.
 */
const LATE_MS = 30_000;

export class Unanswered {
  readonly #clock: Clock;
  readonly #ledger: Ledger;
  readonly #agreement: Agreement;
  /** What was followed at the last turn, and since when without a break; milliseconds. */
  #followed: { readonly remote: Remote; readonly doubts: number; readonly sinceMs: number } | undefined;

  constructor(clock: Clock, ledger: Ledger, agreement: Agreement) {
    this.#clock = clock;
    this.#ledger = ledger;
    this.#agreement = agreement;
  }

  /** A push, which is remembered when it rejects although something of it is in the volume, or may get there. */
  async attend(push: (onUnanswered: () => void) => Promise<PushOutcome>): Promise<PushOutcome> {
    let mayBeIn = false;
    try {
      return await push(() => (mayBeIn = true));
    } catch (error) {
      if (mayBeIn) this.#remember();
      else this.#ledger.write([{ t: 'pushed' }], false);
      throw error;
    }
  }

  #remember(): void {
    this.#ledger.write([{ t: 'pushing', entries: [] }], false);
    this.#followed = undefined;
  }

  /** Agrees on what the volume shows of them now. `pushing`: on their way again, or `undefined` when nothing is. */
  judge(remote: Remote, pushing: ReadonlySet<Path> | undefined): void {
    const { state } = this.#ledger;
    // Of an earlier run.
    if (pushing === undefined && state.pushing.size > 0) this.#remember();
    if (state.doubts.size === 0) return;
    const nowMs = this.#clock.monotonicMs();
    const isSame = this.#followed?.remote === remote && this.#followed.doubts === remote.doubts;
    if (!(isSame && remote.isUp && remote.isVerified))
      this.#followed = { remote, doubts: remote.doubts, sinceMs: nowMs };
    else if (nowMs - (this.#followed?.sinceMs ?? nowMs) >= LATE_MS) {
      if (pushing === undefined) this.#ledger.write([{ t: 'pushed', all: true }], false);
      return;
    }
    this.#agreement.onShown(remote.tree, remote.revision, pushing ?? new Set());
  }
}
