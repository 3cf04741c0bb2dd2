/** The names at the top of DIR: symlinks into the published tree, and what an editor put in their place. */

import type { ByteString } from '../../codec/kv.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import { codeOf, isMissing } from '../base/error.ts';
import { targetInTree, topTarget, type Layout, type TreeName } from '../disk/layout.ts';
import type { Ledger } from '../state/ledger.ts';
import type { Clock, FileStat, FsPort } from '../base/ports.ts';
import { ownTop, spentLink, type PathNow } from '../look/own-link.ts';
import type { SeenAtTop } from '../look/top-memory.ts';
import { sameKind, signatureOf, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

interface Context {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** What the last looks have seen at the top; without it nobody has looked yet, and nobody else is at work. */
  readonly seenAtTop?: SeenAtTop;
  /** Whether two names can change places in one step. */
  readonly exchanges?: boolean;
}

/**
 * Makes the names at the top of DIR what the tree says, for the first parts of the given paths. What stands in the way
 * moves into `kept`, so that an edit nobody has seen is found there; a real directory only once everything in it is
 * in the tree (the look at the top brings it there).
 */
export function mendTop(
  context: Context,
  paths: Iterable<Path>,
  slotAt: (path: Path) => Slot | undefined,
): void {
  const { fs, layout, ledger, seenAtTop } = context;
  // What an earlier call began and did not finish is missing at the top.
  const names = new Set<ByteString>(ledger.state.mending);
  // A name of the published tree that is missing, and is not itself meant, is on its way out: somebody removed or moved it.
  const meant = new Set<ByteString>(names);
  for (const path of paths) {
    const name = path.split('/', 1)[0] ?? path;
    names.add(name);
    if (name === path || !ledger.state.slots.has(name)) meant.add(name);
  }
  let changed = false;
  for (const name of names) {
    const at = layout.top(name);
    const { stat, text } = standingAt(fs, at);
    const slot = slotAt(name);
    const ours = text === topTarget(name);
    if (slot === undefined ? stat === undefined : ours) continue;
    if (stat === undefined && !meant.has(name)) continue;
    if (stat?.type === 'file' && stat.ino === slot?.signature.ino) continue;
    // A link that came since the look is found by the next one.
    if (text !== undefined && !ours && seenAtTop !== undefined && !isSeen(seenAtTop, name, text)) continue;
    // What waits to be taken over, or for what it takes the place of, is not put away, whatever the tree has there.
    if (stat !== undefined && stat.type !== 'directory' && seenAtTop?.isWaiting(name) === true) continue;
    // So is a file, unless the tree had that very inode; and a directory where there is to be none of the view.
    const isKnown = ledger.state.slots.get(name)?.signature.ino === stat?.ino;
    if (stat?.type === 'file' && seenAtTop?.hasFile(stat.ino) === false && !isKnown) continue;
    if (stat?.type === 'directory' && slot?.type !== 'directory' && isUnseen(seenAtTop, name, stat)) continue;
    if (stat?.type === 'directory' && !isMerged(context, at, name, stat, slotAt)) continue;
    if (stat !== undefined && stat.type !== 'symlink') {
      if (slot !== undefined && context.exchanges === true) {
        exchangeWithLink(context, name, at, stat, slotAt);
        changed = true;
        continue;
      }
      if (slot !== undefined) ledger.write([{ t: 'mending', names: [...ledger.state.mending, name] }], true);
      setAside(context, name, at, stat, slotAt);
    }
    const link = stat?.type === 'symlink' ? stat : undefined;
    if (slot !== undefined) putLink(context, name, topTarget(name), link);
    else if (link !== undefined) removeLink(context, name, at, link);
    changed = true;
  }
  if (changed) fs.syncDir('sync top', layout.root);
  if (ledger.state.mending.size > 0) ledger.write([{ t: 'mending', names: [] }], false);
}

/**
 * Before a flip: a link that somebody moved leads to its old name until the names are mended, and the tree that comes has
 * nothing there, or something else. It leads into the tree that goes meanwhile, which stays as it is until the next publish.
 */
export function holdMovedLinks(
  context: Context,
  active: TreeName,
  names: Iterable<ByteString>,
  changes: (path: Path) => boolean,
): void {
  const { fs, layout, seenAtTop } = context;
  for (const name of names) {
    const { stat, text } = standingAt(fs, layout.top(name));
    const led = text === undefined || text === topTarget(name) ? undefined : ownTop(text);
    if (led === undefined || text === undefined || !changes(led)) continue;
    const target = targetInTree(active, led);
    if (text !== target && seenAtTop?.textOf(name) === text) putLink(context, name, target, stat);
  }
}

/** Whether the last look saw this link, whatever tree it leads into. */
function isSeen(seenAtTop: SeenAtTop, name: ByteString, text: ByteString): boolean {
  const seen = seenAtTop.textOf(name);
  const led = ownTop(text);
  return seen === text || (seen !== undefined && led !== undefined && ownTop(seen) === led);
}

/** Makes a name a link of the agent's own, in the place of another link or where nothing is. */
function putLink(
  { fs, layout, exchanges }: Context,
  name: ByteString,
  target: ByteString,
  old: FileStat | undefined,
): void {
  const at = layout.top(name);
  if (old === undefined) {
    try {
      fs.symlink('symlink top', target, at);
    } catch (error) {
      // RACE: somebody has put something there; the next look sees it.
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    return;
  }
  const next = freeStageName(fs, layout, name);
  fs.symlink('symlink top', target, next);
  if (exchanges !== true) {
    // RACE: what somebody puts there in this moment is replaced; `exchange` is without that.
    fs.rename('symlink top', next, at);
    return;
  }
  try {
    fs.exchange('symlink top', next, at);
    // RACE: something else came there meanwhile. It goes back, and the next look sees it.
    if (fs.lstat('look at replaced link', next)?.ino !== old.ino) fs.exchange('symlink top', next, at);
  } catch (error) {
    // RACE: the name has gone; so has what it was to lead to, unless it comes back.
    if (!isMissing(error)) throw error;
  }
  fs.unlink('symlink top', next);
}

/** Removes a link at the top. What somebody puts there in that very moment comes back. */
function removeLink({ fs, layout }: Context, name: ByteString, at: ByteString, old: FileStat): void {
  const aside = freeStageName(fs, layout, name);
  try {
    fs.rename('unlink top', at, aside);
    if (fs.lstat('look at removed link', aside)?.ino !== old.ino) fs.rename('unlink top', aside, at);
    else fs.unlink('unlink top', aside);
  } catch (error) {
    // RACE: it has gone by itself.
    if (!isMissing(error)) throw error;
  }
}

function freeStageName(fs: FsPort, layout: Layout, name: ByteString): ByteString {
  const free = `${layout.stage}/t-${name.length}`;
  if (fs.lstat('symlink top', free) !== undefined) fs.unlink('symlink top', free);
  return free;
}

/** What stands at a name, and where it leads if it is a symlink: both of one moment. */
function standingAt(
  fs: FsPort,
  at: ByteString,
): { readonly stat: FileStat | undefined; readonly text: ByteString | undefined } {
  for (;;) {
    const stat = fs.lstat('lstat top', at);
    if (stat?.type !== 'symlink') return { stat, text: undefined };
    const text = fs.readlink('readlink top', at);
    if (text !== undefined) return { stat, text };
  }
}

function isUnseen(seenAtTop: SeenAtTop | undefined, name: ByteString, { ino }: FileStat): boolean {
  return seenAtTop !== undefined && seenAtTop.inDirectory(name, ino) === undefined;
}

/**
 * Whether every file below a real directory is the very inode that the tree holds there; and, unless it is a union, whether
 * nothing of it has gone or got another mode since the tree took it over.
 */
function isMerged(
  { fs, layout, ledger, seenAtTop }: Context,
  at: ByteString,
  name: ByteString,
  stat: FileStat,
  slotAt: (path: Path) => Slot | undefined,
): boolean {
  const seen = seenAtTop?.inDirectory(name, stat.ino);
  for (const path of seen ?? []) {
    if (slotAt(path) !== undefined && fs.lstat('lstat seen', layout.top(path)) === undefined) return false;
  }
  const hasMode = (path: Path, { mode }: FileStat): boolean =>
    seen === undefined || (((slotAt(path)?.signature.mode ?? mode) ^ mode) & 0o777) === 0;
  const isSpent = (link: ByteString, path: Path, found: FileStat): boolean => {
    if (seenAtTop?.isFollowed(path, found.ino, slotAt(path)) === true) return true;
    const target = fs.readlink('readlink', link);
    const signature = signatureOf(found);
    if (target === undefined) return true;
    const pathNow: PathNow = (top) => seenAtTop?.pathNow(top, ledger.state.slots) ?? top;
    return spentLink(ledger.state, path, { type: 'symlink', target, signature }, pathNow);
  };
  const isInTree = (dir: ByteString, path: Path): boolean =>
    fs.readdir('list top directory', dir).every((entry) => {
      const found = fs.lstat('lstat top directory', `${dir}/${entry}`);
      const below = join(path, entry);
      const slot = slotAt(below);
      if (found === undefined) return true;
      if (found.type === 'symlink' && isSpent(`${dir}/${entry}`, below, found)) return true;
      if (slot === undefined || !sameKind(slot, found)) return false;
      if (found.type === 'directory') return hasMode(below, found) && isInTree(`${dir}/${entry}`, below);
      if (found.type !== 'symlink') return slot.signature.ino === found.ino;
      return slot.type === 'symlink' && fs.readlink('readlink', `${dir}/${entry}`) === slot.target;
    });
  return hasMode(name, stat) && isInTree(at, name);
}

/** Puts the link in the place of a real file or directory, so that the name is never missing; that goes into `kept`. */
function exchangeWithLink(
  context: Context,
  name: ByteString,
  at: ByteString,
  stat: FileStat,
  slotAt: (path: Path) => Slot | undefined,
): void {
  const { fs, layout, ledger, clock } = context;
  const slot = writtenOver(context, name, stat);
  const kept = freeKeptName(ledger, clock);
  const isDirectory = stat.type === 'directory';
  // A file is in `kept` as soon as it has left its name: a crash finds it there.
  if (!isDirectory) ledger.write([{ t: 'kept', name: kept, record: { path: name, slot } }], false);
  const aside = isDirectory ? `${layout.stage}/top-${clock.nowNs().toString(36)}` : `${layout.kept}/${kept}`;
  fs.symlink('symlink top', topTarget(name), aside);
  fs.exchange('exchange top', aside, at);
  const out = fs.lstat('lstat exchanged', aside);
  if (out?.type !== stat.type && (isDirectory || out?.type === 'directory')) {
    // RACE: somebody put something of another kind there meanwhile. It goes back, and the next look sees it.
    fs.exchange('exchange top', aside, at);
    fs.unlink('unlink top', aside);
  } else if (isDirectory) {
    emptyAside(context, name, aside, slotAt, isNewDirectory(context, name, out));
    return;
  } else if (
    out?.ino !== ledger.state.slots.get(name)?.signature.ino &&
    out?.ino !== slotAt(name)?.signature.ino
  ) {
    return;
  } else {
    // The tree has this very inode: nothing is left to be found here.
    fs.unlink('unlink top', aside);
  }
  if (!isDirectory) ledger.write([{ t: 'kept', name: kept, record: null }], false);
}

/** Moves a real file or directory from the top into `kept`; every regular file of it stays known there. */
function setAside(
  context: Context,
  path: Path,
  at: ByteString,
  stat: FileStat,
  slotAt: (path: Path) => Slot | undefined,
): void {
  const { fs, layout, ledger, clock } = context;
  if (stat.type === 'directory') {
    const aside = `${layout.stage}/top-${clock.nowNs().toString(36)}`;
    const isNew = isNewDirectory(context, path, stat);
    fs.rename('set top directory aside', at, aside);
    emptyAside(context, path, aside, slotAt, isNew);
    return;
  }
  if (ledger.state.slots.get(path)?.signature.ino === stat.ino || slotAt(path)?.signature.ino === stat.ino) {
    // The tree has this very inode: nothing is left to be found here.
    fs.unlink('unlink top', at);
    return;
  }
  const name = freeKeptName(ledger, clock);
  const slot = writtenOver(context, path, stat);
  ledger.write([{ t: 'kept', name, record: { path, slot } }], false);
  fs.rename('set top aside', at, `${layout.kept}/${name}`);
}

/**
 * The version that a file at the top was written over: the one published before, whose slot is still in the ledger. One
 * that the tree had until somebody replaced it there is its own, and only what is written to it from now on is an edit.
 */
function writtenOver({ ledger, seenAtTop }: Context, path: Path, stat: FileStat): Slot {
  const known = seenAtTop?.sharedAt(path, stat.ino) ?? ledger.state.slots.get(path);
  return known ?? { type: 'other', signature: signatureOf(stat) };
}

/** Whether it is no union with what the tree has: then its mode is meant. */
function isNewDirectory({ seenAtTop }: Context, name: ByteString, stat: FileStat | undefined): boolean {
  return stat !== undefined && seenAtTop?.inDirectory(name, stat.ino) !== undefined;
}

function emptyAside(
  context: Context,
  path: Path,
  dir: ByteString,
  slotAt: (path: Path) => Slot | undefined,
  isNew: boolean,
): void {
  const { fs } = context;
  for (const name of fs.readdir('list aside', dir)) {
    const at = `${dir}/${name}`;
    const stat = fs.lstat('lstat aside', at);
    if (stat === undefined) continue;
    if (stat.type === 'directory') emptyAside(context, join(path, name), at, slotAt, isNew);
    else setAside(context, join(path, name), at, stat, slotAt);
  }
  const tree = fs.readlink('look at data', context.layout.data) === '..a' ? 'a' : 'b';
  const stat = isNew ? fs.lstat('lstat aside', dir) : undefined;
  if (stat !== undefined) takeModeAlong(context, tree, path, stat, slotAt(path));
  fs.rmdir('rmdir aside', dir);
}

/**
 * A directory was given another mode than the tree took over, right before its name led into `tree`: the directory there gets
 * that mode, which the next look finds to be an edit. Not where somebody has changed it there as well.
 */
export function takeModeAlong(
  { fs, layout }: Pick<Context, 'fs' | 'layout'>,
  tree: TreeName,
  path: Path,
  { mode }: FileStat,
  known: Slot | undefined,
): void {
  if (known?.type !== 'directory' || ((known.signature.mode ^ mode) & 0o777) === 0) return;
  const there = statInTree(fs, 'look at mode', layout, tree, path);
  if (there?.type !== 'directory' || there.mode !== known.signature.mode) return;
  fs.chmod('take mode along', layout.inTree(tree, path), (there.mode & ~0o777) | (mode & 0o777));
}

function freeKeptName(ledger: Ledger, clock: Clock): string {
  const base = `${clock.nowNs().toString(36)}-top`;
  let name = base;
  for (let n = 1; ledger.state.kept.has(name); n += 1) name = `${base}${n}`;
  return name;
}
