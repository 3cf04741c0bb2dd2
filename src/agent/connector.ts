/** The way to the volume: opens it, lists it and follows it, and tries again as long as waiting can help. */

import type { ByteString } from '../codec/kv.ts';
import type { Path } from '../reconcile/entry.ts';
import { CompactedError, UnavailableError, VolumeError } from './base/error.ts';
import { log } from './base/log.ts';
import type { EtcdStore, Ports } from './base/ports.ts';
import type { Abilities } from './disk/abilities.ts';
import type { Layout } from './disk/layout.ts';
import { Remote } from './follow/remote.ts';
import type { StoreGuards } from './guard/store-guards.ts';
import type { Connection } from './push/outbox.ts';
import type { RunOptions } from './run-options.ts';
import type { Ledger } from './state/ledger.ts';
import { openVolume, type Volume } from './volume/volume.ts';

/** Pause before the store is asked again, doubled up to the longest; milliseconds. */
const PAUSE_MS = 100;
const PAUSE_MAX_MS = 3_000;

interface Options {
  readonly options: RunOptions;
  readonly ports: Ports;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly abilities: Abilities;
  readonly storeGuards: StoreGuards;
  readonly subdir: readonly ByteString[];
  readonly hidden: (path: Path) => boolean;
  /** The volume is one that this program does not write, and why. */
  readonly onReadOnly: (reason: string) => void;
  /** Something came in, or the store was tried. */
  readonly onChange: () => void;
}

export class Connector {
  readonly #o: Options;
  #connection: Connection | undefined;
  #storeError: string | undefined;

  constructor(options: Options) {
    this.#o = options;
  }

  /** The volume, once it was opened. */
  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** Why the store could not be used when it was tried last. */
  get storeError(): string | undefined {
    return this.#storeError;
  }

  /**
   * Lists the volume and, but for `--once`, follows it until `signal`. While a tree is served there is no hurry; without
   * one it rejects when the volume cannot be used.
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { options, ports, onChange } = this.#o;
    const store = ports.openStore(options.address);
    const { remote } = await this.#list(store, signal);
    // It went after it was opened. Who follows it waits for it; who does not ends as one who comes later does.
    if (options.once && remote.gone !== undefined)
      throw new VolumeError(`The volume is gone: ${remote.gone}.`);
    this.#storeError = undefined;
    onChange();
    await (options.once ? remote.listWhenTainted(signal) : remote.follow(signal));
  }

  async close(): Promise<void> {
    await Promise.all([this.#connection?.store.close(), this.#connection?.volume.close()]);
  }

  async #list(store: EtcdStore, signal: AbortSignal): Promise<Connection> {
    const { clock } = this.#o.ports;
    for (let failures = 0; ; failures += 1) {
      try {
        this.#connection ??= await this.#open(store, signal);
        await this.#connection.remote.list(signal);
        return this.#connection;
      } catch (error) {
        if (signal.aborted || !this.#isPassing(error)) {
          if (this.#connection === undefined) await store.close();
          throw error;
        }
        const reason = error instanceof Error ? error.message : String(error);
        if (reason !== this.#storeError) log('warn', 'store not usable', { reason });
        this.#storeError = reason;
        this.#o.onChange();
        const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** failures);
        await clock.sleep(pauseMs * (0.5 + clock.random()), signal);
      }
    }
  }

  async #open(store: EtcdStore, signal: AbortSignal): Promise<Connection> {
    const { address, data } = this.#o.options;
    const volume = await openVolume(store, address, signal, data);
    try {
      return this.#connect(store, volume);
    } catch (error) {
      await volume.close();
      throw error;
    }
  }

  #connect(store: EtcdStore, volume: Volume): Connection {
    const { options, ports, layout, ledger, abilities, storeGuards, subdir, hidden, onReadOnly, onChange } =
      this.#o;
    storeGuards.claim({ uuid: volume.setting.uuid, subdir: subdir.join('/') });
    if (volume.writeRefusal !== undefined && options.mode !== 'pull') {
      log('warn', 'pull only', { reason: volume.writeRefusal });
      onReadOnly(volume.writeRefusal);
    }
    const { fs, clock } = ports;
    const { holdMaxMs } = options;
    const remote = new Remote({
      store,
      volume,
      fs,
      layout,
      clock,
      subdir,
      hidden,
      holdMaxMs,
      abilities,
      onChange,
    });
    const { ancestor, anchor, revision } = ledger.state;
    remote.remember(ancestor, { anchor, revision });
    return { store, volume, remote };
  }

  /** Whether waiting can help: the store is away, has compacted what was just being listed, or the volume is gone while a tree is served (design G6). */
  #isPassing(error: unknown): boolean {
    if (error instanceof UnavailableError || error instanceof CompactedError) return true;
    return error instanceof VolumeError && !this.#o.options.once && this.#o.ledger.state.active !== undefined;
  }
}
