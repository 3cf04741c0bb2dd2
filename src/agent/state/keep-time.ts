/** How long replaced inodes have been as they are, on a clock that never jumps: the time of day may be set on by hours. */

interface Since {
  readonly ctimeNs: bigint;
  readonly sinceMs: number;
}

/** Counts from the first look that found an inode so; after a start it counts anew. */
export class KeepTime {
  readonly #since = new Map<string, Since>();

  /** Milliseconds since the kept name was first found with this ctime. */
  ageMs(name: string, ctimeNs: bigint, nowMs: number): number {
    const seen = this.#since.get(name);
    if (seen?.ctimeNs === ctimeNs) return nowMs - seen.sinceMs;
    this.#since.set(name, { ctimeNs, sinceMs: nowMs });
    return 0;
  }

  /** Of names that are not kept any more nothing is remembered. */
  forgetAllBut(kept: { has(name: string): boolean }): void {
    for (const name of this.#since.keys()) if (!kept.has(name)) this.#since.delete(name);
  }
}
