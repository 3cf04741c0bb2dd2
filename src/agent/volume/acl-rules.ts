/** The ACL rules of a volume as they are needed: what is under an id never changes (layout 4.3). */

import { decodeAclRule, type AclRule } from '../../codec/acl.ts';
import { DecodeError } from '../../codec/error.ts';
import { aclText, type AclText } from '../../reconcile/acl-text.ts';
import { CompactedError } from '../base/error.ts';
import type { EtcdStore } from '../base/ports.ts';
import type { Volume } from './volume.ts';
import { withSignal } from '../base/signal.ts';

export class AclRules {
  readonly #store: Pick<EtcdStore, 'get'>;
  readonly #volume: Pick<Volume, 'keyOf'>;
  /** `undefined` for one that is missing or broken: it counts for nothing. */
  readonly #rules = new Map<number, AclRule | undefined>();

  constructor(store: Pick<EtcdStore, 'get'>, volume: Pick<Volume, 'keyOf'>) {
    this.#store = store;
    this.#volume = volume;
  }

  /** Reads the rules of these pairs of ids that are not known yet. A rule is there no later than the attr that names it. */
  async learn(pairs: Iterable<string>, revision: bigint, signal?: AbortSignal): Promise<void> {
    const ids = new Set([...pairs].flatMap(idsOf).filter((id) => id !== 0 && !this.#rules.has(id)));
    if (ids.size === 0) return;
    const keys = [...ids].map((id) => this.#volume.keyOf({ kind: 'aclRule', id }));
    const options = withSignal(signal);
    const { kvs } = await this.#store.get(keys, { ...options, revision }).catch((error: unknown) => {
      if (!(error instanceof CompactedError)) throw error;
      return this.#store.get(keys, options);
    });
    for (const [index, id] of [...ids].entries()) this.#rules.set(id, ruleOf(kvs[index]?.value));
  }

  /** The ACLs behind a pair of ids. */
  textOf(pair: string): AclText | undefined {
    const [access, inherited] = idsOf(pair).map((id) => this.#rules.get(id));
    return aclText({
      ...(access === undefined ? {} : { access }),
      ...(inherited === undefined ? {} : { default: inherited }),
    });
  }
}

function idsOf(pair: string): number[] {
  return pair.split(':').map(Number);
}

function ruleOf(value: Uint8Array | undefined): AclRule | undefined {
  try {
    return value === undefined ? undefined : decodeAclRule(value);
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}
