/** A volume's accounts counted anew from its keys, to be compared with what its writers kept. */

import { decodeAttr, type Attr } from '../../src/codec/attr.ts';
import { blockRange, blocksOfSlice, parseBlockKey } from '../../src/codec/block.ts';
import { prefixRange } from '../../src/codec/bytes.ts';
import { allocated, decodeCounter, decodeDirStat, decodeQuota, type Quota } from '../../src/codec/counter.ts';
import { decodeDelayedSlices } from '../../src/codec/delayed-slices.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, ROOT_INO, TRASH_INO } from '../../src/codec/key.ts';
import { decodeSlices } from '../../src/codec/slice.ts';
import type { Kv } from '../../src/codec/kv.ts';
import type { DataOptions } from '../../src/agent/volume/open-blocks.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';
import { openVolume, type Volume } from '../../src/agent/volume/volume.ts';

/** Everything that is wrong, one sentence each; empty for a volume whose accounts are exact (layout 5.4, 8.3 to 8.5). */
export async function recount(store: EtcdStore, prefix: string, data: DataOptions = {}): Promise<string[]> {
  const volume = await openVolume(store, { prefix }, undefined, data);
  try {
    return await recountVolume(store, prefix, volume);
  } finally {
    await volume.close();
  }
}

/** The blocks of a volume, each named without its folders; those that do not come to their length are `bad`. */
async function blocksOf({ data, blocks, setting }: Volume): Promise<Set<string>> {
  const stored: Kv[] = [];
  for (const one of data.stores) await one.snapshot([blockRange(setting.name)], (kv) => stored.push(kv));
  const names = new Set<string>();
  for (const { key, value } of stored) {
    const length = parseBlockKey(blocks, key)?.length;
    const isSound =
      length !== undefined &&
      (await data.unpack(value, length).then(
        () => true,
        () => false,
      ));
    names.add(isSound ? key.slice(key.lastIndexOf('/') + 1) : `bad:${key}`);
  }
  return names;
}

async function recountVolume(store: EtcdStore, prefix: string, volume: Volume): Promise<string[]> {
  const attrs = new Map<bigint, Attr>();
  const dentries: {
    readonly parent: bigint;
    readonly name: string;
    readonly ino: bigint;
    readonly isDirectory: boolean;
  }[] = [];
  const parentCounts = new Map<bigint, bigint>();
  const stats = new Map<
    bigint,
    { readonly length: bigint; readonly space: bigint; readonly inodes: bigint }
  >();
  const counters = new Map<string, bigint>();
  const quotas = new Map<bigint, Quota>();
  const owners = new Map<string, Quota>();
  const references = new Map<string, bigint>();
  const expectedReferences = new Map<string, bigint>();
  const chunkOwners = new Set<bigint>();
  const deleted = new Set<bigint>();
  const refer = (id: bigint, size: number): void => {
    const slice = `${id}/${size}`;
    expectedReferences.set(slice, (expectedReferences.get(slice) ?? 0n) + 1n);
  };
  const blocks = await blocksOf(volume);
  await store.snapshot([prefixRange(prefix)], (kv) => {
    const key = decodeKey(kv.key.slice(prefix.length));
    switch (key.kind) {
      case 'attr':
        attrs.set(key.ino, decodeAttr(kv.value));
        break;
      case 'dentry': {
        const { ino, type } = decodeDentry(kv.value);
        dentries.push({ parent: key.parent, name: key.name, ino, isDirectory: type === 'directory' });
        break;
      }
      case 'parent':
        parentCounts.set(key.ino, (parentCounts.get(key.ino) ?? 0n) + decodeCounter(kv.value));
        break;
      case 'dirStat':
        stats.set(key.ino, decodeDirStat(kv.value));
        break;
      case 'dirQuota':
        quotas.set(key.ino, decodeQuota(kv.value));
        break;
      case 'userQuota':
        owners.set(`QU ${key.uid}`, decodeQuota(kv.value));
        break;
      case 'groupQuota':
        owners.set(`QG ${key.gid}`, decodeQuota(kv.value));
        break;
      case 'counter':
        if (!/leanup/.test(key.name)) counters.set(key.name, decodeCounter(kv.value));
        break;
      case 'sliceRef':
        references.set(`${key.id}/${key.size}`, decodeCounter(kv.value) + 1n);
        break;
      case 'delayedSlices':
        for (const { id, size } of decodeDelayedSlices(kv.value)) refer(id, size);
        break;
      case 'deletedFile':
        deleted.add(key.ino);
        break;
      case 'chunk':
        chunkOwners.add(key.ino);
        for (const { id, size } of decodeSlices(kv.value)) if (id !== 0n) refer(id, size);
        break;
      default:
        break;
    }
  });

  const wrong: string[] = [];
  const expect = (what: string, is: bigint | undefined, should: bigint): void => {
    if (is !== should) wrong.push(`${what} is ${is}, should be ${should}`);
  };
  const inodes = [...attrs].filter(([ino]) => ino !== ROOT_INO && ino !== TRASH_INO);
  const spaceOf = (attr: Attr): bigint => (attr.type === 'file' ? allocated(attr.length) : 4096n);
  expect('totalInodes', counters.get('totalInodes') ?? 0n, BigInt(inodes.length));
  expect(
    'usedSpace',
    counters.get('usedSpace') ?? 0n,
    inodes.reduce((sum, [, attr]) => sum + spaceOf(attr), 0n),
  );

  const names = new Map<bigint, bigint>();
  const sums = new Map<bigint, { length: bigint; space: bigint; inodes: bigint; directories: bigint }>();
  for (const { parent, name, ino, isDirectory } of dentries) {
    const attr = attrs.get(ino);
    if (attr === undefined) {
      wrong.push(`${name} in ${parent} leads nowhere`);
      continue;
    }
    if (attr.parent !== parent && attr.parent !== 0n)
      wrong.push(`${name} has parent ${attr.parent}, not ${parent}`);
    names.set(ino, (names.get(ino) ?? 0n) + 1n);
    const sum = sums.get(parent) ?? { length: 0n, space: 0n, inodes: 0n, directories: 0n };
    sum.length += attr.type === 'file' ? attr.length : 0n;
    sum.space += spaceOf(attr);
    sum.inodes += 1n;
    sum.directories += isDirectory ? 1n : 0n;
    sums.set(parent, sum);
  }
  for (const [ino, attr] of attrs) {
    if (attr.type === 'directory') {
      // Nothing in the trash counts in an nlink, and what was removed has no statistics (layout 8.4, trap 21).
      if (ino >= TRASH_INO || (attr.parent >= TRASH_INO && ino !== TRASH_INO)) {
        if (ino > TRASH_INO) compareStat(ino);
        continue;
      }
      expect(`nlink of directory ${ino}`, BigInt(attr.nlink), 2n + (sums.get(ino)?.directories ?? 0n));
      compareStat(ino);
    } else {
      expect(`nlink of ${ino}`, BigInt(attr.nlink), names.get(ino) ?? 0n);
      if (attr.parent === 0n) expect(`parent counts of ${ino}`, parentCounts.get(ino), BigInt(attr.nlink));
    }
  }
  /** All below a directory, every name counted. */
  function below(ino: bigint): { readonly space: bigint; readonly inodes: bigint } {
    const own = sums.get(ino) ?? { space: 0n, inodes: 0n };
    let { space, inodes: entries } = own;
    for (const child of dentries) {
      if (child.parent !== ino || !child.isDirectory) continue;
      const inner = below(child.ino);
      space += inner.space;
      entries += inner.inodes;
    }
    return { space, inodes: entries };
  }
  if (volume.setting.dirStats) {
    for (const [ino, quota] of quotas) {
      const attr = attrs.get(ino);
      if (attr === undefined || attr.parent >= TRASH_INO) {
        wrong.push(`QD ${ino} has no directory`);
        continue;
      }
      const used = below(ino);
      expect(`space in QD ${ino}`, quota.usedSpace, used.space);
      expect(`inodes in QD ${ino}`, quota.usedInodes, used.inodes);
    }
  }
  if (volume.setting.userGroupQuota) {
    const used = new Map<string, { space: bigint; inodes: bigint }>();
    for (const [ino, attr] of inodes) {
      // The real client counts the hour directories of the trash for nobody.
      if (ino > TRASH_INO) continue;
      for (const owner of [`QU ${attr.uid}`, `QG ${attr.gid}`]) {
        const before = used.get(owner) ?? { space: 0n, inodes: 0n };
        used.set(owner, { space: before.space + spaceOf(attr), inodes: before.inodes + 1n });
      }
    }
    for (const owner of new Set([...used.keys(), ...owners.keys()])) {
      expect(`space in ${owner}`, owners.get(owner)?.usedSpace ?? 0n, used.get(owner)?.space ?? 0n);
      expect(`inodes in ${owner}`, owners.get(owner)?.usedInodes ?? 0n, used.get(owner)?.inodes ?? 0n);
    }
  }
  function compareStat(ino: bigint): void {
    const sum = sums.get(ino) ?? { length: 0n, space: 0n, inodes: 0n };
    const stat = stats.get(ino);
    expect(`length in U ${ino}`, stat?.length, sum.length);
    expect(`space in U ${ino}`, stat?.space, sum.space);
    expect(`inodes in U ${ino}`, stat?.inodes, sum.inodes);
  }
  for (const ino of stats.keys()) if (!attrs.has(ino)) wrong.push(`U ${ino} has no directory`);
  for (const ino of chunkOwners) {
    if (!attrs.has(ino) && !deleted.has(ino)) wrong.push(`chunks of ${ino} have no owner`);
  }

  for (const [slice, count] of expectedReferences)
    expect(`references of ${slice}`, references.get(slice) ?? 1n, count);
  for (const [slice] of references)
    if (!expectedReferences.has(slice)) wrong.push(`K of ${slice} has no records`);
  const expectedBlocks = new Set<string>();
  for (const slice of expectedReferences.keys()) {
    const [id, size] = slice.split('/');
    for (const { index, length } of blocksOfSlice(Number(size), volume.setting.blockSizeBytes)) {
      expectedBlocks.add(`${id}_${index}_${length}`);
    }
  }
  for (const block of expectedBlocks) if (!blocks.has(block)) wrong.push(`block ${block} is missing`);
  for (const block of blocks) if (!expectedBlocks.has(block)) wrong.push(`block ${block} belongs to nothing`);
  return wrong;
}
