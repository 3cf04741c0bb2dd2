/** `fsck`: checks everything of a volume that can be checked, and repairs what it can. */

import { encodeKey } from '../../codec/key.ts';
import { escapeBytes } from '../../codec/bytes.ts';
import type { Finding, Repair } from '../../reconcile/finding.ts';
import { deleteFileData } from '../volume/deleted-file.ts';
import { deleteDeadSlice } from '../housekeeping/dead-slice.ts';
import { check, type Checked } from '../housekeeping/check.ts';
import { repairable, writeRepairs } from '../housekeeping/repair.ts';
import type { Volume } from '../volume/volume.ts';
import { EXIT, print, withVolume, type VerbContext } from './context.ts';

export interface FsckOptions {
  readonly repair: boolean;
  readonly json: boolean;
}

/** Repairs that lost against other writers in a row before the rest is left alone. */
const MAX_LOST = 10;

/** Prints what is wrong. With `repair` it says what it will do before it does it. Exits 5 when something is left. */
export function fsck(context: VerbContext, options: FsckOptions): Promise<number> {
  return withVolume(context, (volume) => checkVolume(volume, context, options));
}

async function checkVolume(volume: Volume, context: VerbContext, options: FsckOptions): Promise<number> {
  const { store, clock, out, signal } = context;
  const say = async (text: string): Promise<void> => {
    if (!options.json) await print(out, text);
  };
  const first = await check(store, volume, clock, signal);
  await say(summary(volume, first));
  for (const finding of first.findings) await say(line(finding));
  const { left, repaired } = options.repair
    ? await repairAll(context, volume, first, say)
    : { left: first.findings, repaired: [] };
  if (options.json) {
    const { revision, liveSessions } = first;
    const report = {
      volume: volume.setting.name,
      revision: String(revision),
      liveSessions,
      findings: first.findings.map(jsonOf),
      ...(options.repair ? { repaired: repaired.map(jsonOf), left: left.map(jsonOf) } : {}),
    };
    await print(out, `${JSON.stringify(report, null, 2)}\n`);
  }
  if (left.length === 0) {
    await say(first.findings.length === 0 ? 'nothing is wrong\n' : 'everything is repaired\n');
    return EXIT.done;
  }
  if (options.repair) {
    await say(`left: ${left.length}\n`);
    for (const finding of left) await say(line(finding));
  }
  return EXIT.problems;
}

/** Round after round, because one repair shows what another one has to be: names first, accounts last. */
async function repairAll(
  context: VerbContext,
  volume: Volume,
  first: Checked,
  say: (text: string) => Promise<void>,
): Promise<{ readonly left: readonly Finding[]; readonly repaired: readonly Finding[] }> {
  const { store, clock, signal } = context;
  const repaired: Finding[] = [];
  let checked = first;
  for (let lost = 0; ;) {
    const round = repairable(checked.findings);
    if (round.length === 0 || lost > MAX_LOST) return { left: checked.findings, repaired };
    await say(repaired.length === 0 ? 'plan:\n' : 'then:\n');
    for (const { repair, ...finding } of round) await say(`  ${placeOf(finding)}: ${repair.what}\n`);
    const repairs = round.map(({ repair }) => repair);
    const written = await writeRepairs(store, volume, repairs, checked.revision, signal);
    repaired.push(...round.filter(({ repair }) => written.includes(repair)));
    lost = written.length === repairs.length ? 0 : lost + 1;
    await finish(context, volume, written);
    checked = await check(store, volume, clock, signal);
  }
}

/** What repairs gave to the deletion of data is deleted at once: no mount may be there to do it. */
async function finish(
  { store, signal }: VerbContext,
  volume: Volume,
  repairs: readonly Repair[],
): Promise<void> {
  for (const { key, value } of repairs.flatMap(({ edits }) => edits)) {
    if (value === undefined || value === 'same') continue;
    if (key.kind === 'deletedFile') await deleteFileData(store, volume, key, { signal });
    if (key.kind === 'sliceRef') await deleteDeadSlice(store, volume, key, signal);
  }
}

function summary(volume: Volume, { facts, revision, liveSessions }: Checked): string {
  const sessions = liveSessions === 0 ? 'no mount is alive' : `mounts alive: ${liveSessions}`;
  return `volume ${volume.setting.name} at revision ${revision}: ${facts.attrs.size} inodes, ${sessions}\n`;
}

function placeOf({ path, ino, kind }: Finding): string {
  const inode = ino === undefined ? undefined : `inode ${ino}`;
  if (path === undefined) return inode === undefined ? kind : `${kind} ${inode}`;
  return `${kind} ${escapeBytes(path)}${inode === undefined ? '' : ` (${inode})`}`;
}

function line(finding: Finding): string {
  const repair = finding.repair === undefined ? '' : `; --repair: ${finding.repair.what}`;
  return `${placeOf(finding)}: ${finding.what}${repair}\n`;
}

function jsonOf({ kind, path, ino, what, repair }: Finding): Record<string, unknown> {
  return {
    kind,
    ...(path === undefined ? {} : { path: escapeBytes(path) }),
    ...(ino === undefined ? {} : { ino: String(ino) }),
    what,
    ...(repair === undefined
      ? {}
      : {
          repair: repair.what,
          keys: repair.edits.flatMap(({ key, value }) =>
            value === 'same' ? [] : [escapeBytes(encodeKey(key))],
          ),
        }),
  };
}
