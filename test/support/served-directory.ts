/** A served directory on a real disk with no volume behind it: the state, the looks and the publishes of one agent. */

import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';

import { findAbilities, type Abilities } from '../../src/agent/disk/abilities.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { acquireLock } from '../../src/agent/start/lock.ts';
import { wantedForAdoption } from '../../src/agent/publish/items.ts';
import { layoutOf, type Layout } from '../../src/agent/disk/layout.ts';
import type { AncestorEntry } from '../../src/agent/state/ancestor-entry.ts';
import type { Ledger } from '../../src/agent/state/ledger.ts';
import { Local } from '../../src/agent/look/local.ts';
import type { Clock, FsPort } from '../../src/agent/base/ports.ts';
import { catchUp, publish, type PublishResult } from '../../src/agent/publish/publish.ts';
import { waitingAdoptions } from '../../src/agent/look/waiting-adoptions.ts';
import type { Wanted } from '../../src/agent/publish/wanted.ts';
import { openState, recover, type OpenState } from '../../src/agent/start/recover.ts';
import type { Extent, Look } from '../../src/agent/look/look.ts';
import { Scanner } from '../../src/agent/look/scan.ts';
import type { Slot } from '../../src/agent/disk/slot.ts';
import { mendTop } from '../../src/agent/publish/top.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import { sameEntry, type Path } from '../../src/reconcile/entry.ts';
import { digestOfText, entryOf, MTIME_NS, raw, type Node, type Nodes } from './tree-on-disk.ts';

/** The real file system without its flushes: a test that kills no machine does not wait for the disk. */
export const unflushedFs: FsPort = {
  ...nodeFs,
  fsync: () => undefined,
  syncDir: () => undefined,
  syncFs: () => undefined,
};

/** Real time of day plus what a test lets pass; the clock that never jumps moves only in tests. */
class SteppedClock implements Clock {
  #passedMs = 0;
  #jumpedMs = 0;
  nowNs(): bigint {
    return BigInt(Date.now() + this.#passedMs + this.#jumpedMs) * 1_000_000n;
  }
  monotonicMs(): number {
    return this.#passedMs;
  }
  pass(ms: number): void {
    this.#passedMs += ms;
  }
  /** Sets the time of day on, or back. */
  jump(ms: number): void {
    this.#jumpedMs += ms;
  }
  async breathe(): Promise<void> {}
  uuid(): string {
    return randomUUID();
  }
  random(): number {
    return 0.5;
  }
  sleep(): Promise<void> {
    throw new Error('nothing sleeps here');
  }
}

/** How long replaced inodes are kept. */
export const KEEP_MS = 600_000;
/** Longer than any quiet time. */
const QUIET_MS = 1_500;

interface ServedOptions {
  readonly fs?: FsPort;
  /** A directory of an earlier run. */
  readonly root?: ByteString;
  readonly excluded?: (path: Path) => boolean;
  /** What this side can hold; what the file system of temporary directories really can if not given. */
  readonly abilities?: Abilities;
}

/** By the user that a test acts for. They are tried once: a test that stops at each call does not count those. */
const found = new Map<number | undefined, Abilities>();

function realAbilities(layout: Layout): Abilities {
  const user = process.geteuid?.();
  const known = found.get(user);
  if (known !== undefined) return known;
  const abilities = findAbilities(unflushedFs, layout, { specialFiles: 'fifo', syncTimes: false });
  found.set(user, abilities);
  return abilities;
}

/** A new directory to serve. */
export function temporaryDirectory(): ByteString {
  return fs.mkdtempSync(`${tmpdir()}/served-`);
}

/** One run of an agent on a directory. */
export class ServedDirectory {
  readonly root: ByteString;
  readonly layout: Layout;
  readonly clock = new SteppedClock();
  readonly fs: FsPort;
  readonly state: OpenState;
  readonly local: Local;
  readonly abilities: Abilities;
  readonly #scanner: Scanner;
  readonly #excluded: (path: Path) => boolean;
  #contents = 0;

  private constructor(
    root: ByteString,
    layout: Layout,
    port: FsPort,
    state: OpenState,
    excluded: (path: Path) => boolean,
    abilities: Abilities,
  ) {
    this.root = root;
    this.layout = layout;
    this.fs = port;
    this.state = state;
    this.#excluded = excluded;
    const { clock } = this;
    this.abilities = abilities;
    this.local = new Local(state.ledger, excluded, abilities.held);
    this.#scanner = new Scanner({
      fs: port,
      layout,
      clock,
      excluded,
      settleMs: 0,
      keepMs: KEEP_MS,
      abilities,
    });
  }

  static async open(options: ServedOptions = {}): Promise<ServedDirectory> {
    const port = options.fs ?? unflushedFs;
    const root = options.root ?? temporaryDirectory();
    const layout = layoutOf(root);
    const state = await openState(
      { fs: port, clock: new SteppedClock(), lock: async (stateDir) => acquireLock(port, stateDir) },
      layout,
    );
    if (state.ledger.state.owner === undefined)
      state.ledger.write([{ t: 'owner', owner: { uuid: 'of no volume', subdir: '' } }], false);
    const abilities = options.abilities ?? realAbilities(layout);
    return new ServedDirectory(root, layout, port, state, options.excluded ?? (() => false), abilities);
  }

  get ledger(): Ledger {
    return this.state.ledger;
  }

  /** Ends the run. */
  async close(): Promise<void> {
    await this.state.close();
  }

  /** Ends the run and removes the directory. */
  async remove(): Promise<void> {
    await this.close();
    removeTree(this.root);
  }

  /** Where a path of the view is on disk, in the tree that readers see. */
  at(path: Path): ByteString {
    return `${this.root}/..data/${path}`;
  }

  inIdle(path: Path): ByteString {
    return this.layout.inTree(this.ledger.state.active === 'a' ? 'b' : 'a', path);
  }

  /** What a publish must be told so that the view becomes `next`. */
  items(next: Nodes): Map<Path, Wanted | undefined> {
    const { ancestor } = this.ledger.state;
    const items = new Map<Path, Wanted | undefined>();
    for (const path of ancestor.keys()) if (next[path] === undefined) items.set(path, undefined);
    const staged = new Map<string, ByteString>();
    for (const [path, node] of Object.entries(next)) {
      if (!sameEntry(ancestor.get(path), entryOf(node))) items.set(path, this.wanted(node, staged));
    }
    return items;
  }

  /** One entry, its content staged. Files with the same `link` share an inode through `staged`. */
  wanted(node: Node, staged = new Map<string, ByteString>()): Wanted {
    const { uid, gid } = owner();
    const mode = node.type === 'symlink' ? 0o777 : node.mode;
    const attributes = { mode, uid, gid, mtimeNs: MTIME_NS };
    switch (node.type) {
      case 'directory':
        return { type: 'directory', attributes };
      case 'symlink':
        return { type: 'symlink', target: node.target, attributes };
      case 'file': {
        const known = node.link === '' ? undefined : staged.get(node.link);
        const source = known ?? this.#stage(node.text);
        if (node.link !== '') staged.set(node.link, source);
        return { type: 'file', source, digest: digestOfText(node.text), attributes };
      }
    }
  }

  #stage(text: string): ByteString {
    const path = `${this.layout.stage}/c-${(this.#contents += 1)}`;
    const fd = this.fs.openNew('stage', path);
    this.fs.write('stage', fd, raw(text));
    this.fs.close('stage', fd);
    return path;
  }

  /** Publishes `next` together with what the looks have found outside the tree. */
  publish(next: Nodes, revision = 1n): PublishResult {
    const items = this.items(next);
    const ancestor = [...items.keys()].map((path): [Path, AncestorEntry | null] => {
      const node = next[path];
      return [path, node === undefined ? null : entryOf(node)];
    });
    return this.publishItems(items, ancestor, revision);
  }

  publishItems(
    items: Map<Path, Wanted | undefined>,
    ancestor: readonly (readonly [Path, AncestorEntry | null])[],
    revision = 1n,
  ): PublishResult {
    const { slots, active = 'a' } = this.ledger.state;
    const waiting = waitingAdoptions(this.local, {
      slots,
      pushing: new Set(),
      inActive: (path) => this.layout.inTree(active, path),
      isBlocked: (path) => this.local.busy.has(path),
      isTaken: (path) => items.has(path),
    });
    for (const [path, adoption] of this.local.adoptions) {
      if (!items.has(path) && !waiting.has(path))
        items.set(path, adoption === undefined ? undefined : wantedForAdoption(adoption));
    }
    try {
      const result = publish(this.#context, {
        items,
        ancestor,
        revision,
        unsettled: this.local.busy,
        touchedSince: (tree) => this.#scanner.touchedSince(tree, this.ledger.state),
        fromTop: this.local.tops,
      });
      this.#scanner.forgetListed(result.touched);
      if (result.outcome === 'published') for (const path of items.keys()) this.local.adopted(path);
      return result;
    } finally {
      for (const name of fs.readdirSync(this.layout.stage)) {
        if (name.startsWith('c-')) fs.unlinkSync(`${this.layout.stage}/${name}`);
      }
    }
  }

  /** Both sides have agreed on this, as after a push. */
  agree(nodes: Nodes): void {
    const { ancestor } = this.ledger.state;
    const gone = [...ancestor.keys()].filter((path) => nodes[path] === undefined);
    const there = Object.entries(nodes).map(([path, node]) => [path, entryOf(node)] as const);
    this.ledger.write(
      [{ t: 'ancestor', entries: [...gone.map((path) => [path, null] as const), ...there] }],
      false,
    );
    for (const path of this.local.dirty) this.local.settle(path);
  }

  catchUp(): void {
    catchUp(this.#context);
  }

  get #context(): Parameters<typeof catchUp>[0] {
    const { fs: port, layout, ledger, clock } = this;
    const { assertOwner } = this.state;
    const { seenAtTop } = this.#scanner;
    const { held, exchanges } = this.abilities;
    return { fs: port, layout, ledger, clock, assertOwner, seenAtTop, held, exchanges };
  }

  /** One look, taken in as the agent does. */
  async look(extent: Extent = 'all'): Promise<Look> {
    const { fs: port, layout, ledger, clock } = this;
    recover({ fs: port, layout, ledger, clock });
    const look = await this.#scanner.look(ledger.state, extent);
    if (look.damage !== undefined) return look;
    for (const [name, record] of look.kept) {
      ledger.write([{ t: 'kept', name, record }], false);
      const at = `${layout.kept}/${name}`;
      if (record === null && port.lstat('release', at) !== undefined) port.unlink('release', at);
    }
    // Only names that came or went, as the agent does.
    const tops = [...look.edits].flatMap(([path, slot]) =>
      path.includes('/') || this.#excluded(path) || ledger.state.slots.has(path) === (slot !== undefined)
        ? []
        : [path],
    );
    this.local.absorb(look);
    // What lost is told; nothing is left to be done about it.
    for (const loser of [...this.local.losers]) this.local.dropLoser(loser, true);
    const missing = tops.filter((name) => {
      const stat = port.lstat('look top', layout.top(name));
      return stat === undefined || stat.type === 'symlink';
    });
    mendTop(this.#context, [...missing, ...look.mend], (path) => ledger.state.slots.get(path));
    return look;
  }

  /** Looks until nothing waits any more; all that was found, one look's findings after the other's. */
  async lookUntilSettled(): Promise<Findings> {
    const findings: Findings = { edits: [], adoptions: [], losers: [], problems: new Map() };
    for (let round = 0; round < 20; round += 1) {
      const { slots } = this.ledger.state;
      const before = new Map(slots.entries());
      const look = await this.look();
      if (look.damage !== undefined) throw new Error(look.damage);
      for (const [path, slot] of look.edits) {
        // A new signature of the same entry is no news: a crash between our own link and its record leaves that.
        if (describe(slot) !== describe(before.get(path))) findings.edits.push(`${path} ${describe(slot)}`);
      }
      for (const [path, adoption] of [...look.adoptions, ...(look.tops ?? [])])
        findings.adoptions.push(`${path} ${describe(adoption?.slot)}`);
      for (const { path, slot } of look.losers) findings.losers.push(`${path} ${describe(slot)}`);
      for (const [path, problem] of look.problems) findings.problems.set(path, problem);
      if (!this.#scanner.waiting) return findings;
      this.clock.pass(QUIET_MS);
    }
    throw new Error('something never settles');
  }
}

/** What looks have found; one line for each path and look. */
export interface Findings {
  readonly edits: string[];
  readonly adoptions: string[];
  readonly losers: string[];
  readonly problems: Map<Path, string>;
}

export const NOTHING_FOUND: Findings = { edits: [], adoptions: [], losers: [], problems: new Map() };

function describe(slot: Slot | undefined): string {
  if (slot === undefined) return 'gone';
  const mode = (slot.signature.mode & 0o777).toString(8);
  if (slot.type === 'file') return `file ${slot.digest.slice(0, 8)} ${mode}`;
  if (slot.type === 'symlink') return `-> ${slot.target}`;
  return slot.type === 'directory' ? `dir ${mode}` : slot.type;
}

/** How findings name a file with this content. */
export function fileLine(path: Path, text: string, mode = 0o644): string {
  return `${path} file ${digestOfText(text).slice(0, 8)} ${mode.toString(8)}`;
}

function owner(): { readonly uid: number; readonly gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}

/** Removes a tree whatever its modes. */
export function removeTree(root: ByteString): void {
  const open = (at: ByteString): void => {
    const stat = fs.lstatSync(raw(at));
    if (!stat.isDirectory()) return;
    fs.chmodSync(raw(at), 0o700);
    for (const name of fs.readdirSync(raw(at), 'latin1')) open(`${at}/${name}`);
  };
  open(root);
  fs.rmSync(root, { recursive: true });
}
