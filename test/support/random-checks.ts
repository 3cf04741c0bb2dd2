/** What is checked of a volume after random operations: the real client's own checks, and our recount. */

import { expect } from 'chai';
import { TRASH_INO } from '../../src/codec/key.ts';
import type { Juicefs } from './juicefs.ts';
import { historyOf } from './key-history.ts';
import type { TestVolume } from './pushing.ts';
import { recount } from './recount.ts';
import { until } from './until.ts';

/** How long a mount may take to write its statistics and to delete blocks after the names; milliseconds. */
const ACCOUNTS_LIMIT_MS = 30_000;

/** Checks one volume while nobody writes into it. */
export class RandomChecks {
  readonly #volume: TestVolume;
  readonly #juicefs: Juicefs;
  /** Directories whose statistics real mounts have written: the real client is inexact there by itself, as the control shows. */
  readonly drift = new Set<bigint>();
  /** Directories that mounts replaced by a rename: the real client leaves their statistics behind (own-leftovers.test.ts). */
  readonly replaced = new Set<bigint>();
  /** Entries and 4 KiB pages by which statistics of real mounts were found off, all checks together. */
  drifted = 0n;

  constructor(volume: TestVolume, juicefs: Juicefs) {
    this.#volume = volume;
    this.#juicefs = juicefs;
  }

  /** With mounts that stand: what they have not written yet is waited for, and what is theirs alone is not compared. */
  async afterRound(): Promise<void> {
    await this.#exact();
    // Its other form compares statistics, which mounts have in hand until they close.
    const isTheirs = this.drift.size > 0;
    await Promise.all([
      this.#juicefs.ok(['fsck', this.#volume.url]),
      this.#juicefs.ok([
        ...['fsck', this.#volume.url, '--path', '/', '-r'],
        ...(isTheirs ? [] : ['--sync-dir-stat']),
      ]),
      this.#clean(),
    ]);
  }

  /** With all mounts closed. What they left wrong is counted and repaired. */
  async closed(): Promise<void> {
    const lines = await this.#exact();
    if (lines.length > 0) {
      this.drifted += lines.reduce((sum, line) => sum + offBy(line), 0n);
      await this.#juicefs.ok(['fsck', this.#volume.url, '--path', '/', '-r', '--repair', '--sync-dir-stat']);
    }
    this.drift.clear();
    await this.#juicefs.fsck(this.#volume.url);
    await this.#clean();
  }

  /** Resolves with what real mounts may leave wrong. */
  async #exact(): Promise<string[]> {
    const { store, address } = this.#volume;
    let wrong: string[] = [];
    let theirs: string[] = [];
    await until(
      'the accounts are exact',
      async () => {
        const lines = await recount(store, address.prefix);
        theirs = lines.filter((line) => this.#isDrift(line));
        wrong = lines.filter((line) => !theirs.includes(line));
        return wrong.length === 0;
      },
      ACCOUNTS_LIMIT_MS,
    ).catch(async (cause: unknown) => {
      const inos = new Set(wrong.flatMap((line) => (line.match(/\b\d+\b/g) ?? []).slice(0, 1)).map(BigInt));
      const history = await historyOf(store, address.prefix, inos);
      throw new Error([...wrong, 'what was written:', ...history].join('\n'), { cause });
    });
    return theirs;
  }

  #isDrift(line: string): boolean {
    const left = /^U (\d+) has no directory$/.exec(line)?.[1];
    if (left !== undefined) return this.replaced.has(BigInt(left));
    const ino = /^(?:length|space|inodes) in U (\d+) /.exec(line)?.[1];
    if (ino === undefined) return false;
    return this.drift.has(BigInt(ino)) || (this.drift.size > 0 && BigInt(ino) > TRASH_INO);
  }

  /** Mounts delete blocks after the names. */
  async #clean(): Promise<void> {
    let found = {};
    await until(
      'nothing leaks and nothing is pending',
      async () => {
        const { leaked, pending } = await this.#juicefs.gc(this.#volume.url);
        found = { leaked, pending };
        return leaked === 0 && pending === 0;
      },
      ACCOUNTS_LIMIT_MS,
    ).catch(() => expect(found).to.deep.equal({ leaked: 0, pending: 0 }));
  }
}

/** By how many entries or pages a line of statistics is off; lengths do not count. */
function offBy(line: string): bigint {
  const [, what, is = '0', should = '0'] =
    /^(space|inodes) in U \d+ is (-?\d+|undefined), should be (\d+)$/.exec(line) ?? [];
  if (what === undefined) return 0n;
  const off = (is === 'undefined' ? 0n : BigInt(is)) - BigInt(should);
  const positive = off < 0n ? -off : off;
  return what === 'space' ? positive / 4096n : positive;
}
