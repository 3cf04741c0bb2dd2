/** Whether the volume that was opened is still the one in the store: what its setting says, each time it is seen. */

import { decodeSetting } from '../../codec/setting.ts';
import { log } from '../base/log.ts';

/** Told of each value of the setting. */
export class VolumeIdentity {
  readonly #uuid: string;
  #gone: string | undefined;
  #replacedBy: string | undefined;

  constructor(uuid: string) {
    this.#uuid = uuid;
  }

  /** Why the volume is not the one we opened any more; the published tree stays. */
  get gone(): string | undefined {
    return this.#gone;
  }

  /** UUID of the volume that is in its place. */
  get replacedBy(): string | undefined {
    return this.#replacedBy;
  }

  /** The setting as it is now; `undefined`: there is none. */
  note(value: Uint8Array | undefined): void {
    const gone = this.#whyGone(value);
    if (gone !== undefined && gone !== this.#gone) log('error', 'the volume is gone', { reason: gone });
    if (gone === undefined && this.#gone !== undefined) log('info', 'the volume is back');
    this.#gone = gone;
  }

  #whyGone(value: Uint8Array | undefined): string | undefined {
    this.#replacedBy = undefined;
    if (value === undefined) return 'its setting was deleted';
    try {
      const { uuid } = decodeSetting(value);
      if (uuid === this.#uuid) return undefined;
      this.#replacedBy = uuid;
      return `another one, ${uuid}, is in its place`;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}
