/** What an audit says of healthy volumes and of damage of each kind, and that its repairs put it right. */

import { expect } from 'chai';
import { encodeAttr, type Attr } from '../../../src/codec/attr.ts';
import { blocksOfSlice, parseBlockKey } from '../../../src/codec/block.ts';
import { encodeCounter, encodeDirStat, encodeQuota, encodeTimeCounter } from '../../../src/codec/counter.ts';
import { encodeDentry } from '../../../src/codec/dentry.ts';
import { encodeKey, type MetaKey } from '../../../src/codec/key.ts';
import { decodeSetting, type Setting } from '../../../src/codec/setting.ts';
import { encodeSlices, type SliceRecord } from '../../../src/codec/slice.ts';
import { audit } from '../../../src/reconcile/audit.ts';
import { blockName } from '../../../src/reconcile/audit-slices.ts';
import type { Finding } from '../../../src/reconcile/finding.ts';
import { VolumeFacts } from '../../../src/reconcile/volume-facts.ts';
import { repairable } from '../../../src/agent/housekeeping/repair.ts';
import { loadVolume, metaKvs, volumeNames } from '../../support/fixture.ts';
import { attrOf } from '../../support/meta.ts';

/** What the real client itself left behind in the captures, each checked by hand. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  // `juicefs quota set --create` makes a directory and ends before it has added it to anything.
  quota: ['counter', 'counter', 'statistics'],
  // The root's own statistics, in a capture taken while the client's flush was lost.
  encrypted: ['statistics'],
  // Taken with the session alive: what it made a moment ago is not added up yet.
  midwrite: ['counter', 'counter', 'statistics'],
};

const NOW_NS = 1_800_000_000n * 1_000_000_000n;

/** A volume in memory: keys without prefix, and the blocks that are stored. */
class Memory {
  readonly kvs = new Map<string, Uint8Array>();
  readonly blocks = new Map<bigint, Map<string, string | undefined>>();
  setting: Pick<Setting, 'dirStats' | 'userGroupQuota' | 'blockSizeBytes'> = {
    dirStats: true,
    userGroupQuota: true,
    blockSizeBytes: 65_536,
  };

  put(key: MetaKey, value: Uint8Array): this {
    this.kvs.set(encodeKey(key), value);
    return this;
  }

  delete(key: MetaKey): this {
    this.kvs.delete(encodeKey(key));
    return this;
  }

  store(id: bigint, size: number): this {
    const ofSlice = new Map<string, string | undefined>();
    for (const { index, length } of blocksOfSlice(size, 65_536)) {
      ofSlice.set(blockName(index, length), undefined);
    }
    this.blocks.set(id, ofSlice);
    return this;
  }

  audit(): Finding[] {
    const facts = new VolumeFacts();
    for (const [key, value] of this.kvs) facts.add({ key, value, modRevision: 1n });
    return audit({ facts, blocks: this.blocks, setting: this.setting, nowNs: NOW_NS });
  }

  /** Applies what the audit proposes, round after round; what is left. */
  repair(): Finding[] {
    for (let rounds = 0; rounds < 10; rounds += 1) {
      const findings = this.audit();
      const round = repairable(findings);
      if (round.length === 0) return findings;
      for (const { repair } of round) {
        for (const { start, end } of repair.clear ?? []) {
          for (const key of [...this.kvs.keys()]) if (key >= start && key < end) this.kvs.delete(key);
        }
        for (const { key, value } of repair.edits) {
          if (value === undefined) this.delete(key);
          else if (value !== 'same') this.put(key, value);
        }
      }
    }
    throw new Error('the repairs find no end');
  }
}

const record = (id: bigint, size: number): SliceRecord => ({ pos: 0, id, size, off: 0, len: size });

/**
 * `/a` (5 bytes of slice 1, inode 2), `/dir` (3) with `/dir/link` (4) and hard links `/h`, `/dir/h` of 5 (slice 2, shared
 * with `/copy`, 6), and a trash with an hour (TR + 1) that holds 7.
 */
function healthy(): Memory {
  const TRASH = 0x7fffffff10000000n;
  const volume = new Memory();
  const attr = (ino: bigint, type: Attr['type'], fields: Partial<Attr>): void => {
    volume.put({ kind: 'attr', ino }, encodeAttr(attrOf(type, { uid: 7, gid: 8, ...fields })));
  };
  const name = (parent: bigint, text: string, ino: bigint, type: Attr['type']): void => {
    volume.put({ kind: 'dentry', parent, name: text }, encodeDentry({ type, ino }));
  };
  attr(1n, 'directory', { nlink: 3, length: 4096n });
  attr(2n, 'file', { length: 5n });
  attr(3n, 'directory', { nlink: 2, length: 4096n });
  attr(4n, 'symlink', { length: 4n, parent: 3n });
  attr(5n, 'file', { length: 9n, nlink: 2, parent: 0n });
  attr(6n, 'file', { length: 9n });
  attr(7n, 'file', { length: 0n, parent: TRASH + 1n });
  attr(TRASH, 'directory', { nlink: 2, length: 4096n });
  attr(TRASH + 1n, 'directory', { nlink: 2, length: 4096n, parent: TRASH });
  name(1n, 'a', 2n, 'file');
  name(1n, 'dir', 3n, 'directory');
  name(3n, 'link', 4n, 'symlink');
  name(1n, 'h', 5n, 'file');
  name(3n, 'h', 5n, 'file');
  name(1n, 'copy', 6n, 'file');
  name(TRASH, '2026-11-26-10', TRASH + 1n, 'directory');
  name(TRASH + 1n, '1-7-gone', 7n, 'file');
  volume
    .put({ kind: 'symlink', ino: 4n }, new Uint8Array(4))
    .put({ kind: 'parent', ino: 5n, parent: 1n }, encodeCounter(1n))
    .put({ kind: 'parent', ino: 5n, parent: 3n }, encodeCounter(1n))
    .put({ kind: 'parent', ino: 5n, parent: 99n }, encodeCounter(0n))
    .put({ kind: 'chunk', ino: 2n, index: 0 }, encodeSlices([record(1n, 5)]))
    .put({ kind: 'chunk', ino: 5n, index: 0 }, encodeSlices([record(2n, 9)]))
    .put({ kind: 'chunk', ino: 6n, index: 0 }, encodeSlices([record(2n, 9)]))
    .put({ kind: 'sliceRef', id: 2n, size: 9 }, encodeCounter(1n))
    .put({ kind: 'dirStat', ino: 1n }, encodeDirStat({ length: 23n, space: 16_384n, inodes: 4n }))
    .put({ kind: 'dirStat', ino: 3n }, encodeDirStat({ length: 9n, space: 8192n, inodes: 2n }))
    .put({ kind: 'dirStat', ino: TRASH + 1n }, encodeDirStat({ length: 0n, space: 4096n, inodes: 1n }))
    .put(
      { kind: 'dirQuota', ino: 3n },
      encodeQuota({ maxSpace: 0n, maxInodes: 0n, usedSpace: 8192n, usedInodes: 2n }),
    )
    .put(
      { kind: 'userQuota', uid: 7n },
      encodeQuota({ maxSpace: -1n, maxInodes: -1n, usedSpace: 24_576n, usedInodes: 6n }),
    )
    .put(
      { kind: 'groupQuota', gid: 8n },
      encodeQuota({ maxSpace: -1n, maxInodes: -1n, usedSpace: 24_576n, usedInodes: 6n }),
    )
    .put({ kind: 'counter', name: 'usedSpace' }, encodeCounter(28_672n))
    .put({ kind: 'counter', name: 'totalInodes' }, encodeCounter(7n))
    .put({ kind: 'counter', name: 'nextInode' }, encodeCounter(100n))
    .put({ kind: 'counter', name: 'nextChunk' }, encodeCounter(50n))
    .put({ kind: 'counter', name: 'nextTrash' }, encodeCounter(1n))
    .put({ kind: 'unknown', key: 'Zsomething' }, new Uint8Array(3));
  return volume.store(1n, 5).store(2n, 9);
}

interface Damage {
  readonly what: string;
  readonly plant: (volume: Memory) => unknown;
  /** Kinds that the first look finds. */
  readonly found: readonly string[];
  /** Kinds that stay after repair; none if not given. */
  readonly left?: readonly string[];
}

const DAMAGE: readonly Damage[] = [
  {
    what: 'a name that leads nowhere',
    plant: (v) => v.put({ kind: 'dentry', parent: 1n, name: 'x' }, encodeDentry({ type: 'file', ino: 50n })),
    found: ['dangling', 'statistics'],
  },
  {
    what: 'a directory whose inode is gone, with what is in it',
    plant: (v) => v.delete({ kind: 'attr', ino: 3n }),
    found: ['dangling', 'counter', 'counter', 'quota', 'quota'],
  },
  {
    what: 'a file whose inode is gone and whose data are there',
    plant: (v) => v.delete({ kind: 'attr', ino: 2n }),
    found: ['dangling', 'counter', 'counter', 'quota', 'quota'],
  },
  {
    what: 'a name of another type',
    plant: (v) => v.put({ kind: 'dentry', parent: 1n, name: 'a' }, encodeDentry({ type: 'fifo', ino: 2n })),
    found: ['type'],
  },
  {
    what: 'a file with too many links',
    plant: (v) =>
      v.put(
        { kind: 'attr', ino: 5n },
        encodeAttr(attrOf('file', { uid: 7, gid: 8, length: 9n, nlink: 3, parent: 0n })),
      ),
    found: ['nlink'],
  },
  {
    what: 'a directory with a wrong count of subdirectories',
    plant: (v) =>
      v.put({ kind: 'attr', ino: 1n }, encodeAttr(attrOf('directory', { nlink: 9, length: 4096n }))),
    found: ['nlink'],
  },
  {
    what: 'a file that says it is elsewhere',
    plant: (v) =>
      v.put(
        { kind: 'attr', ino: 2n },
        encodeAttr(attrOf('file', { uid: 7, gid: 8, length: 5n, parent: 3n })),
      ),
    found: ['parent'],
  },
  {
    what: 'a directory that says it is elsewhere',
    plant: (v) =>
      v.put(
        { kind: 'attr', ino: 3n },
        encodeAttr(attrOf('directory', { uid: 7, gid: 8, nlink: 2, length: 4096n, parent: 9n })),
      ),
    found: ['parent'],
  },
  {
    what: 'wrong counts of names by directory',
    plant: (v) =>
      v
        .put({ kind: 'parent', ino: 5n, parent: 1n }, encodeCounter(2n))
        .delete({ kind: 'parent', ino: 5n, parent: 3n }),
    found: ['parent'],
  },
  {
    what: 'a symlink of another length',
    plant: (v) => v.put({ kind: 'symlink', ino: 4n }, new Uint8Array(6)),
    found: ['symlink'],
  },
  {
    what: 'a symlink without its target',
    plant: (v) => v.delete({ kind: 'symlink', ino: 4n }),
    found: ['symlink'],
    left: ['symlink'],
  },
  {
    what: 'an inode without a name',
    plant: (v) =>
      v
        .put({ kind: 'attr', ino: 60n }, encodeAttr(attrOf('file', { length: 5n })))
        .put({ kind: 'xattr', ino: 60n, name: 'user.x' }, new Uint8Array(1)),
    found: ['orphan', 'counter', 'counter'],
  },
  {
    what: 'a directory without a name that is not empty',
    plant: (v) =>
      v
        .put({ kind: 'attr', ino: 60n }, encodeAttr(attrOf('directory', { nlink: 2, parent: 1n })))
        .put({ kind: 'dirStat', ino: 60n }, encodeDirStat({ length: 5n, space: 4096n, inodes: 1n }))
        .put({ kind: 'attr', ino: 61n }, encodeAttr(attrOf('file', { length: 5n, parent: 60n })))
        .put({ kind: 'dentry', parent: 60n, name: 'f' }, encodeDentry({ type: 'file', ino: 61n })),
    found: ['orphan', 'counter', 'counter'],
  },
  {
    what: 'two directories in a circle',
    plant: (v) =>
      v
        .put({ kind: 'attr', ino: 60n }, encodeAttr(attrOf('directory', { nlink: 3, parent: 61n })))
        .put({ kind: 'attr', ino: 61n }, encodeAttr(attrOf('directory', { nlink: 3, parent: 60n })))
        .put({ kind: 'dentry', parent: 60n, name: 'b' }, encodeDentry({ type: 'directory', ino: 61n }))
        .put({ kind: 'dentry', parent: 61n, name: 'a' }, encodeDentry({ type: 'directory', ino: 60n })),
    found: ['structure', 'structure', 'statistics', 'statistics', 'counter', 'counter'],
    left: ['structure', 'structure'],
  },
  {
    what: 'chunks, targets, statistics and xattrs of inodes that are gone',
    plant: (v) =>
      v
        .put({ kind: 'chunk', ino: 70n, index: 0 }, encodeSlices([record(1n, 5)]))
        .put({ kind: 'sliceRef', id: 1n, size: 5 }, encodeCounter(1n))
        .put({ kind: 'symlink', ino: 71n }, new Uint8Array(3))
        .put({ kind: 'dirStat', ino: 72n }, encodeDirStat({ length: 0n, space: 0n, inodes: 0n }))
        .put({ kind: 'xattr', ino: 73n, name: 'user.x' }, new Uint8Array(1)),
    found: ['leftover', 'leftover', 'leftover', 'leftover'],
  },
  {
    what: 'a slice that is counted too low',
    plant: (v) => v.delete({ kind: 'sliceRef', id: 2n, size: 9 }),
    found: ['reference'],
  },
  {
    what: 'a slice that is counted too high, and one that nothing names',
    plant: (v) =>
      v
        .put({ kind: 'sliceRef', id: 1n, size: 5 }, encodeCounter(4n))
        .put({ kind: 'sliceRef', id: 9n, size: 5 }, encodeCounter(2n)),
    found: ['reference', 'reference'],
  },
  {
    what: 'a block that is missing, one of other bytes, and a slice of two sizes',
    plant: (v) => {
      v.blocks.delete(1n);
      v.blocks.get(2n)?.set('0_9', 'cut off');
      v.put({ kind: 'chunk', ino: 6n, index: 1 }, encodeSlices([record(2n, 4)]));
      v.blocks.get(2n)?.set('0_4', undefined);
    },
    found: ['block-missing', 'block-bytes', 'slice'],
    left: ['block-missing', 'block-bytes', 'slice'],
  },
  {
    what: 'wrong counters, statistics and usage',
    plant: (v) =>
      v
        .put({ kind: 'counter', name: 'usedSpace' }, encodeCounter(1n))
        .put({ kind: 'counter', name: 'totalInodes' }, encodeCounter(-4n))
        .put({ kind: 'counter', name: 'nextInode' }, encodeCounter(3n))
        .put({ kind: 'counter', name: 'nextChunk' }, encodeCounter(2n))
        .put({ kind: 'counter', name: 'nextTrash' }, encodeCounter(0n))
        .put({ kind: 'dirStat', ino: 1n }, encodeDirStat({ length: 5n, space: -4096n, inodes: 1n }))
        .delete({ kind: 'dirStat', ino: 3n })
        .put(
          { kind: 'dirQuota', ino: 3n },
          encodeQuota({ maxSpace: 9n, maxInodes: 9n, usedSpace: 0n, usedInodes: 0n }),
        )
        .put(
          { kind: 'userQuota', uid: 7n },
          encodeQuota({ maxSpace: 9n, maxInodes: 9n, usedSpace: 0n, usedInodes: 0n }),
        ),
    found: [
      ...['counter', 'counter', 'counter', 'counter', 'counter'],
      ...['statistics', 'statistics', 'quota', 'quota'],
    ],
  },
  {
    what: 'values that are not of the layout',
    plant: (v) =>
      v
        .put({ kind: 'attr', ino: 2n }, new Uint8Array(7))
        .put({ kind: 'chunk', ino: 2n, index: 1 }, new Uint8Array(5))
        .put({ kind: 'dentry', parent: 1n, name: 'y' }, new Uint8Array(2)),
    found: ['undecodable', 'undecodable', 'undecodable'],
    left: ['undecodable', 'undecodable', 'undecodable'],
  },
  {
    what: 'a trash whose root is gone, and an hour that is none',
    plant: (v) =>
      v
        .delete({ kind: 'attr', ino: 0x7fffffff10000000n })
        .put(
          { kind: 'dentry', parent: 0x7fffffff10000000n, name: 'noon' },
          encodeDentry({ type: 'directory', ino: 0x7fffffff10000001n }),
        )
        .delete({ kind: 'dentry', parent: 0x7fffffff10000000n, name: '2026-11-26-10' }),
    found: ['trash', 'trash'],
    left: ['trash', 'trash'],
  },
];

describe('audit', () => {
  for (const name of volumeNames()) {
    it(`finds nothing that is not known in the captured volume ${name}`, () => {
      const captured = loadVolume(name);
      const volume = new Memory();
      for (const { key, value } of metaKvs(captured)) volume.kvs.set(key, value);
      const setting = decodeSetting(volume.kvs.get('setting') ?? new Uint8Array());
      volume.setting = setting;
      for (const { key } of captured.kvs) {
        const block = parseBlockKey(setting, key);
        if (block === undefined) continue;
        const ofSlice = volume.blocks.get(block.id) ?? new Map<string, string | undefined>();
        volume.blocks.set(block.id, ofSlice.set(blockName(block.index, block.length), undefined));
      }
      expect(
        volume
          .audit()
          .map(({ kind }) => kind)
          .sort(),
      ).to.deep.equal(KNOWN[name] ?? []);
      expect(volume.repair()).to.deep.equal([]);
    });
  }

  it('finds nothing in a volume with hard links, shared slices, trash and quotas', () => {
    expect(healthy().audit()).to.deep.equal([]);
  });

  it('takes for healthy what waits: open files without names, deletions, trees not attached yet', () => {
    const volume = healthy();
    volume
      .put({ kind: 'attr', ino: 80n }, encodeAttr(attrOf('file', { nlink: 0, length: 0n })))
      .put({ kind: 'sustained', sid: 4n, ino: 80n }, new Uint8Array([1]))
      .put({ kind: 'chunk', ino: 81n, index: 0 }, encodeSlices([record(3n, 5)]))
      .put({ kind: 'deletedFile', ino: 81n, length: 5n }, encodeTimeCounter(1n))
      .put({ kind: 'sliceRef', id: 4n, size: 5 }, encodeCounter(-1n))
      .put({ kind: 'attr', ino: 82n }, encodeAttr(attrOf('directory', { nlink: 2 })))
      .put({ kind: 'detached', ino: 82n }, encodeTimeCounter(1n))
      .put({ kind: 'attr', ino: 83n }, encodeAttr(attrOf('file', { parent: 82n })))
      .put({ kind: 'dentry', parent: 82n, name: 'f' }, encodeDentry({ type: 'file', ino: 83n }))
      .put({ kind: 'counter', name: 'usedSpace' }, encodeCounter(28_672n + 3n * 4096n))
      .put({ kind: 'counter', name: 'totalInodes' }, encodeCounter(10n));
    expect(volume.audit()).to.deep.equal([]);
  });

  for (const { what, plant, found, left = [] } of DAMAGE) {
    it(`finds and repairs ${what}`, () => {
      const volume = healthy();
      plant(volume);
      expect(
        volume
          .audit()
          .map(({ kind }) => kind)
          .sort(),
      ).to.deep.equal([...found].sort());
      expect(
        volume
          .repair()
          .map(({ kind }) => kind)
          .sort(),
      ).to.deep.equal([...left].sort());
    });
  }
});
