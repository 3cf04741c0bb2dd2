/** A volume's metadata in memory, changed by the planner's transactions alone. */

import type { Content } from '../../src/reconcile/operations.ts';
import { decodeAttr, encodeAttr, type Attr } from '../../src/codec/attr.ts';
import { allocated, decodeQuota, encodeDirStat, encodeQuota, type Quota } from '../../src/codec/counter.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey, encodeKey, ROOT_INO, TRASH_INO, type MetaKey } from '../../src/codec/key.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import type { Entry, Path } from '../../src/reconcile/entry.ts';
import type { MetaKv, MetaView } from '../../src/reconcile/meta-view.ts';
import { LIMITS } from '../../src/reconcile/limits.ts';
import { planPush, type GivenUp, type Plan, type PlanRequest } from '../../src/reconcile/plan-remote.ts';
import { needsInode, type PushChange } from '../../src/reconcile/push-change.ts';
import { orderPush } from '../../src/reconcile/push-order.ts';
import { attrOf } from './meta.ts';

interface Usage {
  readonly space: bigint;
  readonly inodes: bigint;
}

const NOTHING: Usage = { space: 0n, inodes: 0n };

function add(usage: Usage | undefined, space: bigint): Usage {
  return { space: (usage?.space ?? 0n) + space, inodes: (usage?.inodes ?? 0n) + 1n };
}

function spaceOf({ type, length }: Attr): bigint {
  return type === 'file' ? allocated(length) : 4096n;
}

export class MemoryVolume {
  readonly kvs = new Map<ByteString, MetaKv>();
  setting: PlanRequest['setting'] = {
    trashDays: 0,
    dirStats: true,
    userGroupQuota: false,
    capacity: 0n,
    inodes: 0n,
  };
  /** Other fields of the plans' requests. */
  request: Partial<PlanRequest> = {};
  /** What the pushes say is there. */
  readonly tree = new Map<Path, Entry>();
  #revision = 1n;
  #nextInode = 2n;
  #nextSlice = 1n;

  constructor() {
    this.put({ kind: 'attr', ino: ROOT_INO }, encodeAttr(attrOf('directory', { nlink: 2, length: 4096n })));
    this.put({ kind: 'dirStat', ino: ROOT_INO }, encodeDirStat({ length: 0n, space: 0n, inodes: 0n }));
  }

  put(key: MetaKey, value: Uint8Array): void {
    const name = encodeKey(key);
    this.kvs.set(name, { key: name, value, modRevision: (this.#revision += 1n) });
  }

  get(key: MetaKey): Uint8Array | undefined {
    return this.kvs.get(encodeKey(key))?.value;
  }

  /** The inode at a path. */
  ino(path: Path): bigint {
    let ino = ROOT_INO;
    for (const name of path.split('/').filter((part) => part !== '')) {
      const value = this.get({ kind: 'dentry', parent: ino, name });
      if (value === undefined) throw new Error(`nothing is at ${path}`);
      ino = decodeDentry(value).ino;
    }
    return ino;
  }

  attr(path: Path): Attr {
    const value = this.get({ kind: 'attr', ino: this.ino(path) });
    if (value === undefined) throw new Error(`${path} has no attr`);
    return decodeAttr(value);
  }

  /** Changes the attr at a path behind the planner's back. */
  alter(path: Path, fields: Partial<Attr>): void {
    this.put({ kind: 'attr', ino: this.ino(path) }, encodeAttr({ ...this.attr(path), ...fields }));
  }

  /** Sets the quota of the directory at a path, or the one under a key. */
  limit(of: Path | MetaKey, quota: Partial<Quota>): void {
    const none = { maxSpace: 0n, maxInodes: 0n, usedSpace: 0n, usedInodes: 0n };
    const key: MetaKey = typeof of === 'string' ? { kind: 'dirQuota', ino: this.ino(of) } : of;
    this.put(key, encodeQuota({ ...none, ...quota }));
  }

  /** Gives the directory at a path a quota that starts with what is there, as `juicefs quota set` does. */
  limitAsCounted(path: Path): void {
    const { space, inodes } = this.#countBelow(this.ino(path));
    this.limit(path, { usedSpace: space, usedInodes: inodes });
  }

  /** The quotas that do not hold what a count of all keys says. */
  wrongQuotas(): string[] {
    const owners = new Map<string, Usage>();
    for (const [ino, attr] of this.#attrs()) {
      // The hour directories of the trash are nobody's.
      if (ino === ROOT_INO || ino >= TRASH_INO) continue;
      for (const owner of [`user ${attr.uid}`, `group ${attr.gid}`]) {
        owners.set(owner, add(owners.get(owner), spaceOf(attr)));
      }
    }
    return [...this.kvs].flatMap(([name, { value }]) => {
      const key = decodeKey(name);
      if (key.kind !== 'dirQuota' && key.kind !== 'userQuota' && key.kind !== 'groupQuota') return [];
      const { usedSpace, usedInodes } = decodeQuota(value);
      const owner =
        key.kind === 'userQuota' ? `user ${key.uid}` : key.kind === 'groupQuota' ? `group ${key.gid}` : '';
      const should = key.kind === 'dirQuota' ? this.#countBelow(key.ino) : (owners.get(owner) ?? NOTHING);
      if (usedSpace === should.space && usedInodes === should.inodes) return [];
      const whose = key.kind === 'dirQuota' ? `inode ${key.ino}` : owner;
      return [`${whose}: ${usedSpace} in ${usedInodes}, not ${should.space} in ${should.inodes}`];
    });
  }

  *#attrs(): Generator<[bigint, Attr]> {
    for (const [name, { value }] of this.kvs) {
      const key = decodeKey(name);
      if (key.kind === 'attr') yield [key.ino, decodeAttr(value)];
    }
  }

  #countBelow(directory: bigint): Usage {
    let usage = NOTHING;
    for (const [name, { value }] of this.kvs) {
      const key = decodeKey(name);
      if (key.kind !== 'dentry' || key.parent !== directory) continue;
      const { ino } = decodeDentry(value);
      const stored = this.get({ kind: 'attr', ino });
      if (stored === undefined) throw new Error(`${key.name} leads nowhere`);
      usage = add(usage, spaceOf(decodeAttr(stored)));
      const inner = this.#countBelow(ino);
      usage = { space: usage.space + inner.space, inodes: usage.inodes + inner.inodes };
    }
    return usage;
  }

  /** What is used of the quota under a key: space in pages of 4096 bytes, and inodes. */
  used(key: MetaKey): readonly [pages: number, inodes: number] | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    const { usedSpace, usedInodes } = decodeQuota(value);
    return [Number(usedSpace / 4096n), Number(usedInodes)];
  }

  usedBelow(path: Path): readonly [pages: number, inodes: number] | undefined {
    return this.used({ kind: 'dirQuota', ino: this.ino(path) });
  }

  at(path: Path): Entry {
    const entry = this.tree.get(path);
    if (entry === undefined) throw new Error(`nothing is believed to be at ${path}`);
    return entry;
  }

  make(path: Path, entry: Entry): PushChange {
    return { path, old: undefined, new: entry };
  }

  edit(path: Path, fields: Partial<Entry>): PushChange {
    const old = this.at(path);
    return { path, old, new: { ...old, ...fields } as Entry };
  }

  remove(path: Path): PushChange {
    return { path, old: this.at(path), new: undefined };
  }

  move(from: Path, to: Path, fields: Partial<PushChange> = {}): PushChange {
    return { path: to, movedFrom: from, old: this.at(from), new: this.at(from), ...fields };
  }

  /** Plans without committing. */
  plan(changes: readonly PushChange[]): Extract<Plan, { status: 'plan' }> {
    const plan = planPush({
      view: this.#view(),
      prefix: '',
      root: ROOT_INO,
      groups: orderPush(changes),
      prepared: new Map(
        changes.map((change) => [
          change,
          {
            ...(needsInode(change) ? { ino: this.#nextInode++ } : {}),
            ...(change.new?.type === 'file' ? { content: this.#contentOf(change.new.size) } : {}),
          },
        ]),
      ),
      refused: [],
      setting: this.setting,
      owners: false,
      times: false,
      xattrs: false,
      nowNs: 1_800_000_000_000_000_000n + this.#revision,
      limits: LIMITS,
      ...this.request,
    });
    if (plan.status !== 'plan') throw new Error('all is known, and yet the plan needs more');
    if (plan.rest.length > 0) throw new Error('the changes are more than one transaction');
    return plan;
  }

  /** Commits what can be planned, and returns what was given up. */
  push(...changes: readonly PushChange[]): readonly GivenUp[] {
    const { transaction, planned, givenUp } = this.plan(changes);
    this.#revision += 1n;
    for (const op of transaction.ops) {
      if (op.type === 'put') {
        this.kvs.set(op.key, { key: op.key, value: op.value, modRevision: this.#revision });
      } else if (op.type === 'delete') this.kvs.delete(op.key);
      else {
        const { start, end } = op.range;
        for (const key of [...this.kvs.keys()]) if (key >= start && key < end) this.kvs.delete(key);
      }
    }
    const moved: [Path, Entry][] = [];
    for (const { change } of planned) {
      const from = change.movedFrom;
      if (from === undefined) continue;
      for (const [path, entry] of [...this.tree]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        this.tree.delete(path);
        moved.push([change.path + path.slice(from.length), entry]);
      }
    }
    for (const [path, entry] of moved) this.tree.set(path, entry);
    for (const { change, entry } of planned) {
      if (entry === undefined) this.tree.delete(change.path);
      else this.tree.set(change.path, entry);
      if (entry === undefined || change.link?.kind !== 'in-place') continue;
      // All names of the file have the new contents.
      for (const [path, { ino }] of [...this.tree]) if (ino === entry.ino) this.tree.set(path, entry);
    }
    return givenUp;
  }

  #view(): MetaView {
    return {
      get: (key) => this.kvs.get(key) ?? 'absent',
      range: ({ start, end }) =>
        [...this.kvs.values()]
          .filter(({ key }) => key >= start && key < end)
          .sort((a, b) => (a.key < b.key ? -1 : 1)),
    };
  }

  #contentOf(length: bigint): Content {
    if (length === 0n) return { length, chunks: [] };
    const size = Number(length);
    const record = { pos: 0, id: this.#nextSlice++, size, off: 0, len: size };
    return { length, chunks: [{ index: 0, records: [record] }] };
  }
}
