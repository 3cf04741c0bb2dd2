/** Opens the state of a directory and finishes what a crash left behind (watch-and-flip 6). */

import type { ByteString } from '../../codec/kv.ts';
import { join, type Path } from '../../reconcile/entry.ts';
import { targetInVolume } from '../../reconcile/target.ts';
import { codeOf, ConfigError } from '../base/error.ts';
import { otherTree, type Layout, type TreeName } from '../disk/layout.ts';
import { Ledger } from '../state/ledger.ts';
import type { LedgerRecord } from '../state/ledger-record.ts';
import type { LedgerState } from '../state/ledger-state.ts';
import { readAll } from '../base/read-all.ts';
import { log } from '../base/log.ts';
import type { Clock, FileStat, FsPort, Ports } from '../base/ports.ts';
import { checkAfterReboot } from './reboot.ts';
import { restoreTrees } from './restore.ts';
import type { SeenAtTop } from '../look/top-memory.ts';
import { mendTop } from '../publish/top.ts';
import { sameKind, signatureOf, type Slot } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';

/** The state of DIR, locked. */
export interface OpenState {
  readonly ledger: Ledger;
  /** Throws when another agent has taken the state over since. */
  readonly assertOwner: () => void;
  close(): Promise<void>;
}

interface RecoverContext {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** What the last looks have seen at the top; without it nobody has looked yet. */
  readonly seenAtTop?: SeenAtTop;
}

/**
 * Makes the state directory, proves that it shares a mount with DIR, takes the lock, reads the ledger and recovers.
 * `remembered` is what an earlier run on the same DIR knew, for a state that was removed meanwhile. Throws ConfigError for
 * a DIR that is missing, no directory, or served by another agent.
 */
export async function openState(
  { fs, clock, lock: takeLock, bootId }: Pick<Ports, 'fs' | 'clock' | 'lock' | 'bootId'>,
  layout: Layout,
  remembered?: LedgerState,
): Promise<OpenState> {
  const root = fs.lstat('open', layout.root);
  if (root === undefined)
    throw new ConfigError('the directory does not exist: make it first', { path: layout.root });
  if (root.type !== 'directory') throw new ConfigError('this is no directory', { path: layout.root });
  Ledger.assertReadable(fs, layout);
  const isNew = fs.lstat('open', layout.state) === undefined;
  for (const dir of [layout.state, layout.stage, layout.kept, layout.parked, layout.accept])
    makeDirectory(fs, dir);
  const lock = await takeLock(layout.state);
  const leave = async (ledger?: Ledger): Promise<void> => {
    const isUsed = ledger?.state.owner !== undefined || ledger?.state.active !== undefined;
    ledger?.close();
    // A volume that could not be used leaves nothing behind.
    if (isNew && !isUsed) {
      emptyDirectory(fs, layout.state);
      fs.rmdir('leave', layout.state);
    }
    await lock.release();
  };
  try {
    proveSameMount(fs, layout);
    const ledger = Ledger.open(fs, layout);
    if (remembered !== undefined && ledger.isNew) rememberState(ledger, remembered);
    const token = clock.uuid();
    const tokenPath = `${layout.state}/owner`;
    writeToken(fs, tokenPath, token);
    restoreTrees({ fs, layout, ledger, clock });
    recover({ fs, layout, ledger, clock });
    recoverLostState(fs, layout, ledger);
    checkParked(fs, layout, ledger);
    if (bootId !== undefined) checkAfterReboot({ fs, layout, ledger, clock }, bootId);
    return {
      ledger,
      assertOwner: () => {
        if (new TextDecoder().decode(readAll(fs, tokenPath)) === token) return;
        throw new ConfigError('another agent has taken this directory over', { path: layout.root });
      },
      close: () => leave(ledger),
    };
  } catch (error) {
    await leave();
    throw error;
  }
}

/** Everything but what went with the directory. */
function rememberState(ledger: Ledger, state: LedgerState): void {
  const records = [...state.records()].filter(({ t }) => t !== 'kept' && t !== 'parked');
  ledger.write(records, true);
  log('warn', 'state written again', { reason: 'it was removed' });
}

function makeDirectory(fs: FsPort, dir: ByteString): void {
  try {
    fs.mkdir('make state', dir, 0o700);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST') return;
    throw new ConfigError(`the state directory cannot be made (${code ?? String(error)})`, {
      path: dir,
      cause: error,
    });
  }
}

/** Names are moved between the state directory and DIR by link and rename, which need one mount (design 3.1). */
function proveSameMount(fs: FsPort, layout: Layout): void {
  const probe = `${layout.stage}/probe`;
  const there = `${layout.root}/..data_tmp`;
  emptyDirectory(fs, layout.stage);
  if (fs.lstat('probe', there) !== undefined) fs.unlink('probe', there);
  try {
    fs.close('probe', fs.openNew('probe', probe));
    fs.link('probe', probe, there);
    fs.rename('probe', there, `${probe}2`);
  } catch (error) {
    const reason = `the state directory must be in the same mount as DIR, and both writable (${codeOf(error) ?? String(error)})`;
    throw new ConfigError(reason, { path: layout.state, cause: error });
  } finally {
    emptyDirectory(fs, layout.stage);
  }
}

/** Removes everything below a directory of ours. */
function emptyDirectory(fs: FsPort, dir: ByteString): void {
  for (const name of fs.readdir('empty', dir)) {
    const at = `${dir}/${name}`;
    if (fs.lstat('empty', at)?.type === 'directory') {
      emptyDirectory(fs, at);
      fs.rmdir('empty', at);
    } else {
      fs.unlink('empty', at);
    }
  }
}

function writeToken(fs: FsPort, path: ByteString, token: string): void {
  const next = `${path}.new`;
  if (fs.lstat('owner', next) !== undefined) fs.unlink('owner', next);
  const fd = fs.openNew('owner', next);
  fs.write('owner', fd, new TextEncoder().encode(token));
  fs.close('owner', fd);
  fs.rename('owner', next, path);
}

/**
 * Brings ledger and trees together again after a publish that a crash or a failing disk cut off at any point. Returns whether
 * there was one.
 */
export function recover({ fs, layout, ledger, clock, seenAtTop }: RecoverContext): boolean {
  const { state } = ledger;
  const { intent } = state;
  if (intent === undefined) return false;
  const target = fs.readlink('recover', layout.data);
  const isPublished = target === `..${intent.tree}`;
  const paths = intent.slots.map(([path]) => path);
  const found = new Map<Path, Slot | null>();
  for (const [path, intended] of intent.slots) {
    const held = state.idleAt(path);
    const stat = statInTree(fs, 'recover', layout, intent.tree, path);
    const slot = slotInTree(stat, intended, held, isPublished);
    found.set(path, slot?.type === 'symlink' ? withTarget(fs, layout, intent.tree, path, slot) : slot);
  }
  const records: LedgerRecord[] = [];
  if (isPublished) {
    const slotAt = (name: Path): Slot | undefined =>
      found.has(name) ? (found.get(name) ?? undefined) : state.slots.get(name);
    mendTop({ fs, layout, ledger, clock, ...(seenAtTop && { seenAtTop }) }, paths, slotAt);
    const other = layout.tree(otherTree(intent.tree));
    const hasOther = fs.lstat('recover', other) !== undefined;
    const stale = paths.map((path) => [path, hasOther ? (state.slots.get(path) ?? null) : null] as const);
    const { tree, revision } = intent;
    // What is not there is not agreed on: perhaps it could not be put there.
    const ancestor = intent.ancestor.filter(([path, entry]) => entry === null || found.get(path) !== null);
    const left = carriedIn(fs, layout, otherTree(tree), intent.carried ?? []);
    records.push({ t: 'commit', tree, revision, slots: [...found], stale: [...stale, ...left], ancestor });
  } else {
    // Not flipped: the idle tree holds a mixture, whose inodes the intent names. Before the first flip all of it is that.
    const same: Path[] = [];
    const stale: [Path, Slot | null][] = [];
    const leftAsFound = new Set(intent.found);
    for (const [path, slot] of found) {
      if (leftAsFound.has(path)) continue;
      const active = state.slots.get(path);
      const shared = slot !== null && active !== undefined && slot.signature.ino === active.signature.ino;
      if (shared || (slot === null && active === undefined)) same.push(path);
      else stale.push([path, slot]);
    }
    stale.push(...carriedIn(fs, layout, intent.tree, intent.carried ?? []));
    records.push({ t: 'look', slots: [], stale, same });
  }
  records.push({ t: 'settled' });
  ledger.write(records, true);
  return true;
}

/** A link with where it leads: somebody may have changed it since the crash. */
function withTarget(
  fs: FsPort,
  layout: Layout,
  tree: TreeName,
  path: Path,
  slot: Extract<Slot, { type: 'symlink' }>,
): Slot {
  const text = fs.readlink('recover', layout.inTree(tree, path));
  return text === undefined ? slot : { ...slot, target: targetInVolume(text, path, layout.root) };
}

/**
 * What a tree holds of names that were carried without being read. When such a name is gone from the other tree, it was
 * removed there: what is left of it here is no new file.
 */
function carriedIn(
  fs: FsPort,
  layout: Layout,
  tree: TreeName,
  carried: readonly (readonly [Path, Slot | null])[],
): [Path, Slot][] {
  return carried.flatMap(([path, slot]): [Path, Slot][] => {
    const stat = statInTree(fs, 'recover', layout, tree, path);
    if (slot === null || stat === undefined || !sameKind(slot, stat)) return [];
    if (slot.type !== 'directory' && slot.signature.ino !== stat.ino) return [];
    return [[path, { ...slot, signature: signatureOf(stat) }]];
  });
}

/**
 * Parked files and their records. A record without a file is of a copy that is in the volume. A file without a record is
 * of a state that was lost, or of a crash between the two; nobody knows which, so it stays.
 */
function checkParked(fs: FsPort, layout: Layout, ledger: Ledger): void {
  const { parked } = ledger.state;
  const there = new Set(fs.readdir('check parked', layout.parked));
  for (const name of there) {
    if (!parked.has(name)) log('warn', 'parked file without record', { path: `${layout.parked}/${name}` });
  }
  for (const [name, { path }] of parked) {
    if (there.has(name)) continue;
    log('warn', 'parked file missing', { path });
    ledger.write([{ t: 'parked', name, record: null }], false);
  }
}

/**
 * A published tree of which the state knows nothing, because the state was lost: it stays published, and the looks find
 * out what it holds. What differs in the other tree is all that is left of it (`kept`, once it is replaced).
 */
function recoverLostState(fs: FsPort, layout: Layout, ledger: Ledger): void {
  if (ledger.state.active !== undefined || ledger.state.intent !== undefined) return;
  const target = fs.readlink('recover', layout.data);
  const tree = (['a', 'b'] as const).find((name) => target === `..${name}`);
  if (tree === undefined || fs.lstat('recover', layout.tree(tree))?.type !== 'directory') return;
  const stale: [Path, Slot][] = [];
  unknownSlots(fs, layout, otherTree(tree), '', stale);
  ledger.write([{ t: 'commit', tree, revision: 0n, slots: [], stale, ancestor: [] }], true);
}

/** Everything in a tree, as contents that nobody has read. */
function unknownSlots(fs: FsPort, layout: Layout, tree: TreeName, dir: Path, into: [Path, Slot][]): void {
  const at = layout.inTree(tree, dir);
  if (fs.lstat('recover', at)?.type !== 'directory') return;
  for (const name of fs.readdir('recover', at)) {
    const path = join(dir, name);
    const stat = fs.lstat('recover', layout.inTree(tree, path));
    if (stat === undefined) continue;
    const signature = signatureOf(stat);
    if (stat.type === 'file') into.push([path, { type: 'file', signature, digest: '' }]);
    else if (stat.type === 'symlink') into.push([path, { type: 'symlink', signature, target: '' }]);
    else if (stat.type !== 'directory') into.push([path, { type: 'other', signature }]);
    else {
      into.push([path, { type: 'directory', signature }]);
      unknownSlots(fs, layout, tree, path, into);
    }
  }
}

/**
 * What stands at a path that a publish was about to change: the intended inode, the one it held before, or, when somebody wrote
 * there, what is known to have been (so that the look sees the difference). An inode that nobody knows was put over the
 * intended one where that is published; elsewhere it may have been there before, so that its writer had not seen it.
 */
function slotInTree(
  stat: FileStat | undefined,
  intended: Slot | null,
  held: Slot | undefined,
  isPublished: boolean,
): Slot | null {
  if (stat === undefined) return null;
  for (const slot of [intended, held]) {
    if (slot === null || slot === undefined || !sameKind(slot, stat)) continue;
    const { ino, size, mtimeNs, mode, uid, gid } = slot.signature;
    // What goes through a fifo moves its time.
    if (slot.type === 'directory' || slot.type === 'symlink' || (slot.type === 'special' && ino === stat.ino))
      return { ...slot, signature: signatureOf(stat) };
    // Only its ctime may be ours; another mode or owner than it was given is somebody's edit.
    if (ino === stat.ino && size === stat.size && mtimeNs === stat.mtimeNs)
      return { ...slot, signature: { ...signatureOf(stat), mode, uid, gid } };
  }
  if (stat.ino === intended?.signature.ino) return intended;
  if (stat.ino === held?.signature.ino) return held;
  return (isPublished ? intended : undefined) ?? held ?? null;
}
