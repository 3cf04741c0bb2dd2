/** One clean-up of a volume: names and inodes first, then references, and blocks last. May be stopped and run again anywhere. */

import {
  dropDetached,
  dropDetachedRoot,
  dropHeld,
  dropLocks,
  dropSession,
  dropUnnamed,
  fenceDetached,
  hasLock,
  purgeAll,
  purgeHour,
  releaseDelayed,
  releaseFile,
  releaseFiles,
  type PlacedInode,
} from '../../reconcile/cleanup-operations.ts';
import { planCleanup, planSlices, unnamedBlocks, type Job } from '../../reconcile/cleanup.ts';
import type { VolumeFacts } from '../../reconcile/volume-facts.ts';
import type { Work } from '../../reconcile/work.ts';
import { safeRevision } from './age.ts';
import { readFacts } from './read-volume.ts';
import { listBlocks, safeForBlocks, sweep } from './sweep.ts';
import { transact, type CleanupContext, type DeletedFile, type Outcome } from './transact.ts';
import type { CleanupOptions, CleanupReport } from './report.ts';

/** Names that go in one transaction. */
const NAMES_AT_ONCE = 18;
const LOCKS_AT_ONCE = 50;
/** Small files whose references go in one transaction, and such transactions under way at once. */
const FILES_AT_ONCE = 18;
const PARALLEL = 6;
/** Slices of a small file. */
const FEW_SLICES = 2;

export async function cleanUp(context: CleanupContext, options: CleanupOptions): Promise<CleanupReport> {
  const { store, volume, clock, signal } = context;
  const report = emptyReport();
  const safe = await safeRevision(context, options.minAge, options);
  const { facts, revision } = await readFacts(store, volume, signal);
  const { trashDays } = volume.setting;
  const jobs = planCleanup({ facts, nowNs: clock.nowNs(), trashDays, safeRevision: safe });
  if (options.dryRun) {
    for (const job of jobs) foresee(report, job);
    const slices = planSlices(facts, safe);
    report.slices += slices.dead.length + slices.forgotten.length;
    report.counts += slices.redundant.length + slices.tooLow.length;
    const safeOfBlocks = await safeForBlocks(context, safe, options);
    const blocks = unnamedBlocks(facts, await listBlocks(context, revision), safeOfBlocks);
    report.blocks += blocks.old.length;
    report.youngBlocks += blocks.young;
    return report;
  }
  const run = new CleanupRun(context, facts, report);
  for (const job of jobs) await run.do(job);
  await run.deleteOwn();
  await sweep(context, safe, options, report);
  return report;
}

function emptyReport(): CleanupReport {
  return {
    sessions: 0,
    held: 0,
    trashEntries: 0,
    trashHours: 0,
    detached: 0,
    unnamed: 0,
    delayed: 0,
    files: 0,
    slices: 0,
    counts: 0,
    blocks: 0,
    youngBlocks: 0,
    left: [],
  };
}

function foresee(report: CleanupReport, job: Job): void {
  switch (job.kind) {
    case 'held':
      report.held += 1;
      break;
    case 'session':
      report.sessions += 1;
      break;
    case 'trash':
      report.trashEntries += job.names.length;
      break;
    case 'hour':
      report.trashHours += 1;
      break;
    case 'detached':
      report.detached += job.names.length + 1;
      break;
    case 'unnamed':
      report.unnamed += 1;
      break;
    case 'delayed':
      report.delayed += 1;
      break;
    case 'data':
      report.files += 1;
      break;
  }
}

/** The jobs of one reading. */
class CleanupRun {
  readonly #context: CleanupContext;
  readonly #facts: VolumeFacts;
  readonly #report: CleanupReport;
  /** Files that this run took the inode of. */
  readonly #deleted: DeletedFile[] = [];

  constructor(context: CleanupContext, facts: VolumeFacts, report: CleanupReport) {
    this.#context = context;
    this.#facts = facts;
    this.#report = report;
  }

  async do(job: Job): Promise<void> {
    const report = this.#report;
    switch (job.kind) {
      case 'held':
        report.held += await this.#run(`inode ${job.ino}`, (work) => dropHeld(work, job));
        break;
      case 'session':
        report.sessions += await this.#dropSession(job.sid, job.expiry);
        break;
      case 'trash':
        report.trashEntries += await this.#runMany(job.names, purgeAll);
        break;
      case 'hour':
        report.trashHours += await this.#run(`.trash/${job.name}`, (work) =>
          purgeHour(work, job.name, job.ino),
        );
        break;
      case 'detached':
        if ((await this.#run(`inode ${job.root}`, (work) => fenceDetached(work, job.root))) === 0) return;
        report.detached += await this.#runMany(job.names, (work, names) =>
          dropDetached(work, job.root, names),
        );
        report.detached += await this.#run(`inode ${job.root}`, (work) => dropDetachedRoot(work, job.root));
        break;
      case 'unnamed':
        report.unnamed += await this.#run(`inode ${job.ino}`, (work) =>
          dropUnnamed(work, job.ino, job.modRevision),
        );
        break;
      case 'delayed':
        for (let more = true; more;) {
          more = false;
          const done = await this.#run(`delayed slices ${job.id}`, (work) => {
            more = releaseDelayed(work, job.seconds, job.id);
          });
          if (done === 0) return;
        }
        report.delayed += 1;
        break;
      case 'data':
        report.files += await this.#deleteData(job);
        break;
    }
  }

  /** The data of files that this run took the inode of: nobody else has to wait for an hour. */
  async deleteOwn(): Promise<void> {
    const files = this.#deleted.splice(0);
    const groups: DeletedFile[][] = [];
    const small: DeletedFile[] = [];
    for (const file of files) {
      if (!this.#isSmall(file)) groups.push([file]);
      else if (small.push(file) === FILES_AT_ONCE) groups.push(small.splice(0));
    }
    if (small.length > 0) groups.push(small);
    for (let at = 0; at < groups.length; at += PARALLEL) {
      const some = groups.slice(at, at + PARALLEL);
      const done = await Promise.all(some.map((group) => this.#deleteTogether(group)));
      this.#report.files += done.reduce((sum, one) => sum + one, 0);
    }
  }

  #isSmall({ ino }: DeletedFile): boolean {
    const chunks = [...(this.#facts.chunks.get(ino)?.values() ?? [])];
    return chunks.length <= 1 && chunks.every(({ value }) => value.length <= FEW_SLICES);
  }

  /** In one transaction, and one by one where that does not work or leaves something. */
  async #deleteTogether(files: readonly DeletedFile[]): Promise<number> {
    const [first] = files;
    if (files.length === 1 && first !== undefined) return this.#deleteData(first);
    let more = new Set<DeletedFile>();
    const { outcome } = await transact(this.#context, (work) => {
      more = new Set(releaseFiles(work, files));
    });
    const left = outcome === 'done' ? [...more] : files;
    let done = files.length - left.length;
    for (const file of left) done += await this.#deleteData(file);
    return done;
  }

  async #dropSession(sid: bigint, expiry: bigint): Promise<number> {
    const locks = this.#facts.locks.filter(({ key, raw }) => hasLock(sid, key, raw)).map(({ key }) => key);
    for (let at = 0; at < locks.length; at += LOCKS_AT_ONCE) {
      const some = locks.slice(at, at + LOCKS_AT_ONCE);
      if ((await this.#run(`locks of session ${sid}`, (work) => dropLocks(work, sid, expiry, some))) === 0)
        return 0;
    }
    return this.#run(`session ${sid}`, (work) => dropSession(work, sid, expiry));
  }

  /** References alone; blocks are deleted by the sweep, which looks at everything once more. */
  async #deleteData({ ino, length }: DeletedFile): Promise<number> {
    for (let more = true; more;) {
      const done = await this.#run(`data of inode ${ino}`, (work) => {
        more = releaseFile(work, ino, length);
      });
      if (done === 0) return 0;
    }
    return 1;
  }

  /** Several names in one transaction, and one by one where that does not work. How many are done. */
  async #runMany(
    names: readonly PlacedInode[],
    decide: (work: Work, names: readonly PlacedInode[]) => void,
  ): Promise<number> {
    let done = 0;
    for (let at = 0; at < names.length; at += NAMES_AT_ONCE) {
      const some = names.slice(at, at + NAMES_AT_ONCE);
      const outcome = await transact(this.#context, (work) => decide(work, some));
      if (outcome.outcome === 'done') {
        this.#note(outcome, '');
        done += some.length;
        continue;
      }
      for (const one of some) {
        const what = `entry ${one.place.name}`;
        done += await this.#run(what, (work) => decide(work, [one]));
      }
    }
    return done;
  }

  /** Runs one decision; 1 if it was done. */
  async #run(what: string, decide: (work: Work) => void): Promise<number> {
    return this.#note(await transact(this.#context, decide), what);
  }

  #note(outcome: Outcome, what: string): number {
    switch (outcome.outcome) {
      case 'done':
        this.#deleted.push(...outcome.deleted);
        return 1;
      case 'stale':
        return 0;
      case 'refused':
        this.#report.left.push(`${what}: ${outcome.reason}`);
        return 0;
      case 'lost':
        this.#report.left.push(`${what}: others write the same keys all the time`);
        return 0;
    }
  }
}
