/**
 * Brings the idle tree up to date (steps 3 and 4 of a publish). Invariants: a visible inode is never written, and none
 * loses its last name before it has another in `kept` or its content is known.
 */

import type { ByteString } from '../../codec/kv.ts';
import { parentOf, type Path } from '../../reconcile/entry.ts';
import { targetOnDisk } from '../../reconcile/target.ts';
import type { Attributes, AttributeWriter } from '../disk/attribute-writer.ts';
import { codeOf } from '../base/error.ts';
import type { Layout, TreeName } from '../disk/layout.ts';
import type { KeptRecord } from '../state/ledger-record.ts';
import type { Ledger } from '../state/ledger.ts';
import type { FileStat, FsPort } from '../base/ports.ts';
import { sameKind, sameSlotContent, signatureOf } from '../disk/slot.ts';
import { statInTree } from '../disk/tree-stat.ts';
import type { Wanted } from './wanted.ts';

/** Above this many names one flush of the file system is cheaper than one a name (watch-and-flip 2). */
export const SYNC_EACH_LIMIT = 20;

const COPY_BYTES = 1 << 20;
/** How the names begin that things have in the stage directory on their way into the tree. */
const STAGED_HERE = 'p-';

export interface IdleTreeOptions {
  readonly fs: FsPort;
  readonly layout: Layout;
  readonly ledger: Ledger;
  readonly attributes: AttributeWriter;
  /** The published tree; `undefined` before the first publish. */
  readonly active: TreeName | undefined;
  readonly idle: TreeName;
  /** Whether two names can change places in one step. */
  readonly exchanges: boolean;
  /** What it must be told; may grow until `change`. */
  readonly work: ReadonlyMap<Path, Wanted | undefined>;
  /** Told apart from those of any other publish. */
  readonly serial: string;
}

/** Deepest paths first, so that a directory comes after what it holds. */
function deepestFirst(a: Path, b: Path): number {
  return depthOf(b) - depthOf(a);
}

function depthOf(path: Path): number {
  let depth = 0;
  for (const char of path) if (char === '/') depth += 1;
  return depth;
}

/** Flushes the file system of DIR; false where that is not to be had. */
export function flushAll(fs: FsPort, layout: Layout): boolean {
  try {
    fs.syncFs('sync file system', layout.root);
    return true;
  } catch {
    return false;
  }
}

/** The idle tree during one publish. */
export class IdleTree {
  readonly #fs: FsPort;
  readonly #layout: Layout;
  readonly #ledger: Ledger;
  readonly #attributes: AttributeWriter;
  readonly #active: TreeName | undefined;
  readonly #idle: TreeName;
  readonly #work: ReadonlyMap<Path, Wanted | undefined>;
  readonly #exchanges: boolean;
  readonly #serial: string;
  /** Paths that could not be done, and why. */
  readonly problems = new Map<Path, string>();
  /** Directories on disk in which names came or went. */
  readonly touched = new Set<ByteString>();
  /** Files that lost their name in the idle tree, by that name, and where they are now. */
  readonly movedToKept = new Map<Path, { readonly ino: bigint; readonly at: ByteString }>();
  /** What looks had found in the idle tree and is in `kept` now, by its name there. */
  readonly keptFinds = new Map<string, KeptRecord>();
  /** Directories that were opened for the work, with the mode that they get back. */
  readonly #opened = new Map<ByteString, number>();
  #counter = 0;

  constructor(options: IdleTreeOptions) {
    this.#fs = options.fs;
    this.#layout = options.layout;
    this.#ledger = options.ledger;
    this.#attributes = options.attributes;
    this.#active = options.active;
    this.#idle = options.idle;
    this.#work = options.work;
    this.#exchanges = options.exchanges;
    this.#serial = options.serial;
  }

  // Step 3.
  change(): void {
    const fs = this.#fs;
    this.#dropLeft();
    const idleRoot = this.#layout.tree(this.#idle);
    if (fs.lstat('lstat tree', idleRoot) === undefined) fs.mkdir('mkdir tree', idleRoot, 0o755);
    const paths = [...this.#work.keys()];
    const removals = paths.filter((path) => this.#work.get(path) === undefined).sort(deepestFirst);
    for (const path of removals) this.#remove(path);
    const directories = paths
      .filter((path) => this.#work.get(path)?.type === 'directory')
      .sort()
      .sort((a, b) => deepestFirst(b, a));
    for (const path of directories) this.#placeDirectory(path);
    for (const [path, wanted] of this.#work) {
      if (wanted !== undefined && wanted.type !== 'directory') this.#place(path, wanted);
    }
    for (const path of directories.reverse()) this.#finishDirectory(path);
    for (const [dir, mode] of this.#opened) fs.chmod('close directory', dir, mode);
  }

  /** A disk that failed in the middle of a publish has left names of ours. What has no other one may be somebody's, and stays. */
  #dropLeft(): void {
    const { stage } = this.#layout;
    for (const name of this.#fs.readdir('list left', stage)) {
      const at = `${stage}/${name}`;
      if (!name.startsWith(STAGED_HERE)) continue;
      const stat = this.#fs.lstat('lstat left', at);
      if (stat !== undefined && stat.type !== 'directory' && stat.nlink > 1)
        this.#fs.unlink('unlink left', at);
    }
  }

  #remove(path: Path): void {
    const at = this.#layout.inTree(this.#idle, path);
    const stat = this.stat('lstat removed', path);
    if (stat === undefined) return;
    this.#openDirectory(path);
    if (stat.type !== 'directory') {
      this.#keep(path, at, stat);
      this.#fs.unlink('unlink', at);
      return;
    }
    try {
      this.#openDirectory(`${path}/`);
      this.#fs.rmdir('rmdir', at);
      this.#opened.delete(at);
    } catch (error) {
      if (codeOf(error) !== 'ENOTEMPTY') throw error;
      this.problems.set(path, 'the directory was removed in the volume and still holds local entries');
    }
  }

  #placeDirectory(path: Path): void {
    const at = this.#layout.inTree(this.#idle, path);
    const stat = this.stat('lstat directory', path);
    if (stat?.type === 'directory' || !this.#hasParent(path)) return;
    this.#openDirectory(path);
    if (stat !== undefined) {
      this.#keep(path, at, stat);
      this.#fs.unlink('unlink', at);
    }
    this.#fs.mkdir('mkdir', at, 0o700);
  }

  #finishDirectory(path: Path): void {
    const wanted = this.#work.get(path);
    if (wanted?.type !== 'directory') return;
    const at = this.#layout.inTree(this.#idle, path);
    const stat = this.stat('lstat directory', path);
    if (stat?.type !== 'directory') return;
    this.#attributes.writeDirectory(at, wanted.attributes, stat.mode);
    this.#opened.delete(at);
  }

  stat(label: string, path: Path): FileStat | undefined {
    return statInTree(this.#fs, label, this.#layout, this.#idle, path);
  }

  /** Whether something can be put at a path; if not, that is its problem. */
  #hasParent(path: Path): boolean {
    if (this.stat('lstat parent', parentOf(path) ?? '')?.type === 'directory') return true;
    this.problems.set(path, 'the directory above it is not there');
    return false;
  }

  #place(path: Path, wanted: Exclude<Wanted, { type: 'directory' }>): void {
    const fs = this.#fs;
    const at = this.#layout.inTree(this.#idle, path);
    const old = this.stat('lstat old', path);
    if (!this.#hasParent(path)) return;
    this.#openDirectory(path);
    if (old?.type === 'directory') {
      try {
        fs.rmdir('rmdir', at);
      } catch (error) {
        if (codeOf(error) !== 'ENOTEMPTY') throw error;
        this.problems.set(path, 'a directory with local entries stands where the volume has a file');
        return;
      }
    }
    if (wanted.type === 'symlink' && wanted.source === undefined) {
      const next = this.#stageName();
      fs.symlink('stage symlink', targetOnDisk(wanted.target, path), next);
      this.#attributes.writeLink(next, wanted.attributes, at);
      this.#replace(path, at, old, next);
      return;
    }
    const from = wanted.source as ByteString;
    const source = fs.lstat('lstat source', from);
    if (source === undefined) {
      // RACE: a name vanished since the look. One of the view or at the top was removed; an inode that was kept, or that the
      // idle tree had, says nothing of the view when it goes.
      const { kept } = this.#layout;
      const isKept = from.startsWith(`${kept}/`) || from.startsWith(`${this.#layout.tree(this.#idle)}/`);
      if (!isKept && old !== undefined && old.type !== 'directory') this.#remove(path);
      return;
    }
    if (old?.ino === source.ino && !('copy' in wanted)) return;
    const next = this.#stageName();
    if ('copy' in wanted) {
      this.#copy(
        from,
        next,
        typeof wanted.copy === 'object' ? wanted.copy : this.#attributes.attributesAt(from, source),
      );
      this.#attributes.moved(next, at);
    } else if (!this.#link(from, next)) {
      if (source.type !== 'file') {
        this.problems.set(path, 'it belongs to another user, and the kernel lets nobody else link it');
        return;
      }
      const { state } = this.#ledger;
      const isSame = state.isStaleOrFound(path) && sameSlotContent(state.idleAt(path), state.slots.get(path));
      if (old !== undefined && isSame) return;
      this.#copy(from, next, this.#attributes.attributesAt(from, source));
    }
    this.#replace(path, at, old, next);
  }

  #replace(path: Path, at: ByteString, old: FileStat | undefined, next: ByteString): void {
    if (old === undefined || old.type === 'directory') {
      this.#fs.rename('rename into tree', next, at);
      return;
    }
    this.#keep(path, at, old);
    if (!this.#exchanges) {
      // RACE: what somebody puts there since it was kept loses its name; `exchange` is without that.
      this.#fs.rename('rename into tree', next, at);
      return;
    }
    this.#fs.exchange('exchange with tree', next, at);
    const out = this.#fs.lstat('lstat exchanged', next);
    if (out === undefined || out.ino === old.ino) {
      if (out !== undefined) this.#fs.unlink('unlink exchanged', next);
      return;
    }
    if (out.type === 'directory') {
      this.#fs.exchange('exchange with tree', next, at);
      this.#fs.unlink('unlink exchanged', next);
      this.problems.set(path, 'a directory with local entries stands where the volume has a file');
      return;
    }
    this.#fs.rename('keep exchanged', next, `${this.#layout.kept}/${this.#keptName(path, out)}`);
  }

  /** A second name for an inode; false where the kernel forbids it (protected_hardlinks, too many links). */
  #link(from: ByteString, to: ByteString): boolean {
    try {
      this.#fs.link('link', from, to);
      return true;
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EPERM' || code === 'EMLINK') return false;
      throw error;
    }
  }

  #copy(from: ByteString, to: ByteString, attributes: Attributes): void {
    const fs = this.#fs;
    const source = fs.openRead('copy', from);
    const target = fs.openNew('copy', to);
    try {
      const buffer = new Uint8Array(COPY_BYTES);
      for (let at = 0; ;) {
        const n = fs.read('copy', source, buffer, at);
        if (n === 0) break;
        fs.write('copy', target, buffer.subarray(0, n));
        at += n;
      }
    } finally {
      fs.close('copy', source);
      fs.close('copy', target);
    }
    this.#attributes.write(to, attributes);
  }

  /** Gives an inode that is about to lose its name in the idle tree another one, so that a late write is found. */
  #keep(path: Path, at: ByteString, stat: FileStat): void {
    const ledger = this.#ledger;
    const expected = ledger.state.idleAt(path);
    const known = expected !== undefined && sameKind(expected, stat) && expected.signature.ino === stat.ino;
    // What is only carried is nobody's edit, and links and special files cannot be written late.
    if (known && (stat.type !== 'file' || expected.type === 'other')) return;
    // Not its last name: the other tree has it until its own turn comes.
    const active = this.#active;
    if (
      active !== undefined &&
      statInTree(this.#fs, 'lstat active', this.#layout, active, path)?.ino === stat.ino
    )
      return;
    const kept = `${this.#layout.kept}/${this.#keptName(path, stat)}`;
    if (this.#link(at, kept)) {
      this.movedToKept.set(path, { ino: stat.ino, at: kept });
      return;
    }
    this.#copy(at, kept, this.#attributes.attributesAt(at, stat));
  }

  /** A name in `kept` that stands in the ledger. */
  #keptName(path: Path, stat: FileStat): string {
    const { state } = this.#ledger;
    let name: string;
    // Two publishes within one tick of the clock number their inodes alike.
    do name = `${this.#serial}-${(this.#counter += 1)}`;
    while (state.kept.has(name));
    // A slot that the inode does not match makes the look at `kept` read it.
    const expected = state.loggedIdleAt(path);
    const slot = expected ?? { type: 'other', signature: signatureOf(stat) };
    this.#ledger.write([{ t: 'kept', name, record: { path, slot } }], false);
    const found = state.found.idle.get(path);
    if (found?.signature.ino === stat.ino) this.keptFinds.set(name, { path, slot: found });
    return name;
  }

  #stageName(): ByteString {
    return `${this.#layout.stage}/${STAGED_HERE}${this.#serial}-${(this.#counter += 1)}`;
  }

  /** Makes the directory that holds `path` writable for us while we work; the mode is put back afterwards. */
  #openDirectory(path: Path): void {
    const parent = path.endsWith('/') ? path.slice(0, -1) : (parentOf(path) ?? '');
    const dir = this.#layout.inTree(this.#idle, parent);
    if (this.touched.has(dir)) return;
    this.touched.add(dir);
    const stat = this.#fs.lstat('lstat directory', dir);
    if (stat === undefined || (stat.mode & 0o700) === 0o700) return;
    this.#fs.chmod('open directory', dir, stat.mode | 0o700);
    this.#opened.set(dir, stat.mode);
  }

  // Step 4. Without it and the flush in step 1 a power cut leaves empty files behind a valid `..data` (watch-and-flip 6).
  sync(): void {
    if (this.touched.size > SYNC_EACH_LIMIT && flushAll(this.#fs, this.#layout)) return;
    const root = this.#layout.tree(this.#idle);
    for (const dir of this.touched) {
      // By now something else may stand where one above it was.
      if (this.stat('sync directory', dir.slice(root.length + 1))?.type === 'directory')
        this.#fs.syncDir('sync directory', dir);
    }
  }
}
