/** The compares and operations that push changes, cut into transactions that fit the server's limit. */

import { decodeAttr } from '../codec/attr.ts';
import { DecodeError } from '../codec/error.ts';
import type { ByteString, KeyRange, StoreTransaction } from '../codec/kv.ts';
import type { Setting } from '../codec/setting.ts';
import { Accounting, type AccountSettings } from './accounting.ts';
import { releaseHold, type Hold } from './detached.ts';
import { Draft, Unanswered, type DraftSize, type NewInodeKeys } from './draft.ts';
import type { Limits } from './limits.ts';
import type { MetaNeed, MetaView } from './meta-view.ts';
import { Planner, type GivenUp, type Planned, type PlannerRequest } from './planner.ts';
import { isAtOrBelow, type PushChange } from './push-change.ts';
import { OverLimit, Refused, Stale } from './refusal.ts';
import type { Work } from './work.ts';

export type { GivenUp, Planned, Prepared } from './planner.ts';

export interface PlanRequest extends PlannerRequest {
  readonly view: MetaView;
  /** The volume's prefix of metadata keys. */
  readonly prefix: ByteString;
  /** In order, as `orderPush` gives them. */
  readonly groups: readonly (readonly PushChange[])[];
  /** What the volume keeps accounts of, its limits, and what becomes of what is deleted. */
  readonly setting: AccountSettings & Pick<Setting, 'trashDays'>;
  readonly nowNs: bigint;
  readonly limits: Limits;
  /**
   * `survey`: plans the transaction as if all new inodes stood ready without names, to learn which those are. Then what
   * was made of them: the transaction gives all of it names.
   */
  readonly hold?: 'survey' | Hold;
}

/** What taking a hold's directory away takes, and counters that the survey does not know of. */
const HOLD_KEYS = 6;

export type Plan =
  | {
      readonly status: 'plan';
      readonly transaction: StoreTransaction;
      readonly planned: readonly Planned[];
      readonly givenUp: readonly GivenUp[];
      /** What did not fit, to be planned after this transaction has committed. */
      readonly rest: readonly (readonly PushChange[])[];
      /** The new inodes of a survey. */
      readonly fresh: readonly NewInodeKeys[];
    }
  | ({ readonly status: 'need' } & MetaNeed);

/**
 * Plans the next transaction of a push: as many groups as fit, in order. Pure and total; the same request gives the same
 * plan. Everything read is compared, so that the transaction passes only if the plan would come out the same.
 */
export function planPush(request: PlanRequest): Plan {
  const { hold } = request;
  const draft = new Draft(
    request.view,
    request.prefix,
    hold === undefined || hold === 'survey' ? hold : hold.built,
  );
  const accounting = new Accounting(request.setting);
  const work: Work = { draft, accounting, trashDays: request.setting.trashDays, nowNs: request.nowNs };
  const planner = new Planner(request, work);
  const keys = new Set<ByteString>();
  const ranges = new Map<ByteString, KeyRange>();
  const planned: Planned[] = [];
  const givenUp: GivenUp[] = [];
  const blocks: { readonly key: ByteString; readonly value: Uint8Array }[] = [];
  let rest: readonly (readonly PushChange[])[] = [];

  const checkpoint = (): (() => void) => {
    const undo = [draft.checkpoint(), accounting.checkpoint()];
    return () => undo.forEach((step) => step());
  };
  const reserved = hold === 'survey' ? HOLD_KEYS : 0;
  let fitted: DraftSize | undefined;
  /** Whether the transaction, accounts included, fits with these blocks. */
  const fits = (withBlocks: typeof blocks): boolean => {
    const bare = draft.size();
    // Thousands of new entries below a new directory add nothing to a survey.
    if (hold === 'survey' && accounting.hasRoom && isSameSize(bare, fitted)) return true;
    const undo = checkpoint();
    accounting.settle(draft, request.nowNs);
    const { compares, ops, bytes } = draft.size();
    undo();
    const blockBytes = withBlocks.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
    const { limits } = request;
    const isFitting =
      compares + reserved <= limits.compares &&
      ops + withBlocks.length + reserved <= limits.ops &&
      bytes + blockBytes <= limits.bytes;
    if (isFitting) fitted = bare;
    return isFitting;
  };

  const nothing = {
    status: 'plan',
    transaction: { compares: [], ops: [] },
    planned: [],
    givenUp: [],
  } as const;
  const isBuilt = hold !== undefined && hold !== 'survey';
  if (isBuilt) {
    try {
      releaseHold(work, hold);
    } catch (error) {
      if (error instanceof Unanswered) return { status: 'need', ...error.need };
      if (!(error instanceof Stale)) throw error;
      return { ...nothing, rest: request.groups, fresh: [] };
    }
  }

  /** With those at its end that found no room in a quota: what the others remove may make some. */
  const order = [...request.groups];
  const waiting: (readonly PushChange[])[] = [];
  for (let index = 0; index < order.length; index += 1) {
    const group = order[index] ?? [];
    const isSecondTry = index >= request.groups.length;
    if (!isSecondTry && dependsOn(group, waiting.flat())) {
      order.push(group);
      waiting.push(group);
      continue;
    }
    const undo = checkpoint();
    try {
      const done = planner.apply(group, givenUp);
      const own = group.flatMap((change) => request.prepared.get(change)?.blocks ?? []);
      // What stands ready is left out once all that goes into it is planned: only the whole has a size.
      if (isBuilt || fits([...blocks, ...own])) {
        planned.push(...done);
        blocks.push(...own);
        continue;
      }
      undo();
      if (planned.length > 0 || keys.size + ranges.size > 0) {
        rest = order.slice(index);
        break;
      }
      const reason = 'it takes more keys or bytes than one transaction may have';
      givenUp.push(...group.map((change) => ({ change, outcome: 'refused' as const, reason })));
    } catch (error) {
      undo();
      if (error instanceof Unanswered) {
        // The others of this round are planned on, to learn what they need as well.
        for (const key of error.need.keys) keys.add(key);
        for (const range of error.need.ranges) ranges.set(range.start, range);
      } else if (error instanceof OverLimit && !isSecondTry) {
        order.push(group);
        waiting.push(group);
      } else {
        const { outcome, reason } = explain(error);
        givenUp.push(...group.map((change) => ({ change, outcome, reason })));
      }
    }
  }
  if (keys.size + ranges.size > 0) return { status: 'need', keys: [...keys], ranges: [...ranges.values()] };
  if (isBuilt && !fits(blocks)) return { ...nothing, rest: request.groups, fresh: [] };
  accounting.settle(draft, request.nowNs);
  const { compares, ops } = draft.finish();
  const puts = blocks.map(({ key, value }) => ({ type: 'put' as const, key, value }));
  const fresh = hold === 'survey' ? draft.newInodes() : [];
  return {
    status: 'plan',
    transaction: { compares, ops: [...puts, ...ops] },
    planned: planned.map((done) => inTheEnd(done, draft)),
    givenUp,
    rest,
    fresh,
  };
}

/** A file with several names may have got its contents, its mode or another name under one of the others after this one. */
function inTheEnd(planned: Planned, draft: Draft): Planned {
  const { change, entry } = planned;
  const value = entry?.type === 'file' ? draft.peek({ kind: 'attr', ino: entry.ino }) : undefined;
  if (entry?.type !== 'file' || value === undefined) return planned;
  const { length: size, mode, uid, gid, mtimeNs, nlink } = decodeAttr(value);
  return { change, entry: { ...entry, size, mode, uid, gid, mtimeNs, nlink } };
}

function isSameSize(a: DraftSize, b: DraftSize | undefined): boolean {
  return a.compares === b?.compares && a.ops === b.ops && a.bytes === b.bytes;
}

/** Whether a group stands or comes from below what others make. */
function dependsOn(group: readonly PushChange[], others: readonly PushChange[]): boolean {
  return group.some(({ path, movedFrom }) =>
    others.some(
      (other) =>
        isAtOrBelow(path, other.path) || (movedFrom !== undefined && isAtOrBelow(movedFrom, other.path)),
    ),
  );
}

function explain(error: unknown): Pick<GivenUp, 'outcome' | 'reason'> {
  if (error instanceof Refused) return { outcome: 'refused', reason: error.message };
  if (error instanceof Stale) return { outcome: 'stale', reason: error.message };
  if (error instanceof DecodeError) {
    return { outcome: 'refused', reason: `the volume's metadata are damaged here (${error.message})` };
  }
  throw error;
}
