/** A volume in an etcd in memory, a mount of it, and pods beside it, all in the virtual time of one scheduler. */

import { loadCodecs } from '../../src/agent/volume/codecs.ts';
import { codeOf } from '../../src/agent/base/error.ts';
import { configureLog } from '../../src/agent/base/log.ts';
import type { Clock } from '../../src/agent/base/ports.ts';
import type { RunOptions } from '../../src/agent/run-options.ts';
import { format } from '../../src/agent/verbs/format.ts';
import { parseMetaUrl } from '../../src/codec/url.ts';
import type { Path } from '../../src/reconcile/entry.ts';
import { fsError } from '../support/fs-error.ts';
import { MemoryEtcd, type SavedEtcd } from '../support/memory-etcd.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Random } from '../support/random.ts';
import { describeRevision } from './describe-revision.ts';
import { Accounts } from './accounts.ts';
import { Archive } from './archive.ts';
import { Commits } from './commits.ts';
import { Contained } from './contained.ts';
import { History, RecordedSite, wordsIn } from './history.ts';
import { LastGood } from './last-good.ts';
import { MountSite, type Keys } from './mount.ts';
import { FINE, type Weather } from './network.ts';
import { Pod, ROOT, START_NS, URL, type World } from './pod.ts';
import { Scheduler } from './scheduler.ts';
import { diskShown, differences, textsBelow, volumeShown, withNames } from './shown.ts';
import { DiskSite } from './site.ts';
import { speaker } from './speaker.ts';
import { Trace } from './trace.ts';
import { TwinSite } from './twin.ts';
import type { Fail, Validator } from './validator.ts';
import { WholeTrees } from './whole.ts';

export interface Failure {
  /** Which guarantee of the design. */
  readonly guarantee: string;
  readonly what: string;
}

function wordsOnDisk(pod: Pod): Set<string> {
  return new Set([...textsBelow(pod.fs, ROOT)].flatMap(wordsIn));
}

/** What files that are still there have lost, in words. */
function tornFiles(shown: ReadonlyMap<Path, string>, pod: Pod): Map<Path, readonly string[]> {
  if (pod.fs.stat(pod.layout.data) === undefined) return new Map();
  const now = diskShown(pod.fs);
  const torn = new Map<Path, readonly string[]>();
  for (const [path, text] of shown) {
    const left = new Set(wordsIn(now.get(path) ?? ''));
    const gone = wordsIn(text).filter((word) => !left.has(word));
    if (now.has(path) && gone.length > 0) torn.set(path, gone);
  }
  return torn;
}

function writeForeign(site: MountSite, path: string, text: string): void {
  const file = site.open(path, { create: true, truncate: true });
  file.write(`${text}\n`, 0);
  file.close();
}

export class Stage implements World {
  readonly archive = new Archive();
  readonly validators: readonly Validator[];
  readonly lastGood: LastGood;
  /** Who writes sets of files that belong together. */
  readonly owners: string[] = [];
  readonly scheduler = new Scheduler();
  readonly trace = new Trace(() => this.scheduler.nowMs);
  readonly etcd = new MemoryEtcd(() => this.scheduler.nowMs);
  readonly weather: Weather = { ...FINE };
  readonly history = new History(() => this.scheduler.nowMs);
  readonly failures: Failure[] = [];
  readonly pods: Pod[] = [];
  readonly mount: MountSite;
  /** The mount, with what its programs write recorded. */
  readonly remote: RecordedSite;
  readonly random: Random;
  lostHints = 0;
  /** What a power cut has taken out of files that still have their names, by machine and path. */
  readonly #torn = new Map<Pod, Map<Path, readonly string[]>>();
  /** The right store, while another one is in its place. */
  #right: SavedEtcd | undefined;
  #twin: TwinSite | undefined;
  /** A store with another volume of the same name. */
  otherVolume: SavedEtcd | undefined;
  between: (pod: Pod) => void = () => undefined;
  #uuids = 0;
  readonly uuid = (): string => `00000000-0000-4000-8000-${`${(this.#uuids += 1)}`.padStart(12, '0')}`;

  private constructor(seed: number) {
    this.random = new Random(seed);
    const address = parseMetaUrl(URL);
    const { prefix } = address;
    this.mount = new MountSite('mount', this.#rightStore(), prefix, () => this.#nowNs());
    this.remote = new RecordedSite(this.mount, this.history, this.trace);
    const fail: Fail = (guarantee, what) => this.fail(guarantee, what);
    const owners = (): readonly string[] => this.owners;
    const pods = (): readonly Pod[] => this.pods;
    const revision = (): bigint => this.#right?.revision ?? this.etcd.revision;
    const nowMs = (): number => this.scheduler.nowMs;
    const { archive, mount } = this;
    const isAgent = (client: string): boolean => this.pods.some(({ name }) => name === client);
    this.validators = [
      new WholeTrees({ archive, prefix, mount: mount.name, nowMs, revision, owners, fail }),
      new Commits({ prefix, keys: this.etcd, mount, isAgent, owners, fail }),
      new Accounts({ archive, address, clock: this.#clock(), scheduler: this.scheduler, revision, fail }),
      new Contained(fail, pods),
    ];
    this.lastGood = new LastGood({
      scheduler: this.scheduler,
      weather: this.weather,
      pods,
      volumeShown: (at = revision()) =>
        volumeShown(new MountSite('archive', archive.at(at), prefix, () => 0n)),
      revision,
      isForeign: () => this.isForeign,
      fail,
    });
    this.validators = [...this.validators, this.lastGood];
    this.etcd.listen((committed) => {
      this.trace.note('store', `${committed.revision}: ${describeRevision(committed.events, prefix)}`);
      if (this.isForeign) {
        this.lastGood.onRevision(committed);
        return;
      }
      archive.note(committed);
      for (const validator of this.validators) validator.onRevision?.(committed);
    });
  }

  /** With an empty volume. Without a trash nothing hides a content that was lost. */
  static async open(seed: number, trashDays = 0): Promise<Stage> {
    // The one thing that is really waited for: before anything is in virtual time.
    await loadCodecs();
    const stage = new Stage(seed);
    configureLog({
      format: 'text',
      level: 'info',
      write: (line) => stage.trace.note(speaker.getStore() ?? '?', line.trimEnd()),
    });
    await stage.#makeVolume(stage.etcd, trashDays);
    const other = new MemoryEtcd(() => 0);
    await stage.#makeVolume(other, trashDays);
    const site = new MountSite('other', other, parseMetaUrl(URL).prefix, () => START_NS);
    for (const path of ['a', 'other']) writeForeign(site, path, 'of another volume');
    stage.otherVolume = other.save();
    return stage;
  }

  #nowNs(): bigint {
    return START_NS + BigInt(Math.round(this.scheduler.nowUs)) * 1000n;
  }

  /** What the mount has of the store: nothing while another one is in its place. */
  #rightStore(): Keys {
    const there = (): MemoryEtcd => {
      if (this.#right !== undefined) throw fsError('EIO', 'mount', '');
      return this.etcd;
    };
    return {
      get: (key) => there().get(key),
      range: (range) => there().range(range),
      commit: (txn, by) => there().commit(txn, by),
    };
  }

  /** Puts another store in the place of the right one, `undefined` an empty one. Connections end as with any server that goes. */
  replaceStore(other: SavedEtcd | undefined, clusterId?: string): void {
    if (this.#right !== undefined) return;
    this.lastGood.begin();
    this.#right = this.etcd.save();
    this.etcd.restore(other, clusterId);
    this.#cutAll();
  }

  get isForeign(): boolean {
    return this.#right !== undefined;
  }

  /** Somebody writes into another store that is in the place of the right one. */
  stranger(n: number): void {
    const site = new MountSite('stranger', this.etcd, parseMetaUrl(URL).prefix, () => this.#nowNs());
    const path = ['a', 'd/a', 'e/stranger'][n % 3] ?? '';
    try {
      writeForeign(site, path, `by a stranger, ${n}`);
    } catch (error) {
      // What that store holds may have no such directory.
      if (codeOf(error) === undefined) throw error;
    }
  }

  /** The right one is back, as it was. */
  bringStoreBack(): void {
    const right = this.#right;
    if (right === undefined) return;
    this.lastGood.end();
    this.#right = undefined;
    this.etcd.restore(right);
    this.#cutAll();
  }

  #cutAll(): void {
    for (const { agent } of this.pods) agent?.cutWatch();
  }

  /** Of those who wait for nothing. */
  #clock(): Clock {
    return {
      nowNs: () => this.#nowNs(),
      monotonicMs: () => this.scheduler.nowMs,
      sleep: async () => undefined,
      breathe: async () => undefined,
      random: () => 0.5,
      uuid: this.uuid,
    };
  }

  async #makeVolume(etcd: MemoryEtcd, trashDays: number): Promise<void> {
    const clock = this.#clock();
    const nowhere = { write: () => true, once: () => undefined };
    const store = new MemoryStore(etcd, clock);
    const context = { store, address: parseMetaUrl(URL), clock, out: nowhere, err: nowhere };
    await format(context, { name: 'sim', trashDays });
    await store.close();
  }

  /** A generator of its own for each part, so that one that draws more does not move the others. */
  fork(): Random {
    return new Random(this.random.below(2 ** 32));
  }

  /** A machine whose agent is not started yet, and the programs' view of it. */
  addPod(options: Partial<RunOptions> = {}): { readonly pod: Pod; readonly local: RecordedSite } {
    const pod = new Pod(`pod${this.pods.length}`, this, this.fork(), options);
    this.pods.push(pod);
    const disk = new DiskSite(pod.name, pod.fs, ROOT, (path) => {
      this.#writtenOverTorn(pod, path.slice(ROOT.length + 1));
      pod.edit(path);
    });
    return { pod, local: new RecordedSite(disk, this.history, this.trace) };
  }

  fail(guarantee: string, what: string): void {
    this.trace.note('!', `${guarantee}: ${what}`);
    if (this.failures.length < 20) this.failures.push({ guarantee, what });
  }

  /** The power of a machine fails: what its programs never had synced may be gone. */
  cutPower(pod: Pod, random: Random): void {
    pod.agent?.kill();
    const before = wordsOnDisk(pod);
    const shown = pod.fs.stat(pod.layout.data) === undefined ? new Map<Path, string>() : diskShown(pod.fs);
    pod.fs.cutPower((below) => random.below(below));
    const after = wordsOnDisk(pod);
    const gone = [...before].filter((word) => !after.has(word));
    for (const word of gone) this.history.superseded.add(word);
    this.#torn.set(pod, tornFiles(shown, pod));
    pod.boots = (pod.boots ?? 0) + 1;
    this.trace.note(pod.name, `power cut: ${gone.join(' ')}`);
    for (const validator of this.validators) validator.onBoot?.(pod);
  }

  /** A program writes to what is left of a file: its edit is one of the whole file, and no agent can know what that lacks. */
  #writtenOverTorn(pod: Pod, path: Path): void {
    const torn = this.#torn.get(pod);
    const words = torn?.get(path);
    if (words === undefined) return;
    torn?.delete(path);
    const there = new Set(wordsIn(diskShown(pod.fs).get(path) ?? ''));
    if (!words.some((word) => there.has(word))) for (const word of words) this.history.superseded.add(word);
  }

  async pass(ms: number): Promise<void> {
    await this.scheduler.pass(ms);
  }

  /** How the directories differ from the volume, and that from a plain directory if there is one, in words. */
  differences(): string[] {
    const volume = withNames(volumeShown(this.mount), (path) => this.mount.identityAt(path));
    const found = this.pods.flatMap(({ name, fs }) => {
      const shown = withNames(diskShown(fs), (path) => fs.identityAt(`${ROOT}/..data/${path}`));
      return differences(shown, volume).map((line) => `${name} | volume: ${line}`);
    });
    if (this.#twin === undefined) return found;
    const { plain, plainRoot } = this.#twin;
    const wanted = withNames(diskShown(plain, plainRoot), (path) => plain.identityAt(`${plainRoot}/${path}`));
    return [...found, ...differences(wanted, volume).map((line) => `plain | volume: ${line}`)];
  }

  /** A machine with the only writer, who does the same in a plain directory with these directories in it. */
  addTwin(directories: readonly Path[]): { readonly pod: Pod; readonly local: RecordedSite } {
    const { pod } = this.addPod();
    this.#twin = new TwinSite(pod, ROOT);
    for (const dir of directories) this.#twin.prepare(dir);
    return { pod, local: new RecordedSite(this.#twin, this.history, this.trace) };
  }

  /** What was left settled, was replaced by nobody, and is neither in the volume nor in a tree nor parked (design G2). */
  lost(): string[] {
    return this.history
      .missingFrom(this.#everyText())
      .map(
        ({ word, site, path, atMs }) =>
          `${word} of ${site} in ${path}, written at ${atMs.toFixed(3)}, is nowhere`,
      );
  }

  *#everyText(): Iterable<string> {
    yield* this.mount.everyText();
    for (const pod of this.pods) {
      for (const text of diskShown(pod.fs).values()) yield text;
      for (const dir of [pod.layout.parked, pod.layout.quarantine])
        if (pod.fs.stat(dir) !== undefined) yield* textsBelow(pod.fs, dir);
    }
  }

  /** Edits and faults have ended: what stops from now on is in the middle of nothing. */
  rest(): void {
    for (const validator of this.validators) validator.onRest?.();
  }

  /** Has everything judged that can only be judged when all rests. */
  async judge(): Promise<void> {
    for (const validator of this.validators) await validator.atRest?.();
  }

  end(): void {
    for (const pod of this.pods) pod.agent?.kill();
  }
}
