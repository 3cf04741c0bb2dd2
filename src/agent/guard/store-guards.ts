/** The guards of the store: another volume, an older store, another history (design 4.6). */

import type { ByteString } from '../../codec/kv.ts';
import type { Trip } from '../../reconcile/safety.ts';
import { ConfigError } from '../base/error.ts';
import type { Guards } from './guards.ts';
import type { Ledger } from '../state/ledger.ts';
import type { StateOwner } from '../state/ledger-record.ts';
import type { Connection } from '../push/outbox.ts';

/** Ends what is under way: a person has accepted a trip, what was agreed on is forgotten, and the run begins anew. */
export class BeginAnew extends Error {}

interface Options {
  /** DIR. */
  readonly root: ByteString;
  readonly guards: Guards;
  readonly ledger: Ledger;
}

/** Judges one connection after the other. What a person accepts ends in BeginAnew. */
export class StoreGuards {
  readonly #o: Options;

  constructor(options: Options) {
    this.#o = options;
  }

  /**
   * Notes which volume and directory are served. Throws ConfigError when DIR holds another one, unless a person has
   * accepted that.
   */
  claim(owner: StateOwner): void {
    const { guards, ledger } = this.#o;
    const known = ledger.state.owner;
    if (known === undefined) {
      ledger.write([{ t: 'owner', owner }], true);
      return;
    }
    if (known.uuid === owner.uuid && known.subdir === owner.subdir) return;
    const reason = 'this directory holds another volume or subdirectory: serve it to a directory of its own';
    this.#judge({ guard: 'volume', reason, facts: [known.uuid, known.subdir, owner.uuid, owner.subdir] });
    const id = guards.tripped.find(({ guard }) => guard === 'volume')?.id;
    throw new ConfigError(`${reason}, or accept ${id}`, { path: this.#o.root });
  }

  /** Whether publishing and pushing may go on. Throws what the store throws. */
  async pass({ remote, volume }: Connection, signal: AbortSignal): Promise<boolean> {
    const { guards, ledger } = this.#o;
    const { replacedBy: uuid } = remote;
    if (uuid === undefined) guards.judge(ledger, 'volume', undefined);
    else {
      const reason = `another volume is in the place of ${volume.setting.name}: ${uuid}`;
      this.#judge({ guard: 'volume', reason, facts: [volume.setting.uuid, uuid] });
    }
    if (remote.gone !== undefined) return false;
    const trip = await remote.verify(signal);
    for (const guard of ['regressed', 'history'] as const)
      if (trip?.guard !== guard) guards.judge(ledger, guard, undefined);
    if (trip !== undefined) {
      this.#judge(trip);
      return false;
    }
    if (!remote.isVerified) return true;
    const { anchor } = remote;
    const known = ledger.state.anchor;
    if (anchor !== undefined && anchor.modRevision !== known?.modRevision)
      ledger.write([{ t: 'anchor', anchor }], false);
    return true;
  }

  #judge(trip: Trip): void {
    const { guards, ledger } = this.#o;
    if (guards.judge(ledger, trip.guard, trip) !== 'accepted') return;
    ledger.write([{ t: 'forgotten' }], true);
    throw new BeginAnew();
  }
}
