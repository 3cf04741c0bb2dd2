/** G1: whoever resolves `..data` once sees one whole revision, for as long as that tree is not recycled. */

import type { FsPort } from '../../src/agent/base/ports.ts';
import type { CommittedRevision } from '../support/memory-etcd.ts';
import type { Archive } from './archive.ts';
import { MountSite } from './mount.ts';
import { ROOT, type Pod } from './pod.ts';
import { whyTorn } from './sets.ts';
import { diskShown, differences, volumeShown, type Shown } from './shown.ts';
import type { Fail, Validator } from './validator.ts';

/** Least time for which a tree that was replaced stays as it was: `--min-interval`. */
const LINGER_MS = 250;
/** How long a save on the mount may leave a file unfinished and its last good content in its place: `--hold-max`, and the way here. */
const UNFINISHED_MS = 4_000;
/** The same for a name that vanished or a mode that is about to come. */
const VANISHED_MS = 1_500;
/** When a file that is cut to nothing and stays so is meant so. */
const MEANT_MS = 10_000;
const NAMES: ReadonlySet<keyof FsPort> = new Set(['rename', 'unlink', 'rmdir', 'link', 'symlink', 'mkdir']);

interface Flip {
  readonly atMs: number;
  /** The tree that was replaced, if there was one; path on disk. */
  readonly old: string | undefined;
  /** What was read at the time may be of this revision or a newer one. */
  readonly revision: bigint;
  /** What is shown since then, where no program works. */
  readonly shown: Shown | undefined;
}

interface Needs {
  readonly archive: Archive;
  readonly prefix: string;
  /** Name of the mount. */
  readonly mount: string;
  readonly nowMs: () => number;
  /** Newest revision of the store. */
  readonly revision: () => bigint;
  /** Who writes sets. */
  readonly owners: () => readonly string[];
  readonly fail: Fail;
}

export class WholeTrees implements Validator {
  readonly #needs: Needs;
  readonly #flips = new Map<Pod, Flip>();
  readonly #shown = new Map<bigint, Shown>();
  /** When each revision was made, and by whom. */
  readonly #made = new Map<bigint, { readonly atMs: number; readonly by: string }>();

  /** What is about to be replaced. */
  #old: string | undefined;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  onRevision({ revision, by }: CommittedRevision): void {
    this.#made.set(revision, { atMs: this.#needs.nowMs(), by });
  }

  beforeCall(pod: Pod, call: keyof FsPort, args: readonly unknown[]): void {
    const { fail, nowMs } = this.#needs;
    const paths = args.slice(1).filter((arg) => typeof arg === 'string');
    const flip = this.#flips.get(pod);
    if (call === 'rename' && args[2] === pod.layout.data) this.#old = this.#active(pod);
    if (flip?.old !== undefined && nowMs() - flip.atMs < LINGER_MS) {
      const inside = paths.find((path) => path.startsWith(`${flip.old}/`));
      if (inside !== undefined && call !== 'syncDir' && call !== 'syncFs')
        fail(
          'G1',
          `${pod.name}: ${call} "${String(args[0])}" ${inside} ${(nowMs() - flip.atMs).toFixed(3)} ms after that tree was replaced`,
        );
    }
    const isWrite = call === 'write' || call === 'ftruncate';
    const open = isWrite ? pod.fs.pathOf(args[1] as number) : call.startsWith('open') ? paths[0] : undefined;
    if (open !== undefined && isVisible(open))
      fail('G1', `${pod.name}: ${call} "${String(args[0])}" writes ${open}, which readers see`);
    if (isWrite && pod.fs.linksOf(args[1] as number) > 1)
      fail('G1', `${pod.name}: ${call} "${String(args[0])}" writes a file that has a visible name`);
  }

  afterCall(pod: Pod, call: keyof FsPort, args: readonly unknown[]): void {
    if (!NAMES.has(call)) return;
    if (call === 'rename' && args[2] === pod.layout.data) this.#flipped(pod);
    this.#checkSets(pod);
  }

  /** What a reader finds before an agent has started. */
  onBoot(pod: Pod): void {
    this.#flips.delete(pod);
    this.#checkSets(pod);
  }

  #checkSets(pod: Pod): void {
    const tree = `${ROOT}/..data`;
    for (const owner of this.#needs.owners()) {
      // Its own programs' saves are seen as they are made.
      if (owner === pod.name) continue;
      const torn = whyTorn(owner, (path) => pod.fs.textAt(`${tree}/${path}`));
      if (torn !== undefined)
        this.#needs.fail('G1', `${pod.name} shows the set of ${owner} in versions ${torn}`);
    }
  }

  /** The tree that is shown; path on disk. */
  #active(pod: Pod): string | undefined {
    const { data, root } = pod.layout;
    return pod.fs.lstat('check', data) === undefined
      ? undefined
      : `${root}/${pod.fs.readlink('check', data)}`;
  }

  #flipped(pod: Pod): void {
    const { revision, nowMs } = this.#needs;
    const before = this.#flips.get(pod)?.revision ?? 0n;
    const shown = pod.hasPrograms ? undefined : diskShown(pod.fs);
    const found = shown === undefined ? revision() : this.#revisionOf(pod, shown, before);
    if (shown !== undefined) this.#checkFinished(pod, shown, found);
    this.#flips.set(pod, {
      atMs: nowMs(),
      old: this.#old === this.#active(pod) ? undefined : this.#old,
      revision: found,
      shown,
    });
  }

  /** No file that had a content is seen empty because a save on the mount is in the middle. */
  #checkFinished(pod: Pod, shown: Shown, revision: bigint): void {
    const before = this.#flips.get(pod)?.shown ?? new Map<string, string>();
    for (const [path, text] of shown) {
      if (!isEmpty(text) || isEmpty(before.get(path) ?? '""')) continue;
      let since = revision;
      while (since > 1n && isEmpty(this.#volumeAt(since - 1n).get(path) ?? '')) since -= 1n;
      const made = this.#made.get(since);
      if (made?.by === this.#needs.mount && this.#needs.nowMs() - made.atMs < MEANT_MS)
        this.#needs.fail('G1', `${pod.name} shows ${path} as the save at ${since} had cut it`);
    }
  }

  /** Which revision a pod shows on which no program works. */
  #revisionOf(pod: Pod, disk: Shown, from: bigint): bigint {
    let nearest: string[] | undefined;
    for (let at = this.#needs.revision(); at >= from && at > 0n; at -= 1n) {
      const wrong = differences(disk, this.#volumeAt(at)).filter(
        (line) => !this.#isUnfinished(line, disk, at),
      );
      if (wrong.length === 0) return at;
      if (nearest === undefined || wrong.length < nearest.length) nearest = wrong;
    }
    this.#needs.fail(
      'G1',
      `${pod.name} shows no revision from ${from} on; tree | volume: ${nearest?.join('; ') ?? ''}`,
    );
    return from;
  }

  #volumeAt(revision: bigint): Shown {
    const known = this.#shown.get(revision);
    if (known !== undefined) return known;
    const { archive, prefix } = this.#needs;
    const shown = volumeShown(new MountSite('archive', archive.at(revision), prefix, () => 0n));
    this.#shown.set(revision, shown);
    return shown;
  }

  /**
   * Whether a path shows what it was before because a save on the mount is, or was just then, in the middle: cut to nothing, gone,
   * or not readable for all yet (design 4.1.5).
   */
  #isUnfinished(line: string, disk: Shown, at: bigint): boolean {
    const path = line.slice(0, line.indexOf(': '));
    const [here, there] = [disk.get(path), this.#volumeAt(at).get(path)];
    const isCut = isEmpty(there ?? '');
    if (there !== undefined && !isCut && !there.startsWith('file 600 ')) return false;
    const since = this.#needs.nowMs() - (isCut ? UNFINISHED_MS : VANISHED_MS);
    let isLate = false;
    for (let before = at - 1n; before > 0n && !isLate; before -= 1n) {
      if (this.#volumeAt(before).get(path) === here) return true;
      isLate = (this.#made.get(before)?.atMs ?? 0) < since;
    }
    return false;
  }
}

function isEmpty(shown: string): boolean {
  return shown.endsWith('""');
}

function isVisible(path: string): boolean {
  const below = path.slice(ROOT.length + 1);
  return !below.startsWith('..etcd-etc-agent/');
}
