/** Checks all of a volume's metadata against each other, and against the blocks that are stored. */

import type { MetaKey } from '../codec/key.ts';
import type { Setting } from '../codec/setting.ts';
import { auditAccounts } from './audit-accounts.ts';
import { auditNames } from './audit-names.ts';
import { auditBlocks, auditReferences, type StoredBlocks } from './audit-slices.ts';
import type { Finding } from './finding.ts';
import type { VolumeFacts } from './volume-facts.ts';

export interface AuditRequest {
  readonly facts: VolumeFacts;
  /** Not looked at if absent. */
  readonly blocks?: StoredBlocks;
  readonly setting: Pick<Setting, 'dirStats' | 'userGroupQuota' | 'blockSizeBytes'>;
  /** For what a repair writes. */
  readonly nowNs: bigint;
}

/** Everything that is wrong; what is healthy but waits for somebody (open files, deletions, sessions) is not. */
export function audit({ facts, blocks, setting, nowNs }: AuditRequest): Finding[] {
  return [
    ...brokenFindings(facts),
    ...auditNames(facts, { nowNs }),
    ...auditReferences(facts),
    ...(blocks === undefined ? [] : auditBlocks(facts, blocks, setting.blockSizeBytes)),
    ...auditAccounts(facts, setting),
  ];
}

function brokenFindings(facts: VolumeFacts): Finding[] {
  return facts.broken.map(({ key, reason }): Finding => {
    const ino = inodeOf(key);
    const path =
      key.kind === 'dentry' ? facts.pathOfName(key) : ino === undefined ? undefined : facts.pathOf(ino);
    return {
      kind: 'undecodable',
      ...(path === undefined ? {} : { path }),
      ...(ino === undefined ? {} : { ino }),
      what: `a value (${key.kind}) is not of the layout: ${reason}`,
    };
  });
}

function inodeOf(key: MetaKey): bigint | undefined {
  if (key.kind === 'dentry') return undefined;
  return 'ino' in key ? key.ino : undefined;
}
