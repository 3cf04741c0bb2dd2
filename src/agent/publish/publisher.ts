/** The way onto disk: what a turn puts into the trees, and what comes of it. */

import createDebug from 'debug';

import { escapeBytes } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { Change } from '../../reconcile/change.ts';
import { parentOf, type Path, type SpecialEntry } from '../../reconcile/entry.ts';
import type { Abilities } from '../disk/abilities.ts';
import { codeOf } from '../base/error.ts';
import { ownCopy, wantedFor, type LinkSources, type LocalItem } from './items.ts';
import type { Layout } from '../disk/layout.ts';
import type { AncestorEntry } from '../state/ancestor-entry.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Local } from '../look/local.ts';
import type { Adoption } from '../look/look.ts';
import { log } from '../base/log.ts';
import type { Merger } from '../conflict/merger.ts';
import type { Parked } from '../state/parked.ts';
import type { PathProblems } from '../disk/path-problems.ts';
import type { Clock, FsPort } from '../base/ports.ts';
import { catchUp, publish, type PublishContext, type PublishResult } from './publish.ts';
import type { Remote } from '../follow/remote.ts';
import type { Scanner } from '../look/scan.ts';
import { entryOfSlot, sameButCtime } from '../disk/slot.ts';
import { mendTop } from './top.ts';
import type { Wanted } from './wanted.ts';

const debug = createDebug('etcd-etc-agent:agent');

interface Options {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly assertOwner: () => void;
  readonly abilities: Abilities;
  readonly scanner: Scanner;
  readonly local: Local;
  readonly parked: Parked;
  readonly merger: Merger;
  readonly problems: PathProblems;
  /** Looks at these directories of the view: edits came in between. */
  readonly look: (directories: ReadonlySet<Path>) => Promise<void>;
}

/** What a publish is to make of items, and what both sides agree on then. */
export interface Prepared {
  readonly request: Map<Path, Wanted | undefined>;
  readonly ancestor: readonly (readonly [Path, AncestorEntry | null])[];
  /** Paths that cannot be made now and are no other name of a file that can. */
  readonly unpublished: ReadonlySet<Path>;
}

/** Publishes into the trees of one directory. */
export class Publisher {
  readonly #o: Options;
  #lastFlipMs: number;

  constructor(options: Options) {
    this.#o = options;
    const { fs, layout, clock } = options;
    // An agent that was killed may have flipped just now: readers are still in the tree that it replaced.
    const data = fs.lstat('look at data', layout.data);
    const sinceMs = data === undefined ? Infinity : Number((clock.nowNs() - data.ctimeNs) / 1_000_000n);
    this.#lastFlipMs = clock.monotonicMs() - Math.max(0, sinceMs);
  }

  /** Since the last flip; milliseconds. */
  get sinceFlipMs(): number {
    return this.#o.clock.monotonicMs() - this.#lastFlipMs;
  }

  /** Contents have to be in the stage. */
  prepare(items: readonly LocalItem[], links: LinkSources, remote: Remote): Prepared {
    const request = new Map<Path, Wanted | undefined>();
    const ancestor: [Path, AncestorEntry | null][] = [];
    const unpublished = new Set<Path>();
    for (const item of items) {
      const { path, entry } = item;
      const want = this.#wanted(item, links, remote);
      if (typeof want !== 'string') {
        request.set(path, want);
        ancestor.push([path, remote.tree.get(path) ?? null]);
        continue;
      }
      // The volume has moved on meanwhile: the next turn sees it.
      debug('not published: %s: %s', escapeBytes(path), want);
      if (entry?.type !== 'file' || entry.nlink <= 1) unpublished.add(path);
    }
    return { request, ancestor, unpublished };
  }

  /** What is to be made of an item, or why it cannot be made now. */
  #wanted(item: LocalItem, links: LinkSources, remote: Remote): ReturnType<typeof wantedFor> {
    const { ledger, layout, merger } = this.#o;
    const staged = (
      file: AncestorEntry & { readonly type: 'file' },
    ): ReturnType<typeof remote.stage.stagedFile> =>
      file.contentKey === undefined
        ? merger.stagedFile(file.digest)
        : remote.stage.stagedFile({ ino: file.ino, key: file.contentKey });
    const local = links.find(item) ?? ownCopy(ledger.state, layout, item);
    return wantedFor(item, local, staged, (entry) => this.#stageSpecial(item.path, entry));
  }

  /** A special file in the stage; one that a publish left there because an edit came in between is taken again. */
  #stageSpecial(path: Path, { ino, kind, rdev }: SpecialEntry): ByteString | undefined {
    const { fs, layout, problems } = this.#o;
    const at = `${layout.stage}/s-${ino}-${kind}-${rdev}`;
    try {
      if (fs.lstat('stage special', at) === undefined) fs.mknod('stage special', at, kind, rdev);
      return at;
    } catch (error) {
      problems.set(path, `the ${kind} cannot be made (${codeOf(error) ?? String(error)})`);
      return undefined;
    }
  }

  /**
   * Publishes; where edits came in between, looks at them instead. `revision` is the volume's; `fromTop`: paths of items that
   * are taken over from the top.
   */
  async flip(
    items: ReadonlyMap<Path, Wanted | undefined>,
    ancestor: Prepared['ancestor'],
    revision: bigint,
    fromTop: ReadonlySet<Path>,
    remote: Remote,
  ): Promise<PublishResult> {
    const { ledger, clock, scanner, local, merger, look } = this.#o;
    const startMs = clock.monotonicMs();
    let result: PublishResult;
    try {
      result = publish(this.#context(), {
        items,
        ancestor,
        revision,
        unsettled: local.busy,
        leaving: local.leaving,
        touchedSince: (tree) => scanner.touchedSince(tree, ledger.state),
        fromTop,
      });
    } catch (error) {
      // Who knows which of the staged contents are in a tree by now.
      remote.stage.clear();
      merger.clear();
      throw error;
    }
    scanner.forgetListed(result.touched);
    local.movedToKept(result.movedToKept);
    if (result.outcome === 'edited') {
      const directories = [...result.directories, ...result.paths.map((path) => parentOf(path) ?? '')];
      debug(
        'edited meanwhile: %s in %s',
        escapeBytes(result.paths.join(' ')),
        escapeBytes(directories.join(' ')),
      );
      await look(new Set(directories));
      return result;
    }
    for (const path of result.gone) local.dirty.add(path);
    this.#lastFlipMs = clock.monotonicMs();
    const ms = Math.round(this.#lastFlipMs - startMs);
    log('info', 'published', { revision, changes: items.size, ms });
    return result;
  }

  /** Brings the other tree up to date at once. */
  catchUp(): void {
    catchUp(this.#context());
  }

  /**
   * What stands in a real directory at the top and lost against what was just published, and is kept: left there, the next
   * look would take it for an edit of the version that it lost against.
   */
  dropLoserAtTop(path: Path, { slot, source }: Adoption): void {
    const { fs, layout, ledger, parked, scanner } = this.#o;
    if (!path.includes('/') || source !== layout.top(path)) return;
    const isShown = ledger.state.slots.get(path)?.signature.ino === slot.signature.ino;
    const entry = entryOfSlot(slot);
    if (isShown || (entry?.type !== 'file' && entry?.type !== 'symlink')) return;
    const stat = fs.lstat('drop loser', source);
    if (!sameButCtime(slot, stat) || !parked.has(path, entry)) return;
    fs.unlink('drop loser', source);
    scanner.forgetAtTop(path);
  }

  /**
   * DIR lost what it held and is restored: puts back names at the top that lost nothing but their link. Returns the removals
   * that this does not undo.
   */
  restoreTop(changes: readonly Change[]): readonly Change[] {
    const { fs, layout, ledger, clock, local } = this.#o;
    const { slots } = ledger.state;
    const mended = new Set<Path>();
    const left = changes.filter(({ path, new: entry }) => {
      if (entry !== undefined) return false;
      const lostItsLink = local.adoptions.has(path) && slots.has(path);
      if (!lostItsLink) return true;
      local.adoptions.delete(path);
      local.settle(path);
      mended.add(path.split('/', 1)[0] ?? path);
      return false;
    });
    mendTop({ fs, layout, ledger, clock }, mended, (path) => slots.get(path));
    return left;
  }

  #context(): PublishContext {
    const { fs, layout, ledger, clock, assertOwner, abilities, scanner } = this.#o;
    const { held, exchanges } = abilities;
    return { fs, layout, ledger, clock, assertOwner, seenAtTop: scanner.seenAtTop, held, exchanges };
  }
}
